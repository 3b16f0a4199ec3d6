//! The brane from created to started, and back again by a shutdown.
//!
//! Created is not started: all is there, but ports are not joined to interfaces, the protocol switch takes no packet, and
//! clients are told to wait. A shutdown ends what there is as its protocols have it, for as long as the manager (trusted) says;
//! the manager is told how much was left.

use super::Brane;
use crate::family::Life;
use crate::transport::tcp::Owner;
use crate::transport::tcp::connection::{Connection, State};
use alloc::vec::Vec;
use brane_abi::capture::Link;

/// A shutdown under way.
pub(super) struct Drain {
    /// What its answer repeats.
    token: u32,
    /// When it is over, in nanoseconds.
    pub until: u64,
}

impl Brane {
    /// Serves from now on; once created that cannot fail. Error: why it is no time for it.
    pub fn begin(&mut self, now: u64) -> Result<(), &'static str> {
        self.life = match core::mem::take(&mut self.life) {
            Life::Created(created) => Life::Started(created.start(&mut self.stack)),
            Life::Started(started) => Life::Started(started),
            other => {
                let why = match &other {
                    Life::Unborn => super::commands::UNCONFIGURED,
                    _ => "the brane is being shut down",
                };
                self.life = other;
                return Err(why);
            }
        };
        self.identity.ready = 1;
        self.stack.captures.up(0, "lo0", "lo0", 0, Link::Raw);
        self.stack.attach_outlets(now);
        self.join_ports(now);
        self.addresses_changed();
        Ok(())
    }

    /// Joins all ports to their interfaces, or takes them from these while the brane is not started.
    pub(super) fn join_ports(&mut self, now: u64) {
        for nic in 0..self.ports.len() {
            for p in 0..self.ports_per_nic {
                self.bind(now, nic, p);
            }
        }
    }

    /// Takes nothing new, ends what there is within `ms` milliseconds, and answers the manager's `token` then.
    pub fn shut_down(&mut self, now: u64, token: u32, ms: u32) {
        match core::mem::take(&mut self.life) {
            Life::Started(started) => {
                self.life = Life::Draining(started.shutdown(&mut self.stack));
                self.identity.ready = 0;
                for client in &mut self.clients {
                    client.drain(now, &mut self.stack);
                    client.identify(&self.identity);
                }
                let until = now.saturating_add(u64::from(ms) * 1_000_000);
                self.drain = Some(Drain { token, until });
            }
            Life::Draining(draining) => {
                self.life = Life::Draining(draining);
                let why = "a shutdown is under way already";
                self.control.done(token, Err(why.into()));
            }
            // Nothing is served: nothing is left.
            other => {
                self.life = other;
                self.control.drained(token, 0);
            }
        }
    }

    /// Looks whether a shutdown has come to its end. `true` when it has just now: ports are to be taken from their interfaces
    /// when all that was sent is on its way.
    pub(super) fn drained(&mut self, now: u64) -> bool {
        let Some(drain) = &self.drain else {
            return false;
        };
        let over = |state| matches!(state, State::Closed | State::TimeWait);
        let conns = self.stack.tcp.conns.iter();
        let left = conns.filter(|(_, conn)| !over(conn.socket.state())).count();
        if left != 0 && now < drain.until {
            return false;
        }
        self.control.drained(drain.token, left as u32);
        self.drain = None;
        let all: Vec<usize> = self.stack.tcp.conns.iter().map(|(id, _)| id).collect();
        for id in all {
            let Some(conn) = self.stack.tcp.conns.get(id) else {
                continue;
            };
            let owner = conn.owner;
            if over(conn.socket.state()) {
                self.stack.tcp.remove(id);
            } else {
                self.stack.tcp.abort(now, &mut self.stack.net, id);
            }
            if let Owner::Slot { client, slot } = owner {
                self.clients[client].serve(now, &mut self.stack, slot);
            }
        }
        self.life = match core::mem::take(&mut self.life) {
            Life::Draining(draining) => Life::Created(draining.drained(&mut self.stack)),
            other => other,
        };
        true
    }
}
