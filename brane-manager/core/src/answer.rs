//! Answers to the console: which brane a name means, what is shown of it, and why a command is refused.
//!
//! The console is not trusted: label and argument are checked here, and each answer has a bounded length.

use crate::brane::{Brane, State};
use crate::manager::{Action, Manager};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::console::{self, CounterGroup, List, REPLY_SIZE, Refusal, Stats};
use brane_abi::control::{BraneStatus, Counter};
use brane_abi::vif::{DeviceInfo, VifCounters};
use minicbor::Encode;

/// The NIC driver's side of an answer: protected calls in the shell. `None` where the driver refuses.
pub trait Driver {
    /// Counters of a vif.
    fn vif(&mut self, vif: u32) -> Option<VifCounters>;
    /// The device.
    fn device(&mut self) -> Option<DeviceInfo>;
}

/// Longest argument of a command in bytes.
const MAX_ARGUMENT: usize = 64;
/// Names that a message lists before it ends in "and N more".
const NAMES_SHOWN: usize = 20;

pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to a vector cannot fail, and none of the encoded types refuses.
    let _ = minicbor::encode(value, &mut out);
    out
}

impl Manager {
    /// Serves one call of the console. Returns the reply's label and the text for the region `console-reply`.
    pub fn console(
        &mut self,
        now: u64,
        label: u64,
        argument: &[u8],
        driver: &mut dyn Driver,
        actions: &mut Vec<Action>,
    ) -> (u64, Vec<u8>) {
        let answer = match label {
            console::REFRESH => {
                self.refresh(now, actions);
                Ok(Vec::new())
            }
            console::LIST => self.list(now).map(|l| encode(&l)),
            console::SHOW => self.resolve(argument).map(|i| encode(&self.show(now, i, driver))),
            console::STATS => Ok(encode(&self.stats(driver))),
            console::CRASH => self.started(argument, "fault").map(|brane| {
                self.crash(now, brane, actions);
                Vec::new()
            }),
            console::HANG => self.started(argument, "hang").map(|brane| {
                self.hang(brane, actions);
                Vec::new()
            }),
            other => Err(refusal(
                format!("the manager has no command {other}"),
                "the console and the manager are of different versions: build the image anew",
            )),
        };
        match answer {
            Ok(text) if text.len() <= REPLY_SIZE => (console::OK, text),
            Ok(text) => {
                let what = format!("the answer has {} bytes, {REPLY_SIZE} fit", text.len());
                (
                    console::ERROR,
                    encode(&refusal(what, "ask for one brane with `show NAME`")),
                )
            }
            Err(why) => (console::ERROR, encode(&why)),
        }
    }

    /// The one place where a name becomes a brane.
    fn resolve(&self, argument: &[u8]) -> Result<usize, Refusal> {
        if let Some(why) = &self.boot_error {
            return Err(no_configuration(why));
        }
        let shown = String::from_utf8_lossy(&argument[..argument.len().min(MAX_ARGUMENT)]);
        let found = self
            .branes
            .iter()
            .position(|b| b.config.is_some() && b.name().as_bytes() == argument);
        found.ok_or_else(|| {
            let names: Vec<&str> = self
                .branes
                .iter()
                .map(Brane::name)
                .filter(|n| !n.is_empty())
                .collect();
            let mut help = format!(
                "the branes are {}",
                names[..names.len().min(NAMES_SHOWN)].join(", ")
            );
            if names.len() > NAMES_SHOWN {
                help += &format!(" and {} more", names.len() - NAMES_SHOWN);
            }
            refusal(format!("no brane named \"{shown}\""), help)
        })
    }

    fn list(&self, now: u64) -> Result<List, Refusal> {
        if let Some(why) = &self.boot_error {
            return Err(no_configuration(why));
        }
        let configured = self.branes.iter().enumerate().filter(|(_, b)| b.config.is_some());
        Ok(List {
            branes: configured
                .map(|(i, b)| {
                    let status = BraneStatus {
                        interfaces: b.status.interfaces.clone(),
                        counters: Vec::new(),
                    };
                    console::Brane {
                        status,
                        ..self.outline(now, i)
                    }
                })
                .collect(),
        })
    }

    fn show(&self, now: u64, brane: usize, driver: &mut dyn Driver) -> console::Brane {
        let b = &self.branes[brane];
        console::Brane {
            status: b.status.clone(),
            vifs: b.vifs.iter().map(|&v| self.vif_group(v, driver)).collect(),
            ..self.outline(now, brane)
        }
    }

    fn outline(&self, now: u64, brane: usize) -> console::Brane {
        let b = &self.branes[brane];
        console::Brane {
            id: brane as u32,
            name: b.name().into(),
            state: b.state.word().into(),
            restarts: b.restarts,
            last_fault: b.last_fault.clone(),
            status_age_ms: b
                .status_at
                .map_or(u64::MAX, |at| now.saturating_sub(at) / 1_000_000),
            primary: b.config.as_ref().is_some_and(|c| c.primary),
            recovery_us: b.recovery_ns / 1_000,
            ..console::Brane::default()
        }
    }

    fn stats(&self, driver: &mut dyn Driver) -> Stats {
        let mut groups = Vec::new();
        groups.push(CounterGroup {
            name: "nic0".into(),
            counters: driver.device().map_or_else(
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
        });
        groups.extend((0..self.devices.len() as u32).map(|v| self.vif_group(v, driver)));
        for b in self.branes.iter().filter(|b| b.config.is_some()) {
            groups.push(CounterGroup {
                name: b.name().into(),
                counters: b.status.counters.clone(),
            });
        }
        for (i, b) in self.branes.iter().enumerate() {
            let name = match b.name() {
                "" => format!("manager: instance {i}"),
                name => format!("manager: {name}"),
            };
            let c = &b.counts;
            groups.push(CounterGroup {
                name,
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
                ]),
            });
        }
        Stats { groups }
    }

    fn vif_group(&self, vif: u32, driver: &mut dyn Driver) -> CounterGroup {
        let name = self.devices.get(vif as usize).cloned().unwrap_or_default();
        let counters = driver.vif(vif).map_or_else(
            || counters(&[("missing_at_driver", 1)]),
            |v| {
                counters(&[
                    ("rx_frames", v.rx_frames),
                    ("rx_bytes", v.rx_bytes),
                    ("rx_dropped", v.rx_dropped),
                    ("tx_frames", v.tx_frames),
                    ("tx_bytes", v.tx_bytes),
                    ("tx_dropped", v.tx_dropped),
                    ("tx_spoofed", v.tx_spoofed),
                    ("tx_malformed", v.tx_malformed),
                    ("peer_errors", v.peer_errors),
                    ("tx_bad_ip", v.tx_bad_ip),
                    ("tx_bad_arp", v.tx_bad_arp),
                    ("tx_bad_nd", v.tx_bad_nd),
                    ("tx_bad_type", v.tx_bad_type),
                    ("tx_limited", v.tx_limited),
                    ("rx_limited", v.rx_limited),
                ])
            },
        );
        CounterGroup { name, counters }
    }

    /// The named brane, which must be up to be made to `fail` in some way.
    fn started(&self, argument: &[u8], fail: &str) -> Result<usize, Refusal> {
        let brane = self.resolve(argument)?;
        let b = &self.branes[brane];
        if b.state != State::Started {
            return Err(refusal(
                format!(
                    "brane \"{}\" is {}, it cannot be made to {fail} now",
                    b.name(),
                    b.state.word()
                ),
                "try again when `list` shows it as started",
            ));
        }
        Ok(brane)
    }
}

fn counters(list: &[(&str, u64)]) -> Vec<Counter> {
    list.iter()
        .map(|&(name, value)| Counter {
            name: name.into(),
            value,
        })
        .collect()
}

fn refusal(what: String, help: impl ToString) -> Refusal {
    Refusal {
        what,
        help: help.to_string(),
    }
}

fn no_configuration(why: &str) -> Refusal {
    refusal(
        format!("no brane is configured: the boot configuration cannot be used: {why}"),
        "build the image anew with a good one (`boot` in configs.toml)",
    )
}
