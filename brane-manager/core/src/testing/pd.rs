//! A simulated protection domain of a brane: it answers like a real brane, or fails as the test determines.

use brane_abi::capture::CaptureConfig;
use brane_abi::control::{
    BraneConfig, BraneStatus, InterfaceConfig, InterfaceStatus, Rename, command, report as kind,
};
use brane_abi::filter::RuleStatus;
use brane_abi::net::MacAddr;
use brane_abi::query;

/// Number of rules in one answer.
const RULES_PER_PAGE: usize = 10;

/// Behaviour of a brane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// The domain obeys every command.
    #[default]
    Honest,
    /// The domain answers no command of this kind.
    Deaf(u32),
    /// The domain refuses commands of this kind.
    Refuses(u32),
    /// The domain faults at commands of this kind.
    Dies(u32),
}

/// A brane's protection domain.
#[derive(Clone, Debug, Default)]
pub struct Pd {
    /// External hooks in its last configuration.
    pub hooks_at_configuration: usize,
    /// True if the manager has started the domain, and has neither stopped it nor received its fault.
    pub running: bool,
    /// True if the domain has faulted and the manager does not know it yet.
    pub faulted: bool,
    pub config: Option<BraneConfig>,
    pub started: bool,
    pub manner: Manner,
    /// True if the brane was told to open in this incarnation: by a configuration that does not hold it, or by `START`.
    pub opened: bool,
    /// True if the brane did not carry out a command in this incarnation, so its state may differ from the manager's
    /// view.
    pub strayed: bool,
    /// True if the memory contains data of a brane.
    pub used: bool,
    /// True if the domain clears its memory before it opens its link.
    pub scrubs: bool,
}

/// Effect of a command on a brane.
pub(super) enum Effect {
    /// A report: kind, payload.
    Report(u32, Vec<u8>),
    Fault,
    Nothing,
}

impl Pd {
    /// Begins another incarnation in the existing memory.
    pub(super) fn begin(&mut self, scrubs: bool) {
        *self = Pd {
            running: true,
            manner: self.manner,
            used: self.used,
            scrubs,
            ..Pd::default()
        };
    }

    /// Opens the link. If the domain was started for another tenant, it clears its memory first.
    pub(super) fn is_up(&mut self) {
        self.used &= !core::mem::take(&mut self.scrubs);
    }

    /// Carries out a command, unless the brane's behaviour prevents that.
    pub(super) fn obey(&mut self, kind: u32, payload: &[u8]) -> Effect {
        assert!(self.running, "a command to a brane that stands still");
        match kind {
            command::CONFIGURE => {
                let config: BraneConfig = minicbor::decode(payload).unwrap();
                self.used = true;
                self.opened = !config.held;
            }
            command::START => self.opened = true,
            _ => {}
        }
        if self.faulted {
            return Effect::Nothing;
        }
        let strayed = core::mem::replace(&mut self.strayed, true);
        match self.manner {
            Manner::Deaf(k) if k == kind => return Effect::Nothing,
            Manner::Refuses(k) if k == kind => {
                return Effect::Report(kind::REFUSED, b"I do not want to".to_vec());
            }
            Manner::Dies(k) if k == kind => return Effect::Fault,
            _ => {}
        }
        self.strayed = strayed;
        let changes = [
            command::ATTACH,
            command::DETACH,
            command::ADJUST,
            command::RENAME,
            command::FILTER,
            command::CAPTURE,
            command::HOOKS,
        ];
        if self.config.is_none() && changes.contains(&kind) {
            assert!(strayed, "a change before the configuration");
            return Effect::Report(kind::REFUSED, b"not configured".to_vec());
        }
        self.done(kind, payload)
    }

    /// Carries out a command like an honest brane.
    fn done(&mut self, kind: u32, payload: &[u8]) -> Effect {
        let done = Effect::Report(kind::DONE, Vec::new());
        match kind {
            command::CONFIGURE => {
                assert!(self.config.is_none(), "a brane is configured once in a life");
                let config: BraneConfig = minicbor::decode(payload).unwrap();
                self.started = !config.held;
                self.hooks_at_configuration = config.hooks.len();
                self.config = Some(config);
                Effect::Report(kind::CONFIGURED, Vec::new())
            }
            command::START => {
                // If the brane were open already, its devices would have been bound too early.
                assert!(self.config.is_some() && !self.started);
                self.started = true;
                done
            }
            command::SHUTDOWN => {
                self.started = false;
                Effect::Report(kind::DRAINED, 3u32.to_le_bytes().to_vec())
            }
            command::HEARTBEAT => Effect::Report(kind::ALIVE, Vec::new()),
            command::CRASH => Effect::Fault,
            command::HANG => {
                self.manner = Manner::Deaf(command::HEARTBEAT);
                Effect::Nothing
            }
            command::REPORT => Effect::Report(kind::STATUS, minicbor::to_vec(self.status()).unwrap()),
            command::ATTACH => {
                let interface: InterfaceConfig = minicbor::decode(payload).unwrap();
                let config = self.config.as_mut().unwrap();
                let mut has = config.interfaces.iter();
                if has.any(|i| i.name == interface.name || i.port == interface.port) {
                    assert!(self.strayed, "the manager believes that a port in use is free");
                    return Effect::Report(kind::REFUSED, b"the port is in use".to_vec());
                }
                config.interfaces.push(interface);
                done
            }
            command::DETACH => {
                let name = std::str::from_utf8(payload).unwrap();
                let interfaces = &mut self.config.as_mut().unwrap().interfaces;
                let before = interfaces.len();
                interfaces.retain(|i| i.name != name);
                assert!(interfaces.len() + 1 == before || self.strayed, "{name}");
                done
            }
            command::ADJUST => {
                let interface: InterfaceConfig = minicbor::decode(payload).unwrap();
                let Some(place) = self.interface(&interface.name) else {
                    return Effect::Report(kind::REFUSED, b"no such interface".to_vec());
                };
                *place = interface;
                done
            }
            command::RENAME => {
                let rename: Rename = minicbor::decode(payload).unwrap();
                match rename.interface {
                    None => self.config.as_mut().unwrap().name = rename.to,
                    Some(from) => {
                        let Some(place) = self.interface(&from) else {
                            return Effect::Report(kind::REFUSED, b"no such interface".to_vec());
                        };
                        match rename.device {
                            true => place.device = rename.to,
                            false => place.name = rename.to,
                        }
                    }
                }
                done
            }
            command::FILTER => {
                self.config.as_mut().unwrap().filter = minicbor::decode(payload).unwrap();
                done
            }
            command::CAPTURE => {
                let capture: CaptureConfig = minicbor::decode(payload).unwrap();
                let captures = &mut self.config.as_mut().unwrap().captures;
                assert!(captures.iter().all(|c| c.tag != capture.tag) || self.strayed);
                captures.push(capture);
                done
            }
            command::UNCAPTURE => {
                let tag = u32::from_le_bytes(payload.try_into().unwrap());
                if let Some(config) = &mut self.config {
                    config.captures.retain(|capture| capture.tag != tag);
                }
                done
            }
            command::HOOKS => {
                self.config.as_mut().unwrap().hooks = minicbor::decode(payload).unwrap();
                done
            }
            command::QUERY => {
                let query: query::Query = minicbor::decode(payload).unwrap();
                let answer = match query {
                    query::Query::Filter { skip } => self.rules(skip as usize),
                    _ => query::Answer::Interfaces(self.status().interfaces),
                };
                Effect::Report(kind::ANSWER, minicbor::to_vec(answer).unwrap())
            }
            _ => Effect::Report(kind::REFUSED, b"unknown".to_vec()),
        }
    }

    /// Returns the interface of this name. It exists as long as the brane has carried out all commands.
    fn interface(&mut self, name: &str) -> Option<&mut InterfaceConfig> {
        let strayed = self.strayed;
        let interfaces = &mut self.config.as_mut().unwrap().interfaces;
        let found = interfaces.iter_mut().find(|i| i.name == name);
        assert!(found.is_some() || strayed, "{name} is not there");
        found
    }

    /// Returns a page of the rules in force. Each has matched as many packets as its number.
    fn rules(&self, skip: usize) -> query::Answer {
        let rules = self.config.iter().flat_map(|c| &c.filter);
        let rules = rules.zip(1..).map(|(rule, number)| RuleStatus {
            rule: rule.clone(),
            packets: number,
            bytes: 100 * number,
        });
        let mut left = rules.skip(skip);
        let page = left.by_ref().take(RULES_PER_PAGE).collect();
        query::Answer::Filter(page, left.next().is_some())
    }

    fn status(&self) -> BraneStatus {
        let named = |name: &str, device: &str, mac| InterfaceStatus {
            name: name.into(),
            device: device.into(),
            mac,
            ..InterfaceStatus::default()
        };
        let mut interfaces = vec![named("lo0", "lo", MacAddr::default())];
        let config = self.config.iter().flat_map(|c| &c.interfaces);
        interfaces.extend(config.map(|i| named(&i.name, &i.device, i.mac)));
        BraneStatus {
            interfaces,
            counters: Vec::new(),
            hooks: Vec::new(),
        }
    }
}
