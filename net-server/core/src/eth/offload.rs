//! Checksums and segmentation that the device completes. Packets are the brane's own.

use crate::headers;
use crate::ip::checksum;
use brane_abi::port::{self, FrameMeta};
use smoltcp::phy::{Checksum, ChecksumCapabilities, PacketMeta};

/// Returns the checksums that smoltcp fills in. Received packets were verified before it sees them.
pub(super) fn checksums(transport: bool) -> ChecksumCapabilities {
    let mut caps = ChecksumCapabilities::ignored();
    let transport = if transport { Checksum::Tx } else { Checksum::None };
    caps.ipv4 = Checksum::Tx;
    caps.tcp = transport;
    caps.udp = transport;
    caps.icmpv4 = Checksum::Tx;
    caps.icmpv6 = Checksum::Tx;
    caps
}

/// Fills in the pseudo header's sum of a TCP or UDP packet. Returns the words that tell the driver.
pub(super) fn offload(packet: &mut [u8], meta: PacketMeta) -> [u32; 3] {
    let Some((protocol, start, src, dst)) = headers::outgoing(packet) else {
        return [0; 3];
    };
    let field = headers::checksum_offset(protocol);
    let gso_size = segment_size(meta);
    let len = packet.len() - start;
    let Some(sum) = checksum::pseudo_header(src, dst, protocol, len) else {
        return [0; 3];
    };
    packet[start + field..start + field + 2].copy_from_slice(&sum.to_be_bytes());
    let mut words = FrameMeta {
        flags: port::FLAG_NEEDS_CSUM,
        csum_start: start as u16,
        csum_offset: field as u16,
        ..FrameMeta::default()
    };
    if gso_size != 0 {
        words.gso_type = port::GSO_TCPV4;
        words.gso_size = gso_size;
        words.header_len = (start + usize::from(packet[start + 12] >> 4) * 4) as u16;
    }
    words.to_words()
}

/// Returns the size of the segments into which the device cuts a packet, or 0.
pub(super) fn segment_size(meta: PacketMeta) -> u16 {
    meta.segmentation_offload_size.map_or(0, |size| size.get())
}

/// Fills in the transport checksum of a TCP or UDP packet that no device completes.
pub(super) fn complete(packet: &mut [u8]) {
    let Some((protocol, start, src, dst)) = headers::outgoing(packet) else {
        return;
    };
    let field = start + headers::checksum_offset(protocol);
    let Some(sum) = checksum::pseudo_header(src, dst, protocol, packet.len() - start) else {
        return;
    };
    let Some(bytes) = packet.get_mut(field..field + 2) else {
        return;
    };
    bytes.fill(0);
    let sum = !checksum::add(sum, checksum::sum(&packet[start..]));
    // Zero would mean that there is none (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}
