//! Echo requests of the brane itself (RFC 792, RFC 4443 4), for the query `ping`.
//!
//! smoltcp sends them, because it finds the neighbour. Replies come from any host, checked by [`crate::headers`], and are matched
//! by identifier, sequence number and sender.

use super::Icmp;
use crate::family::family_of;
use crate::headers::Packet;
use crate::net::Net;
use crate::query::{Requester, until};
use alloc::vec;
use brane_abi::control::Family;
use brane_abi::query::{Answer, Refusal};
use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp::{Endpoint, PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress};

/// Most bytes of data.
const LONGEST: u16 = 1400;

/// An echo request to send.
#[derive(Clone, Copy, Debug)]
pub struct EchoRequest {
    /// The host that is asked.
    pub to: IpAddress,
    /// Sequence number.
    pub sequence: u16,
    /// Bytes of data.
    pub size: u16,
    /// How long to wait for the reply, in milliseconds.
    pub timeout_ms: u32,
}

/// One request under way.
pub struct Ping {
    pub requester: Requester,
    pub netif: usize,
    pub handle: SocketHandle,
    to: IpAddress,
    ident: u16,
    sequence: u16,
    since: u64,
    pub until: u64,
}

impl Icmp {
    /// Sends an echo request.
    pub(crate) fn ping(
        &mut self,
        now: u64,
        net: &mut Net,
        requester: Requester,
        request: EchoRequest,
    ) -> Result<(), Refusal> {
        let EchoRequest {
            to,
            sequence,
            size,
            timeout_ms,
        } = request;
        if size > LONGEST {
            return Err(Refusal::TooMuchData { size, most: LONGEST });
        }
        let netif = net.route(to).filter(|_| to.is_unicast());
        let netif = netif.ok_or(Refusal::NoRoute(to.into()))?;
        let source = net.source(netif, to);
        let source = source.ok_or(Refusal::NoRoute(to.into()))?;
        let ident = net.random() as u16;
        let data: vec::Vec<u8> = (0..size).map(|n| n as u8).collect();
        let checksums = ChecksumCapabilities::default();
        let bytes = match (source, to) {
            (IpAddress::Ipv6(source), IpAddress::Ipv6(to)) => {
                let repr = Icmpv6Repr::EchoRequest {
                    ident,
                    seq_no: sequence,
                    data: &data,
                };
                let mut bytes = vec![0; repr.buffer_len()];
                let mut packet = Icmpv6Packet::new_unchecked(&mut bytes[..]);
                repr.emit(&source, &to, &mut packet, &checksums);
                bytes
            }
            _ => {
                let repr = Icmpv4Repr::EchoRequest {
                    ident,
                    seq_no: sequence,
                    data: &data,
                };
                let mut bytes = vec![0; repr.buffer_len()];
                repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &checksums);
                bytes
            }
        };
        let none = PacketBuffer::new(vec![PacketMetadata::EMPTY; 1], vec![]);
        let out = PacketBuffer::new(vec![PacketMetadata::EMPTY; 1], vec![0; bytes.len()]);
        let mut socket = Socket::new(none, out);
        let sent = socket.bind(Endpoint::Ident(ident)).is_ok() && socket.send_slice(&bytes, to).is_ok();
        if !sent {
            return Err(Refusal::CannotSend(to.into()));
        }
        net.netifs[netif].resolve(now, to);
        let handle = net.netifs[netif].add_control(socket, now);
        self.pings[family_of(to) as usize].push(Ping {
            requester,
            netif,
            handle,
            to,
            ident,
            sequence,
            since: now,
            until: until(now, timeout_ms),
        });
        Ok(())
    }

    /// Ends the requests whose time is over.
    pub(crate) fn end_pings(&mut self, now: u64, net: &mut Net) {
        let Icmp { pings, done, .. } = self;
        for pings in pings {
            for ping in pings.extract_if(.., |ping| ping.until <= now) {
                net.netifs[ping.netif].remove_control(ping.handle);
                done.push((ping.requester, Answer::Refused(Refusal::NoReply(ping.to.into()))));
            }
        }
    }

    /// Handles a received ICMP message. If it is the reply to a ping, the ping is answered.
    pub(super) fn echo_reply(&mut self, now: u64, net: &mut Net, packet: &Packet<'_>) {
        let (reply, hop_limit) = match packet.family {
            Family::Inet => (0, packet.start + 8),
            Family::Inet6 => (129, packet.start + 7),
        };
        let [kind, 0, _, _, a, b, c, d, ref data @ ..] = *packet.bytes() else {
            return;
        };
        if kind != reply {
            return;
        }
        let (ident, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let mine = |ping: &Ping| (ping.to, ping.ident, ping.sequence) == (packet.src, ident, sequence);
        let pings = &mut self.pings[packet.family as usize];
        let Some(at) = pings.iter().position(mine) else {
            return;
        };
        let ping = pings.swap_remove(at);
        net.netifs[ping.netif].remove_control(ping.handle);
        let answer = Answer::Echo {
            from: packet.src.into(),
            size: data.len() as u16,
            ttl: packet.frame.get(hop_limit).copied().unwrap_or_default(),
            rtt_us: (now.saturating_sub(ping.since) / 1000).min(u32::MAX.into()) as u32,
        };
        self.done.push((ping.requester, answer));
    }
}
