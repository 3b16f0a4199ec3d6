//! A snapshot of three branes without a fault, and changes of it.

use super::super::*;
use crate::samples::cidr;
use brane_abi::control::{AddressStatus, InterfaceStatus, Origin, all_families};
use brane_abi::net::MacAddr;
use brane_abi::operator::{DeviceConfig, IfNet, Kind, Owner};
use std::vec;

/// Returns an interface with an IPv4 address, a static IPv6 address and the link-local address of its MAC address.
pub(super) fn interface(name: &str, device: &str, last: u8) -> InterfaceStatus {
    let address = |text: &str, origin| AddressStatus {
        cidr: cidr(text),
        origin,
    };
    InterfaceStatus {
        name: name.into(),
        device: device.into(),
        mac: MacAddr([2, 0x77, 0, 0, 0, last]),
        mtu: 1500,
        up: true,
        addresses: vec![
            address(&format!("10.0.2.{last}/24"), Origin::Static),
            address(&format!("fe80::77:ff:fe00:{last:x}/64"), Origin::Link),
            address(&format!("fec0::{last:x}/64"), Origin::Static),
        ],
        gateway4: Some([10, 0, 2, 2].into()),
        ..InterfaceStatus::default()
    }
}

pub(super) fn device(name: &str, brane: &str, interface: &str, last: u8) -> DevNet {
    DevNet {
        config: DeviceConfig {
            name: name.into(),
            mac: Some(MacAddr([2, 0x77, 0, 0, 0, last])),
            ..DeviceConfig::default()
        },
        ifnet: IfNet::Attached(Owner {
            brane: brane.into(),
            interface: interface.into(),
        }),
    }
}

pub(super) fn lo0() -> InterfaceStatus {
    InterfaceStatus {
        name: "lo0".into(),
        up: true,
        addresses: [("127.0.0.1/8"), ("::1/128")]
            .map(|text| AddressStatus {
                cidr: cidr(text),
                origin: Origin::Link,
            })
            .into(),
        ..InterfaceStatus::default()
    }
}

/// Returns what a brane answers whose interfaces are these.
pub(super) fn answers(interfaces: &[InterfaceStatus]) -> Tables {
    let (mut routes, _) = routes::of(None, interfaces);
    for route in &mut routes {
        // The brane answers networks.
        if let IpAddr::V4(ip) = route.to.ip {
            let mask = u32::MAX.checked_shl(32 - u32::from(route.to.prefix)).unwrap_or(0);
            route.to.ip = core::net::Ipv4Addr::from_bits(ip.to_bits() & mask).into();
        }
    }
    let listen = |local: &str, protocol, state: &str| Socket {
        protocol,
        local: local.parse().unwrap(),
        remote: None,
        state: state.into(),
        receive_queue: 0,
        send_queue: 0,
    };
    Tables {
        routes: Some(routes),
        rules: Some(vec![]),
        neighbours: Some(vec![]),
        listeners: Some(vec![listen("[::]:7", Protocol::Udp, "")]),
        silent: None,
    }
}

pub(super) fn brane(name: &str, device: &str, last: u8) -> Brane {
    let mut brane = Brane {
        name: name.into(),
        state: "started".into(),
        families: all_families(),
        ..Brane::default()
    };
    brane.status.interfaces = vec![lo0(), interface("net0", device, last)];
    brane
}

/// Returns red, blue and main at one switch. Red does not know its neighbours.
pub(super) fn snapshot() -> Snapshot {
    let branes = vec![
        brane("main", "vnic0", 15),
        brane("red", "vnic1", 16),
        brane("blue", "vnic2", 17),
    ];
    let tables = branes
        .iter()
        .map(|brane| (brane.name.clone(), answers(&brane.status.interfaces)))
        .collect();
    let devices = vec![
        device("vnic0", "main", "net0", 15),
        device("vnic1", "red", "net0", 16),
        device("vnic2", "blue", "net0", 17),
    ];
    Snapshot {
        branes,
        devices,
        tables,
    }
}

impl Snapshot {
    pub(super) fn the(&mut self, name: &str) -> &mut Brane {
        self.branes.iter_mut().find(|brane| brane.name == name).unwrap()
    }

    pub(super) fn net0(&mut self, name: &str) -> &mut InterfaceStatus {
        self.the(name)
            .status
            .interfaces
            .iter_mut()
            .find(|i| i.name == "net0")
            .unwrap()
    }

    pub(super) fn config(&mut self, name: &str) -> &mut DeviceConfig {
        &mut self
            .devices
            .iter_mut()
            .find(|d| d.config.name == name)
            .unwrap()
            .config
    }

    pub(super) fn tables_of(&mut self, name: &str) -> &mut Tables {
        self.tables.get_mut(name).unwrap()
    }

    pub(super) fn rules(&mut self, name: &str, rules: &[&str]) {
        let parsed = rules.iter().map(|text| branes_pfil::parse(text).unwrap());
        self.tables_of(name).rules = Some(parsed.collect());
    }

    /// Makes the brane answer the routes of its interfaces again.
    pub(super) fn routed(&mut self, name: &str) {
        let tables = answers(&self.the(name).status.interfaces.clone());
        self.tables_of(name).routes = tables.routes;
    }
}

/// Makes the device of a brane one of this kind.
pub(super) fn kind(snapshot: &mut Snapshot, device: &str, kind: Kind) {
    snapshot.config(device).kind = kind;
}
