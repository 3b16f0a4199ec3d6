use super::*;
use brane_abi::net::Cidr;
use proptest::prelude::*;
use std::net::IpAddr;

const OWN: MacAddr = MacAddr([0x02, 0x77, 0, 0, 0, 1]);
const OTHER: [u8; 6] = [0x02, 0x77, 0, 0, 0, 2];

fn prefix(text: &str) -> Prefix {
    let (ip, length) = text.split_once('/').unwrap();
    Prefix::from(Cidr {
        ip: ip.parse().unwrap(),
        prefix: length.parse().unwrap(),
    })
}

fn allowed() -> Allowed {
    let list = ["10.0.2.16/32", "10.9.0.0/17", "fec0::16/128", "2001:db8::/61"].map(prefix);
    Allowed::new(&list, OWN).unwrap()
}

fn octets(ip: &str) -> Vec<u8> {
    match ip.parse().unwrap() {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    [&[0xff; 6], &OWN.0[..], &kind.to_be_bytes(), packet].concat()
}

fn ipv4(source: &str, target: &str, payload: &[u8]) -> Vec<u8> {
    let head = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, UDP, 0, 0];
    ethernet(
        IPV4,
        &[&head, &octets(source)[..], &octets(target), payload].concat(),
    )
}

fn ipv6(source: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let head = [0x60, 0, 0, 0, 0, 0, next, 255];
    ethernet(
        IPV6,
        &[&head, &octets(source)[..], &octets("ff02::1"), payload].concat(),
    )
}

fn arp(operation: u8, mac: [u8; 6], sender: &str, target: &str) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    ethernet(
        ARP,
        &[&head, &mac[..], &octets(sender), &[0; 6], &octets(target)].concat(),
    )
}

/// Returns a neighbour discovery message of this type for this target, with a link-layer address option.
fn neighbour(kind: u8, target: &str, mac: [u8; 6]) -> Vec<u8> {
    let option = [if kind == 136 { 2 } else { 1 }, 1];
    [&[kind, 0, 0, 0, 0, 0, 0, 0], &octets(target)[..], &option, &mac].concat()
}

fn check(frame: &[u8]) -> Result<(), Violation> {
    allowed().check(frame)
}

const HOST4: &str = "10.0.2.2";
const LINK: &str = "fe80::77:ff:fe00:1";
const OK: Result<(), Violation> = Ok(());

#[test]
fn ipv4_sources() {
    for (source, expected) in [
        ("10.0.2.16", OK),
        ("10.0.2.17", Err(Violation::Ip)),
        ("10.0.2.15", Err(Violation::Ip)),
        ("10.9.0.0", OK),
        ("10.9.127.255", OK),
        ("10.9.128.0", Err(Violation::Ip)),
        ("127.0.0.1", Err(Violation::Ip)),
        ("255.255.255.255", Err(Violation::Ip)),
        ("0.0.0.0", Err(Violation::Ip)),
    ] {
        assert_eq!(check(&ipv4(source, HOST4, &[0; 8])), expected, "{source}");
    }
    let good = ipv4("10.0.2.16", HOST4, &[]);
    for (at, byte) in [(14, 0x65), (14, 0x44), (14, 0x46)] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(
            check(&bad),
            Err(Violation::Ip),
            "version and header length {byte:#x}"
        );
    }
    for short in 14..good.len() {
        assert_eq!(check(&good[..short]), Err(Violation::Ip));
    }
    for short in 0..14 {
        assert_eq!(check(&good[..short]), Err(Violation::Type));
    }
}

#[test]
fn without_an_address_only_dhcp() {
    let all = "255.255.255.255";
    let good = ipv4("0.0.0.0", all, &[0, 68, 0, 67, 0, 8, 0, 0]);
    assert_eq!(check(&good), OK);
    assert_eq!(
        check(&ipv4("0.0.0.0", HOST4, &[0, 68, 0, 67])),
        Err(Violation::Ip)
    );
    for ports in [[0, 67, 0, 68], [0, 68, 0, 53], [1, 68, 0, 67]] {
        assert_eq!(check(&ipv4("0.0.0.0", all, &ports)), Err(Violation::Ip));
    }
    assert_eq!(check(&ipv4("0.0.0.0", all, &[0, 68, 0])), Err(Violation::Ip));
    for (at, byte) in [(23, 6), (20, 0x20), (21, 1)] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(check(&bad), Err(Violation::Ip), "byte {at}");
    }
}

#[test]
fn arp_claims() {
    assert_eq!(check(&arp(1, OWN.0, "10.0.2.16", HOST4)), OK);
    assert_eq!(check(&arp(2, OWN.0, "10.0.2.16", HOST4)), OK);
    assert_eq!(check(&arp(2, OWN.0, "10.0.2.15", HOST4)), Err(Violation::Arp));
    assert_eq!(
        check(&arp(1, OWN.0, "10.0.2.15", "10.0.2.15")),
        Err(Violation::Arp)
    );
    assert_eq!(check(&arp(2, OTHER, "10.0.2.16", HOST4)), Err(Violation::Arp));
    // A probe for an allowed address, and one for a foreign address.
    assert_eq!(check(&arp(1, OWN.0, "0.0.0.0", "10.0.2.16")), OK);
    assert_eq!(check(&arp(1, OWN.0, "0.0.0.0", "10.0.2.15")), Err(Violation::Arp));
    assert_eq!(check(&arp(2, OWN.0, "0.0.0.0", "10.0.2.16")), Err(Violation::Arp));
    assert_eq!(check(&arp(3, OWN.0, "10.0.2.16", HOST4)), Err(Violation::Arp));
    let good = arp(1, OWN.0, "10.0.2.16", HOST4);
    for at in 14..20 {
        let mut bad = good.clone();
        bad[at] ^= 4;
        assert_eq!(check(&bad), Err(Violation::Arp), "byte {at}");
    }
    for short in 14..good.len() {
        assert_eq!(check(&good[..short]), Err(Violation::Arp));
    }
}

#[test]
fn other_types() {
    for kind in [0x8100, 0x88a8, 0x8035, 0x8847, 0x88b5, 60] {
        let mut frame = ipv4("10.0.2.16", HOST4, &[0; 8]);
        frame[12..14].copy_from_slice(&u16::to_be_bytes(kind));
        assert_eq!(check(&frame), Err(Violation::Type), "{kind:#x}");
    }
    // A tag before an allowed packet.
    let good = ipv4("10.0.2.16", HOST4, &[0; 8]);
    let tagged = [&good[..12], &[0x81, 0, 0, 5], &good[12..]].concat();
    assert_eq!(check(&tagged), Err(Violation::Type));
}

#[test]
fn ipv6_sources() {
    for (source, expected) in [
        ("fec0::16", OK),
        ("fec0::17", Err(Violation::Ip)),
        (LINK, OK),
        ("fe80::77:ff:fe00:2", Err(Violation::Ip)),
        ("2001:db8:0:7:1::1", OK),
        ("2001:db8:0:8::1", Err(Violation::Ip)),
        ("::", Err(Violation::Ip)),
        ("::1", Err(Violation::Ip)),
        ("::ffff:10.0.2.16", Err(Violation::Ip)),
        // The first bytes equal those of an IPv4 prefix.
        ("a00:210::", Err(Violation::Ip)),
    ] {
        assert_eq!(check(&ipv6(source, UDP, &[0; 8])), expected, "{source}");
    }
    let good = ipv6("fec0::16", UDP, &[]);
    for short in 14..good.len() {
        assert_eq!(check(&good[..short]), Err(Violation::Ip));
    }
}

#[test]
fn neighbour_discovery() {
    let nd = |source, kind, target, mac| check(&ipv6(source, ICMPV6, &neighbour(kind, target, mac)));
    let bad = Err(Violation::Discovery);
    // A solicitation for an address claims nothing.
    assert_eq!(nd(LINK, 135, "fec0::2", OWN.0), OK);
    assert_eq!(nd("fec0::16", 135, "fec0::2", OWN.0), OK);
    assert_eq!(nd("fec0::16", 135, "fec0::2", OTHER), bad);
    assert_eq!(nd("fec0::17", 135, "fec0::2", OWN.0), Err(Violation::Ip));
    // A probe whether an address is free claims that address.
    assert_eq!(nd("::", 135, "fec0::16", OWN.0), OK);
    assert_eq!(nd("::", 135, LINK, OWN.0), OK);
    assert_eq!(nd("::", 135, "fec0::15", OWN.0), bad);
    // An advertisement claims its target.
    assert_eq!(nd(LINK, 136, "fec0::16", OWN.0), OK);
    assert_eq!(nd(LINK, 136, "fec0::15", OWN.0), bad);
    assert_eq!(nd(LINK, 136, "fec0::16", OTHER), bad);
    assert_eq!(nd("::", 136, "fec0::16", OWN.0), bad);
    // Routers.
    let solicitation = |mac: [u8; 6]| [&[133, 0, 0, 0, 0, 0, 0, 0, 1, 1], &mac[..]].concat();
    assert_eq!(check(&ipv6("::", ICMPV6, &[133, 0, 0, 0, 0, 0, 0, 0])), OK);
    assert_eq!(check(&ipv6(LINK, ICMPV6, &solicitation(OWN.0))), OK);
    assert_eq!(check(&ipv6(LINK, ICMPV6, &solicitation(OTHER))), bad);
    assert_eq!(nd(LINK, 134, "fec0::16", OWN.0), bad);
    assert_eq!(nd(LINK, 137, "fec0::16", OWN.0), bad);
    // Echo is not neighbour discovery, but it needs an allowed source address.
    assert_eq!(check(&ipv6(LINK, ICMPV6, &[128, 0, 0, 0])), OK);
    assert_eq!(check(&ipv6("::", ICMPV6, &[128, 0, 0, 0])), Err(Violation::Ip));
    // Truncated: in the target, in an option, an option without length, too many options.
    let good = neighbour(136, "fec0::16", OWN.0);
    for short in 1..good.len() {
        let expected = if short == 24 { OK } else { bad };
        assert_eq!(check(&ipv6(LINK, ICMPV6, &good[..short])), expected, "{short}");
    }
    assert_eq!(check(&ipv6(LINK, ICMPV6, &[])), Err(Violation::Ip));
    let endless = [&good[..24], &[9, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(check(&ipv6(LINK, ICMPV6, &endless)), bad);
    let many = [&good[..24], &[9, 1, 0, 0, 0, 0, 0, 0].repeat(MAX_OPTIONS)[..]].concat();
    assert_eq!(check(&ipv6(LINK, ICMPV6, &many)), bad);
}

#[test]
fn extension_headers_hide_nothing() {
    let bad = Err(Violation::Discovery);
    let claim = neighbour(136, "fec0::15", OWN.0);
    let behind = |chain: &[u8], payload: &[u8]| [chain, payload].concat();
    let options = [ICMPV6, 0, 1, 4, 0, 0, 0, 0];
    for kind in [0, 43, 60, 135] {
        assert_eq!(check(&ipv6(LINK, kind, &behind(&options, &claim))), bad, "{kind}");
        assert_eq!(
            check(&ipv6(LINK, kind, &options[..7])),
            Err(Violation::Ip),
            "{kind}"
        );
    }
    let authentication = [ICMPV6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(check(&ipv6(LINK, 51, &behind(&authentication, &claim))), bad);
    // A fragment. Even an honest one must not be neighbour discovery, and its first part shows its type.
    let honest = neighbour(136, "fec0::16", OWN.0);
    let first = [ICMPV6, 0, 0, 1, 0, 0, 0, 7];
    assert_eq!(check(&ipv6(LINK, 44, &behind(&first, &honest))), bad);
    assert_eq!(check(&ipv6(LINK, 44, &first)), Err(Violation::Ip));
    assert_eq!(
        check(&ipv6(LINK, 44, &[60, 0, 0, 1, 0, 0, 0, 7])),
        Err(Violation::Ip)
    );
    assert_eq!(check(&ipv6(LINK, 44, &[UDP, 0, 0, 1, 0, 0, 0, 7, 0])), OK);
    assert_eq!(check(&ipv6(LINK, 44, &[ICMPV6, 0, 1, 0, 0, 0, 0, 7, 136])), OK);
    // More headers than any honest packet has.
    let long = [0, 0, 1, 4, 0, 0, 0, 0].repeat(MAX_EXTENSIONS + 2);
    assert_eq!(check(&ipv6(LINK, 0, &long)), Err(Violation::Ip));
}

#[test]
fn lists_that_cannot_be() {
    let many = [prefix("10.0.2.16/32"); MAX_ALLOWED + 1];
    assert!(Allowed::new(&many, OWN).is_none());
    assert!(Allowed::new(&many[1..], OWN).is_some());
    for (family, length) in [(0, 0), (5, 8), (4, 33), (6, 129)] {
        let bad = Prefix {
            family,
            length,
            ..Prefix::EMPTY
        };
        assert!(Allowed::new(&[bad], OWN).is_none(), "{family} {length}");
    }
    let all = Allowed::new(&[prefix("0.0.0.0/0"), prefix("::/0")], OWN).unwrap();
    assert_eq!(all.check(&ipv4("1.2.3.4", HOST4, &[])), OK);
    assert_eq!(all.check(&ipv6("2001::1", UDP, &[])), OK);
}

proptest! {
    /// Checks random frames and damaged good ones of any length. None causes a panic, and each that passes has an
    /// allowed source.
    #[test]
    fn no_frame_makes_it_panic_or_lie(
        which in 0usize..6, bends in proptest::collection::vec((12usize..90, any::<u8>()), 0..6), len in 0usize..120,
        rubbish in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let claim = neighbour(136, "fec0::16", OWN.0);
        let mut frame = match which {
            0 => ipv4("10.0.2.16", HOST4, &rubbish),
            1 => ipv6("fec0::16", ICMPV6, &claim),
            2 => ipv6("::", 0, &[&[ICMPV6, 0, 1, 4, 0, 0, 0, 0], &claim[..]].concat()),
            3 => arp(2, OWN.0, "10.0.2.16", HOST4),
            4 => ipv6(LINK, 44, &rubbish),
            _ => rubbish,
        };
        for (at, byte) in bends {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        frame.truncate(len);
        let allowed = allowed();
        if allowed.check(&frame).is_ok() {
            match u16::from_be_bytes([frame[12], frame[13]]) {
                IPV4 => prop_assert!(allowed.has(&frame[26..30]) || frame[26..30] == [0; 4]),
                IPV6 => prop_assert!(allowed.has(&frame[22..38]) || frame[22..38] == [0; 16]),
                kind => prop_assert!(kind == ARP && frame[22..28] == OWN.0),
            }
        }
    }

    #[test]
    fn a_prefix_has_what_arithmetic_says(ip: u32, address: u32, length in 0u8..=32) {
        let p = Prefix::from(Cidr { ip: std::net::Ipv4Addr::from(ip).into(), prefix: length });
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        prop_assert_eq!(within(&p, &address.to_be_bytes()), ip & mask == address & mask);
    }
}
