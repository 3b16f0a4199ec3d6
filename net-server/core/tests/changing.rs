//! What the manager changes of interfaces while the brane runs, in any order, and what is refused.

mod common;
#[path = "common/host.rs"]
mod host;

use brane_abi::control::{BraneConfig, InterfaceConfig, Rename, command};
use brane_abi::layout::{ctl, ports};
use brane_abi::port::FrameMeta;
use brane_abi::shared::SharedRegion;
use brane_socket::{ListenOptions, RingSizes, TcpListener, TcpStream};
use common::net::{Net, mac};
use common::*;
use core::net::Ipv4Addr;
use host::*;
use net_server_core::{Brane, Peer};

#[test]
fn attach_and_bind_come_in_any_order_and_slots_are_not_confused() {
    let mut net = Net::new();
    net.run(MS);
    net.add_vif(1);
    net.add_vif(2);
    let first = interface(1, &["10.0.2.1/24"]);
    let mut second = interface(2, &["10.0.3.1/24"]);
    (second.name, second.port) = ("net1".into(), 1);
    for round in 0..6 {
        // The orders before the driver, after it, and between.
        if round % 3 == 0 {
            net.bind(1, 0, 0);
            net.run(MS);
        }
        net.attach(0, &first).unwrap();
        net.attach(0, &second).unwrap();
        if round % 3 != 0 {
            net.bind(1, 0, 0);
        }
        net.bind(2, 0, 1);
        net.run(5 * MS);
        let status = net.members[0].brane.status();
        assert_eq!(status.interfaces.len(), 3);
        for (name, end) in [("net0", 1), ("net1", 2)] {
            let one = status.interfaces.iter().find(|i| i.name == name).unwrap();
            assert!(one.up && one.mac == mac(end), "{one:?}");
        }
        // The first goes: what goes through the second is not touched.
        net.switch.unbind(1).unwrap();
        net.detach(0, "net0").unwrap();
        assert_eq!(net.detach(0, "net0"), Err("no interface net0".into()));
        net.outside
            .coming
            .push_back(ping(2, Ipv4Addr::new(10, 0, 3, 1), round));
        net.run(2 * MS);
        net.switch.unbind(2).unwrap();
        net.detach(0, "net1").unwrap();
        net.run(MS);
        let status = net.members[0].brane.status();
        assert_eq!(status.interfaces.len(), 1);
        assert!(net.members[0].stack.identity().addresses.is_empty());
    }
    assert_eq!(
        net.detach(0, "lo0"),
        Err("lo0 stays as it is: every brane has its own".into())
    );
}

#[test]
fn what_cannot_be_attached_is_refused_with_the_reason_and_changes_nothing() {
    let mut net = three();
    let good = interface(9, &["10.0.9.1/24"]);
    let with = |change: &dyn Fn(&mut brane_abi::control::InterfaceConfig)| {
        let mut config = good.clone();
        (config.name, config.port) = ("net9".into(), 1);
        change(&mut config);
        config
    };
    let before = net.members[0].brane.status().interfaces;
    for (config, why) in [
        (
            with(&|c| c.name = "net0".into()),
            "name taken: there is an interface net0",
        ),
        (
            with(&|c| c.name = "lo0".into()),
            "name taken: there is an interface lo0",
        ),
        (
            with(&|c| c.name = "x".repeat(34)),
            "name too long: 34 bytes, 31 allowed",
        ),
        (
            with(&|c| c.device = "vnic1".into()),
            "net9: vnic1 is net0's device",
        ),
        (with(&|c| c.port = 0), "net9: port 0 carries another interface"),
        (with(&|c| c.port = 2), "net9: there is no port 2"),
        (
            with(&|c| c.addresses = vec![cidr("224.0.0.1/4")]),
            "net9: 224.0.0.1/4 cannot be an interface's address",
        ),
    ] {
        assert_eq!(net.attach(0, &config), Err(why.into()));
    }
    assert_eq!(net.members[0].brane.status().interfaces, before);
    net.attach(0, &with(&|_| ())).unwrap();
}

#[test]
fn names_change_and_refusals_say_why() {
    let mut net = three();
    let rename = |net: &mut Net, interface: Option<&str>, to: &str| {
        let rename = Rename {
            interface: interface.map(Into::into),
            to: to.into(),
            device: false,
        };
        net.order(0, command::RENAME, &minicbor::to_vec(&rename).unwrap())
    };
    let long = "x".repeat(34);
    for (interface, to, why) in [
        (Some("net0"), &long[..], "name too long: 34 bytes, 31 allowed"),
        (None, &long[..], "name too long: 34 bytes, 31 allowed"),
        (Some("net0"), "", "name too short: 1 byte at least"),
        (Some("net0"), "lo0", "name taken: there is an interface lo0"),
        (Some("lo0"), "lo1", "lo0 stays as it is: every brane has its own"),
        (Some("net3"), "net4", "no interface net3"),
    ] {
        assert_eq!(rename(&mut net, interface, to), Err(why.into()));
    }
    rename(&mut net, Some("net0"), &"y".repeat(31)).unwrap();
    rename(&mut net, Some(&"y".repeat(31)), "wan").unwrap();
    rename(&mut net, None, "gate").unwrap();
    net.run(2 * MS);
    assert_eq!(net.members[0].stack.identity().name, "gate");
    assert_eq!(net.members[0].brane.status().interfaces[1].name, "wan");
    // The device of an interface gets another name, and nothing else changes.
    let rename_device = |net: &mut Net, interface: &str, to: &str| {
        let rename = Rename {
            interface: Some(interface.into()),
            to: to.into(),
            device: true,
        };
        net.order(0, command::RENAME, &minicbor::to_vec(&rename).unwrap())
    };
    let before = net.members[0].brane.status().interfaces[1].clone();
    let taken = format!(
        "name taken: there is an interface on the device {}",
        before.device
    );
    assert_eq!(rename_device(&mut net, "wan", &before.device), Err(taken));
    assert_eq!(
        rename_device(&mut net, "lo0", "loop"),
        Err("lo0 stays as it is: every brane has its own".into())
    );
    rename_device(&mut net, "wan", "uplink").unwrap();
    let after = net.members[0].brane.status().interfaces[1].clone();
    assert_eq!((after.device.as_str(), &after.name), ("uplink", &before.name));
    net.outside.coming.push_back(numbered(1, MOVING, 1));
    net.detach(0, "wan").unwrap();
}

#[test]
fn addresses_change_in_place_and_what_keeps_its_address_goes_on() {
    let mut net = three();
    let two = interface(1, &["10.0.2.1/24", "10.0.2.11/24"]);
    net.adjust(0, &two).unwrap();
    let stack = net.members[0].stack.clone();
    net.spawn(0, async move {
        let listener = TcpListener::bind(&stack, at("[::]:80"), ListenOptions::default())
            .await
            .unwrap();
        let mut one = listener.accept().await.unwrap();
        let mut other = listener.accept().await.unwrap();
        let _ = one.echo().await;
        let _ = one.echo().await;
        let _ = other.echo().await;
    });
    let connect = |net: &mut Net, to: &'static str| {
        let stack = net.members[2].stack.clone();
        let task = net.spawn(2, async move {
            TcpStream::connect(&stack, at(to), RingSizes::default())
                .await
                .unwrap()
        });
        net.until(&task, SECOND)
    };
    let mut stays = connect(&mut net, "10.0.2.1:80");
    let _goes = connect(&mut net, "10.0.2.11:80");
    net.run(5 * MS);
    net.outside.sent.clear();
    let mut next = interface(1, &["10.0.2.1/24", "10.0.2.12/24", "fec0::5/64"]);
    next.gateway4 = Some(Ipv4Addr::new(10, 0, 2, 254));
    net.adjust(0, &next).unwrap();
    net.run(5 * MS);
    let status = net.members[0].brane.status();
    let addresses: Vec<_> = status.interfaces[1]
        .addresses
        .iter()
        .map(|a| a.cidr.to_string())
        .collect();
    assert_eq!(addresses[1..], ["10.0.2.1/24", "10.0.2.12/24", "fec0::5/64"]);
    assert_eq!(status.interfaces[1].gateway4, next.gateway4);
    let announced = |bytes: &[u8]| {
        net.outside
            .sent
            .iter()
            .any(|f| f.windows(bytes.len()).any(|w| w == bytes))
    };
    assert!(
        announced(&[10, 0, 2, 12, 0, 0, 0, 0, 0, 0, 10, 0, 2, 12]),
        "the new address was not announced"
    );
    assert_eq!(
        net.members[0].brane.stack.tcp.conns.len(),
        1,
        "one of the two stays"
    );
    let task = net.spawn(2, async move {
        stays.write_all(b"still").await.unwrap();
        let mut out = [0; 5];
        let n = stays.read(&mut out).await.unwrap();
        (n, out)
    });
    assert_eq!(net.until(&task, SECOND), (5, *b"still"));
    // SLAAC on and off again, DHCP on and off again: the fixed addresses stay.
    for (dhcp4, slaac) in [(true, true), (false, false)] {
        (next.dhcp4, next.slaac) = (dhcp4, slaac);
        net.outside.sent.clear();
        net.adjust(0, &next).unwrap();
        net.run(3 * SECOND);
        let asked = |port: [u8; 2]| {
            net.outside
                .sent
                .iter()
                .any(|f| f.len() > 42 && f[23] == 17 && f[36..38] == port)
        };
        assert_eq!(asked([0, 67]), dhcp4);
        let solicited = |f: &Vec<u8>| f[12..14] == [0x86, 0xdd] && f[54] == 133;
        assert_eq!(net.outside.sent.iter().any(solicited), slaac);
        let status = net.members[0].brane.status();
        assert_eq!(status.interfaces[1].addresses.len(), 4);
    }
    let mut other = next.clone();
    other.port = 1;
    assert_eq!(
        net.adjust(0, &other),
        Err("net0: device, port and MAC address stay; detach the interface and attach it anew".into())
    );
}

/// A brane with an interface on each of two NICs, the memory that it shares with their drivers, and its second interface.
fn on_two_nics() -> (Brane, [SharedRegion; 2], InterfaceConfig) {
    let regions = [memory(ports::SIZE), memory(ports::SIZE)];
    let mut brane = Brane::start([3; 32], SECOND, &regions, memory(ctl::SIZE), &[]).unwrap();
    let mut second = interface(2, &["10.0.3.1/24"]);
    (second.name, second.port) = ("net1".into(), 2);
    let config = BraneConfig {
        name: "two".into(),
        interfaces: vec![interface(1, &["10.0.2.1/24"])],
        ..BraneConfig::default()
    };
    brane.configure(SECOND, config).unwrap();
    brane.attach(SECOND, second.clone()).unwrap();
    (brane, regions, second)
}

/// The driver of that NIC.
fn driver(regions: &[SharedRegion; 2], nic: usize) -> Driver {
    Driver::start(regions[nic], vec![port_info(mac(nic as u8 + 1), 0)])
}

#[test]
fn only_the_driver_of_the_nic_that_a_frame_leaves_by_is_woken() {
    let (mut brane, regions, _) = on_two_nics();
    let mut drivers = [driver(&regions, 0), driver(&regions, 1)];
    let mut now = SECOND;
    for _ in 0..20 {
        brane.turn(now, |_| {});
        drivers.iter_mut().for_each(|driver| drop(driver.sent(0)));
        now += SECOND / 2;
    }
    let mut woken_by = |frame: Option<(usize, Vec<u8>)>| {
        if let Some((nic, frame)) = frame {
            assert!(drivers[nic].give(0, &(frame, FrameMeta::default())));
        }
        drivers.iter().for_each(Driver::sleep);
        let mut woken = Vec::new();
        brane.turn(now, |peer| woken.push(peer));
        let sent: Vec<_> = drivers.iter_mut().map(|driver| driver.sent(0).len()).collect();
        (woken, sent)
    };
    assert_eq!(woken_by(None), (vec![], vec![0, 0]));
    for nic in 0..2 {
        // A host of that network asks for the brane's address.
        let network = 2 + nic as u8;
        let mut arp = [&[0xff; 6][..], &HOST_MAC.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
        arp.extend(
            [
                &HOST_MAC.0[..],
                &[10, 0, network, 9],
                &[0; 6],
                &[10, 0, network, 1],
            ]
            .concat(),
        );
        let sent = if nic == 0 { vec![1, 0] } else { vec![0, 1] };
        assert_eq!(woken_by(Some((nic, arp))), (vec![Peer::Driver(nic)], sent));
    }
    assert_eq!(woken_by(None), (vec![], vec![0, 0]));
}

#[test]
fn ports_of_a_second_nic_follow_those_of_the_first() {
    let (mut brane, regions, mut second) = on_two_nics();
    let mut drivers = [driver(&regions, 0), driver(&regions, 1)];
    (second.name, second.device, second.port) = ("net2".into(), "vnic9".into(), 4);
    assert_eq!(
        brane.attach(SECOND, second),
        Err("net2: there is no port 4".into())
    );
    let mut now = SECOND;
    let mut run = |brane: &mut Brane, drivers: &mut [Driver; 2]| {
        let (mut notified, mut sent) = (Vec::new(), [0, 0]);
        for _ in 0..10 {
            brane.turn(now, |peer| notified.push(peer));
            assert!(brane.arm() || brane.turn(now, |_| {}).deadline != 0);
            for (driver, sent) in drivers.iter_mut().zip(&mut sent) {
                // The driver's end checks the source address of each.
                *sent += driver.sent(0).len();
            }
            now += SECOND / 2;
        }
        let up: Vec<_> = brane.status().interfaces.iter().map(|i| i.up).collect();
        (up, sent, notified)
    };
    let (up, sent, notified) = run(&mut brane, &mut drivers);
    assert_eq!(up, [true; 3]);
    assert!(sent[0] > 0 && sent[1] > 0, "both announce: {sent:?}");
    for nic in 0..2 {
        assert!(notified.contains(&Peer::Driver(nic)));
    }
    // The second NIC's driver restarts: the first's interface does not notice.
    drivers[1] = driver(&regions, 1);
    brane.turn(100 * SECOND, |_| {});
    let up: Vec<_> = brane.status().interfaces.iter().map(|i| i.up).collect();
    assert_eq!(up, [true, true, false]);
    let (up, sent, _) = run(&mut brane, &mut drivers);
    assert_eq!(up, [true; 3]);
    // Each driver once, and the second one again.
    assert_eq!(brane.stack.net.counters.driver_links, 3);
    assert!(sent[0] == 0 && sent[1] > 0, "{sent:?}");
}
