//! What operators are shown: branes, devices, counters, names, the configuration as it is wanted.

use super::jobs::View;
use super::{Child, Cx, Manager, life, offenders};
use crate::boot::{BootConfig, BraneBoot};
use crate::brane::{Goal, State};
use crate::names::{printable, refusal};
use crate::registry::nic_name;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use brane_abi::control::{BraneStatus, Counter, all_families};
use brane_abi::operator::{self, Answer, CounterGroup, Device, DeviceConfig, Kind, Names, Owner, Refusal};
use brane_abi::vif::VifCounters;

impl Manager {
    /// What a job shows that has waited for reports since `since`.
    pub(super) fn view(&mut self, view: &View, since: u64, cx: &mut Cx<'_>) -> Result<Answer, Refusal> {
        match view {
            View::List => Ok(Answer::Branes(self.list(cx.now))),
            View::Show(name) => {
                let brane = self.brane(name)?;
                Ok(Answer::Brane(self.show(brane, cx)))
            }
            View::Stats(None) => Ok(Answer::Stats(self.stats(cx))),
            View::Stats(Some(name)) => self.stats_of(name, cx).map(Answer::Stats),
            View::Audit => Ok(Answer::Audit(self.audit(since, cx))),
        }
    }

    /// All branes, without counters.
    pub(crate) fn list(&self, now: u64) -> Vec<operator::Brane> {
        let all = self.branes.iter().enumerate();
        all.filter(|(_, b)| b.config.is_some())
            .map(|(i, b)| operator::Brane {
                status: BraneStatus {
                    interfaces: b.status.interfaces.clone(),
                    counters: Vec::new(),
                },
                ..self.outline(now, i)
            })
            .collect()
    }

    pub(crate) fn show(&self, brane: usize, cx: &mut Cx<'_>) -> operator::Brane {
        let vifs = self.registry.of(brane);
        operator::Brane {
            status: self.branes[brane].status.clone(),
            vifs: vifs.into_iter().map(|d| self.vif_group(d, cx)).collect(),
            ..self.outline(cx.now, brane)
        }
    }

    fn outline(&self, now: u64, brane: usize) -> operator::Brane {
        let b = &self.branes[brane];
        let config = b.config.as_ref();
        operator::Brane {
            id: brane as u32,
            name: b.name().into(),
            state: b.state.word().into(),
            restarts: b.restarts,
            last_fault: b.last_fault.clone(),
            status_age_ms: b
                .status_at
                .map_or(u64::MAX, |at| now.saturating_sub(at) / 1_000_000),
            primary: config.is_some_and(|c| c.primary),
            recovery_us: b.recovery_ns / 1_000,
            families: config
                .and_then(|c| c.families.clone())
                .unwrap_or_else(all_families),
            interfaces: b.interfaces().to_vec(),
            ..operator::Brane::default()
        }
    }

    /// Counters of everything: the NICs, the devices, the branes, and what the manager counts of each instance.
    pub(crate) fn stats(&self, cx: &mut Cx<'_>) -> Vec<CounterGroup> {
        let mut groups = Vec::new();
        for nic in 0..self.registry.nics() as u8 {
            groups.push(self.nic_group(nic, cx));
        }
        groups.extend((0..self.registry.len()).filter_map(|d| {
            let device = self.registry.get(d)?;
            (device.config.kind != Kind::Phys || device.added).then(|| self.vif_group(d, cx))
        }));
        for b in self.branes.iter().filter(|b| b.config.is_some()) {
            groups.push(CounterGroup {
                name: b.name().into(),
                counters: b.status.counters.clone(),
            });
        }
        groups.extend((0..self.branes.len()).map(|i| self.instance_group(i)));
        groups.push(self.others_group());
        groups
    }

    fn stats_of(&self, name: &str, cx: &mut Cx<'_>) -> Result<Vec<CounterGroup>, Refusal> {
        if let Ok(brane) = self.brane(name) {
            let mut groups: Vec<_> = (self.registry.of(brane).into_iter())
                .map(|d| self.vif_group(d, cx))
                .collect();
            groups.push(CounterGroup {
                name: name.into(),
                counters: self.branes[brane].status.counters.clone(),
            });
            groups.push(self.instance_group(brane));
            return Ok(groups);
        }
        if let Some(nic) = (0..self.registry.nics() as u8).find(|&n| nic_name(n) == name) {
            return Ok(Vec::from([self.nic_group(nic, cx)]));
        }
        match self.registry.resolve(name) {
            Ok(device) => Ok(Vec::from([self.vif_group(device, cx)])),
            Err(_) => Err(refusal(
                format!("no brane, device or NIC named \"{}\"", printable(name)),
                "`list` shows the branes, `nicctl list` the devices",
            )),
        }
    }

    fn nic_group(&self, nic: u8, cx: &mut Cx<'_>) -> CounterGroup {
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

    fn vif_group(&self, device: usize, cx: &mut Cx<'_>) -> CounterGroup {
        let Some(d) = self.registry.get(device) else {
            return CounterGroup::default();
        };
        let found = match d.added {
            true => cx.driver.counters(d.config.nic, d.vif),
            false => Some(VifCounters::default()),
        };
        CounterGroup {
            name: d.config.name.clone(),
            counters: found.map_or_else(
                || counters(&[("unknown_to_the_driver", 1)]),
                |c| counters(&vif_counters(&c)),
            ),
        }
    }

    fn instance_group(&self, brane: usize) -> CounterGroup {
        let b = &self.branes[brane];
        let c = &b.counts;
        CounterGroup {
            name: match b.name() {
                "" => format!("manager: instance {brane}"),
                name => format!("manager: {name}"),
            },
            counters: counters(&[
                ("restarts", b.restarts.into()),
                ("faults", c.faults),
                ("hangs", c.hangs),
                ("heartbeats", c.heartbeats),
                ("protocol_breaches", c.breaches),
                ("reports", c.reports),
                ("reports_refused", c.reports_refused),
                ("reports_unexpected", c.reports_unexpected),
                ("commands_dropped", c.commands_dropped),
                ("client_faults", c.client_faults),
                ("client_restarts", c.client_restarts),
                ("suspensions", self.offenders.count(Child::Brane(brane))),
                ("client_suspensions", self.offenders.count(Child::Client(brane))),
            ]),
        }
    }

    /// Suspensions of children that belong to no instance.
    fn others_group(&self) -> CounterGroup {
        let suspensions = |child, name| Counter {
            name: format!("suspensions of {name}"),
            value: self.offenders.count(child),
        };
        let operators =
            (0..self.operators.len()).map(|k| suspensions(Child::Operator(k), offenders::operator(k)));
        let watchers = (0..self.watchers.len()).map(|k| suspensions(Child::Watcher(k), life::watcher(k)));
        CounterGroup {
            name: "manager: others".into(),
            counters: operators.chain(watchers).collect(),
        }
    }

    /// All devices, each brane's `lo0` last.
    pub(super) fn devices(&self) -> Vec<Device> {
        let owner = |brane: usize, name: &str| {
            let b = &self.branes[brane];
            let of = b.interfaces().iter().find(|i| i.device == name);
            of.map(|i| Owner {
                brane: b.name().into(),
                interface: i.name.clone(),
            })
        };
        let mut all: Vec<Device> = (self.registry.iter())
            .map(|d| Device {
                config: d.config.clone(),
                owner: d.owner.and_then(|(brane, _)| owner(brane, &d.config.name)),
            })
            .collect();
        for (i, b) in self.branes.iter().enumerate() {
            if b.config.is_some() {
                all.push(Device {
                    config: DeviceConfig {
                        name: format!("lo.{i}"),
                        kind: Kind::Lo,
                        ..DeviceConfig::default()
                    },
                    owner: Some(Owner {
                        brane: b.name().into(),
                        interface: "lo0".into(),
                    }),
                });
            }
        }
        all
    }

    pub(super) fn names(&self) -> Names {
        let branes = self.branes.iter().filter(|b| b.config.is_some());
        Names {
            branes: branes.clone().map(|b| b.name().to_string()).collect(),
            devices: self.registry.iter().map(|d| d.config.name.clone()).collect(),
            interfaces: branes
                .flat_map(|b| {
                    b.interfaces()
                        .iter()
                        .map(move |i| format!("{}/{}", b.name(), i.name))
                })
                .collect(),
            nics: (0..self.registry.nics() as u8).map(nic_name).collect(),
        }
    }

    /// The boot configuration that brings the system up as it is wanted now.
    pub(super) fn saved(&self) -> BootConfig {
        let wanted =
            (self.branes.iter()).filter(|b| !matches!(b.goal, Goal::Gone(_)) && b.state != State::Leaving);
        BootConfig {
            branes: wanted
                .filter_map(|b| {
                    let config = b.config.as_ref()?;
                    Some(BraneBoot {
                        name: config.name.clone(),
                        primary: config.primary,
                        interfaces: config.interfaces.clone(),
                        families: config.families.clone(),
                        held: matches!(b.goal, Goal::Held(_)),
                    })
                })
                .collect(),
            devices: (self.registry.iter())
                .filter(|d| d.config.kind != Kind::Phys || d.owner.is_some())
                .map(|d| d.config.clone())
                .collect(),
            mac_pool: self.registry.pool(),
        }
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

pub(super) fn counters(named: &[(&str, u64)]) -> Vec<Counter> {
    named
        .iter()
        .map(|(name, value)| Counter {
            name: (*name).into(),
            value: *value,
        })
        .collect()
}
