//! A brane's protection domain for the tests: it answers as a real brane does, or fails as a test wants.

use brane_abi::control::{
    BraneConfig, BraneStatus, InterfaceConfig, InterfaceStatus, Rename, command, report as kind,
};
use brane_abi::net::MacAddr;
use brane_abi::query;

/// How a brane behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// The domain obeys every command.
    #[default]
    Honest,
    /// It answers no command of this kind.
    Deaf(u32),
    /// It refuses commands of this kind.
    Refuses(u32),
    /// It faults at commands of this kind.
    Dies(u32),
}

/// A brane's protection domain.
#[derive(Clone, Debug, Default)]
pub struct Pd {
    /// The manager has started it, and has neither stopped it nor heard of its fault.
    pub running: bool,
    /// It has faulted, which the manager does not know yet.
    pub faulted: bool,
    pub config: Option<BraneConfig>,
    pub started: bool,
    pub manner: Manner,
    /// It was told to open in this life: a configuration that does not hold it, or `START`.
    pub opened: bool,
    /// It did not do what a command wanted in this life, so what it has may differ from what the manager believes.
    pub strayed: bool,
    /// Its memory holds what a brane left there.
    pub used: bool,
    /// It clears its memory before it opens its link.
    pub scrubs: bool,
}

/// What a command makes a brane do.
pub(super) enum Effect {
    /// A report: kind, payload.
    Report(u32, Vec<u8>),
    Fault,
    Nothing,
}

impl Pd {
    /// Begins another life in the same memory.
    pub(super) fn begin(&mut self, scrubs: bool) {
        *self = Pd {
            running: true,
            manner: self.manner,
            used: self.used,
            scrubs,
            ..Pd::default()
        };
    }

    /// Opens its link, after it has cleared its memory if it was started for that.
    pub(super) fn is_up(&mut self) {
        self.used &= !core::mem::take(&mut self.scrubs);
    }

    /// Obeys a command, as far as its manner lets it.
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
        let changes = [command::ATTACH, command::DETACH, command::ADJUST, command::RENAME];
        if self.config.is_none() && changes.contains(&kind) {
            assert!(strayed, "a change before the configuration");
            return Effect::Report(kind::REFUSED, b"not configured".to_vec());
        }
        self.done(kind, payload)
    }

    /// Does what an honest brane does at a command.
    fn done(&mut self, kind: u32, payload: &[u8]) -> Effect {
        let done = Effect::Report(kind::DONE, Vec::new());
        match kind {
            command::CONFIGURE => {
                assert!(self.config.is_none(), "a brane is configured once in a life");
                let config: BraneConfig = minicbor::decode(payload).unwrap();
                self.started = !config.held;
                self.config = Some(config);
                Effect::Report(kind::CONFIGURED, Vec::new())
            }
            command::START => {
                // One that was told to be open already would have been bound too early.
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
            command::QUERY => {
                let _: query::Query = minicbor::decode(payload).unwrap();
                let answer = query::Answer::Interfaces(self.status().interfaces);
                Effect::Report(kind::ANSWER, minicbor::to_vec(answer).unwrap())
            }
            _ => Effect::Report(kind::REFUSED, b"unknown".to_vec()),
        }
    }

    /// The interface of this name, which is there as long as the brane did all that it was told.
    fn interface(&mut self, name: &str) -> Option<&mut InterfaceConfig> {
        let strayed = self.strayed;
        let interfaces = &mut self.config.as_mut().unwrap().interfaces;
        let found = interfaces.iter_mut().find(|i| i.name == name);
        assert!(found.is_some() || strayed, "{name} is not there");
        found
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
        }
    }
}
