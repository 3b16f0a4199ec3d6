//! VLAN tags (IEEE 802.1Q): taken from received frames, put into those that a tagged vif sends.
//!
//! The branes never see a tag: it is the driver's word for whom a frame belongs to. So a brane may not send one either,
//! and a frame from the wire with a second one inside is nobody's.

use crate::mac::{self, EthernetHeader, Mac};
use crate::{ETHERNET_HEADER, MAX_PARTS, Switch};
use brane_abi::port::{FLAG_NEEDS_CSUM, FrameMeta, GSO_NONE};

/// Bytes of a tag.
pub const TAG: usize = 4;
/// Where it lies: behind the two addresses.
const AT: usize = 12;
/// The highest number of a VLAN; 4095 is reserved.
pub const HIGHEST: u16 = 4094;
const NUMBER: u16 = 0x0fff;

/// The type of a tag, as [`EthernetHeader::kind`] has it, and that of a provider's (IEEE 802.1ad).
const CUSTOMER: u16 = u16::from_le_bytes([0x81, 0x00]);
const PROVIDER: u16 = u16::from_le_bytes([0x88, 0xa8]);

/// Whether a frame of that [`EthernetHeader::kind`] has a tag of any sort.
#[inline]
pub fn is_tag(ethertype: u16) -> bool {
    ethertype == CUSTOMER || ethertype == PROVIDER
}

/// Puts the tag of `vlan` into the frame that starts [`TAG`] bytes after the buffer's start and is at least an Ethernet
/// header long; the frame then fills the buffer from its start. The meta for the longer frame.
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

/// The meta of a received frame without its tag; `None` where its checksum would start within the header that is left.
fn shorter(mut meta: FrameMeta) -> Option<FrameMeta> {
    if meta.flags & FLAG_NEEDS_CSUM != 0 {
        meta.csum_start = meta.csum_start.checked_sub(TAG as u16)?;
        if usize::from(meta.csum_start) < ETHERNET_HEADER {
            return None;
        }
    }
    // A hint only, 0 where there is none.
    meta.header_len = meta.header_len.saturating_sub(TAG as u16);
    Some(meta)
}

impl<const N: usize> Switch<N> {
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

    /// The vif slots that get the group frames of a VLAN: bound, and on the wire.
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

    /// A frame from the wire to whom it is for; both addresses are those in the VLAN.
    #[inline]
    pub(crate) fn switch_to(&mut self, dst: Mac, src: Mac, vlan: u16, parts: &[&[u8]], meta: FrameMeta) {
        if mac::is_group(dst) {
            // Whoever has this source address sent it: it came back from outside.
            self.flood(self.group(vlan), Some(src), parts, meta);
            return;
        }
        match self.table.find(dst) {
            Some(slot) => self.deliver(slot, parts, meta),
            None => self.counters.rx_unclaimed += 1,
        }
    }
}
