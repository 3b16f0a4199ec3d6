//! VLAN tags (IEEE 802.1Q): removed from received frames, inserted into the frames of vifs with a VLAN.
//!
//! The branes never see a tag. Only the driver decides which VLAN a frame belongs to, so a brane must not send a tag.
//! The wire is not trusted: a received frame with a second tag inside is dropped.

use crate::mac::{self, EthernetHeader, Mac};
use crate::{ETHERNET_HEADER, MAX_PARTS, Switch};
use brane_abi::port::{FLAG_NEEDS_CSUM, FrameMeta, GSO_NONE};

/// Bytes of a tag.
pub const TAG: usize = 4;
/// Offset of a tag in a frame: after the two addresses.
const AT: usize = 12;
/// The highest VLAN id; 4095 is reserved.
pub const HIGHEST: u16 = 4094;
const NUMBER: u16 = 0x0fff;

/// EtherTypes of a customer's tag and of a provider's (IEEE 802.1ad), in the byte order of
/// [`EthernetHeader::ethertype`].
const CUSTOMER: u16 = u16::from_le_bytes([0x81, 0x00]);
const PROVIDER: u16 = u16::from_le_bytes([0x88, 0xa8]);

/// Returns true if a frame of this [`EthernetHeader::ethertype`] has a tag of either kind.
#[inline]
pub fn is_tag(ethertype: u16) -> bool {
    ethertype == CUSTOMER || ethertype == PROVIDER
}

/// Inserts the tag of `vlan` into a frame. The frame starts [`TAG`] bytes after the buffer's start and has at least an
/// Ethernet header; afterwards it starts at the buffer's start. Returns the meta for the longer frame.
#[cold]
pub fn insert(buffer: &mut [u8], vlan: u16, meta: FrameMeta) -> FrameMeta {
    if let Some(start) = buffer.first_chunk_mut::<{ AT + TAG }>() {
        start.copy_within(TAG.., 0);
        let [high, low] = vlan.to_be_bytes();
        start[AT..].copy_from_slice(&[0x81, 0x00, high, low]);
    }
    let mut meta = meta;
    if meta.flags & FLAG_NEEDS_CSUM != 0 {
        meta.csum_start = meta.csum_start.saturating_add(TAG as u16);
    }
    if meta.gso_type != GSO_NONE {
        meta.header_len = meta.header_len.saturating_add(TAG as u16);
    }
    meta
}

/// Returns the meta of a received frame without its tag. Returns `None` if the checksum would start within the
/// remaining header.
fn shorter(mut meta: FrameMeta) -> Option<FrameMeta> {
    if meta.flags & FLAG_NEEDS_CSUM != 0 {
        meta.csum_start = meta.csum_start.checked_sub(TAG as u16)?;
        if usize::from(meta.csum_start) < ETHERNET_HEADER {
            return None;
        }
    }
    // Only a hint; 0 if the device gave none.
    meta.header_len = meta.header_len.saturating_sub(TAG as u16);
    Some(meta)
}

impl<const N: usize, const P: usize> Switch<N, P> {
    /// A received frame with a tag: without it to the vifs of its VLAN. With number 0 it has only a priority (IEEE 802.1Q,
    /// 9.6), and is like a frame without a tag.
    #[cold]
    pub(crate) fn switch_tagged(&mut self, header: EthernetHeader, meta: FrameMeta, parts: &[&[u8]]) {
        let Some((first, rest)) = parts.split_first() else {
            return;
        };
        let (Some([high, low, kind @ ..]), Some(meta)) = (first.get(AT + 2..AT + 6), shorter(meta)) else {
            self.counters.rx_malformed += 1;
            return;
        };
        let inner = kind.try_into().map_or(0, u16::from_le_bytes);
        if header.ethertype != CUSTOMER || is_tag(inner) {
            self.counters.rx_unclaimed += 1;
            return;
        }
        let vlan = u16::from_be_bytes([*high, *low]) & NUMBER;
        let mut list: [&[u8]; MAX_PARTS + 1] = [&[]; MAX_PARTS + 1];
        let Some(places) = list.get_mut(2..parts.len() + 1) else {
            self.counters.rx_malformed += 1;
            return;
        };
        places.copy_from_slice(rest);
        (list[0], list[1]) = (&first[..AT], &first[AT + TAG..]);
        let list = &list[..parts.len() + 1];
        let (dst, src) = (mac::in_vlan(header.dst, vlan), mac::in_vlan(header.src, vlan));
        self.switch_to(dst, src, vlan, list, meta);
    }

    /// Returns the slots of the vifs that get group frames of a VLAN: bound vifs on the wire.
    #[inline]
    pub(crate) fn group(&self, vlan: u16) -> u64 {
        match vlan {
            0 => self.untagged,
            vlan => self.tagged(vlan),
        }
    }

    #[cold]
    fn tagged(&self, vlan: u16) -> u64 {
        let mut slots = 0;
        for (slot, vif) in self.vifs.iter().enumerate() {
            if vif.vlan == vlan && vif.port.is_some() {
                slots |= 1 << slot;
            }
        }
        slots
    }

    /// Delivers a frame from the wire to its destination. Both addresses are keys with the VLAN.
    #[inline]
    pub(crate) fn switch_to(&mut self, dst: Mac, src: Mac, vlan: u16, parts: &[&[u8]], meta: FrameMeta) {
        if mac::is_group(dst) {
            // The vif with this source address sent the frame, and the network returned it.
            self.flood(self.group(vlan), Some(src), parts, meta);
            return;
        }
        match self.table.find(dst) {
            Some(slot) => self.deliver(slot, parts, meta),
            None => self.counters.rx_unclaimed += 1,
        }
    }
}
