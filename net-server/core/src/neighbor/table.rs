//! Neighbours of an interface: who has which link-layer address, who is asked for, and what a message about one changes.
//!
//! smoltcp keeps a table of its own, fills it from any ARP or neighbour discovery message, and asks for one neighbour a second.
//! Any host can send such messages, so they do not reach smoltcp: this table decides, and [`crate::netif`] shows smoltcp an answer
//! for each neighbour that the brane sends to. An entry comes to be when the brane has something to send, or when somebody asks for
//! an address of ours and there is room that nobody needs. What else comes only changes entries (RFC 4861, 7.2.5; RFC 826).
//! The table is bounded; time is an argument.

use crate::headers::wire::number::ICMPV6;
use crate::headers::wire::{ETHERNET, IPV6_HEADER, ethertype};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use smoltcp::wire::IpAddress;

/// As many as smoltcp knows (see `Cargo.toml`).
const LIMIT: usize = 128;
/// Of these, neighbours that have not answered: those that have must not give way to them.
const UNANSWERED: usize = LIMIT / 2;
/// Neighbours that are asked for because of what strangers send to us.
const FOR_STRANGERS: usize = 16;
/// How long an address holds, in nanoseconds: as long as smoltcp believes in it.
const LIFE: u64 = 60_000_000_000;
/// A neighbour that is in use is asked anew when its address holds no longer than this.
const REFRESH: u64 = 20_000_000_000;
/// Time between two questions for one neighbour (RFC 4861, 10: RETRANS_TIMER).
pub const RETRY: u64 = 1_000_000_000;
/// A question without answer is over after three of these.
const PATIENCE: u64 = 3 * RETRY;

const ARP: [u8; 2] = ethertype::ARP.to_be_bytes();
const IPV6: [u8; 2] = ethertype::IPV6.to_be_bytes();

/// One neighbour.
#[derive(Clone, Copy, Debug)]
struct Entry {
    ip: IpAddress,
    mac: [u8; 6],
    /// The address is known until then; 0 before the first answer.
    until: u64,
    /// smoltcp knows it, too.
    shown: bool,
    /// When the brane last wanted to send there; `None` for never.
    used: Option<u64>,
    /// When it was last asked for.
    asked: Option<u64>,
}

impl Entry {
    fn is_known(&self, now: u64) -> bool {
        now < self.until
    }

    /// Nobody needs it: it may give way to any other.
    fn is_idle(&self, now: u64) -> bool {
        let patience = if self.until == 0 { PATIENCE } else { LIFE };
        self.used.is_none_or(|used| now.saturating_sub(used) >= patience)
    }
}

/// What is to be done before something is sent to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nothing.
    Ready,
    /// Show smoltcp that the neighbour is at this station.
    Show([u8; 6]),
    /// Nothing; but ask for it, as the address does not hold much longer.
    Refresh,
    /// Ask for it, and wait for the answer.
    Ask,
    /// Wait for the answer.
    Wait,
}

/// What a message has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Nothing that smoltcp must be shown.
    None,
    /// The address of a neighbour that is in use.
    Changed,
    /// It is the answer that the brane has waited for.
    Resolved,
}

/// A neighbour as it is shown to who asks from inside.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its IP address.
    pub ip: IpAddr,
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// Until when that holds.
    pub until: u64,
}

/// Why a message claims an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its owner asks for an address of ours, and will talk to us.
    Request,
    /// It answers or announces. Without `overrides`, another address that is known stays (RFC 4861, 7.2.5).
    Reply {
        /// The flag of that name; ARP has none and always does.
        overrides: bool,
    },
}

/// The table.
#[derive(Debug)]
pub struct Neighbours(Vec<Entry>);

impl Default for Neighbours {
    fn default() -> Neighbours {
        Neighbours(Vec::with_capacity(LIMIT))
    }
}

impl Neighbours {
    /// Forgets all: addresses have changed.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// smoltcp has forgotten all, as it does when it is given addresses.
    pub fn unshown(&mut self) {
        self.0.iter_mut().for_each(|entry| entry.shown = false);
    }

    /// Those that are known now.
    pub fn iter(&self, now: u64) -> impl Iterator<Item = Known> {
        self.0
            .iter()
            .filter(move |entry| entry.is_known(now))
            .map(|entry| Known {
                ip: entry.ip.into(),
                mac: entry.mac,
                until: entry.until,
            })
    }

    /// The brane has something to send to a neighbour.
    pub fn want(&mut self, now: u64, ip: IpAddress) -> Way {
        let Some(entry) = self.0.iter_mut().find(|entry| entry.ip == ip) else {
            return match self.insert(now, ip, true) {
                Some(entry) => {
                    (entry.used, entry.asked) = (Some(now), Some(now));
                    Way::Ask
                }
                None => Way::Wait,
            };
        };
        entry.used = Some(now);
        let may_ask = entry.asked.is_none_or(|asked| now.saturating_sub(asked) >= RETRY);
        if !entry.is_known(now) {
            entry.shown = false;
            if !may_ask {
                return Way::Wait;
            }
            entry.asked = Some(now);
            return Way::Ask;
        }
        if !entry.shown {
            entry.shown = true;
            return Way::Show(entry.mac);
        }
        if may_ask && entry.until - now <= REFRESH {
            entry.asked = Some(now);
            return Way::Refresh;
        }
        Way::Ready
    }

    /// A stranger's packet wants an answer: the same as [`Self::want`], but few strangers are asked for at a time.
    pub fn want_for_stranger(&mut self, now: u64, ip: IpAddress) -> Way {
        let known = self.0.iter().any(|entry| entry.ip == ip);
        let unanswered = |entry: &&Entry| !entry.is_known(now) && !entry.is_idle(now);
        if !known && self.0.iter().filter(unanswered).count() >= FOR_STRANGERS {
            return Way::Wait;
        }
        self.want(now, ip)
    }

    /// smoltcp has asked for a neighbour.
    pub fn asked(&mut self, now: u64, ip: IpAddress) {
        if self.0.iter().all(|entry| entry.ip != ip)
            && let Some(entry) = self.insert(now, ip, true)
        {
            (entry.used, entry.asked) = (Some(now), Some(now));
        }
    }

    /// smoltcp does not know a neighbour, although it was shown.
    pub fn lost(&mut self, ip: IpAddress) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.ip == ip) {
            entry.shown = false;
        }
    }

    /// Somebody says where a neighbour is.
    pub fn update(&mut self, now: u64, ip: IpAddress, mac: [u8; 6], claim: Claim) -> Update {
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return Update::None;
        }
        let Some(entry) = self.0.iter_mut().find(|entry| entry.ip == ip) else {
            if claim == Claim::Request
                && let Some(entry) = self.insert(now, ip, false)
            {
                (entry.mac, entry.until) = (mac, now + LIFE);
            }
            return Update::None;
        };
        if entry.is_known(now) {
            if entry.mac != mac && claim == (Claim::Reply { overrides: false }) {
                return Update::None;
            }
            (entry.mac, entry.until) = (mac, now + LIFE);
            return if entry.shown {
                Update::Changed
            } else {
                Update::None
            };
        }
        let waited = !entry.is_idle(now);
        (entry.mac, entry.until, entry.shown) = (mac, now + LIFE, waited);
        if waited { Update::Resolved } else { Update::None }
    }

    /// A new entry, in the place of one that may give way. `needed`: the brane has something to send there.
    fn insert(&mut self, now: u64, ip: IpAddress, needed: bool) -> Option<&mut Entry> {
        let unanswered = |entry: &Entry| !entry.is_known(now);
        let crowded = needed && self.0.iter().filter(|entry| unanswered(entry)).count() >= UNANSWERED;
        if self.0.len() >= LIMIT || crowded {
            let all = || self.0.iter().enumerate();
            let idle = all()
                .filter(|(_, entry)| entry.is_idle(now))
                .min_by_key(|(_, entry)| entry.until);
            let mute = all()
                .filter(|(_, entry)| unanswered(entry))
                .min_by_key(|(_, entry)| entry.used);
            let victim = match (needed, crowded) {
                (true, true) => mute,
                (true, false) => idle
                    .or(mute)
                    .or_else(|| all().min_by_key(|(_, entry)| entry.used)),
                (false, _) => idle,
            };
            let at = victim?.0;
            self.0.swap_remove(at);
        }
        self.0.push(Entry {
            ip,
            mac: [0; 6],
            until: 0,
            shown: false,
            used: None,
            asked: None,
        });
        self.0.last_mut()
    }
}

/// A message about a neighbour, from any host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// ARP (RFC 826).
    Arp {
        /// Who asks rather than answers.
        request: bool,
        /// Who says so.
        sender: Ipv4Addr,
        /// Its station.
        mac: [u8; 6],
        /// Who is asked for or answered.
        target: Ipv4Addr,
    },
    /// Neighbour solicitation (RFC 4861, 4.3).
    Solicitation {
        /// Who asks; unspecified for who looks whether an address is free.
        sender: Ipv6Addr,
        /// Its station, where it says so.
        mac: Option<[u8; 6]>,
        /// Who is asked for.
        target: Ipv6Addr,
    },
    /// Neighbour advertisement (RFC 4861, 4.4).
    Advertisement {
        /// Whose station it is.
        target: Ipv6Addr,
        /// The station, where it is said.
        mac: Option<[u8; 6]>,
        /// Whether it counts more than what is known.
        overrides: bool,
    },
    /// Neighbour discovery that makes no sense (RFC 4861, 7.1), or a redirection, which a brane does not follow.
    Senseless,
}

/// The message in a frame that [`crate::headers`] has passed. Returns `None` if it is about no neighbour.
pub fn read(frame: &[u8]) -> Option<Message> {
    let body = frame.get(ETHERNET..)?;
    if frame[12..14] == ARP {
        return Some(arp(body).unwrap_or(Message::Senseless));
    }
    if frame[12..14] != IPV6 {
        return None;
    }
    // Neighbour discovery behind extension headers is not taken: no host needs them for it.
    let mut start = IPV6_HEADER;
    let mut next = *body.get(6)?;
    while matches!(next, 0 | 43 | 60) {
        next = *body.get(start)?;
        start += (usize::from(*body.get(start + 1)?) + 1) * 8;
    }
    let kind = *body.get(start)?;
    if next != ICMPV6 || !matches!(kind, 135..=137) {
        return None;
    }
    if start != IPV6_HEADER {
        return Some(Message::Senseless);
    }
    Some(discovery(body, kind).unwrap_or(Message::Senseless))
}

fn arp(body: &[u8]) -> Option<Message> {
    // Ethernet and IPv4, and the lengths of their addresses.
    if body.get(..6)? != [0, 1, 8, 0, 6, 4] || body.len() < 28 {
        return None;
    }
    let operation = u16::from_be_bytes([body[6], body[7]]);
    matches!(operation, 1 | 2).then_some(Message::Arp {
        request: operation == 1,
        mac: *body[8..].first_chunk()?,
        sender: Ipv4Addr::from(*body[14..].first_chunk::<4>()?),
        target: Ipv4Addr::from(*body[24..].first_chunk::<4>()?),
    })
}

fn discovery(body: &[u8], kind: u8) -> Option<Message> {
    let address = |at: usize| Some(Ipv6Addr::from(*body.get(at..)?.first_chunk::<16>()?));
    let (sender, receiver, target) = (address(8)?, address(24)?, address(48)?);
    let len = usize::from(u16::from_be_bytes([body[4], body[5]]));
    let message = body.get(IPV6_HEADER..IPV6_HEADER + len)?;
    if body[7] != 255
        || message.len() < 24
        || message[1] != 0
        || target.is_multicast()
        || target.is_unspecified()
    {
        return None;
    }
    let wanted = if kind == 135 { 1 } else { 2 };
    let (mut mac, mut options) = (None, &message[24..]);
    while !options.is_empty() {
        let len = usize::from(*options.get(1)?) * 8;
        let option = options.get(..len).filter(|_| len != 0)?;
        if option[0] == wanted && len == 8 {
            mac = option[2..].first_chunk::<6>().copied();
        }
        options = &options[len..];
    }
    match kind {
        135 => {
            // A solicited-node address (RFC 4291, 2.7.1).
            let group = receiver
                .octets()
                .starts_with(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]);
            let sound = !sender.is_unspecified() || group && mac.is_none();
            sound.then_some(Message::Solicitation { sender, mac, target })
        }
        136 => {
            let (solicited, overrides) = (message[4] & 0x40 != 0, message[4] & 0x20 != 0);
            let sound = !(solicited && receiver.is_multicast());
            sound.then_some(Message::Advertisement {
                target,
                mac,
                overrides,
            })
        }
        _ => None,
    }
}

/// A message that shows smoltcp where a neighbour is: as if it had answered a question of `us`, who is at the station `to`.
/// Returns the frame and its length. `None` for mixed families.
pub fn shown(us: IpAddress, to: [u8; 6], ip: IpAddress, mac: [u8; 6]) -> Option<([u8; 86], usize)> {
    let mut frame = [0; 86];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&mac);
    match (us, ip) {
        (IpAddress::Ipv4(us), IpAddress::Ipv4(ip)) => {
            frame[12..14].copy_from_slice(&ARP);
            frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
            frame[22..28].copy_from_slice(&mac);
            frame[28..32].copy_from_slice(&ip.octets());
            frame[32..38].copy_from_slice(&to);
            frame[38..42].copy_from_slice(&us.octets());
            Some((frame, 42))
        }
        (IpAddress::Ipv6(us), IpAddress::Ipv6(ip)) => {
            frame[12..14].copy_from_slice(&IPV6);
            let body = &mut frame[ETHERNET..];
            (body[0], body[5], body[6], body[7]) = (0x60, 32, ICMPV6, 255);
            body[8..24].copy_from_slice(&ip.octets());
            body[24..40].copy_from_slice(&us.octets());
            // Solicited, and overrides. smoltcp does not look at the checksum.
            (body[40], body[44]) = (136, 0x60);
            body[48..64].copy_from_slice(&ip.octets());
            (body[64], body[65]) = (2, 1);
            body[66..72].copy_from_slice(&mac);
            Some((frame, 86))
        }
        _ => None,
    }
}

/// Whom a frame asks for, if it is a question for a neighbour.
#[inline]
pub fn question(frame: &[u8]) -> Option<IpAddress> {
    let ethertype = frame.get(12..14)?;
    if ethertype == ARP && frame.len() >= 42 && frame[21] == 1 {
        return Some(IpAddress::Ipv4(Ipv4Addr::from(*frame[38..].first_chunk::<4>()?)));
    }
    if ethertype == IPV6 && frame.len() >= 78 && frame[20] == ICMPV6 && frame[54] == 135 {
        return Some(IpAddress::Ipv6(Ipv6Addr::from(*frame[62..].first_chunk::<16>()?)));
    }
    None
}

#[cfg(test)]
mod tests;
