//! Finds the vif that has a MAC address, in a few instructions. Owns the table of addresses.
//!
//! An address may exist in several VLANs, so the key contains both. The VLAN number lies in the bits above the address,
//! and is 0 for frames without a tag. So the address of an untagged frame is the key without any change.
//!
//! The addresses come from frames of untrusted senders. Each lookup is bounded, because at most a quarter of the table
//! is occupied.

use crate::MAX_VIFS;

/// An Ethernet address in the low 48 bits, first byte lowest, and the VLAN in the 12 above ([`in_vlan`]).
pub type Mac = u64;

const MASK: u64 = (1 << 48) - 1;
/// Number of table slots: four times the vifs, so that a miss ends after a step or two.
const SLOTS: usize = 4 * MAX_VIFS;
const NONE: u8 = u8::MAX;
const _: () = assert!(SLOTS == 256 && MAX_VIFS < NONE as usize);

/// The fields of an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetHeader {
    /// Destination address, without a VLAN.
    pub dst: Mac,
    /// Source address, without a VLAN.
    pub src: Mac,
    /// The two bytes after the addresses, the first one lowest.
    pub ethertype: u16,
}

/// Returns the header of a frame, or `None` if the frame is too short for one.
#[inline]
pub fn ethernet_header(frame: &[u8]) -> Option<EthernetHeader> {
    let (low, high) = (frame.get(..8)?, frame.get(6..14)?);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let (low, high) = (word(low), word(high));
    Some(EthernetHeader {
        dst: low & MASK,
        src: high & MASK,
        ethertype: (high >> 48) as u16,
    })
}

/// Returns the key of an address in VLAN `vlan`; 0 means no tag.
#[inline]
pub fn in_vlan(mac: Mac, vlan: u16) -> Mac {
    mac | u64::from(vlan) << 48
}

/// The reserved group addresses (IEEE 802.1Q, 8.6.3): the lowest of the sixteen, and the mask of their common bits.
const RESERVED: Mac = from_bytes([0x01, 0x80, 0xc2, 0, 0, 0]);
const RESERVED_MASK: Mac = from_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]);
/// EtherType of MAC control, for example of pause frames (IEEE 802.3, 31A).
const MAC_CONTROL: u16 = 0x8808;
/// The lowest EtherType. A lower value is a length, and an LLC header follows (IEEE 802.3, 3.2.6).
const LOWEST_TYPE: u16 = 0x0600;
/// EtherTypes of IP, in the byte order of [`EthernetHeader::ethertype`].
pub const IPV4: u16 = 0x0800u16.swap_bytes();
/// See [`IPV4`].
pub const IPV6: u16 = 0x86ddu16.swap_bytes();

/// Returns true if the frame is for the bridges and stations of the link itself: spanning tree, pause, LACP, LLDP,
/// 802.1X. Frames with an LLC header count too, because spanning tree uses LLC at other group addresses as well.
#[inline]
pub fn is_link_control(header: &EthernetHeader) -> bool {
    let ethertype = header.ethertype.swap_bytes();
    header.dst & RESERVED_MASK == RESERVED || ethertype < LOWEST_TYPE || ethertype == MAC_CONTROL
}

/// Returns true for an IP packet to one station; such a frame is neither tagged nor link control. Most frames are of
/// this kind.
#[inline]
pub fn is_plain(header: &EthernetHeader) -> bool {
    (header.ethertype == IPV4 || header.ethertype == IPV6) && !is_group(header.dst)
}

/// Converts an address from the order of transmission.
pub const fn from_bytes(mac: [u8; 6]) -> Mac {
    let [a, b, c, d, e, f] = mac;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// Returns true for multicast and broadcast addresses (IEEE 802, I/G bit).
#[inline]
pub fn is_group(mac: Mac) -> bool {
    mac & 1 != 0
}

/// Hash table of vif slots with open addressing. The owner rebuilds it when a vif is added or removed.
pub struct MacTable {
    slots: [u8; SLOTS],
    macs: [Mac; MAX_VIFS],
}

impl MacTable {
    pub const fn new() -> Self {
        Self {
            slots: [NONE; SLOTS],
            macs: [0; MAX_VIFS],
        }
    }

    #[inline]
    fn hash(mac: Mac) -> usize {
        // Fibonacci hashing: the high bits of the product depend on all bits of the address.
        (mac.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
    }

    /// Returns the vif slot with this address.
    #[inline]
    pub fn find(&self, mac: Mac) -> Option<usize> {
        let mut at = Self::hash(mac);
        // Ends: at most a quarter of the slots is occupied.
        loop {
            let slot = self.slots[at % SLOTS];
            if slot == NONE {
                return None;
            }
            if self.macs[usize::from(slot) % MAX_VIFS] == mac {
                return Some(usize::from(slot));
            }
            at += 1;
        }
    }

    /// Replaces all entries.
    pub fn rebuild(&mut self, entries: impl Iterator<Item = (usize, Mac)>) {
        self.slots = [NONE; SLOTS];
        for (slot, mac) in entries.take(MAX_VIFS) {
            let mut at = Self::hash(mac);
            while self.slots[at % SLOTS] != NONE {
                at += 1;
            }
            self.slots[at % SLOTS] = slot as u8;
            self.macs[slot % MAX_VIFS] = mac;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn finds_exactly_what_was_put_in(
            macs in proptest::collection::hash_set(any::<[u8; 6]>(), 0..=MAX_VIFS), other in any::<[u8; 6]>(),
        ) {
            let macs: HashMap<Mac, usize> = macs.into_iter().enumerate().map(|(i, m)| (from_bytes(m), i)).collect();
            let mut table = MacTable::new();
            table.rebuild(macs.iter().map(|(m, i)| (*i, *m)));
            for (mac, slot) in &macs {
                prop_assert_eq!(table.find(*mac), Some(*slot));
            }
            let other = from_bytes(other);
            prop_assert_eq!(table.find(other), macs.get(&other).copied());
        }
    }

    #[test]
    fn addresses_of_a_frame() {
        let frame = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0];
        let found = ethernet_header(&frame).unwrap();
        let expected = EthernetHeader {
            dst: from_bytes([1, 2, 3, 4, 5, 6]),
            src: from_bytes([7, 8, 9, 10, 11, 12]),
            ethertype: 8,
        };
        assert_eq!(found, expected);
        assert!(is_group(found.dst) && is_group(found.src));
        assert_eq!(ethernet_header(&frame[..13]), None);
    }
}
