//! Checks that a frame's sender uses only addresses that its vif may have. Applies to vifs with a list of allowed
//! addresses.
//!
//! The input is the driver's own copy of a frame from an untrusted brane; its source MAC address has been checked.
//! Headers are copied out once, within bounds; a truncated header is a violation. A frame must fulfil three
//! conditions: its IP source is allowed, it claims only allowed addresses by ARP (RFC 826) or neighbour discovery
//! (RFC 4861), and it announces no router. These are the ways in which a station can pass for another one (RFC 6620, 6105).
//!
//! Besides the list, a vif has its link-local address, derived from its MAC address (RFC 4291, 2.5.6). It may use the
//! unspecified address while it requests an address by DHCP (RFC 2131), or probes whether an address is free (RFC 4862,
//! 5.4; RFC 5227, 2.1). Payloads of tunnels are not inspected: a forged packet inside can deceive only the tunnel's
//! receiver.

use crate::ETHERNET_HEADER;
use brane_abi::net::MacAddr;
use brane_abi::vif::{MAX_ALLOWED, Prefix};
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Reason why a frame must not leave. Each has a counter in [`brane_abi::vif::VifCounters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Neither IPv4 nor IPv6 nor ARP: for example a VLAN tag or a length (IEEE 802.3).
    Type,
    /// The IP source is not allowed, or the IP headers are truncated or invalid.
    Ip,
    /// ARP that claims a foreign address, or ARP for other protocols than IPv4 on Ethernet.
    Arp,
    /// Neighbour discovery that claims a foreign address or announces a router.
    Discovery,
}

/// The addresses that a vif may have.
#[derive(Clone, Copy)]
pub struct Allowed {
    prefixes: [Prefix; MAX_ALLOWED],
    count: u8,
    mac: MacAddr,
    link_local: [u8; 16],
}

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Maximum number of extension headers that are parsed (RFC 8200, 4). No honest packet has more.
const MAX_EXTENSIONS: usize = 8;
/// Maximum number of neighbour discovery options that are parsed (RFC 4861, 4.6).
const MAX_OPTIONS: usize = 16;

/// ARP packet for IPv4 on Ethernet (RFC 826).
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ArpPacket {
    hardware: U16,
    protocol: U16,
    lengths: [u8; 2],
    operation: U16,
    sender_mac: [u8; 6],
    sender_ip: [u8; 4],
    _target_mac: [u8; 6],
    target_ip: [u8; 4],
}

/// IPv4 header (RFC 791, 3.1).
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ipv4Header {
    version: u8,
    _service: u8,
    _total: U16,
    _identification: U16,
    fragment: U16,
    _time_to_live: u8,
    protocol: u8,
    _checksum: U16,
    source: [u8; 4],
    target: [u8; 4],
}

/// IPv6 header (RFC 8200, 3).
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ipv6Header {
    version: u8,
    _label: [u8; 3],
    _payload: U16,
    next: u8,
    _hop_limit: u8,
    source: [u8; 16],
    _target: [u8; 16],
}

/// The head of a neighbour solicitation and of an advertisement (RFC 4861, 4.3 and 4.4).
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Neighbour {
    _head: [u8; 8],
    target: [u8; 16],
}

/// Returns the value at the start of `bytes` and the bytes after it, or `None` if there are too few bytes.
fn head<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Option<(T, &[u8])> {
    T::read_from_prefix(bytes).ok()
}

/// Returns the link-local address of the station with this MAC address (RFC 4291, 2.5.6 and appendix A).
fn link_local(mac: MacAddr) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac.0;
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

/// Returns true if an address of 4 or 16 bytes lies in the prefix.
fn within(prefix: &Prefix, address: &[u8]) -> bool {
    let family = if address.len() == 4 { 4 } else { 6 };
    if prefix.family != family {
        return false;
    }
    let bits = usize::from(prefix.length);
    let (whole, rest) = (bits / 8, bits % 8);
    if prefix.ip.get(..whole) != address.get(..whole) {
        return false;
    }
    match (prefix.ip.get(whole), address.get(whole)) {
        (Some(p), Some(a)) => u16::from(p ^ a) << rest < 0x100,
        _ => rest == 0,
    }
}

impl Allowed {
    /// An empty list, for a vif without limits. It is never checked.
    pub const NONE: Allowed = Allowed {
        prefixes: [Prefix::EMPTY; MAX_ALLOWED],
        count: 0,
        mac: MacAddr([0; 6]),
        link_local: [0; 16],
    };

    /// Creates the list for the vif with address `mac`. Returns `None` if there are more than [`MAX_ALLOWED`] prefixes,
    /// or if a prefix is invalid.
    pub fn new(prefixes: &[Prefix], mac: MacAddr) -> Option<Allowed> {
        let mut allowed = Allowed {
            mac,
            link_local: link_local(mac),
            count: prefixes.len() as u8,
            ..Allowed::NONE
        };
        let fine = |p: &Prefix| matches!((p.family, p.length), (4, 0..=32) | (6, 0..=128));
        if !prefixes.iter().all(fine) {
            return None;
        }
        allowed
            .prefixes
            .get_mut(..prefixes.len())?
            .copy_from_slice(prefixes);
        Some(allowed)
    }

    fn has(&self, address: &[u8]) -> bool {
        let listed = self.prefixes.iter().take(self.count.into());
        listed.into_iter().any(|prefix| within(prefix, address)) || address == self.link_local
    }

    /// Returns an error if the frame must not leave.
    pub fn check(&self, frame: &[u8]) -> Result<(), Violation> {
        let kind = match frame.get(12..ETHERNET_HEADER) {
            Some(&[high, low]) => u16::from_be_bytes([high, low]),
            _ => return Err(Violation::Type),
        };
        let packet = frame.get(ETHERNET_HEADER..).unwrap_or_default();
        match kind {
            IPV4 if self.ipv4(packet) == Some(true) => Ok(()),
            IPV4 => Err(Violation::Ip),
            IPV6 => self.ipv6(packet),
            ARP if self.arp(packet) == Some(true) => Ok(()),
            ARP => Err(Violation::Arp),
            _ => Err(Violation::Type),
        }
    }

    fn arp(&self, packet: &[u8]) -> Option<bool> {
        let (arp, _) = head::<ArpPacket>(packet)?;
        let operation = arp.operation.get();
        let known = arp.hardware.get() == 1 && arp.protocol.get() == IPV4 && arp.lengths == [6, 4];
        // A probe (RFC 5227, 2.1.1) claims only the address that it asks for.
        let claimed = match arp.sender_ip {
            [0, 0, 0, 0] if operation == 1 => arp.target_ip,
            ip => ip,
        };
        Some(known && matches!(operation, 1 | 2) && arp.sender_mac == self.mac.0 && self.has(&claimed))
    }

    fn ipv4(&self, packet: &[u8]) -> Option<bool> {
        let (ip, _) = head::<Ipv4Header>(packet)?;
        let length = usize::from(ip.version & 15) * 4;
        if ip.version >> 4 != 4 || length < size_of::<Ipv4Header>() {
            return None;
        }
        let payload = packet.get(length..)?;
        if ip.source != [0; 4] {
            return Some(self.has(&ip.source));
        }
        // A DHCP client without an address: ports 68 to 67, broadcast, not fragmented (RFC 2131, 4.1).
        let ports = payload.get(..4)?;
        let whole = ip.fragment.get() & 0x3fff == 0;
        Some(ip.target == [255; 4] && ip.protocol == UDP && whole && ports == [0, 68, 0, 67])
    }

    fn ipv6(&self, packet: &[u8]) -> Result<(), Violation> {
        let (ip, rest) = head::<Ipv6Header>(packet).ok_or(Violation::Ip)?;
        if ip.version >> 4 != 6 {
            return Err(Violation::Ip);
        }
        let unspecified = ip.source == [0; 16];
        if !unspecified && !self.has(&ip.source) {
            return Err(Violation::Ip);
        }
        let chain = upper(ip.next, rest).ok_or(Violation::Ip)?;
        let discovery = match (chain.protocol, chain.payload.first()) {
            (ICMPV6, None) if !chain.later => return Err(Violation::Ip),
            (ICMPV6, Some(&kind @ 133..=137)) if !chain.later => Some(kind),
            _ => None,
        };
        match discovery {
            // Such a message in a fragment is invalid (RFC 6980).
            Some(_) if chain.fragment => Err(Violation::Discovery),
            Some(kind) if self.discovery(kind, unspecified, chain.payload) == Some(true) => Ok(()),
            Some(_) => Err(Violation::Discovery),
            None if unspecified => Err(Violation::Ip),
            None => Ok(()),
        }
    }

    /// Checks a message of neighbour discovery. `unspecified` is true if its source is the unspecified address. Any other source was
    /// checked before.
    fn discovery(&self, kind: u8, unspecified: bool, message: &[u8]) -> Option<bool> {
        let options = match kind {
            // Router solicitation (RFC 4861, 4.1). Without a source it claims no address.
            133 => message.get(8..)?,
            // Neighbour solicitation (4.3). With the unspecified source, it claims the target (RFC 4862, 5.4.2).
            135 => {
                let (solicitation, options) = head::<Neighbour>(message)?;
                if unspecified && !self.has(&solicitation.target) {
                    return Some(false);
                }
                options
            }
            // Neighbour advertisement (4.4): it claims the target.
            136 => {
                let (advertisement, options) = head::<Neighbour>(message)?;
                if unspecified || !self.has(&advertisement.target) {
                    return Some(false);
                }
                options
            }
            // Router advertisement, redirect: a brane is not a router.
            _ => return Some(false),
        };
        self.options(options)
    }

    /// Returns true if each link-layer address in the options is the vif's (RFC 4861, 4.6.1).
    fn options(&self, mut options: &[u8]) -> Option<bool> {
        for _ in 0..MAX_OPTIONS {
            let Some(kind) = options.first() else {
                return Some(true);
            };
            let length = usize::from(*options.get(1)?) * 8;
            let option = options.get(..length).filter(|o| !o.is_empty())?;
            if matches!(kind, 1 | 2) && option.get(2..) != Some(&self.mac.0[..]) {
                return Some(false);
            }
            options = options.get(length..)?;
        }
        Some(false)
    }
}

/// The upper-layer content of an IPv6 packet.
struct Upper<'a> {
    protocol: u8,
    payload: &'a [u8],
    /// The packet is a fragment.
    fragment: bool,
    /// A fragment other than the first one, so its payload may begin in the middle of a header.
    later: bool,
}

/// Follows the extension headers (RFC 8200, 4). Returns `None` if there are too many, or if they are truncated. In a
/// first fragment they must be complete (RFC 7112).
fn upper(next: u8, payload: &[u8]) -> Option<Upper<'_>> {
    let mut found = Upper {
        protocol: next,
        payload,
        fragment: false,
        later: false,
    };
    for _ in 0..=MAX_EXTENSIONS {
        let length = match found.protocol {
            // Hop-by-hop options, routing, destination options, and headers in their format (RFC 6564).
            0 | 43 | 60 | 135 | 139 | 140 => (usize::from(*found.payload.get(1)?) + 1) * 8,
            // Authentication header (RFC 4302, 2.2): its length counts words of four bytes, minus two.
            51 => (usize::from(*found.payload.get(1)?) + 2) * 4,
            44 => {
                let offset = u16::from_be_bytes([*found.payload.get(2)?, *found.payload.get(3)?]);
                found.fragment = true;
                found.later = offset & 0xfff8 != 0;
                8
            }
            _ => return Some(found),
        };
        found.protocol = *found.payload.first()?;
        found.payload = found.payload.get(length..)?;
        if found.later {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests;
