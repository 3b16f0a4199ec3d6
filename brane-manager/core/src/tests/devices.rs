//! Names and interfaces: at most one owner, moves that succeed or change nothing, devices that are released.

use super::*;
use crate::testing::{Manner, World, assign};
use brane_abi::operator::{Answer, Kind, Mode, Request};
use operator_cli::refusals::Words;

fn vnic(name: &str) -> DeviceConfig {
    DeviceConfig {
        name: name.into(),
        ..DeviceConfig::default()
    }
}

fn add(name: &str) -> Request {
    Request::AddDevice(vnic(name))
}

fn remove(name: &str) -> Request {
    Request::Remove(name.into())
}

#[test]
fn a_network_interface_name_is_unique_across_all_branes() {
    let mut w = World::new();
    w.done(add("vif9"));
    assert_eq!(
        w.refused(add("vif9")),
        "the name \"vif9\" is taken by a device: choose another one, or delete that device first"
    );
    assert_eq!(
        w.refused(add("vnic1")),
        "the name \"vnic1\" is taken by a device: choose another one, or delete that device first"
    );
    assert!(
        w.refused(add("nic0")).contains("taken"),
        "the NIC itself is a device"
    );
    for name in ["lo.7", "lo0", "lo12", "lo", "lo."] {
        assert!(
            w.refused(add(name)).contains("kept for the lo0 of a brane"),
            "{name}"
        );
    }
    w.done(add("lorry"));
    assert!(w.refused(add("Vif")).contains("is not a name"));
    let to = |to: &str| Request::RenameDevice {
        from: "vif9".into(),
        to: to.into(),
    };
    assert!(w.refused(to("vnic2")).contains("taken"));
    w.done(to("vif10"));
    assert_eq!(w.owner("vif10"), "unattached");
    // Names of interfaces are local to a brane, so two branes can use one name.
    assert_eq!(
        (w.owner("vnic0"), w.owner("vnic1")),
        ("main/net0".into(), "red/net0".into())
    );
}

#[test]
fn every_brane_has_its_own_lo0() {
    let mut w = World::new();
    w.create("green").unwrap();
    assert_eq!(w.owner("lo.3"), "green/lo0");
    assert_eq!(w.owner("lo.0"), "main/lo0");
    w.delete("green").unwrap();
    let Ok(Answer::Devices(all)) = w.call(Request::Devices) else {
        panic!()
    };
    assert!(all.iter().all(|d| d.config.name != "lo.3"));
    let stays = |brane: &str| format!("is the loopback device of brane \"{brane}\"");
    for request in [
        remove("lo.0"),
        Request::DeleteDevice("lo.0".into()),
        Request::RenameDevice {
            from: "lo.0".into(),
            to: "loop".into(),
        },
        crate::testing::assign("lo.0", "red"),
    ] {
        let why = w.refused(request.clone());
        assert!(why.contains(&stays("main")), "{request:?}: {why}");
    }
    assert!(w.refused(remove("lo.3")).starts_with("no device named"));
}

#[test]
fn network_interfaces_can_only_belong_to_one_brane() {
    let mut w = World::new();
    let start = w.free();
    w.done(add("vif9"));
    assert_eq!(w.done(assign("vif9", "red")), "vif9 is net1 of red");
    assert_eq!(w.owner("vif9"), "red/net1");
    assert_eq!(
        w.refused(assign("vif9", "red")),
        "\"vif9\" is in brane \"red\" already, as \"net1\": `branectl rename` gives it another name there, `branectl \
         address` other addresses"
    );
    assert_eq!(w.done(assign("vif9", "blue")), "vif9 is net1 of blue from red");
    assert_eq!(w.owner("vif9"), "blue/net1");
    let has = |w: &World, b: usize| w.branes[b].config.as_ref().unwrap().interfaces.len();
    assert_eq!((has(&w, 1), has(&w, 2)), (1, 2));
    w.clean();
    assert_eq!(w.done(remove("vif9")), "vif9 is no longer net1 of blue");
    assert_eq!(w.owner("vif9"), "unattached");
    assert!(w.refused(remove("vif9")).starts_with("no brane has \"vif9\""));
    w.done(assign("vif9", "main"));
    assert!(
        w.call(Request::DeleteDevice("vif9".into()))
            .unwrap_err()
            .words()
            .what
            .contains("is in brane \"main\"")
    );
    w.done(remove("vif9"));
    assert!(matches!(
        w.call(Request::DeleteDevice("vif9".into())),
        Ok(Answer::Receipt(_))
    ));
    assert_eq!(w.free(), start);
}

#[test]
fn a_move_that_the_new_owner_refuses_changes_nothing() {
    for manner in [
        Manner::Refuses(command::ATTACH),
        Manner::Dies(command::ATTACH),
        Manner::Deaf(command::ATTACH),
    ] {
        let mut w = World::new();
        let start = w.free();
        w.branes[2].manner = manner;
        w.assign("vnic1", "blue").unwrap_err();
        w.branes[2].manner = Manner::Honest;
        w.run();
        assert_eq!(
            (w.owner("vnic1"), w.state("blue")),
            ("red/net0".into(), "started"),
            "{manner:?}"
        );
        assert_eq!(w.free(), start);
    }
}

#[test]
fn a_move_does_not_ask_the_old_owner() {
    for manner in [
        Manner::Refuses(command::DETACH),
        Manner::Dies(command::DETACH),
        Manner::Deaf(command::DETACH),
    ] {
        let mut w = World::new();
        w.branes[1].manner = manner;
        w.assign("vnic1", "blue").unwrap();
        w.branes[1].manner = Manner::Honest;
        assert_eq!(w.owner("vnic1"), "blue/net1");
        if manner == Manner::Refuses(command::DETACH) {
            // The brane reports that it still has the device, which the audit shows; the driver passes it no frame.
            w.done(Request::Crash("red".into()));
        }
        w.run();
        w.until_started("red");
        w.clean();
    }
}

#[test]
fn whatever_the_driver_refuses_leaves_everything_as_it_was() {
    // Each call of a request is refused once.
    for refuse in 0..3 {
        let mut w = World::new();
        w.done(add("vif9"));
        let start = w.free();
        let requests = [
            add("vif8"),
            assign("vif9", "red"),
            assign("vnic1", "blue"),
            Request::AddDevice(DeviceConfig {
                kind: Kind::Pair("b".into()),
                ..vnic("a")
            }),
            Request::Limit {
                device: "vnic1".into(),
                mode: Some(Mode::Private),
                allow: None,
                rate_up: Some(5),
                rate_down: None,
            },
        ];
        for request in requests {
            w.nics.refuse_after = Some(refuse);
            let result = w.call(request.clone());
            let refused = w.nics.refuse_after.take().is_none();
            if result.is_err() {
                assert_eq!(w.free(), start, "{request:?}");
                assert_eq!(w.owner("vnic1"), "red/net0");
            } else {
                assert!(!refused, "{request:?}");
                w = World::new();
                w.done(add("vif9"));
            }
        }
    }
}

#[test]
fn on_delete_or_crash_an_interface_goes_home() {
    let mut w = World::new();
    let bound = |w: &mut World| w.nics.table(0).iter().filter(|v| v.brane != 0).count();
    w.create("green").unwrap();
    w.done(add("vif9"));
    w.done(assign("vif9", "green"));
    assert_eq!(bound(&mut w), 4);
    let receipt = w.delete("green").unwrap();
    assert_eq!(receipt.released, ["vif9"]);
    assert_eq!((w.owner("vif9"), bound(&mut w)), ("unattached".into(), 3));
    // After a crash the device is bound to no port until the brane is started again.
    w.branes[1].manner = Manner::Deaf(command::CONFIGURE);
    w.done(Request::Crash("red".into()));
    w.run();
    w.branes[1].manner = Manner::Honest;
    assert_eq!(w.owner("vnic1"), "red/net0", "it is still to get it back");
    w.until_started("red");
    assert_eq!(bound(&mut w), 3);
    w.clean();
}

#[test]
fn the_devices_of_a_brane_that_failed_are_bound_to_no_port_until_it_is_there_again() {
    let mut w = World::new();
    let at = |w: &mut World| w.nics.table(0).iter().filter(|v| v.brane == 2).count();
    w.branes[1].manner = Manner::Dies(command::CONFIGURE);
    assert_eq!(at(&mut w), 1);
    w.faults(1);
    let mut waited = false;
    for _ in 0..20 {
        while w.state("red") != "failed" && w.step() {}
        waited |= w.state("red") == "failed";
        assert!(w.state("red") != "failed" || at(&mut w) == 0);
        w.now = w.manager.deadline().unwrap();
        w.event(Event::Tick);
    }
    assert!(waited);
    // The brane hangs: it is stopped, and none of its devices is bound.
    w.branes[1].manner = Manner::Honest;
    w.until_started("red");
    assert_eq!(at(&mut w), 1);
    w.done(Request::Hang("red".into()));
    let stopped = w.resets;
    while w.resets == stopped {
        w.now = w.manager.deadline().unwrap();
        w.event(Event::Tick);
        while w.resets == stopped && w.step() {}
    }
    assert_eq!((w.state("red"), at(&mut w)), ("restarting", 0));
}

#[test]
fn an_interface_can_be_given_to_a_brane_that_is_held_or_down() {
    let mut w = World::new();
    w.done(add("vif9"));
    w.done(Request::Create {
        name: "green".into(),
        families: None,
        start: false,
        memory: None,
    });
    w.done(assign("vif9", "green"));
    let at = |w: &mut World| w.nics.table(0).iter().filter(|v| v.brane == 4).count();
    assert_eq!(at(&mut w), 0, "nothing passes before it is started");
    w.done(Request::Start("green".into()));
    assert_eq!(at(&mut w), 1);
    w.clean();
    w.branes[3].manner = Manner::Refuses(command::CONFIGURE);
    w.done(Request::Crash("green".into()));
    w.run();
    assert_eq!((w.state("green"), at(&mut w)), ("failed", 0));
    // The changed configuration is tried at once.
    w.branes[3].manner = Manner::Honest;
    w.done(remove("vif9"));
    w.until_started("green");
    w.clean();
}

#[test]
fn mac_addresses_come_from_a_pool_and_stay_with_their_name() {
    let mut w = World::new();
    let mac = |w: &mut World, name: &str| {
        let Ok(Answer::Devices(all)) = w.call(Request::Devices) else {
            panic!()
        };
        all.into_iter()
            .find(|d| d.config.name == name)
            .unwrap()
            .config
            .mac
            .unwrap()
    };
    w.done(add("vif9"));
    let first = mac(&mut w, "vif9");
    w.done(add("vif8"));
    assert_ne!(first, mac(&mut w, "vif8"));
    w.done(assign("vif9", "red"));
    w.done(assign("vif9", "blue"));
    assert_eq!(mac(&mut w, "vif9"), first);
    w.done(remove("vif9"));
    w.call(Request::DeleteDevice("vif9".into())).unwrap();
    w.done(add("vif9"));
    assert_eq!(mac(&mut w, "vif9"), first, "the same name, the same address");
    let clash = DeviceConfig {
        mac: Some(first),
        ..vnic("vif7")
    };
    assert_eq!(
        w.refused(Request::AddDevice(clash)),
        format!(
            "the MAC address {first} is that of \"vif9\": choose another one, or leave it out for one from the pool"
        )
    );
    // In another VLAN, or on another NIC, the address is free.
    w.done(Request::AddDevice(DeviceConfig {
        mac: Some(first),
        kind: Kind::Vlan(5),
        ..vnic("vlan5")
    }));
    w.done(Request::AddDevice(DeviceConfig {
        mac: Some(first),
        nic: 1,
        ..vnic("other")
    }));
    w.clean();
    let group = DeviceConfig {
        mac: Some(MacAddr::BROADCAST),
        ..vnic("vif6")
    };
    assert!(
        w.refused(Request::AddDevice(group))
            .contains("not the MAC address of a station")
    );
}

#[test]
fn kinds_of_devices_are_made_and_given() {
    let mut w = World::new();
    let start = w.free();
    let pair = DeviceConfig {
        kind: Kind::Pair("right".into()),
        ..vnic("left")
    };
    w.done(Request::AddDevice(pair.clone()));
    w.done(assign("left", "red"));
    w.done(assign("right", "blue"));
    w.clean();
    assert!(w.refused(Request::AddDevice(pair)).contains("taken"));
    assert!(w.call(Request::DeleteDevice("left".into())).is_err());
    w.done(remove("left"));
    w.done(remove("right"));
    let Ok(Answer::Receipt(receipt)) = w.call(Request::DeleteDevice("right".into())) else {
        panic!()
    };
    assert_eq!(receipt.after.macs + 2, receipt.before.macs, "both ends");
    // The NIC itself as a device, on either of two NICs.
    assert_eq!(w.done(assign("nic1", "red")), "nic1 is net1 of red");
    assert_eq!(w.branes[1].config.as_ref().unwrap().interfaces[1].port, 2);
    w.clean();
    w.done(assign("nic1", "blue"));
    w.done(remove("nic1"));
    assert!(
        w.call(Request::DeleteDevice("nic1".into()))
            .unwrap_err()
            .words()
            .what
            .contains("the NIC itself")
    );
    let vlan = |tag| {
        Request::AddDevice(DeviceConfig {
            kind: Kind::Vlan(tag),
            ..vnic("v")
        })
    };
    assert!(w.refused(vlan(0)).contains("0 is no VLAN"));
    assert!(w.refused(vlan(4095)).contains("no VLAN"));
    assert!(
        w.refused(Request::AddDevice(DeviceConfig { nic: 2, ..vnic("v") }))
            .contains("no NIC named \"nic2\"")
    );
    assert_eq!(w.free(), start);
}

#[test]
fn ports_run_out_with_words() {
    let mut w = World::new();
    for name in ["a", "b"] {
        w.done(add(name));
    }
    w.done(assign("a", "red"));
    assert_eq!(
        w.refused(assign("b", "red")),
        "brane \"red\" has no free port at nic0: 2 are in use: remove one of its interfaces there first"
    );
    w.done(Request::AddDevice(DeviceConfig { nic: 1, ..vnic("c") }));
    w.done(assign("c", "red"));
    w.clean();
}

#[test]
fn what_is_saved_brings_the_same_system_up() {
    let mut w = World::new();
    w.done(Request::AddDevice(DeviceConfig {
        kind: Kind::Pair("right".into()),
        ..vnic("left")
    }));
    w.done(assign("nic1", "red"));
    w.done(Request::Create {
        name: "green".into(),
        families: None,
        start: false,
        memory: None,
    });
    w.done(assign("left", "green"));
    let saved = |w: &mut World| {
        let Ok(Answer::Saved(bytes)) = w.call(Request::Save) else {
            panic!()
        };
        bytes
    };
    let text = saved(&mut w);
    let mut again = World::with(BootConfig::from_bytes(&text).unwrap(), 5, 2);
    assert_eq!(saved(&mut again), text);
    assert_eq!(
        (again.state("green"), again.owner("left")),
        ("created", "green/net0".into())
    );
    assert_eq!(again.owner("nic1"), "red/net1");
    again.clean();
}

#[test]
fn what_is_free_is_counted_in_slots_ports_and_names() {
    let mut w = World::new();
    let ports = 5 * 2 * 2;
    let (branes, interfaces, devices) = (3, 3, w.manager.devices.len() as u32);
    let free = w.free();
    assert_eq!(
        (free.slots, free.ports, free.names),
        (2, ports - 3, branes + interfaces + devices)
    );
    w.create("green").unwrap();
    assert_eq!((w.free().slots, w.free().names), (1, free.names + 1));
}

#[test]
fn a_device_that_the_driver_does_not_bind_is_named_in_the_log() {
    let mut w = World::new();
    w.faults(1);
    for _ in 0..100 {
        w.nics.refuse_after = Some(0);
        if !w.step() {
            w.pass(100);
        }
    }
    w.nics.refuse_after = None;
    let named = |line: &String| line.contains("`vnic1` gets no frames") && line.contains("Full");
    assert!(w.log.iter().any(named), "{:?}", w.log);
}

#[test]
fn a_device_is_renamed_while_a_brane_has_it() {
    let mut w = World::new();
    let to = |from: &str, to: &str| Request::RenameDevice {
        from: from.into(),
        to: to.into(),
    };
    w.done(to("vnic1", "uplink"));
    assert_eq!(w.owner("uplink"), "red/net0");
    let config = w.branes[1].config.clone().unwrap();
    assert_eq!(config.interfaces[0].device, "uplink", "the brane knows it");
    w.clean();
    // The next incarnation, and the next owner, have the device under the new name.
    w.done(Request::Crash("red".into()));
    w.until_started("red");
    w.assign("uplink", "main").unwrap();
    assert_eq!(w.owner("uplink"), "main/net1");
    w.clean();
    let refused = w.refused(to("uplink", "vnic2"));
    assert!(refused.contains("taken"), "{refused}");
}

#[test]
fn nobody_takes_the_name_that_a_device_is_to_get() {
    let mut w = World::new();
    w.branes[1].manner = crate::testing::Manner::Deaf(brane_abi::control::command::RENAME);
    let rename = Request::RenameDevice {
        from: "vnic1".into(),
        to: "uplink".into(),
    };
    let job = w.begin(&rename).unwrap_err();
    assert!(w.refused(add("uplink")).contains("taken"));
    // The brane does not answer in time: nothing has changed.
    for _ in 0..100 {
        if let Some(end) = w.poll(job) {
            assert!(end.is_err());
            break;
        }
        w.tick();
    }
    w.done(add("uplink"));
}
