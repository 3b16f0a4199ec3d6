//! Views of operators: branes, devices and receipts.

use super::*;
use crate::testing::{Manner, World};
use brane_abi::control::{Family, FamilyConfig, InterfaceStatus, Protocol};
use brane_abi::operator::{Answer, Kind, Request};

fn device(w: &mut World, name: &str) -> operator::DevNet {
    let Ok(Answer::Devices(all)) = w.call(Request::Devices) else {
        panic!()
    };
    all.into_iter()
        .find(|d| d.config.name == name)
        .unwrap_or_else(|| panic!("no device {name}"))
}

#[test]
fn a_brane_is_shown_with_its_own_number_name_families_and_interfaces() {
    let mut boot = boot();
    let six = vec![FamilyConfig {
        family: Family::Inet6,
        protocols: vec![Protocol::Icmp6],
    }];
    boot.branes[1].families = Some(six.clone());
    let mut w = World::with(boot, 5, 2);
    let mut show = |name: &str| match w.call(Request::Show(name.into())) {
        Ok(Answer::Brane(brane)) => brane,
        other => panic!("{other:?}"),
    };
    let (main, red) = (show("main"), show("red"));
    assert_eq!((main.id, main.name.as_str(), main.primary), (0, "main", true));
    assert_eq!((red.id, red.name.as_str(), red.primary), (1, "red", false));
    assert_eq!(main.families, brane_abi::control::all_families());
    assert_eq!(red.families, six);
    let on: Vec<_> = red
        .interfaces
        .iter()
        .map(|i| (i.name.as_str(), i.device.as_str()))
        .collect();
    assert_eq!(on, [("net0", "vnic1")]);
}

#[test]
fn a_list_has_the_interfaces_that_branes_report_and_no_counters() {
    let mut bench = Bench::new();
    bench.start(1);
    let (answer, actions) = bench.ask(&Request::List { fresh: true });
    let [Action::Send { token, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    let status = BraneStatus {
        interfaces: vec![InterfaceStatus {
            name: "net0".into(),
            ..InterfaceStatus::default()
        }],
        counters: vec![Counter {
            name: "udp-in".into(),
            value: 9,
        }],
        hooks: Vec::new(),
    };
    bench.report(1, kind::STATUS, token, &minicbor::to_vec(&status).unwrap());
    let Answer::Branes(list) = bench.poll(answer.unwrap_err()) else {
        panic!()
    };
    assert_eq!(list[1].status.interfaces, status.interfaces);
    assert_eq!(list[1].status.counters, []);
}

#[test]
fn a_lo0_is_shown_as_a_loopback_device() {
    let mut w = World::new();
    assert_eq!(device(&mut w, "lo.0").config.kind, Kind::Lo);
}

#[test]
fn a_nic_keeps_its_own_mac_address_whatever_the_boot_configuration_says() {
    let mut boot = boot();
    boot.devices.push(DeviceConfig {
        name: "nic1".into(),
        kind: Kind::Phys,
        nic: 1,
        mac: Some(MacAddr([2, 0, 0, 0, 0, 99])),
        rate_up: Some(5_000),
        ..DeviceConfig::default()
    });
    let mut w = World::with(boot, 5, 2);
    for nic in 0..2 {
        let shown = device(&mut w, &format!("nic{nic}")).config;
        assert_eq!(shown.mac, Some(MacAddr([2, 0xee, 0, 0, 0, nic])));
        assert_eq!(shown.rate_up, (nic == 1).then_some(5_000));
    }
}

#[test]
fn the_other_end_of_a_pair_is_on_the_same_nic() {
    let mut w = World::new();
    w.done(Request::AddDevice(DeviceConfig {
        name: "left".into(),
        kind: Kind::Pair("right".into()),
        nic: 1,
        ..DeviceConfig::default()
    }));
    assert_eq!(device(&mut w, "left").config.nic, 1);
    assert_eq!(device(&mut w, "right").config.nic, 1);
}

#[test]
fn the_receipt_of_a_deleted_device_names_it_and_all_that_went() {
    let mut w = World::new();
    w.done(super::meanwhile::pair());
    let Ok(Answer::Receipt(mut receipt)) = w.call(Request::DeleteDevice("right".into())) else {
        panic!()
    };
    receipt.released.sort();
    assert_eq!(receipt.name, "right");
    assert_eq!(receipt.released, ["left", "right"]);
}

#[test]
fn a_receipt_has_the_time_that_a_deletion_took_in_microseconds() {
    let mut w = World::new();
    w.create("green").unwrap();
    // The brane does not end its connections, so the deadline and 500 ms of grace pass.
    w.branes[3].manner = Manner::Deaf(command::SHUTDOWN);
    let delete = Request::Delete {
        name: "green".into(),
        deadline_ms: 50,
    };
    let Ok(Answer::Receipt(receipt)) = w.call(delete) else {
        panic!()
    };
    let took = receipt.took_us;
    assert!((550_000..551_000).contains(&took), "{took}");
}

#[test]
fn an_audit_names_a_brane_that_did_not_answer_it_though_it_had_reported_before() {
    let mut bench = Bench::new();
    bench.start_all();
    let mut asks = |request: &Request, deaf: Option<usize>| {
        let (answer, actions) = bench.ask(request);
        bench.now += MS;
        let status = minicbor::to_vec(BraneStatus::default()).unwrap();
        for action in actions {
            if let Action::Send {
                child: Child::Brane(brane),
                token,
                ..
            } = action
                && deaf != Some(brane.index())
            {
                bench.report(brane.index(), kind::STATUS, token, &status);
            }
        }
        bench.now += 500 * MS;
        bench.tick();
        bench.poll(answer.unwrap_err())
    };
    asks(&Request::List { fresh: true }, None);
    for (deaf, silent) in [(None, vec![]), (Some(1), vec!["red"])] {
        let Answer::Audit(audit) = asks(&Request::Audit, deaf) else {
            panic!()
        };
        assert_eq!(audit.silent, silent);
    }
}
