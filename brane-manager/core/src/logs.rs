//! Owns the log levels of all protection domains that have a log.
//!
//! Serial stores the lines and applies the levels. It is trusted with the screen; its lines are text without authority.

use crate::driver::Driver;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::log::Level;
use brane_abi::operator::LogLevel;

/// A protection domain that has a log.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    pub name: String,
    /// Its number at serial.
    pub number: u32,
    pub level: Level,
}

/// The domains that have a log, as the shell lists them.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    domains: Vec<Domain>,
}

impl Logs {
    /// Lists the domains, all at the usual level.
    pub(crate) fn new(driver: &dyn Driver) -> Logs {
        let domains = driver.logs().into_iter().map(|(name, number)| Domain {
            name,
            number,
            level: Level::default(),
        });
        Logs {
            domains: domains.collect(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Domain> + Clone {
        self.domains.iter()
    }

    /// Returns the domain of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Domain> {
        self.domains.iter().find(|domain| domain.name == name)
    }

    /// Sets the level of a domain here and at serial. Returns false if there is no such domain or serial refuses.
    pub(crate) fn set(&mut self, name: &str, level: Level, driver: &mut dyn Driver) -> bool {
        let Some(domain) = self.domains.iter_mut().find(|domain| domain.name == name) else {
            return false;
        };
        let done = driver.set_log_level(domain.number, level);
        if done {
            domain.level = level;
        }
        done
    }

    /// Returns the levels for a boot configuration: those that differ from the usual one.
    pub(crate) fn saved(&self) -> Vec<LogLevel> {
        let changed = self.domains.iter().filter(|d| d.level != Level::default());
        let entry = |d: &Domain| LogLevel {
            pd: d.name.clone(),
            level: d.level,
        };
        changed.map(entry).collect()
    }
}
