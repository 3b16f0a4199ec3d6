//! `stats`: returns the counters of NICs, devices, branes and instances, from the drivers, the branes and the manager.

use super::{Fresh, View};
use crate::Manager;
use crate::ids::{BraneId, DeviceId};
use crate::operators::operator_name;
use crate::refusals;
use crate::shell::{Child, Context};
use crate::text::{nic_name, subscriber_name};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::Counter;
use brane_abi::operator::{Answer, CounterGroup, Kind, Refusal};
use brane_abi::vif::VifCounters;

#[derive(Clone, Debug)]
pub(crate) struct Stats(pub Option<String>);

impl View for Stats {
    fn show(&self, m: &Manager, _: Fresh, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        let groups = match &self.0 {
            Some(name) => named(m, name, cx)?,
            None => all(m, cx),
        };
        Ok(Answer::Stats(groups))
    }
}

/// Returns all counters: of the NICs, the devices, the branes, and those of the manager for each instance.
pub(crate) fn all(m: &Manager, cx: &mut Context<'_>) -> Vec<CounterGroup> {
    let mut groups: Vec<_> = m.devices.nics().map(|nic| nic_group(nic, cx)).collect();
    for d in m.devices.iter() {
        if d.config.kind != Kind::Phys || d.added {
            groups.push(vif_group(m, d.id, cx));
        }
    }
    groups.extend(m.instances.branes().map(|b| CounterGroup {
        name: b.name().into(),
        counters: b.status.counters.clone(),
    }));
    groups.extend(m.instances.ids().map(|id| instance_group(m, id)));
    groups.push(others_group(m));
    groups
}

/// Returns the counters of the brane, device or NIC of this name.
fn named(m: &Manager, name: &str, cx: &mut Context<'_>) -> Result<Vec<CounterGroup>, Refusal> {
    if let Ok(brane) = m.brane(name) {
        let mut groups = vif_groups(m, brane, cx);
        groups.push(CounterGroup {
            name: name.into(),
            counters: m.instances[brane].status.counters.clone(),
        });
        groups.push(instance_group(m, brane));
        return Ok(groups);
    }
    if let Some(nic) = m.devices.nics().find(|&nic| nic_name(nic) == name) {
        return Ok(Vec::from([nic_group(nic, cx)]));
    }
    match m.devices.find(name) {
        Some(d) => Ok(Vec::from([vif_group(m, d.id, cx)])),
        None => Err(refusals::nothing_with_counters(name)),
    }
}

fn nic_group(nic: u8, cx: &mut Context<'_>) -> CounterGroup {
    CounterGroup {
        name: nic_name(nic),
        counters: cx.driver.device(nic).map_or_else(
            || counters(&[("unreachable", 1)]),
            |d| {
                counters(&[
                    ("link_up", d.link_up.into()),
                    ("ports", d.ports.into()),
                    ("rx_frames", d.rx_frames),
                    ("rx_unclaimed", d.rx_unclaimed),
                    ("rx_malformed", d.rx_malformed),
                    ("tx_frames", d.tx_frames),
                    ("interrupts", d.interrupts),
                ])
            },
        ),
    }
}

/// Returns the drivers' counters of a brane's devices.
pub(super) fn vif_groups(m: &Manager, brane: BraneId, cx: &mut Context<'_>) -> Vec<CounterGroup> {
    let devices = m.devices.of(brane).into_iter();
    devices.map(|id| vif_group(m, id, cx)).collect()
}

fn vif_group(m: &Manager, id: DeviceId, cx: &mut Context<'_>) -> CounterGroup {
    let Some(d) = m.devices.get(id) else {
        return CounterGroup::default();
    };
    let found = match d.added {
        true => cx.driver.counters(d.config.nic, id.number()),
        false => Some(VifCounters::default()),
    };
    CounterGroup {
        name: d.name().into(),
        counters: found.map_or_else(
            || counters(&[("unknown_to_the_driver", 1)]),
            |c| counters(&vif_counters(&c)),
        ),
    }
}

fn instance_group(m: &Manager, id: BraneId) -> CounterGroup {
    let b = &m.instances[id];
    let c = &b.counters;
    CounterGroup {
        name: match b.name() {
            "" => format!("manager: instance {}", id.index()),
            name => format!("manager: {name}"),
        },
        counters: counters(&[
            ("restarts", b.restarts.into()),
            ("faults", c.faults),
            ("hangs", c.hangs),
            ("heartbeats", c.heartbeats),
            ("protocol_breaches", c.violations),
            ("reports", c.reports),
            ("reports_refused", c.reports_refused),
            ("reports_unexpected", c.reports_unexpected),
            ("commands_dropped", c.commands_dropped),
            ("client_faults", c.client_faults),
            ("client_restarts", c.client_restarts),
            ("suspensions", m.suspensions.count(Child::Brane(id))),
            ("client_suspensions", m.suspensions.count(Child::Client(id))),
        ]),
    }
}

/// Returns the suspensions of children that belong to no instance.
fn others_group(m: &Manager) -> CounterGroup {
    let suspensions = |child, name| Counter {
        name: format!("suspensions of {name}"),
        value: m.suspensions.count(child),
    };
    let operators = m.operators.ids();
    let operators = operators.map(|id| suspensions(Child::Operator(id), operator_name(id)));
    let line = suspensions(Child::Line, "line".into());
    let subscribers = m.subscribers.ids();
    let subscribers = subscribers.map(|id| suspensions(Child::Subscriber(id), subscriber_name(id)));
    CounterGroup {
        name: "manager: others".into(),
        counters: operators.chain([line]).chain(subscribers).collect(),
    }
}

fn vif_counters(c: &VifCounters) -> [(&'static str, u64); 17] {
    [
        ("rx_frames", c.rx_frames),
        ("rx_bytes", c.rx_bytes),
        ("rx_dropped", c.rx_dropped),
        ("rx_limited", c.rx_limited),
        ("tx_frames", c.tx_frames),
        ("tx_bytes", c.tx_bytes),
        ("tx_dropped", c.tx_dropped),
        ("tx_limited", c.tx_limited),
        ("tx_spoofed", c.tx_spoofed),
        ("tx_malformed", c.tx_malformed),
        ("tx_bad_ip", c.tx_bad_ip),
        ("tx_bad_arp", c.tx_bad_arp),
        ("tx_bad_nd", c.tx_bad_nd),
        ("tx_bad_type", c.tx_bad_type),
        ("tx_link_control", c.tx_link_control),
        ("tx_waits", c.tx_waits),
        ("peer_errors", c.peer_errors),
    ]
}

fn counters(named: &[(&str, u64)]) -> Vec<Counter> {
    let named = named.iter().map(|(name, value)| Counter {
        name: (*name).into(),
        value: *value,
    });
    named.collect()
}
