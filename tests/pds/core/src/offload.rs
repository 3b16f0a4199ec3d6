//! Frames that pass a check of addresses, each with an offload request by which the device would rewrite an
//! address.
//!
//! For a checksum, a device sums up the frame from `csum_start` on and stores the result `csum_offset` bytes
//! behind it. The brane chooses both and one more word of the frame, so it chooses the stored value and its
//! place. The other side is the NIC driver, which must drop each of these frames.

use brane_abi::net::MacAddr;
use brane_abi::port::{FLAG_NEEDS_CSUM, FrameMeta};

/// Size of each frame in bytes.
const FRAME: usize = 90;

/// A frame and its offload request.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite {
    /// The whole frame, with an Ethernet header.
    pub frame: [u8; FRAME],
    /// The offload request.
    pub meta: FrameMeta,
    /// Place of the device's write, in bytes from the frame's start.
    pub at: usize,
    /// Value of the device's write, in network order.
    pub value: [u8; 2],
}

/// Addresses for the frames.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// MAC address of the vif.
    pub mac: MacAddr,
    /// MAC address of the destination.
    pub to: MacAddr,
    /// IPv4 address that the vif may use.
    pub ip: [u8; 4],
    /// IPv6 address that the vif may use.
    pub ip6: [u8; 16],
    /// IPv4 address that the vif may not use, with the same first half as `ip`.
    pub claimed: [u8; 4],
}

/// Returns rewrites, in this order: an IPv4 source, an ARP sender, and the type of an ICMPv6 message to a
/// router advertisement.
pub fn rewrites(of: Addresses) -> [Rewrite; 3] {
    let claimed = [of.claimed[2], of.claimed[3]];
    [
        rewrite(ipv4(&of), 14, 28, claimed),
        rewrite(arp(&of), 14, 30, claimed),
        rewrite(icmpv6(&of), 54, 54, [134, 0]),
    ]
}

/// Chooses the frame's last word so that a device that sums up from `start` on stores `value` at `at`.
fn rewrite(mut frame: [u8; FRAME], start: usize, at: usize, value: [u8; 2]) -> Rewrite {
    let mut sum = 0;
    for word in frame[start..].chunks_exact(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word[1]);
    }
    // The one's complement sum must be the complement of `value` (RFC 1071).
    let wanted = u32::from(!u16::from_be_bytes(value));
    let last = (wanted + 0xffff - sum % 0xffff) % 0xffff;
    frame[FRAME - 2..].copy_from_slice(&(last as u16).to_be_bytes());
    let meta = FrameMeta {
        flags: FLAG_NEEDS_CSUM,
        csum_start: start as u16,
        csum_offset: (at - start) as u16,
        ..FrameMeta::default()
    };
    Rewrite {
        frame,
        meta,
        at,
        value,
    }
}

fn ethernet(of: &Addresses, kind: u16) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&of.to.0);
    frame[6..12].copy_from_slice(&of.mac.0);
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
    frame
}

/// Builds an IPv4 packet (RFC 791) of protocol 253, which is for experiments (RFC 3692).
fn ipv4(of: &Addresses) -> [u8; FRAME] {
    let mut frame = ethernet(of, 0x0800);
    let total = (FRAME - 14) as u8;
    frame[14..26].copy_from_slice(&[0x45, 0, 0, total, 0, 0, 0x40, 0, 64, 253, 0, 0]);
    frame[26..30].copy_from_slice(&of.ip);
    frame[30..34].copy_from_slice(&[255; 4]);
    frame
}

/// Builds an ARP reply (RFC 826).
fn arp(of: &Addresses) -> [u8; FRAME] {
    let mut frame = ethernet(of, 0x0806);
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
    frame[22..28].copy_from_slice(&of.mac.0);
    frame[28..32].copy_from_slice(&of.ip);
    frame[32..38].copy_from_slice(&of.to.0);
    frame[38..42].copy_from_slice(&of.ip);
    frame
}

/// Builds an ICMPv6 echo request (RFC 4443, 4.1) to all nodes.
fn icmpv6(of: &Addresses) -> [u8; FRAME] {
    let mut frame = ethernet(of, 0x86dd);
    let payload = (FRAME - 54) as u8;
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, payload, 58, 255]);
    frame[22..38].copy_from_slice(&of.ip6);
    frame[38..40].copy_from_slice(&[0xff, 2]);
    frame[53] = 1;
    frame[54] = 128;
    frame
}
