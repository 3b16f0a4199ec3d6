//! Replaces a packet that waits by the bytes of a filter's verdict. The filter is not trusted, so the bytes are checked, and the brane
//! computes their checksums.
//!
//! A received packet with new bytes is handled as if it had just been received from the network. So only what the rest of the brane
//! relies on behind a head is checked here: family, lengths, no fragment, no IPv6 extension headers. A sent packet keeps both addresses,
//! because its route and its link-layer destination follow from them.

use super::{Held, Way};
use crate::headers::ends;
use crate::headers::wire::number;
use crate::ip::checksum;
use alloc::vec::Vec;
use brane_abi::hook::Head;

/// Longest new packet if the old one was shorter, in bytes.
const MTU: usize = 1500;

/// Replaces the packet. Returns false if there is no memory. An error is the rule that the new packet breaks.
pub(super) fn replace(held: &mut Held, packet: &[u8]) -> Result<bool, &'static str> {
    let start = held.start();
    let old = held.frame.get(start..).unwrap_or_default();
    let inet6 = matches!(held.head, Head::Inet6In | Head::Inet6Out);
    let (header, protocol) = check(packet, inet6).ok_or("modified with wrong headers")?;
    if packet.len() > old.len().max(MTU) {
        return Err("modified packet too long");
    }
    if held.head.is_out() && ends(old, 0) != ends(packet, 0) {
        return Err("modified with other addresses");
    }
    let mut frame = Vec::new();
    if frame.try_reserve_exact(start + packet.len()).is_err() {
        return Ok(false);
    }
    frame.extend_from_slice(&held.frame[..start]);
    frame.extend_from_slice(packet);
    complete(&mut frame[start..], header, protocol);
    held.frame = frame;
    if let Way::Received(intact) = &mut held.way {
        *intact = true;
    }
    Ok(true)
}

/// Returns the length of the IP header and the protocol of a packet that the brane can take.
fn check(packet: &[u8], inet6: bool) -> Option<(usize, u8)> {
    let first = *packet.first()?;
    let (header, protocol) = if inet6 {
        let fixed = packet.first_chunk::<40>()?;
        let len = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        (first >> 4 == 6 && len + 40 == packet.len()).then_some((40, fixed[6]))?
    } else {
        let fixed = packet.first_chunk::<20>()?;
        let header = usize::from(first & 15) * 4;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff;
        let sound = first >> 4 == 4 && header >= 20 && total == packet.len() && fragment == 0;
        sound.then_some((header, fixed[9]))?
    };
    let rest = packet.get(header..)?;
    let sound = match protocol {
        number::TCP => {
            let offset = usize::from(rest.get(12)? >> 4) * 4;
            offset >= 20 && offset <= rest.len()
        }
        number::UDP => {
            rest.len() >= 8 && usize::from(u16::from_be_bytes([*rest.get(4)?, *rest.get(5)?])) == rest.len()
        }
        number::ICMP => !inet6 && rest.len() >= 8,
        // MLD and neighbour discovery pass no head, so nothing behind a head may become one of their messages.
        number::ICMPV6 => inet6 && rest.len() >= 8 && !matches!(rest.first(), Some(130..=137 | 143)),
        _ => false,
    };
    sound.then_some((header, protocol))
}

/// Computes the checksums of a packet that has passed [`check`].
pub(super) fn complete(packet: &mut [u8], header: usize, protocol: u8) {
    if packet.first().is_some_and(|first| first >> 4 == 4) {
        packet[10..12].fill(0);
        let sum = !checksum::sum(&packet[..header]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let field = header
        + match protocol {
            number::TCP => 16,
            number::UDP => 6,
            _ => 2,
        };
    let len = packet.len() - header;
    let pseudo = match protocol {
        number::ICMP => Some(0),
        _ => ends(packet, 0).and_then(|(src, dst)| checksum::pseudo_header(src, dst, protocol, len)),
    };
    let Some(pseudo) = pseudo else {
        return;
    };
    packet[field..field + 2].fill(0);
    let sum = !checksum::add(pseudo, checksum::sum(&packet[header..]));
    // Zero would mean that there is none (RFC 768).
    let sum = if sum == 0 && protocol == number::UDP {
        0xffff
    } else {
        sum
    };
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}
