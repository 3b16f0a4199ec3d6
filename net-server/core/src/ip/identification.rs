//! Identifications that smoltcp draws from a predictable generator, or counts, replaced on their way out.
//!
//! The other side is any host on the network. Two kinds leave with a number of smoltcp's own:
//!
//! - A DHCP transaction id is all that keeps a host on the link from answering in the server's place (RFC 2131, 4.1). The
//!   transaction gets a fresh random number; answers are given smoltcp's number back ([`Disguise::incoming`]).
//! - The identification of fragmented IPv4 packets. smoltcp counts all packets that it sends with it. So it would tell others how
//!   much the brane sends, and let them place fragments of their own in its packets (RFC 7739, 3). It becomes a keyed permutation
//!   of a count of fragmented packets: none repeats within 65,536 packets, and those seen do not tell the next.
//!
//! Frames are what smoltcp has written, with lengths that fit; nothing here panics if they do not. Checksums are mended as RFC
//! 1624 has it.

use crate::headers::wire::ETHERNET;
use crate::headers::wire::number::UDP;
use crate::ip::checksum;
use core::hash::Hasher;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use siphasher::sip::SipHasher24;

/// Ports of DHCP, client to server (RFC 2131, 4.1).
const PORTS: [u8; 4] = [0, 68, 0, 67];
/// Bytes from the start of a DHCP message to its transaction id (RFC 2131, 2).
const XID: usize = 4;

/// The identifications of one interface.
pub struct Disguise {
    rng: ChaCha12Rng,
    key: (u64, u64),
    /// Fragmented packets under this key.
    packets: u16,
    /// smoltcp's identification of the packet that leaves in fragments, and ours.
    fragmented: Option<(u16, u16)>,
    /// smoltcp's id of the present DHCP transaction, and ours.
    transaction: Option<(u32, u32)>,
}

impl Disguise {
    /// Draws a secret of its own from `rng`, which must be unpredictable.
    pub fn new(rng: &mut impl RngCore) -> Disguise {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let mut rng = ChaCha12Rng::from_seed(seed);
        Disguise {
            key: (rng.next_u64(), rng.next_u64()),
            rng,
            packets: 0,
            fragmented: None,
            transaction: None,
        }
    }

    /// Replaces the identification in an Ethernet frame that smoltcp has written, if it has one.
    #[inline]
    pub fn outgoing(&mut self, frame: &mut [u8]) {
        let Some(head) = frame.first_chunk::<{ ETHERNET + 20 }>() else {
            return;
        };
        if head[12..14] != [0x08, 0x00] {
            return;
        }
        if head[20] & 0x3f | head[21] != 0 {
            self.fragment(frame);
        } else if head[23] == UDP {
            self.question(frame);
        }
    }

    fn fragment(&mut self, frame: &mut [u8]) {
        let Some(inner) = u16_at(frame, ETHERNET + 4) else {
            return;
        };
        let outer = match self.fragmented {
            Some((known, outer)) if known == inner => outer,
            _ => {
                let outer = permuted(self.key, self.packets);
                self.packets = self.packets.wrapping_add(1);
                if self.packets == 0 {
                    self.key = (self.rng.next_u64(), self.rng.next_u64());
                }
                outer
            }
        };
        self.fragmented = Some((inner, outer));
        put(frame, ETHERNET + 4, &outer.to_be_bytes(), ETHERNET + 10);
    }

    fn question(&mut self, frame: &mut [u8]) {
        let start = ETHERNET + usize::from(frame[ETHERNET] & 15) * 4;
        if frame.get(start..start + 4) != Some(&PORTS) {
            return;
        }
        let at = start + 8 + XID;
        let Some(inner) = u32_at(frame, at) else { return };
        let outer = match self.transaction {
            Some((known, outer)) if known == inner => outer,
            _ => self.rng.next_u32(),
        };
        self.transaction = Some((inner, outer));
        put(frame, at, &outer.to_be_bytes(), start + 6);
    }

    /// Where the transaction id of a DHCP answer stands, and what smoltcp knows it as. `None` if it answers no question of
    /// this interface. `payload` is where the message begins.
    pub fn incoming(&self, frame: &[u8], payload: usize) -> Option<(usize, [u8; 4])> {
        let (inner, outer) = self.transaction?;
        (u32_at(frame, payload + XID)? == outer).then_some((payload + XID, inner.to_be_bytes()))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Writes `new`, which begins at an even distance from the checksummed part's start, and mends the checksum at `sum_at`.
fn put(frame: &mut [u8], at: usize, new: &[u8], sum_at: usize) {
    let Some(old) = frame.get_mut(at..at + new.len()) else {
        return;
    };
    let removed = !checksum::sum(old);
    old.copy_from_slice(new);
    let Some(sum) = u16_at(frame, sum_at) else { return };
    let mended = !checksum::add(checksum::add(!sum, removed), checksum::sum(new));
    if let Some(field) = frame.get_mut(sum_at..sum_at + 2) {
        // Zero would mean that a datagram has none (RFC 768); the sum is the same.
        let mended = if mended == 0 { 0xffff } else { mended };
        field.copy_from_slice(&mended.to_be_bytes());
    }
}

/// A keyed permutation of 16-bit numbers: a Feistel network of eight rounds over their halves.
fn permuted(key: (u64, u64), number: u16) -> u16 {
    let [mut left, mut right] = number.to_be_bytes();
    for round in 0..8u8 {
        let mut hasher = SipHasher24::new_with_keys(key.0, key.1);
        hasher.write_u16(u16::from_be_bytes([round, right]));
        (left, right) = (right, left ^ hasher.finish() as u8);
    }
    u16::from_be_bytes([left, right])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::*;
    use std::collections::HashSet;
    use std::vec::Vec;

    fn disguise() -> Disguise {
        Disguise::new(&mut ChaCha12Rng::from_seed([4; 32]))
    }

    #[test]
    fn identifications_do_not_repeat_within_65536_packets() {
        let seen: HashSet<u16> = (0..=u16::MAX).map(|n| permuted((1, 2), n)).collect();
        assert_eq!(seen.len(), 65536);
        let other = (0..1000)
            .filter(|n| permuted((1, 2), *n) == permuted((1, 3), *n))
            .count();
        assert!(other < 5, "two keys agree on {other} of 1000 numbers");
    }

    fn fragment(ident: u16, offset: u16, more: bool) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + 20 + 8];
        frame[12..14].copy_from_slice(&[8, 0]);
        let mut ip = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
        ip.set_version(4);
        ip.set_header_len(20);
        ip.set_total_len(28);
        ip.set_ident(ident);
        ip.set_frag_offset(offset);
        ip.set_more_frags(more);
        ip.set_hop_limit(64);
        ip.set_next_header(IpProtocol::Udp);
        ip.fill_checksum();
        frame
    }

    #[test]
    fn fragments_of_one_packet_have_one_identification_and_packets_no_order() {
        let mut disguise = disguise();
        let mut idents = Vec::new();
        for packet in 0..500 {
            let mut of_packet = HashSet::new();
            for (offset, more) in [(0, true), (8, true), (16, false)] {
                let mut frame = fragment(1000 + packet, offset, more);
                disguise.outgoing(&mut frame);
                let ip = Ipv4Packet::new_unchecked(&frame[ETHERNET..]);
                assert!(ip.verify_checksum() && ip.frag_offset() == offset && ip.more_frags() == more);
                of_packet.insert(ip.ident());
            }
            assert_eq!(of_packet.len(), 1);
            idents.extend(of_packet);
        }
        let steps = idents.windows(2).map(|w| w[1].wrapping_sub(w[0]));
        assert!(
            steps.collect::<HashSet<_>>().len() > 450,
            "the steps between identifications repeat"
        );
    }

    proptest! {
        #[test]
        fn nothing_else_is_touched(mut frame in prop::collection::vec(any::<u8>(), 0..100), ip: bool) {
            if ip && frame.len() > 24 {
                frame[12..14].copy_from_slice(&[8, 0]);
                frame[20] &= 0x40;
                frame[21] = 0;
            }
            let before = frame.clone();
            disguise().outgoing(&mut frame);
            let fragment = before.len() >= 34 && before[12..14] == [8, 0] && (before[20] & 0x3f | before[21]) != 0;
            let start = before.get(14).map_or(0, |b| 14 + usize::from(b & 15) * 4);
            let dhcp = before.get(23) == Some(&17) && before.get(start..start + 4) == Some(&PORTS);
            if !fragment && !dhcp {
                prop_assert_eq!(frame, before);
            }
        }

        #[test]
        fn a_transaction_keeps_its_number_and_gets_smoltcps_back(xids in prop::collection::vec(any::<u32>(), 1..8), repeats in 1usize..4) {
            let mut disguise = disguise();
            let mut seen = HashSet::new();
            for xid in xids {
                for _ in 0..repeats {
                    let (src, dst) = (Ipv4Address::UNSPECIFIED, Ipv4Address::BROADCAST);
                    let ip = IpRepr::new(src.into(), dst.into(), IpProtocol::Udp, 8 + 240, 64);
                    let mut frame = vec![0; ETHERNET + ip.buffer_len()];
                    frame[12..14].copy_from_slice(&[8, 0]);
                    let caps = ChecksumCapabilities::default();
                    ip.emit(&mut frame[ETHERNET..], &caps);
                    let udp = UdpRepr { src_port: 68, dst_port: 67 };
                    let fill = |room: &mut [u8]| room[4..8].copy_from_slice(&xid.to_be_bytes());
                    udp.emit(&mut UdpPacket::new_unchecked(&mut frame[34..]), &src.into(), &dst.into(), 240, fill, &caps);
                    disguise.outgoing(&mut frame);
                    let packet = UdpPacket::new_checked(&frame[34..]).unwrap();
                    prop_assert!(packet.verify_checksum(&src.into(), &dst.into()));
                    seen.insert(u32_at(&frame, 46).unwrap());
                    prop_assert_eq!(disguise.incoming(&frame, 42), Some((46, xid.to_be_bytes())));
                    frame[49] ^= 1;
                    prop_assert_eq!(disguise.incoming(&frame, 42), None);
                }
            }
            prop_assert!(!seen.is_empty());
        }
    }
}
