//! What a brane answers about itself, and does for who asks from inside: the questions of [`brane_abi::inside`].
//!
//! They come from clients (trusted with nothing) and, for an operator, from the manager. Only this brane's own things are
//! known here, so a foreign name is answered like one that does not exist. Questions under way, and what each may take, are
//! bounded.

mod lookup;
mod ping;
mod tables;

use crate::stack::Stack;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::inside::{Answer, Query};
use lookup::Lookup;
use ping::Ping;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The manager, with its token.
    Manager(u32),
    /// A client, with its own.
    Client {
        /// Which.
        client: usize,
        /// Its token.
        token: u32,
    },
}

/// Pings under way at most, and of them those of one asker's kind: a client cannot take all from the manager.
const PINGS: usize = 16;
/// Lookups under way at most.
const LOOKUPS: usize = 4;
/// Longest wait in milliseconds.
const PATIENCE: u32 = 10_000;

/// Questions under way.
#[derive(Default)]
pub struct Inside {
    pings: Vec<Ping>,
    lookups: Vec<Lookup>,
    done: Vec<(Asker, Answer)>,
}

impl Inside {
    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.pings.is_empty() && self.lookups.is_empty() && self.done.is_empty()
    }

    /// Whether answers of name servers are waited for.
    pub fn looks_up(&self) -> bool {
        !self.lookups.is_empty()
    }

    /// When the first of them has waited long enough, in nanoseconds.
    pub fn deadline(&self) -> u64 {
        let pings = self.pings.iter().map(|ping| ping.until);
        let lookups = self.lookups.iter().map(|lookup| lookup.until);
        pings.chain(lookups).min().unwrap_or(u64::MAX)
    }

    /// How many questions of clients are under way.
    fn of_clients(&self) -> usize {
        let askers = self.pings.iter().map(|ping| ping.asker);
        let askers = askers.chain(self.lookups.iter().map(|lookup| lookup.asker));
        askers
            .filter(|asker| matches!(asker, Asker::Client { .. }))
            .count()
    }
}

fn refused(why: impl Into<String>) -> Answer {
    Answer::Refused(why.into())
}

fn until(now: u64, timeout_ms: u32) -> u64 {
    now + u64::from(timeout_ms.min(PATIENCE)) * 1_000_000
}

impl Stack {
    /// Answers a question at once, or later by [`Self::answers`].
    pub fn ask(&mut self, now: u64, asker: Asker, query: Query) -> Option<Answer> {
        match query {
            Query::Interfaces(name) => Some(self.interfaces(name.as_deref())),
            Query::Routes => Some(self.routes()),
            Query::Neighbours { family, skip } => Some(self.neighbours(now, family, skip)),
            Query::Sockets { skip } => Some(self.sockets(skip)),
            Query::Protocols => Some(self.protocols()),
            Query::Ping {
                to,
                sequence,
                size,
                timeout_ms,
            } => self
                .ping(now, asker, to.into(), sequence, size, timeout_ms)
                .err()
                .map(refused),
            Query::Host {
                name,
                server,
                timeout_ms,
            } => self
                .look_up(now, asker, &name, server.map(Into::into), timeout_ms)
                .err()
                .map(refused),
        }
    }

    /// Answers that are there now, or that nobody waits for any longer.
    pub fn answers(&mut self, now: u64) -> Vec<(Asker, Answer)> {
        if self.inside.is_empty() {
            return Vec::new();
        }
        self.end_pings(now);
        self.end_lookups(now);
        core::mem::take(&mut self.inside.done)
    }

    /// An interface is gone, and with it what was asked through it.
    pub fn forget_asked(&mut self, index: usize) {
        let Inside { pings, lookups, done } = &mut self.inside;
        let gone = |asker: &Asker| (*asker, refused("the interface is gone"));
        done.extend(pings.extract_if(.., |p| p.netif == index).map(|p| gone(&p.asker)));
        done.extend(
            lookups
                .extract_if(.., |l| l.netif == index)
                .map(|l| gone(&l.asker)),
        );
    }

    /// A client is gone: nobody waits for its answers.
    pub fn forget_asker(&mut self, gone: usize) {
        let of = |asker: &Asker| matches!(asker, Asker::Client { client, .. } if *client == gone);
        self.inside.done.retain(|(asker, _)| !of(asker));
        for ping in self.inside.pings.extract_if(.., |p| of(&p.asker)) {
            self.netifs[ping.netif].remove_control(ping.handle);
        }
        for lookup in self.inside.lookups.extract_if(.., |l| of(&l.asker)) {
            self.netifs[lookup.netif].remove_control(lookup.handle);
        }
    }

    /// Whether one more may be under way, of `there` and at most `limit`.
    fn check_room(&self, asker: Asker, there: usize, limit: usize) -> Result<(), String> {
        let clients = matches!(asker, Asker::Client { .. }) && self.inside.of_clients() >= limit / 2;
        if there >= limit || clients {
            return Err(alloc::format!("too many at once: {there} are under way"));
        }
        Ok(())
    }
}
