//! The brane's stack: its interfaces and protocols, and the way from a frame to the protocol that it is for.
//!
//! Frames come from any host, by way of the trusted driver. Nothing here knows of clients' memory; the sockets' users are in
//! [`crate::link::client`].

mod groups;
mod parts;

use crate::family::inet::Inet;
use crate::family::inet6::Inet6;
use crate::family::{Account, Protosw, control_of};
use crate::headers::wire::{ETHERNET, number};
use crate::headers::{self, Kind, Packet, Reason};
use crate::ip::extensions;
use crate::ip::fragments::{self, Fragment};
use crate::ip::icmp_error::Cause;
use crate::neighbor::discovery;
use crate::net::Net;
use crate::pfil::Pfil;
use crate::pfil::capture::Captures;
use crate::pfil::external::Externals;
use crate::pfil::link::LinkHeads;
use crate::protosw::{Outcome, Place, Protocol, State};
use crate::query::Queries;
use crate::transport::icmp::{ErrorReport, Icmp};
use crate::transport::igmp::Igmp;
use crate::transport::mld::Mld;
use crate::transport::tcp::Tcp;
use crate::transport::udp::rx_flow_cache::{self, Delivery, Flow};
use crate::transport::udp::{Datagram, Udp};
use alloc::boxed::Box;
use alloc::vec::Vec;
use brane_abi::control::{self, Family};
use core::ops::Range;
use foldhash::fast::FixedState;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use smoltcp::wire::IpAddress;

/// The port of name servers.
const DNS: [u8; 2] = 53u16.to_be_bytes();

/// A datagram of a known flow.
pub enum Known<'s, 'f> {
    /// Its receiver, and the payload.
    Datagram(&'s Delivery, &'f [u8]),
    /// A hook has dropped it.
    Dropped,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It was handled, or dropped and counted.
    Done,
    /// A datagram for a client's UDP socket: the caller delivers these bytes of the frame.
    Datagram(Delivery, Range<usize>),
    /// A datagram for a group: the caller delivers these bytes of the frame to each of [`Udp::take_receivers`].
    Group(Delivery, Range<usize>),
    /// A packet is complete again: [`Stack::take_whole`] has it, to be handed in like a received frame.
    Reassembled,
    /// A packet had IPv6 extension headers. [`Stack::take_stripped`] has it without them, to be handed in like a received frame.
    Stripped {
        /// Its transport checksum need not be verified.
        intact: bool,
    },
}

/// All interfaces and protocols of a brane.
pub struct Stack {
    /// Interfaces, counters, random numbers.
    pub net: Net,
    /// The pfil heads, while hooks are attached.
    pub pfil: Option<Pfil>,
    /// The link-level heads, while hooks are attached.
    pub link_heads: Option<LinkHeads>,
    /// The captures of the brane.
    pub captures: Captures,
    /// The ends of the external filters.
    pub externals: Externals,
    /// The brane's protocol switch.
    pub switch: Protosw,
    /// Memory for the tables of families and protocols.
    pub account: Account,
    inet: Inet,
    inet6: Inet6,
    /// TCP.
    pub tcp: Tcp,
    /// UDP.
    pub udp: Udp,
    /// ICMP and ICMPv6.
    pub icmp: Icmp,
    /// IGMP.
    pub igmp: Igmp,
    /// MLD.
    pub mld: Mld,
    /// Protocols with an object of their own.
    own: Vec<(Place, Box<dyn Protocol>)>,
    /// Earliest deadline of the protocols in `own` and of group membership. Kept, because every turn asks for it.
    own_deadline: u64,
    /// Queries that are under way.
    pub queries: Queries,
}

impl Stack {
    /// Makes a stack with `lo0` and no family. `seed` must be unpredictable: sequence numbers and ports come from it.
    pub fn new(seed: [u8; 32], now: u64) -> Stack {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let hash = FixedState::with_seed(rng.next_u64());
        let own = Family::ALL.into_iter().flat_map(Place::all);
        let own = own.filter_map(|place| match place.entry().state {
            State::Own(make) => Some((place, make())),
            State::Icmp | State::Tcp | State::Udp | State::Igmp | State::Mld => None,
        });
        Stack {
            pfil: None,
            link_heads: None,
            captures: Captures::default(),
            externals: Externals::default(),
            switch: Protosw::default(),
            account: Account::default(),
            inet: Inet::new(rng.next_u64()),
            inet6: Inet6::default(),
            tcp: Tcp::new(&mut rng, hash.clone()),
            udp: Udp::new(hash),
            icmp: Icmp::default(),
            igmp: Igmp::default(),
            mld: Mld::default(),
            own: own.collect(),
            own_deadline: u64::MAX,
            queries: Queries::default(),
            net: Net::new(rng, now),
        }
    }

    /// Does what [`Self::frame`] does, for a frame that holds a datagram like one that was delivered a moment ago. Returns `None` for
    /// any other frame, and nothing has happened then. The transport checksum needs no verifying.
    #[inline]
    pub fn known<'a>(&mut self, now: u64, index: usize, frame: &'a [u8]) -> Option<Known<'_, 'a>> {
        let (family, flow, payload) = rx_flow_cache::plain(index, frame)?;
        if self.pfil.is_some() && !self.known_passes(now, index, frame, family, &flow)? {
            let netif = self.net.netifs.get_mut(index)?;
            netif.received.frames += 1;
            netif.received.bytes += frame.len() as u64;
            return Some(Known::Dropped);
        }
        let delivery = self.udp.rx_flow_cache.find(&flow)?;
        let netif = self.net.netifs.get_mut(index)?;
        if netif.refresh_is_due(now)
            || !self.switch.takes_family(family)
            || !self.switch.receive(family, control::Protocol::Udp)
        {
            return None;
        }
        netif.received.frames += 1;
        netif.received.bytes += frame.len() as u64;
        Some(Known::Datagram(delivery, payload))
    }

    /// Runs the head for a datagram of a known flow. Returns `None`, and runs no head, if the datagram takes the long way.
    fn known_passes(
        &mut self,
        now: u64,
        index: usize,
        frame: &[u8],
        family: Family,
        flow: &Flow,
    ) -> Option<bool> {
        self.udp.rx_flow_cache.find(flow)?;
        let netif = self.net.netifs.get(index)?;
        let served = self.switch.takes(family, control::Protocol::Udp) && !netif.refresh_is_due(now);
        served.then(|| self.head_passes(now, index, frame, true))
    }

    /// Handles a frame that has come in by an interface. `intact`: its transport checksum need not be verified.
    pub fn frame(&mut self, now: u64, index: usize, frame: &[u8], intact: bool) -> Received {
        let Some(netif) = self.net.netifs.get_mut(index) else {
            return Received::Done;
        };
        let link = !netif.is_loopback();
        netif.received.frames += 1;
        netif.received.bytes += frame.len() as u64;
        let family = if headers::is_ipv6(frame, link) {
            Family::Inet6
        } else {
            Family::Inet
        };
        if !self.switch.takes_family(family) {
            self.net.counters.no_family += 1;
            return Received::Done;
        }
        let kind = if link {
            headers::ethernet(frame, netif.mac, intact)
        } else {
            headers::ip(frame, true)
        };
        let at = |packet| Packet {
            netif: index,
            ..packet
        };
        match kind {
            // A head sees whole packets: a fragment or a packet with extension headers comes again without.
            Ok(Kind::Packet(_) | Kind::Refused { .. })
                if self.pfil.is_some() && !self.head_passes(now, index, frame, intact) =>
            {
                Received::Done
            }
            Ok(Kind::Packet(packet)) => self.packet(now, &at(packet), None),
            Ok(Kind::Arp) => {
                match discovery::arp_input(now, &mut self.net, index, frame) {
                    Outcome::Malformed(reason) => self.net.malformed(index, reason),
                    Outcome::Resolved(hop) => self.resolved(now, index, hop),
                    _ => {}
                }
                Received::Done
            }
            Ok(Kind::Fragment { packet, first }) => self.fragment(now, &at(packet), first),
            Ok(Kind::Extended { packet, len, pointer }) => self.extended(now, &at(packet), len, pointer),
            Ok(Kind::Refused { packet, problem }) => {
                self.reject(now, &at(packet), Cause::Header(problem));
                Received::Done
            }
            Err(reason) => {
                self.net.malformed(index, reason);
                Received::Done
            }
        }
    }

    /// Hands a packet to its protocol. `pointer` is the byte of the packet that names the protocol, if an extension header does.
    fn packet(&mut self, now: u64, packet: &Packet<'_>, pointer: Option<usize>) -> Received {
        let Some(place) = self.switch.find(&self.net, packet) else {
            // Behind the header, nothing is to follow (RFC 8200, 4.7).
            if packet.family == Family::Inet6 && packet.number == number::NOTHING {
                if !self.drops_forged(packet) {
                    self.net.counters.no_protocol += 1;
                }
                return Received::Done;
            }
            let pointer = pointer.unwrap_or(match packet.family {
                Family::Inet => 9,
                Family::Inet6 => 6,
            });
            self.reject(now, packet, Cause::Protocol { pointer });
            return Received::Done;
        };
        let Some((protocol, net)) = self.serving(place) else {
            return Received::Done;
        };
        let outcome = protocol.input(now, net, packet);
        if matches!(place.entry().state, State::Own(_) | State::Igmp | State::Mld) {
            self.note_own_deadline();
        }
        match outcome {
            Outcome::Done => {}
            Outcome::Datagram(delivery, payload) => return Received::Datagram(delivery, payload),
            Outcome::Group(delivery, payload) => return Received::Group(delivery, payload),
            Outcome::Malformed(reason) => self.net.malformed(packet.netif, reason),
            Outcome::Rejected(cause) => self.reject(now, packet, cause),
            Outcome::Resolved(hop) => self.resolved(now, packet.netif, hop),
            Outcome::Error(report) => self.error(&report),
        }
        Received::Done
    }

    /// Counts a packet whose source is an address that no other host can have. Returns false for any other packet.
    fn drops_forged(&mut self, packet: &Packet<'_>) -> bool {
        let forged = packet.is_from_link() && self.net.is_ours(packet.src);
        if forged {
            self.net.malformed(packet.netif, Reason::Address);
        }
        forged
    }

    /// Drops a packet that no protocol takes, and sends an error to its sender if that is allowed.
    fn reject(&mut self, now: u64, packet: &Packet<'_>, cause: Cause) {
        if self.drops_forged(packet) {
            return;
        }
        match cause {
            Cause::Protocol { .. } => self.net.counters.no_protocol += 1,
            Cause::Header(_) => self.net.counters.dropped(Reason::Header),
            // No socket of a client has the port. A lookup of the brane itself may wait for the datagram.
            Cause::Port if self.queries.looks_up() && packet.bytes().starts_with(&DNS) => {
                if let Some(netif) = self.net.netifs.get_mut(packet.netif) {
                    netif.ingress_mute(now, packet.frame, None);
                    netif.deadline = now;
                }
                return;
            }
            Cause::Port | Cause::Prohibited => {}
        }
        self.send_error(now, packet.family, packet.netif, packet.frame, cause);
    }

    /// Sends an error about a packet to its sender, if that is allowed.
    pub(crate) fn send_error(&mut self, now: u64, family: Family, index: usize, frame: &[u8], cause: Cause) {
        if self.switch.takes(family, control_of(family)) && self.net.unknown(now, index, frame, cause) {
            self.switch.erred(family);
        }
    }

    /// Hands an error about a packet of the brane to that packet's protocol.
    fn error(&mut self, report: &ErrorReport) {
        let place = self.switch.find_reported(report.family(), report.number);
        match place.and_then(|place| self.serving(place)) {
            Some((protocol, net)) => protocol.error_input(net, report),
            None => self.net.counters.icmp_errors_stray += 1,
        }
        self.note_own_deadline();
    }

    /// A neighbour has answered: what waits for it goes on.
    fn resolved(&mut self, now: u64, index: usize, hop: IpAddress) {
        let Some(netif) = self.net.netifs.get_mut(index) else {
            return;
        };
        netif.deadline = now;
        netif.flush_pending(now, hop, &mut self.net.counters);
        self.each(|protocol, net| protocol.resolved(net, index, hop));
    }

    /// Handles a packet with extension headers of `len` bytes that ask for nothing.
    fn extended(&mut self, now: u64, packet: &Packet<'_>, len: usize, pointer: usize) -> Received {
        if !self.switch.has_number(packet.family, packet.number) {
            // It does not come again, so its head is here.
            return match self.head_passes(now, packet.netif, packet.frame, packet.intact) {
                true => self.packet(now, packet, Some(pointer)),
                false => Received::Done,
            };
        }
        if let Some(netif) = self.net.netifs.get_mut(packet.netif) {
            // It comes again without them, and is counted then.
            netif.received.frames -= 1;
            netif.received.bytes -= packet.frame.len() as u64;
        }
        self.net.router_alert = extensions::has_router_alert(packet.frame, packet.start);
        let stripped = &mut self.inet6.stripped;
        if extensions::strip(packet.frame, packet.start, len, packet.number, stripped) {
            return Received::Stripped {
                intact: packet.intact,
            };
        }
        self.net.malformed(packet.netif, Reason::Length);
        Received::Done
    }

    /// Handles a fragment of an IPv4 packet.
    fn fragment(&mut self, now: u64, packet: &Packet<'_>, first: bool) -> Received {
        if self.drops_forged(packet) {
            return Received::Done;
        }
        if !self.switch.takes_number(packet.family, packet.number) {
            // The sender is told about the first one only (RFC 1122, 3.2.2).
            if first && self.head_passes(now, packet.netif, packet.frame, packet.intact) {
                self.reject(now, packet, Cause::Protocol { pointer: 9 });
            }
            return Received::Done;
        }
        self.net.counters.fragments += 1;
        let bytes = packet.frame.get(packet.start..).unwrap_or_default();
        let Some(fragment) = Fragment::read(packet.netif, bytes) else {
            return Received::Done;
        };
        let netif = self.net.netifs.get(packet.netif);
        let joined = self.igmp.groups.has(packet.netif, packet.dst);
        if !joined && !netif.is_some_and(|netif| netif.accepts(packet.dst)) {
            return Received::Done;
        }
        let outcome = self.inet.fragments.add(now, &fragment);
        self.net.counters.reassembly_failed = self.inet.fragments.dropped;
        if outcome == fragments::Outcome::Complete {
            self.net.counters.reassembled += 1;
            return Received::Reassembled;
        }
        Received::Done
    }

    /// Returns the packet that `frame`, which came in by the interface `index`, has completed, as a frame with the same link-layer
    /// header. [`Self::give_back`] takes the memory back.
    pub fn take_whole(&mut self, index: usize, frame: &[u8]) -> Vec<u8> {
        let link = match index {
            0 => None,
            _ => frame.get(..ETHERNET),
        };
        self.inet.fragments.take(link.unwrap_or_default())
    }

    /// Takes the memory back that [`Self::take_whole`] has lent.
    pub fn give_back(&mut self, whole: Vec<u8>) {
        self.inet.fragments.give_back(whole);
    }

    /// Returns the packet whose extension headers were removed. [`Self::give_back_stripped`] takes the memory back.
    pub fn take_stripped(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.inet6.stripped)
    }

    /// Takes the memory back that [`Self::take_stripped`] has lent.
    pub fn give_back_stripped(&mut self, stripped: Vec<u8>) {
        self.inet6.stripped = stripped;
        self.net.router_alert = false;
    }

    /// Sends a datagram whose bytes `fill` writes. `fill` is called twice at most.
    pub fn send_udp(&mut self, now: u64, datagram: Datagram<'_>, fill: impl Fn(&mut [u8])) {
        self.udp.send(now, &mut self.net, datagram, fill);
    }

    /// Drops all that was learnt of ways in and out, and the fragments of unfinished packets: addresses, routes or links have
    /// changed.
    pub fn invalidate_caches(&mut self) {
        self.inet.fragments.clear();
        self.each(|protocol, _| protocol.invalidate_caches());
    }

    /// Does all the work that is due. Returns true if addresses have changed.
    pub fn poll(&mut self, now: u64) -> bool {
        let changed = self.net.poll(now);
        self.each(|protocol, net| protocol.poll(now, net));
        changed
    }

    /// Returns the time at which [`Self::poll`] must be called.
    pub fn deadline(&self) -> u64 {
        self.net
            .deadline()
            .min(self.tcp.deadline())
            .min(self.udp.deadline())
            .min(self.icmp.deadline())
            .min(self.own_deadline)
            .min(self.queries.deadline())
    }
}
