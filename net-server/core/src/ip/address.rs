//! Which addresses can be those of one host on a network. Pure functions; the addresses come from any host, or from the manager.

use core::net::{Ipv4Addr, Ipv6Addr};

/// Returns true if an IPv4 address can be one host's on a link: not of 0/8 or 127/8 (RFC 1122, 3.2.1.3), no multicast
/// address, and not of the reserved class E, which ends with the limited broadcast address (RFC 1112, 4).
pub const fn is_host4(address: Ipv4Addr) -> bool {
    matches!(address.octets()[0], 1..=126 | 128..=223)
}

/// Returns true if an IPv6 address can be one host's on a link: not unspecified, not the loopback address, no multicast
/// address, and none that stands for an IPv4 address (RFC 4291, 2.5 to 2.7; RFC 4942, 2.2).
pub const fn is_host6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_mapped(address))
}

/// Returns true for an address of ::ffff:0:0/96.
pub const fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_bits() >> 32 == 0xffff
}

/// Returns true for an address of fe80::/10.
pub const fn is_link_local6(address: Ipv6Addr) -> bool {
    address.to_bits() >> 118 == 0xfe80 >> 6
}

/// Returns true if a multicast group does not reach beyond one host: its scope is 0 or 1 (RFC 4291, 2.7).
pub const fn stays_inside6(group: Ipv6Addr) -> bool {
    group.is_multicast() && group.octets()[1] & 15 < 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_single_host_has_are_told_apart() {
        for (text, host) in [
            ("10.0.2.15", true),
            ("1.0.0.0", true),
            ("126.255.255.255", true),
            ("128.0.0.1", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("127.0.0.1", false),
            ("127.255.0.1", false),
            ("224.0.0.1", false),
            ("239.1.2.3", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(is_host4(text.parse().unwrap()), host, "{text}");
        }
        for (text, host) in [
            ("fec0::2", true),
            ("fe80::1", true),
            ("2001:db8::1", true),
            ("::2", true),
            ("::", false),
            ("::1", false),
            ("ff02::1", false),
            ("::ffff:10.0.2.2", false),
        ] {
            assert_eq!(is_host6(text.parse().unwrap()), host, "{text}");
        }
        for (text, local) in [
            ("fe80::1", true),
            ("febf::1", true),
            ("fec0::1", false),
            ("fe7f::1", false),
        ] {
            assert_eq!(is_link_local6(text.parse().unwrap()), local, "{text}");
        }
        for (text, inside) in [
            ("ff00::1", true),
            ("ff11::1", true),
            ("ff02::1", false),
            ("fe01::1", false),
        ] {
            assert_eq!(stays_inside6(text.parse().unwrap()), inside, "{text}");
        }
    }
}
