//! Answers queries about the brane ([`brane_abi::query`]). The module owns the queries that are under way.
//!
//! Queries come from clients, which are not trusted, and from the manager, which passes those of operators on. Only the brane's own
//! interfaces and sockets are known here, so a foreign name is refused like a name that does not exist. The number of queries under way
//! and the time of each are bounded.

mod lookup;
mod tables;

pub use tables::{Any, Section, SocketRows};

use crate::family::{control_of, family_of};
use crate::stack::Stack;
use crate::transport::icmp::EchoRequest;
use alloc::vec::Vec;
use brane_abi::query::{Answer, Query, Refusal};
use lookup::Lookup;

/// The domain that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// The manager, with its token.
    Manager(u32),
    /// A client, with its own token.
    Client {
        /// Number of the client.
        client: usize,
        /// Its token.
        token: u32,
    },
}

/// Most pings under way. Each family has room for all of them. Clients have at most half of them, so that the manager's are not
/// refused because of clients.
pub(crate) const PINGS: usize = 16;
/// Most lookups under way.
const LOOKUPS: usize = 4;
/// Longest wait in milliseconds.
const PATIENCE: u32 = 10_000;

/// Queries under way.
#[derive(Default)]
pub struct Queries {
    lookups: Vec<Lookup>,
    done: Vec<(Requester, Answer)>,
}

impl Queries {
    /// Returns true if no query is under way.
    pub fn is_empty(&self) -> bool {
        self.lookups.is_empty() && self.done.is_empty()
    }

    /// Returns true if a lookup is under way.
    pub fn looks_up(&self) -> bool {
        !self.lookups.is_empty()
    }

    /// Returns the earliest deadline of a query, in nanoseconds.
    pub fn deadline(&self) -> u64 {
        let lookups = self.lookups.iter().map(|lookup| lookup.until);
        lookups.min().unwrap_or(u64::MAX)
    }
}

/// Returns the time at which a query that may wait `timeout_ms` milliseconds ends.
pub(crate) fn until(now: u64, timeout_ms: u32) -> u64 {
    now + u64::from(timeout_ms.min(PATIENCE)) * 1_000_000
}

impl Stack {
    /// Answers a query at once, or later by [`Self::answers`].
    pub fn query(&mut self, now: u64, requester: Requester, query: Query) -> Option<Answer> {
        match query {
            Query::Interfaces(name) => Some(self.interfaces(name.as_deref())),
            Query::Routes => Some(self.routes()),
            Query::Neighbours { family, skip } => Some(self.neighbours(now, family, skip)),
            Query::Sockets { skip } => Some(self.sockets(skip)),
            Query::Protocols => Some(self.protocols()),
            Query::Filter { skip } => Some(match requester {
                Requester::Manager(_) => self.filter_rules(skip),
                Requester::Client { .. } => Answer::Refused(Refusal::OperatorsOnly),
            }),
            Query::Captured(tag) => Some(match requester {
                Requester::Manager(_) => self.captures.take(now, tag),
                Requester::Client { .. } => Answer::Refused(Refusal::OperatorsOnly),
            }),
            Query::Ping {
                to,
                sequence,
                size,
                timeout_ms,
            } => {
                let request = EchoRequest {
                    to: to.into(),
                    sequence,
                    size,
                    timeout_ms,
                };
                let family = family_of(request.to);
                let asked = self.check_room(requester, self.icmp.requesters().count(), PINGS);
                let asked = asked.and_then(|()| match self.switch.takes(family, control_of(family)) {
                    true => Ok(()),
                    false => Err(Refusal::NoSuchProtocol(control_of(family))),
                });
                asked
                    .and_then(|()| {
                        let Stack { icmp, net, .. } = self;
                        icmp.ping(now, net, requester, request)
                    })
                    .err()
                    .map(Answer::Refused)
            }
            Query::Host {
                name,
                server,
                timeout_ms,
            } => self
                .look_up(now, requester, &name, server.map(Into::into), timeout_ms)
                .err()
                .map(Answer::Refused),
        }
    }

    /// Returns the answers to queries that have ended or whose time is over.
    pub fn answers(&mut self, now: u64) -> Vec<(Requester, Answer)> {
        if self.queries.is_empty() && self.icmp.is_idle() {
            return Vec::new();
        }
        self.icmp.end_pings(now, &mut self.net);
        self.end_lookups(now);
        let mut done = core::mem::take(&mut self.queries.done);
        done.append(&mut self.icmp.done);
        done
    }

    /// Ends the queries over an interface that is removed.
    pub fn end_queries_over(&mut self, index: usize) {
        self.icmp.end_over(index);
        let Queries { lookups, done } = &mut self.queries;
        let gone = lookups.extract_if(.., |lookup| lookup.netif == index);
        done.extend(gone.map(|lookup| (lookup.requester, Answer::Refused(Refusal::InterfaceIsGone))));
    }

    /// Ends the queries of a client that is gone.
    pub fn forget_requester(&mut self, gone: usize) {
        let of =
            |requester: &Requester| matches!(requester, Requester::Client { client, .. } if *client == gone);
        self.queries.done.retain(|(requester, _)| !of(requester));
        self.icmp.forget(&mut self.net, of);
        for lookup in self.queries.lookups.extract_if(.., |l| of(&l.requester)) {
            self.net.netifs[lookup.netif].remove_control(lookup.handle);
        }
    }

    /// Checks that one more query may begin when `there` of at most `limit` are under way.
    fn check_room(&self, requester: Requester, there: usize, limit: usize) -> Result<(), Refusal> {
        let is_client = |requester: &Requester| matches!(requester, Requester::Client { .. });
        let lookups = self.queries.lookups.iter().map(|lookup| lookup.requester);
        let of_clients = || self.icmp.requesters().chain(lookups).filter(is_client).count();
        if there >= limit || is_client(&requester) && of_clients() >= limit / 2 {
            return Err(Refusal::TooManyQueries(there as u32));
        }
        Ok(())
    }
}
