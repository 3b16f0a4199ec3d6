//! Limits of devices: at the driver before a frame can pass, and changed completely or not at all.

use super::*;
use crate::testing::{World, assign};
use brane_abi::operator::{Answer, Mode, Request};

#[test]
fn limits_that_the_driver_refuses_leave_those_before_in_force() {
    let mut w = World::new();
    let limit = |mode, rate| Request::Limit {
        device: "vnic1".into(),
        mode: Some(mode),
        allow: None,
        rate_up: Some(rate),
        rate_down: None,
    };
    w.done(limit(Mode::Private, 5_000));
    // First the limits, then the mode.
    for refuse in 0..2 {
        w.nics.refuse_after = Some(refuse);
        let why = w.refused(limit(Mode::Bridge, 9_000));
        assert_eq!(
            why,
            "the NIC driver refuses the limits of \"vnic1\": its table is full: the limits did not change"
        );
        let Ok(Answer::Devices(all)) = w.call(Request::Devices) else {
            panic!()
        };
        let d = all.into_iter().find(|d| d.config.name == "vnic1").unwrap();
        assert_eq!((d.config.mode, d.config.rate_up), (Mode::Private, Some(5_000)));
        let vif = w
            .manager
            .devices
            .iter()
            .find(|d| d.config.name == "vnic1")
            .unwrap()
            .id
            .number();
        let known = w.nics.known(0, vif).unwrap();
        assert_eq!(known.limits.unwrap().rate_up, 5_000, "at the driver too");
        assert_eq!(known.mode, brane_abi::vif::MODE_PRIVATE);
    }
    let many = Request::Limit {
        device: "vnic1".into(),
        mode: None,
        allow: Some(vec![
            Cidr {
                ip: [10, 0, 0, 0].into(),
                prefix: 8
            };
            17
        ]),
        rate_up: None,
        rate_down: None,
    };
    assert!(w.refused(many).starts_with("17 prefixes, the driver takes 16"));
    w.clean();
}

#[test]
fn limits_are_at_the_driver_before_the_first_frame_can_pass() {
    let mut boot = boot();
    boot.devices[1].rate_up = Some(7_000);
    let mut w = World::with(boot, 5, 2);
    // The driver's test double refuses to bind a vif that was never limited.
    let rate = |w: &World, nic, vif| w.nics.known(nic, vif).and_then(|k| k.limits).map(|l| l.rate_up);
    let vif = |w: &World, name: &str| {
        let mut all = w.manager.devices.iter();
        all.find(|d| d.config.name == name).unwrap().id.number()
    };
    assert_eq!(w.owner("vnic1"), "red/net0");
    assert_eq!(rate(&w, 0, vif(&w, "vnic1")), Some(7_000));
    assert_eq!(rate(&w, 0, vif(&w, "vnic2")), Some(0));
    // The NIC itself is a vif only while a brane has it. Limits set before apply from the first moment.
    w.done(Request::Limit {
        device: "nic1".into(),
        mode: None,
        allow: None,
        rate_up: Some(8_000),
        rate_down: None,
    });
    let nic = vif(&w, "nic1");
    assert_eq!(rate(&w, 1, nic), None);
    for brane in ["red", "blue"] {
        w.done(assign("nic1", brane));
        assert_eq!(rate(&w, 1, nic), Some(8_000));
    }
    // The limits of a new device apply in this way too.
    w.done(Request::AddDevice(DeviceConfig {
        rate_up: Some(9_000),
        name: "vif9".into(),
        ..DeviceConfig::default()
    }));
    w.done(assign("vif9", "red"));
    assert_eq!(rate(&w, 0, vif(&w, "vif9")), Some(9_000));
}
