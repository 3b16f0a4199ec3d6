//! The groups of a brane in one family: the part that IGMP (RFC 3376) and MLD (RFC 3810) have in common.
//!
//! Owns the table of groups of each interface with their numbers of users, and the timers of reports. Queries and reports come from any
//! host on the link; the protocols have checked them. Clients cause entries, so the table has its full size from the start. Sources of
//! a group are not selected: the brane is always in the mode "exclude nothing".

mod wire;

pub use wire::{Kind, Mode, Query, Wire};

use crate::family::{Account, Charge, Shortage};
use crate::net::Net;
use alloc::vec::Vec;
use brane_abi::socket::error;
use core::marker::PhantomData;
use smoltcp::wire::IpAddress;

/// Groups that clients can have joined in a family, over all interfaces. A group counts once for each interface.
pub const GROUPS: usize = 48;
/// Groups that the brane joins for its own addresses.
const OWN: usize = 64;
/// Interfaces that groups can be joined at.
const LINKS: usize = 16;

/// Times that a change is reported, if no querier wants another number (RFC 3376, 8.1; RFC 3810, 9.1).
const ROBUSTNESS: u8 = 2;
/// Distance of queries, if no querier says another, in nanoseconds (RFC 3376, 8.2; RFC 3810, 9.2).
const QUERY_INTERVAL: u64 = 125_000_000_000;
/// Longest delay before a change is reported again, in nanoseconds (RFC 3376, 8.11; RFC 3810, 9.11).
const REPORT_INTERVAL: u64 = 1_000_000_000;
/// The same for hosts of an older version (RFC 2236, 8.10; RFC 2710, 7.10).
const OLD_REPORT_INTERVAL: u64 = 10_000_000_000;
/// The time of a timer that does not run.
const NEVER: u64 = u64::MAX;

/// A group at an interface.
#[derive(Clone, Copy, Debug)]
struct Record {
    netif: usize,
    group: IpAddress,
    /// Sockets that have joined.
    users: u16,
    /// The brane has joined for one of its addresses.
    own: bool,
    /// Reports of the last change that are still to be sent, and when the next one is due.
    changes: u8,
    change_at: u64,
    /// When a query about the group is answered.
    answer_at: u64,
    /// The brane was the last host that reported the group in an older version.
    reporter: bool,
}

impl Record {
    fn is_joined(&self) -> bool {
        self.users != 0 || self.own
    }
}

/// What is known of an interface.
#[derive(Clone, Copy, Debug)]
struct LinkState {
    netif: usize,
    /// Source of messages while the interface is up.
    source: Option<IpAddress>,
    /// When the last querier of each older version is forgotten: [`Mode::Oldest`], [`Mode::Older`].
    older_until: [u64; 2],
    mode: Mode,
    robustness: u8,
    interval: u64,
    /// When a query about all groups is answered.
    answer_at: u64,
}

/// The groups of a family.
pub struct Groups<W> {
    records: Vec<Record>,
    links: Vec<LinkState>,
    /// Records of one report.
    report: Vec<(Kind, IpAddress)>,
    charge: Option<Charge>,
    /// Addresses or links may have changed.
    stale: bool,
    wire: PhantomData<W>,
}

impl<W> Default for Groups<W> {
    fn default() -> Groups<W> {
        Groups {
            records: Vec::new(),
            links: Vec::new(),
            report: Vec::new(),
            charge: None,
            stale: false,
            wire: PhantomData,
        }
    }
}

fn random(net: &mut Net, most: u64) -> u64 {
    net.random() % most.saturating_add(1).max(1)
}

impl<W: Wire> Groups<W> {
    /// Buys the tables.
    pub fn create(&mut self, account: &mut Account) -> Result<(), Shortage> {
        let mut purchase = account.purchase();
        let records = purchase.vec(GROUPS + OWN)?;
        let links = purchase.vec(LINKS)?;
        let report = purchase.vec(GROUPS + OWN)?;
        self.charge = Some(purchase.commit());
        (self.records, self.links, self.report) = (records, links, report);
        Ok(())
    }

    /// Frees the tables.
    pub fn destroy(&mut self, account: &mut Account) {
        let charge = self.charge.take();
        *self = Groups::default();
        charge.into_iter().for_each(|charge| account.refund(charge));
    }

    /// Addresses or links may have changed: they are compared at the next [`Self::poll`].
    pub fn invalidate(&mut self) {
        self.stale = self.charge.is_some();
    }

    /// Returns true if the brane has joined a group at an interface.
    pub fn has(&self, netif: usize, group: IpAddress) -> bool {
        self.find(netif, group)
            .is_some_and(|at| self.records[at].is_joined())
    }

    /// Returns interface, group and number of users of each joined group.
    pub fn iter(&self) -> impl Iterator<Item = (usize, IpAddress, u16)> {
        let joined = self.records.iter().filter(|record| record.is_joined());
        joined.map(|record| (record.netif, record.group, record.users))
    }

    fn find(&self, netif: usize, group: IpAddress) -> Option<usize> {
        let here = |record: &Record| record.netif == netif && record.group == group;
        self.records.iter().position(here)
    }

    fn add(&mut self, netif: usize, group: IpAddress) -> Option<usize> {
        if let Some(at) = self.find(netif, group) {
            return Some(at);
        }
        if self.records.len() == self.records.capacity() {
            return None;
        }
        self.records.push(Record {
            netif,
            group,
            users: 0,
            own: false,
            changes: 0,
            change_at: NEVER,
            answer_at: NEVER,
            reporter: false,
        });
        Some(self.records.len() - 1)
    }

    /// Adds a user of a group. Error: one of [`error`].
    pub fn join(&mut self, now: u64, netif: usize, group: IpAddress) -> Result<(), u32> {
        self.follow_mode_of(now, netif);
        let used = |record: &&Record| record.users != 0;
        let fresh = self
            .find(netif, group)
            .is_none_or(|at| self.records[at].users == 0);
        if fresh && self.records.iter().filter(used).count() >= GROUPS {
            return Err(error::NO_RESOURCES);
        }
        let at = self.add(netif, group).ok_or(error::NO_RESOURCES)?;
        let was = self.records[at].is_joined();
        self.records[at].users += 1;
        if !was {
            self.changed(at, now);
        }
        Ok(())
    }

    /// Removes a user of a group.
    pub fn leave(&mut self, now: u64, netif: usize, group: IpAddress) {
        self.follow_mode_of(now, netif);
        let Some(at) = self.find(netif, group).filter(|at| self.records[*at].users != 0) else {
            return;
        };
        self.records[at].users -= 1;
        if !self.records[at].is_joined() {
            self.changed(at, now);
        }
    }

    /// An interface is removed: its number may be used again. Nothing is sent, because its port is unbound.
    pub fn remove_netif(&mut self, netif: usize) {
        self.records.retain(|record| record.netif != netif);
        self.links.retain(|link| link.netif != netif);
    }

    /// The state of a group has changed: the change is reported for the first time at `when`.
    fn changed(&mut self, at: usize, when: u64) {
        let record = self.records[at];
        let link = self.links.iter().find(|link| link.netif == record.netif);
        let robustness = link.map_or(ROBUSTNESS, |link| link.robustness);
        let reports = W::is_reported(record.group) && record.netif != 0;
        let record = &mut self.records[at];
        // An answer that waits would contradict the change.
        record.answer_at = NEVER;
        if reports {
            record.changes = robustness;
            record.change_at = when;
        } else if !record.is_joined() {
            self.records.swap_remove(at);
        }
    }

    fn link(&mut self, netif: usize) -> Option<usize> {
        if let Some(at) = self.links.iter().position(|link| link.netif == netif) {
            return Some(at);
        }
        if self.links.len() == self.links.capacity() {
            return None;
        }
        self.links.push(LinkState {
            netif,
            source: None,
            older_until: [0; 2],
            mode: Mode::Current,
            robustness: ROBUSTNESS,
            interval: QUERY_INTERVAL,
            answer_at: NEVER,
        });
        Some(self.links.len() - 1)
    }

    /// Takes over the present addresses and links: joins the groups of the brane's own addresses, and reports all groups of an
    /// interface whose link has come up or whose source has changed.
    fn refresh(&mut self, now: u64, net: &mut Net) {
        let mut at = 0;
        while let Some(record) = self.records.get_mut(at) {
            let netif = net.netifs.get(record.netif);
            let mut wanted = false;
            if let Some(netif) = netif {
                W::own(netif, |group| wanted |= group == record.group);
            }
            let left = record.own && !wanted;
            record.own &= wanted;
            if left && record.users == 0 {
                self.changed(at, now);
            }
            at += 1;
        }
        let netifs: Vec<usize> = net.netifs.iter().skip(1).map(|(index, _)| index).collect();
        for index in netifs {
            let Some(link) = self.link(index) else { continue };
            let netif = &net.netifs[index];
            let source = W::source(netif).filter(|_| netif.up);
            let news = self.links[link].source != source;
            self.links[link].source = source;
            W::own(netif, |group| {
                // A table without room leaves a group unreported, and nothing else.
                if let Some(at) = self.add(index, group) {
                    let was = self.records[at].is_joined();
                    self.records[at].own = true;
                    if !was {
                        self.changed(at, now);
                    }
                }
            });
            if !news {
                continue;
            }
            if source.is_none() {
                self.links[link].answer_at = NEVER;
                self.records
                    .retain(|record| record.netif != index || record.is_joined());
            }
            for at in 0..self.records.len() {
                if self.records[at].netif == index {
                    // Not all hosts of a link that has come up at once (RFC 4862, 5.4.2).
                    let when = now.saturating_add(random(net, REPORT_INTERVAL));
                    self.changed(at, when);
                }
            }
        }
    }

    /// Handles a checked query.
    pub fn query(&mut self, now: u64, net: &mut Net, netif: usize, query: Query) {
        let Some(at) = self.link(netif) else { return };
        let link = &mut self.links[at];
        if query.mode == Mode::Current {
            // RFC 3376, 4.1.6 and 4.1.7; RFC 3810, 5.1.8 and 5.1.9.
            link.robustness = if query.robustness == 0 {
                ROBUSTNESS
            } else {
                query.robustness.min(7)
            };
            link.interval = if query.interval == 0 {
                QUERY_INTERVAL
            } else {
                query.interval
            };
        } else {
            // RFC 3376, 8.12; RFC 3810, 9.12.
            let present = u64::from(link.robustness) * link.interval + query.delay;
            link.older_until[query.mode as usize] = now.saturating_add(present);
        }
        self.follow_mode(now, at);
        let link = self.links[at];
        let delay = random(net, query.delay);
        let when = now.saturating_add(delay);
        if link.mode == Mode::Current {
            // RFC 3376, 5.2; RFC 3810, 6.2: an answer about all groups that comes sooner is enough.
            if link.answer_at <= when {
                return;
            }
            match query.group {
                None => self.links[at].answer_at = when,
                Some(group) => {
                    if let Some(record) = self.joined_mut(netif, group) {
                        record.answer_at = record.answer_at.min(when);
                    }
                }
            }
            return;
        }
        // RFC 2236, 3; RFC 2710, 4: a delay of its own for each group.
        for at in 0..self.records.len() {
            let record = self.records[at];
            let asked = record.netif == netif
                && record.is_joined()
                && W::is_reported(record.group)
                && query.group.is_none_or(|group| group == record.group);
            if asked && record.answer_at > now.saturating_add(query.delay) {
                self.records[at].answer_at = now.saturating_add(random(net, query.delay));
            }
        }
    }

    fn joined_mut(&mut self, netif: usize, group: IpAddress) -> Option<&mut Record> {
        let at = self.find(netif, group)?;
        let record = &mut self.records[at];
        (record.is_joined() && W::is_reported(group)).then_some(record)
    }

    /// Handles another host's report of an older version: one host's answer is enough for all (RFC 2236, 3; RFC 2710, 4).
    pub fn heard(&mut self, now: u64, netif: usize, group: IpAddress) {
        let Some(at) = self.links.iter().position(|link| link.netif == netif) else {
            return;
        };
        self.follow_mode(now, at);
        if self.links[at].mode == Mode::Current {
            return;
        }
        if let Some(record) = self.joined_mut(netif, group) {
            (record.answer_at, record.change_at) = (NEVER, NEVER);
            (record.changes, record.reporter) = (0, false);
        }
    }

    fn follow_mode_of(&mut self, now: u64, netif: usize) {
        if let Some(at) = self.links.iter().position(|link| link.netif == netif) {
            self.follow_mode(now, at);
        }
    }

    /// Takes over the version of the oldest querier that is present. A change of version cancels all timers of the interface
    /// (RFC 3376, 7.2.1; RFC 3810, 8.2.1).
    fn follow_mode(&mut self, now: u64, at: usize) {
        let link = &mut self.links[at];
        let [oldest, older] = link.older_until;
        let mode = if oldest > now {
            Mode::Oldest
        } else if older > now {
            Mode::Older
        } else {
            Mode::Current
        };
        if mode == link.mode {
            return;
        }
        link.mode = mode;
        link.answer_at = NEVER;
        let netif = link.netif;
        self.records
            .retain(|record| record.netif != netif || record.is_joined());
        for record in self.records.iter_mut().filter(|record| record.netif == netif) {
            (record.answer_at, record.change_at, record.changes) = (NEVER, NEVER, 0);
        }
    }

    /// Returns the time at which [`Self::poll`] must be called.
    pub fn deadline(&self) -> u64 {
        if self.stale {
            return 0;
        }
        let links = self.links.iter().map(|link| link.answer_at);
        let records = self
            .records
            .iter()
            .map(|record| record.change_at.min(record.answer_at));
        links.chain(records).fold(NEVER, u64::min)
    }

    /// Sends the reports that are due.
    pub fn poll(&mut self, now: u64, net: &mut Net) {
        if core::mem::take(&mut self.stale) {
            self.refresh(now, net);
        }
        if self.deadline() > now {
            return;
        }
        for at in 0..self.links.len() {
            self.follow_mode(now, at);
            let link = self.links[at];
            match (link.source, net.netifs.contains(link.netif)) {
                (Some(source), true) => self.send(now, net, at, source),
                _ => self.postpone(now, link.netif),
            }
        }
        // Interfaces that have no room in the table of links.
        for record in &mut self.records {
            if record.change_at <= now || record.answer_at <= now {
                (record.change_at, record.answer_at) = (NEVER, NEVER);
            }
        }
    }

    /// Drops what is due at an interface that cannot send. It reports all when it can.
    fn postpone(&mut self, now: u64, netif: usize) {
        self.records
            .retain(|record| record.netif != netif || record.is_joined());
        for record in self.records.iter_mut().filter(|record| record.netif == netif) {
            if record.change_at <= now || record.answer_at <= now {
                (record.change_at, record.answer_at) = (NEVER, NEVER);
            }
        }
    }

    fn send(&mut self, now: u64, net: &mut Net, at: usize, source: IpAddress) {
        let LinkState {
            netif: index,
            mode,
            answer_at,
            ..
        } = self.links[at];
        let all = answer_at <= now;
        if all {
            self.links[at].answer_at = NEVER;
        }
        let again = match mode {
            Mode::Current => REPORT_INTERVAL,
            Mode::Older | Mode::Oldest => OLD_REPORT_INTERVAL,
        };
        // Answers first: a change that is due at the same time comes after them.
        for changes in [false, true] {
            self.report.clear();
            for at in 0..self.records.len() {
                let record = self.records[at];
                let joined = record.is_joined();
                let due = match changes {
                    false => joined && (record.answer_at <= now || all && W::is_reported(record.group)),
                    true => record.change_at <= now,
                };
                if record.netif != index || !due {
                    continue;
                }
                let kind = match (changes, joined) {
                    (false, _) => Kind::IsExclude,
                    (true, true) => Kind::ToExclude,
                    (true, false) => Kind::ToInclude,
                };
                let (record, netif) = (&mut self.records[at], &mut net.netifs[index]);
                match mode {
                    Mode::Current => self.report.push((kind, record.group)),
                    _ if joined => {
                        W::old_report(netif, source, mode, record.group);
                        record.reporter = true;
                    }
                    _ => {
                        if mode == Mode::Older && record.reporter {
                            W::old_leave(netif, source, record.group);
                        }
                        // It is sent once.
                        record.changes = 1;
                    }
                }
                if !changes {
                    record.answer_at = NEVER;
                    continue;
                }
                record.changes = record.changes.saturating_sub(1);
                record.change_at = match record.changes {
                    0 => NEVER,
                    _ => now.saturating_add(1 + random(net, again)),
                };
            }
            if !self.report.is_empty() {
                W::report(&mut net.netifs[index], source, &self.report);
            }
        }
        let over = |record: &Record| record.netif == index && !record.is_joined() && record.changes == 0;
        self.records.retain(|record| !over(record));
    }
}
