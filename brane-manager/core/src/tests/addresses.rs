//! Addresses and names of interfaces inside a brane.

use super::*;
use crate::testing::World;
use brane_abi::operator::{Addressing, Request};
use operator_cli::refusals::Words;

#[test]
fn addresses_and_names_inside_are_changed_in_place() {
    let mut w = World::new();
    let addressing = Addressing {
        addresses: vec![Cidr {
            ip: [10, 9, 0, 1].into(),
            prefix: 24,
        }],
        ..Addressing::default()
    };
    let adjust = |name: &str| Request::Adjust {
        brane: "red".into(),
        interface: name.into(),
        addressing: addressing.clone(),
    };
    assert_eq!(w.done(adjust("net0")), "net0 of red has its new addresses");
    assert_eq!(
        w.branes[1].config.as_ref().unwrap().interfaces[0].addresses,
        addressing.addresses
    );
    assert_eq!(
        w.refused(adjust("net7")),
        "brane \"red\" has no interface named \"net7\": the interfaces are net0"
    );
    assert!(
        w.refused(adjust("lo0"))
            .starts_with("lo0 of a brane cannot be changed")
    );
    let bad = Addressing {
        addresses: vec![Cidr {
            ip: [10, 9, 0, 1].into(),
            prefix: 33,
        }],
        ..Addressing::default()
    };
    assert_eq!(
        w.refused(Request::Adjust {
            brane: "red".into(),
            interface: "net0".into(),
            addressing: bad
        }),
        "10.9.0.1 has no prefix of 33 bits: IPv4 addresses have 0 to 32, IPv6 addresses 0 to 128"
    );
    let rename = |to: &str| Request::RenameInterface {
        brane: "red".into(),
        from: "net0".into(),
        to: to.into(),
    };
    assert!(
        w.refused(rename("lo0"))
            .contains("has an interface \"lo0\" already")
    );
    w.done(rename("wan"));
    // The changes remain after a restart, and the addresses move with the device.
    w.done(Request::Crash("red".into()));
    w.run();
    let red = w.branes[1].config.clone().unwrap().interfaces;
    assert_eq!(
        (red[0].name.as_str(), &red[0].addresses),
        ("wan", &addressing.addresses)
    );
    w.done(Request::Assign {
        device: "vnic1".into(),
        brane: "blue".into(),
        interface: Some("wan2".into()),
        addressing: None,
    });
    let blue = w.branes[2].config.clone().unwrap().interfaces;
    assert_eq!(
        (blue[1].name.as_str(), &blue[1].addresses),
        ("wan2", &addressing.addresses)
    );
    w.clean();
}

#[test]
fn the_longest_prefixes_are_those_of_one_address() {
    let mut w = World::new();
    let mut adjust = |address: &str, prefix| {
        let ip = address.parse().unwrap();
        let addressing = Addressing {
            addresses: vec![Cidr { ip, prefix }],
            ..Addressing::default()
        };
        w.call(Request::Adjust {
            brane: "red".into(),
            interface: "net0".into(),
            addressing,
        })
        .is_ok()
    };
    for (address, longest) in [("10.9.0.1", 32), ("fd00::1", 128)] {
        assert!(adjust(address, longest) && adjust(address, longest - 1));
        assert!(!adjust(address, longest + 1) && !adjust(address, longest + 2));
    }
}

#[test]
fn an_interface_takes_four_addresses_and_no_fifth() {
    let mut w = World::new();
    let mut adjust = |count: u8| {
        let address = |last| Cidr {
            ip: [10, 9, 0, last].into(),
            prefix: 24,
        };
        w.call(Request::Adjust {
            brane: "red".into(),
            interface: "net0".into(),
            addressing: Addressing {
                addresses: (1..=count).map(address).collect(),
                ..Addressing::default()
            },
        })
    };
    assert!(adjust(4).is_ok());
    let why = adjust(5).unwrap_err();
    assert_eq!(why.words().what, "5 addresses, an interface takes 4");
}
