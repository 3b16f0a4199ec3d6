//! IPv6 extension headers of a received packet: where the upper-layer header begins behind them, and what is wrong with them.
//!
//! Packets come from any host; [`crate::headers`] has checked the fixed header and the payload's length. smoltcp never sees an
//! extension header: a packet that has some is handed in again without them ([`strip`]), so it meets the same checks as any
//! other. Fragment headers are not supported and count as an unknown protocol (RFC 8200, 4; RFC 4443, 3.4).

use crate::headers::wire::IPV6_HEADER as FIXED;
use crate::headers::wire::number::{DESTINATION, HOP_BY_HOP, ICMPV6, ROUTING};
use alloc::vec::Vec;

/// Extension headers in front of the upper layer at most. RFC 8200, 4.1 names each kind once and one twice.
const HEADERS: usize = 8;
/// Options that one header may have at most, padding included (RFC 8504, 5.3 allows such a bound).
const OPTIONS: usize = 64;

/// Returns true if `protocol` is the number of an extension header that this module walks over.
pub const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION)
}

/// What an error about the headers says: a parameter problem (RFC 4443, 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its code.
    pub code: u8,
    /// Byte of the packet that it is about.
    pub pointer: usize,
}

/// What stands behind the extension headers of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// An upper-layer header.
    Upper {
        /// Its protocol.
        protocol: u8,
        /// Byte of the packet that names the protocol.
        pointer: usize,
        /// Length of all extension headers in bytes.
        len: usize,
    },
    /// A header asks for something that this host does not do, and its sender may be told.
    Refused(Problem),
    /// A header asks for something that this host does not do, or the chain makes no sense: no error is sent.
    Dropped,
}

/// Walks the extension headers of `packet`, which begins with the fixed header and ends with the payload.
pub fn walk(packet: &[u8]) -> Walked {
    let mut at = FIXED;
    let mut pointer = 6;
    let mut problem = None;
    for count in 0..=HEADERS {
        let Some(protocol) = packet.get(pointer).copied() else {
            return Walked::Dropped;
        };
        // Hop-by-hop options stand first or nowhere: elsewhere they are an unknown protocol (RFC 8200, 4.1).
        if !is_extension(protocol) || protocol == HOP_BY_HOP && pointer != 6 {
            return match problem {
                None => Walked::Upper {
                    protocol,
                    pointer,
                    len: at - FIXED,
                },
                // No error answers an error (RFC 4443, 2.4 e.1).
                Some(_) if protocol == ICMPV6 && packet.get(at).is_none_or(|kind| kind & 0x80 == 0) => {
                    Walked::Dropped
                }
                Some(problem) => Walked::Refused(problem),
            };
        }
        if count == HEADERS {
            break;
        }
        let Some(len) = packet.get(at + 1).map(|units| (usize::from(*units) + 1) * 8) else {
            return Walked::Dropped;
        };
        let Some(header) = packet.get(at..at + len) else {
            return Walked::Dropped;
        };
        let found = match protocol {
            ROUTING => routing(header, at),
            _ => options(header, at),
        };
        match found {
            Ok(()) => {}
            Err(Some(found)) => problem = problem.or(Some(found)),
            Err(None) => return Walked::Dropped,
        }
        pointer = at;
        at += len;
    }
    Walked::Dropped
}

/// Checks a routing header: one that has no more segments to visit is passed over, any other type 0 included is refused
/// (RFC 8200, 4.4; RFC 5095).
fn routing(header: &[u8], at: usize) -> Result<(), Option<Problem>> {
    match header.get(3) {
        Some(0) => Ok(()),
        Some(_) => Err(Some(Problem {
            code: 0,
            pointer: at + 2,
        })),
        None => Err(None),
    }
}

/// Checks the options of a header at byte `at`: an unknown one is passed over or ends it, as its two highest bits say (RFC 8200,
/// 4.2). Of the known ones none changes what happens to the packet here.
fn options(header: &[u8], at: usize) -> Result<(), Option<Problem>> {
    let mut offset = 2;
    for _ in 0..OPTIONS {
        let kind = match header.get(offset..) {
            Some([kind, ..]) => *kind,
            _ => return Ok(()),
        };
        // Pad1 is the only option without a length.
        if kind == 0 {
            offset += 1;
            continue;
        }
        let Some(len) = header.get(offset + 1) else {
            return Err(None);
        };
        let end = offset + 2 + usize::from(*len);
        if end > header.len() {
            return Err(None);
        }
        // PadN and router alert (RFC 2711).
        if !matches!(kind, 1 | 5) {
            match kind >> 6 {
                0 => {}
                1 => return Err(None),
                _ => {
                    return Err(Some(Problem {
                        code: 2,
                        pointer: at + offset,
                    }));
                }
            }
        }
        offset = end;
    }
    Err(None)
}

/// Returns true if the IPv6 packet that begins at byte `start` has hop-by-hop options with a router alert (RFC 2711). [`walk`] has
/// found them well-formed.
pub fn has_router_alert(frame: &[u8], start: usize) -> bool {
    let Some([0, rest @ ..]) = frame.get(start + 6..) else {
        return false;
    };
    let header = rest.get(FIXED - 7..).unwrap_or_default();
    let Some(header) = header
        .get(1)
        .and_then(|len| header.get(2..(usize::from(*len) + 1) * 8))
    else {
        return false;
    };
    let mut options = header;
    for _ in 0..OPTIONS {
        options = match options {
            [0, rest @ ..] => rest,
            [5, 2, _, _, ..] => return true,
            [_, len, rest @ ..] => rest.get(usize::from(*len)..).unwrap_or_default(),
            _ => return false,
        };
    }
    false
}

/// Writes `frame`, whose IPv6 header begins at `start`, to `out` without its `len` bytes of extension headers; `protocol` is
/// what stands behind them. Returns false if `out` has no room, or if the
/// frame is not as [`walk`] found it.
pub fn strip(frame: &[u8], start: usize, len: usize, protocol: u8, out: &mut Vec<u8>) -> bool {
    let behind = start + FIXED + len;
    let (Some(head), Some(rest)) = (frame.get(..start + FIXED), frame.get(behind..)) else {
        return false;
    };
    let payload = usize::from(u16::from_be_bytes([head[start + 4], head[start + 5]]));
    let Some(rest) = payload.checked_sub(len).and_then(|left| rest.get(..left)) else {
        return false;
    };
    out.clear();
    if out.capacity() < head.len() + rest.len() {
        return false;
    }
    out.extend_from_slice(head);
    out.extend_from_slice(rest);
    out[start + 4..start + 6].copy_from_slice(&((payload - len) as u16).to_be_bytes());
    out[start + 6] = protocol;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; FIXED];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
        packet[6] = first;
        packet.extend(rest);
        packet
    }

    fn upper(protocol: u8, pointer: usize, len: usize) -> Walked {
        Walked::Upper {
            protocol,
            pointer,
            len,
        }
    }

    fn refused(code: u8, pointer: usize) -> Walked {
        Walked::Refused(Problem { code, pointer })
    }

    #[test]
    fn each_kind_of_header_is_passed_over_or_refused_as_the_rfc_says() {
        let pad = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        let option = |next: u8, kind: u8| [next, 0, kind, 4, 0, 0, 0, 0];
        let route = |next: u8, kind: u8, left: u8| [next, 0, kind, left, 0, 0, 0, 0];
        let udp = [0; 8];
        let echo = [128, 0, 0, 0, 0, 0, 0, 0];
        let error = [1, 0, 0, 0, 0, 0, 0, 0];
        let cases: &[(u8, &[&[u8]], Walked)] = &[
            (17, &[&udp], upper(17, 6, 0)),
            (0, &[&pad(17), &udp], upper(17, 40, 8)),
            (60, &[&pad(6), &udp], upper(6, 40, 8)),
            (43, &[&route(17, 0, 0), &udp], upper(17, 40, 8)),
            (
                0,
                &[&pad(60), &pad(43), &route(58, 4, 0), &echo],
                upper(58, 56, 24),
            ),
            // Router alert, and unknown options that may be passed over.
            (0, &[&[58, 0, 5, 2, 0, 0, 1, 0], &echo], upper(58, 40, 8)),
            (60, &[&option(17, 0x3e), &udp], upper(17, 40, 8)),
            (60, &[&option(17, 0x7e), &udp], Walked::Dropped),
            (60, &[&option(17, 0xbe), &udp], refused(2, 42)),
            (0, &[&pad(60), &option(17, 0xfe), &udp], refused(2, 50)),
            // The first problem is the one that is named, and no error answers an error.
            (60, &[&option(43, 0xfe), &route(17, 2, 1), &udp], refused(2, 42)),
            (43, &[&route(17, 0, 1), &udp], refused(0, 42)),
            (43, &[&route(58, 0, 1), &echo], refused(0, 42)),
            (43, &[&route(58, 0, 1), &error], Walked::Dropped),
            // A second hop-by-hop header, fragments, and what nobody knows.
            (60, &[&pad(0), &pad(17), &udp], upper(0, 40, 8)),
            (0, &[&pad(44), &udp], upper(44, 40, 8)),
            (0, &[&pad(59)], upper(59, 40, 8)),
            // Cut off, too long, and options that reach beyond their header.
            (0, &[&[17]], Walked::Dropped),
            (0, &[&[17, 1, 1, 4, 0, 0, 0, 0]], Walked::Dropped),
            (0, &[&[17, 0, 1, 5, 0, 0, 0, 0], &udp], Walked::Dropped),
        ];
        for (first, parts, expected) in cases {
            assert_eq!(
                walk(&packet(*first, &parts.concat())),
                *expected,
                "{first}: {parts:x?}"
            );
        }
        let many = |count: usize| {
            [vec![pad(60); count - 1], vec![pad(17)], vec![udp]]
                .concat()
                .concat()
        };
        assert_eq!(walk(&packet(60, &many(8))), upper(17, 40 + 7 * 8, 64));
        assert_eq!(walk(&packet(60, &many(9))), Walked::Dropped);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_and_what_is_left_lies_behind_the_headers(
            first in prop::sample::select(vec![0u8, 43, 60]),
            rest in prop::collection::vec(prop_oneof![Just(0u8), Just(60), Just(43), Just(17), any::<u8>()], 0..200),
        ) {
            let packet = packet(first, &rest);
            if let Walked::Upper { protocol, pointer, len } = walk(&packet) {
                prop_assert_eq!(packet[pointer], protocol);
                prop_assert_eq!(len % 8, 0);
                let mut out = Vec::with_capacity(1000);
                prop_assert!(strip(&packet, 0, len, protocol, &mut out));
                prop_assert_eq!(&out[FIXED..], &packet[FIXED + len..]);
                prop_assert_eq!((out[6], usize::from(out[5])), (protocol, rest.len() - len));
            }
        }
    }
}
