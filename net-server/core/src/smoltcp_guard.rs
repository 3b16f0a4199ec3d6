//! What smoltcp must not see: messages of ARP, neighbour discovery and DHCP that would make it panic, or give the brane an
//! address, a router or a neighbour that no host may give it.
//!
//! The messages come from any host on the link; [`crate::headers`] has checked lengths and checksums of the layers below. A message
//! that breaks a rule for the whole of it is dropped. An option that must be ignored alone is made one that smoltcp does not know,
//! in a copy. `docs/smoltcp-guards.md` lists each panic with the guard before it.

use crate::headers::wire::{ETHERNET, IPV6_HEADER};
use crate::ip::address::{is_host4, is_host6, is_link_local6};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

/// An option of neighbour discovery that nobody has (RFC 4727, 8: for experiments).
const NO_OPTION: u8 = 254;
/// An option of DHCP that nobody has (RFC 3942: for private use).
const NO_DHCP_OPTION: u8 = 254;
/// Prefix length that goes with the interface identifier of an Ethernet address (RFC 2464, 4).
const PREFIX: u8 = 64;
/// Shortest network that a lease may name: no network was ever larger than one of class A.
const SHORTEST: u32 = 8;

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// smoltcp may see it.
    Pass,
    /// smoltcp may see the copy in its place.
    Edited,
    /// The message breaks a rule, or there is no room for a copy.
    Drop,
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn address6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    chunk::<16>(bytes, at).map(Ipv6Addr::from)
}

/// Reads the sender's IPv4 address of an ARP frame whose length [`crate::headers`] has checked (RFC 826).
pub fn arp_sender(frame: &[u8]) -> Option<Ipv4Addr> {
    chunk::<4>(frame, ETHERNET + 14).map(Ipv4Addr::from)
}

/// Judges a frame with a message of neighbour discovery (ICMPv6 types 133 to 137). `taken` says which addresses
/// an advertised prefix must not lead to; the copy of an edited frame is written to `edited`.
pub fn discovery(
    frame: &[u8],
    mac: [u8; 6],
    taken: impl Fn(Ipv6Addr) -> bool,
    edited: &mut Vec<u8>,
) -> Verdict {
    match judge(frame, mac, taken) {
        None => Verdict::Drop,
        Some(bad) if bad.is_empty() => Verdict::Pass,
        Some(bad) => edit(frame, bad, NO_OPTION, edited),
    }
}

/// Bytes of a frame that name an option to be ignored. Their number is bounded.
#[derive(Default)]
struct Marks {
    at: [usize; 16],
    count: usize,
}

impl Marks {
    /// Adds a byte. Returns `None` if there is no room: such a message is hostile.
    fn add(&mut self, at: usize) -> Option<()> {
        *self.at.get_mut(self.count)? = at;
        self.count += 1;
        Some(())
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Copies a frame with the marked bytes changed to `to`. smoltcp does not verify checksums again.
fn edit(frame: &[u8], marks: Marks, to: u8, edited: &mut Vec<u8>) -> Verdict {
    edited.clear();
    if edited.capacity() < frame.len() {
        return Verdict::Drop;
    }
    edited.extend_from_slice(frame);
    for at in &marks.at[..marks.count] {
        edited[*at] = to;
    }
    Verdict::Edited
}

/// Returns the options of a message that are to be ignored, or `None` if the whole message is.
fn judge(frame: &[u8], mac: [u8; 6], taken: impl Fn(Ipv6Addr) -> bool) -> Option<Marks> {
    let packet = frame.get(ETHERNET..)?;
    let len = usize::from(u16::from_be_bytes(chunk(packet, 4)?));
    let message = packet.get(IPV6_HEADER..IPV6_HEADER + len)?;
    let (hop_limit, src, dst) = (*packet.get(7)?, address6(packet, 8)?, address6(packet, 24)?);
    let [kind, code, ..] = *message else { return None };
    let mut marks = Marks::default();
    // RFC 4861, 6.1, 7.1 and 8.1.
    if hop_limit != 255 || code != 0 {
        return None;
    }
    let options = match kind {
        133 => 8,
        134 if is_link_local6(src) => 16,
        135 | 136 if !is_host6(address6(message, 8)?) => return None,
        // A question without a source asks whether an address is taken: to its group, and it says no link-layer address.
        135 if src.is_unspecified() && dst.octets()[..13] != SOLICITED_NODE => return None,
        // What is told to all was not asked for.
        136 if dst.is_multicast() && message.get(4)? & 0x40 != 0 => return None,
        135 | 136 => 24,
        // Redirects are not followed.
        _ => return None,
    };
    let mut at = options;
    if message.len() < at {
        return None;
    }
    while at < message.len() {
        let units = usize::from(*message.get(at + 1)?);
        let option = message.get(at..at + 8 * units).filter(|_| units != 0)?;
        let bad = match (kind, option[0]) {
            (134, 3) => !is_prefix(option, mac, &taken),
            // A router's name server must be one host.
            (134, 25) => !address6(option, 8).is_some_and(is_host6),
            (135, 1) if src.is_unspecified() => return None,
            _ => false,
        };
        if bad {
            marks.add(ETHERNET + IPV6_HEADER + at)?;
        }
        at += option.len();
    }
    Some(marks)
}

/// First bytes of the groups of RFC 4291, 2.7.1.
const SOLICITED_NODE: [u8; 13] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];

/// Returns true if a prefix information option leads to an address that a host can have, or to none (RFC 4861, 4.6.2 and 6.3.4;
/// RFC 4862, 5.5.3).
fn is_prefix(option: &[u8], mac: [u8; 6], taken: impl Fn(Ipv6Addr) -> bool) -> bool {
    let (Some(valid), Some(preferred), Some(prefix)) = (
        chunk(option, 4).map(u32::from_be_bytes),
        chunk(option, 8).map(u32::from_be_bytes),
        address6(option, 16),
    ) else {
        return false;
    };
    if option.len() != 32 {
        return false;
    }
    // Without the flag A it is about which addresses are on the link, and smoltcp passes it over.
    if option[3] & 0x40 == 0 {
        return true;
    }
    let network = prefix.to_bits() & !u128::from(u64::MAX);
    let identifier = crate::netif::link_local(mac).to_bits() & u128::from(u64::MAX);
    option[2] == PREFIX
        && preferred <= valid
        // Behind 64 zeros are the unspecified address, the loopback address and all that stand for IPv4 addresses.
        && network != 0
        && !prefix.is_multicast()
        && !is_link_local6(prefix)
        && !taken(Ipv6Addr::from_bits(network | identifier))
}

/// Judges a frame whose bytes `payload` to `payload + len` are a message from a DHCP server (RFC 2131, RFC 2132).
pub fn dhcp(frame: &[u8], payload: usize, len: usize, edited: &mut Vec<u8>) -> Verdict {
    match judge_dhcp(frame, payload, len) {
        None => Verdict::Drop,
        Some(bad) if bad.is_empty() => Verdict::Pass,
        Some(bad) => edit(frame, bad, NO_DHCP_OPTION, edited),
    }
}

fn judge_dhcp(frame: &[u8], payload: usize, len: usize) -> Option<Marks> {
    let message = frame.get(payload..payload + len)?;
    let given = chunk::<4>(message, 16).map(Ipv4Addr::from)?;
    let (mut marks, mut mask, mut refusal) = (Marks::default(), None, true);
    let mut at = 240;
    // As smoltcp reads them: up to the end, padding passed over.
    while let Some(kind) = message.get(at).copied().filter(|kind| *kind != 255) {
        if kind == 0 {
            at += 1;
            continue;
        }
        let Some(len) = message.get(at + 1).map(|len| usize::from(*len)) else {
            break;
        };
        let Some(value) = message.get(at + 2..at + 2 + len) else {
            break;
        };
        match (kind, value) {
            (1, [a, b, c, d]) => mask = Some(u32::from_be_bytes([*a, *b, *c, *d])),
            (3, [a, b, c, d]) => {
                let router = Ipv4Addr::new(*a, *b, *c, *d);
                if !is_host4(router) || router == given {
                    marks.add(payload + at)?;
                }
            }
            // A lease that ends as it begins would be asked for again at once.
            (51, [0, 0, 0, 0]) => return None,
            // DHCPNAK is the only message that gives no address.
            (53, [kind]) => refusal &= *kind == 6,
            _ => {}
        }
        at += 2 + len;
    }
    if !refusal && !is_host4(given) {
        return None;
    }
    if let Some(mask) = mask {
        let host = given.to_bits() & !mask;
        let ends = mask.count_zeros() >= 2 && (host == 0 || host == !mask);
        if mask.leading_ones() != mask.count_ones() || mask.leading_ones() < SHORTEST || ends {
            return None;
        }
    }
    Some(marks)
}
