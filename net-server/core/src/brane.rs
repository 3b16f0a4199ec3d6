//! The brane as a whole: its stack, its links to driver, manager and clients, and one turn of its work.
//!
//! Driver and manager are trusted, clients and the network are not. Time and notifications come from outside, so the same
//! code runs in the protection domain and in tests.

mod commands;
mod hooks;
mod lifecycle;
mod receive;

use crate::family::Life;
use crate::link::client::{self, Client};
use crate::link::driver::Ports;
use crate::link::manager::Control;
use crate::netif::NetIf;
use crate::query::Requester;
use crate::stack::Stack;
use crate::transport::tcp::Owner;
use crate::transport::tcp::connection::{Connection, State};
use alloc::string::ToString;
use alloc::vec::Vec;
use brane_abi::capture::End;
use brane_abi::control::{BraneConfig, BraneStatus, Counter};
use brane_abi::net::SockAddr;
use brane_abi::port;
use brane_abi::shared::SharedRegion;
use brane_abi::socket::{IDENTITY_ADDRESSES, Identity};

/// Frames taken from one port in one turn.
const FRAME_BUDGET: usize = 64;

/// Packets taken from `lo0`, and rounds of sockets that move them, in one turn.
const LOOP_BUDGET: usize = 64;
/// See [`LOOP_BUDGET`].
const ROUNDS: usize = 4;

/// Whom to notify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A NIC driver, by its number.
    Driver(usize),
    /// The manager.
    Manager,
    /// A client, by its number.
    Client(usize),
    /// The domain remote.
    Remote,
    /// An external filter, by its number.
    Filter(usize),
}

/// How the manager can want the brane to fail, for tests of the recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It faults.
    Fault,
    /// It runs and does nothing for anybody.
    Hang,
}

/// What a turn leaves to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// There is more to do: take another turn before sleeping.
    pub more: bool,
    /// When to take one at the latest, in nanoseconds; `u64::MAX` for never.
    pub deadline: u64,
    /// The manager wants the brane to fail.
    pub fail: Option<Failure>,
}

/// A brane.
pub struct Brane {
    /// Its stack.
    pub stack: Stack,
    /// The ports at each NIC. The brane numbers them through.
    ports: Vec<Ports>,
    /// Ports at each NIC.
    ports_per_nic: usize,
    control: Control,
    clients: Vec<Client>,
    config: Option<BraneConfig>,
    life: Life,
    drain: Option<lifecycle::Drain>,
    identity: Identity,
    /// The manager may have commands that were not taken.
    more_commands: bool,
    /// The stack's deadline at the end of the last turn, in nanoseconds.
    due: u64,
    /// There are captures, so the link with remote matters.
    captures: bool,
    /// The system has external filters.
    has_filters: bool,
}

impl Brane {
    /// Starts the brane's side of all its links, of which `ports` has one for each NIC; everybody is notified in the first turn.
    /// `seed` must be unpredictable.
    /// `None` when a region is too small or not aligned.
    pub fn start(
        seed: [u8; 32],
        now: u64,
        ports: &[SharedRegion],
        control: SharedRegion,
        clients: &[SharedRegion],
    ) -> Option<Brane> {
        let clients = clients.iter().enumerate();
        let ports = ports.iter().map(|region| Ports::start(*region));
        let ports: Vec<Ports> = ports.collect::<Option<_>>()?;
        Some(Brane {
            stack: Stack::new(seed, now),
            ports_per_nic: ports.iter().map(Ports::count).min().unwrap_or_default(),
            ports,
            control: Control::start(control)?,
            clients: clients
                .map(|(i, region)| Client::start(i, *region))
                .collect::<Option<_>>()?,
            config: None,
            life: Life::Unborn,
            drain: None,
            identity: Identity::default(),
            more_commands: false,
            due: 0,
            captures: false,
            has_filters: false,
        })
    }

    /// Starts the brane's side of the region `capture-N`. Without it, captures lose the frames that they would write there. Returns
    /// `None` if the region is too small or not aligned.
    pub fn connect_captures(&mut self, region: SharedRegion) -> Option<()> {
        self.captures = true;
        self.stack.captures.connect(region)
    }

    /// One turn: a bounded share of whatever there is to do.
    pub fn turn(&mut self, now: u64, mut notify: impl FnMut(Peer)) -> Turn {
        // Before any packet passes a head.
        self.stack.set_time(now);
        if self.captures {
            self.stack.captures.poll();
        }
        let mut turn = Turn {
            more: self.receive(now),
            deadline: 0,
            fail: None,
        };
        turn.fail = self.commands(now);
        if self.has_filters {
            turn.more |= self.poll_hooks(now);
        }
        if self.stack.net.is_blocked() {
            self.stack.tcp.unblock(&mut self.stack.net);
        }
        for client in &mut self.clients {
            turn.more |= client.poll(now, &mut self.stack, &self.identity);
        }
        // What has become due since the last turn waits for the next one, so that the deadline is computed once. A shutdown may have
        // no further turn.
        if (self.due <= now || self.drain.is_some()) && self.stack.poll(now) {
            self.addresses_changed();
        }
        let mut rounds = 0;
        while self.has_dirty_or_looped() {
            if rounds == ROUNDS {
                turn.more = true;
                break;
            }
            rounds += 1;
            self.serve(now);
            self.looped(now);
        }
        if self.stack.pfil.is_some() {
            self.stack.end_refused();
            turn.more |= self.has_dirty_or_looped();
        }
        turn.more |= self.more_commands;
        if !self.stack.queries.is_empty() || !self.stack.icmp.is_idle() {
            self.answer(now);
        }
        let ended = self.drain.is_some() && self.drained(now);
        if ended {
            self.stack.captures.all_gone(End::BraneGone);
        }
        let mut deadline = u64::MAX;
        if self.captures {
            // Before the manager is notified of the answers: the last records of a capture come before its end.
            deadline = self.flush_captures(now, &mut notify);
        }
        self.flush(now, &mut notify);
        if ended {
            self.join_ports(now);
            self.stack.attach_outlets(now);
        }
        let drain = self.drain.as_ref().map_or(u64::MAX, |drain| drain.until);
        self.due = self.stack.deadline();
        turn.more |= self.due <= now;
        turn.deadline = self.due.min(drain).min(deadline);
        if self.has_filters {
            turn.deadline = turn.deadline.min(self.hooks_deadline());
        }
        turn
    }

    /// Returns true if connections have news or packets wait in `lo0`.
    #[inline]
    fn has_dirty_or_looped(&self) -> bool {
        !self.stack.tcp.dirty.is_empty() || self.stack.net.netifs[0].tx.has_looped()
    }

    /// Makes captured frames visible to remote. Returns the time at which a turn is due for them.
    #[cold]
    fn flush_captures(&mut self, now: u64, notify: &mut impl FnMut(Peer)) -> u64 {
        let captures = &self.stack.captures;
        if captures.flush() {
            notify(Peer::Remote);
        }
        self.captures = !captures.is_idle();
        captures.deadline(now)
    }

    /// Announces sleep. `false`: there is news, take another turn.
    pub fn arm(&self) -> bool {
        self.ports.iter().all(|ports| ports.endpoint.arm())
            && self.control.endpoint.arm()
            && self.clients.iter().all(Client::arm)
            && (!self.has_filters || self.arm_hooks())
    }

    fn addresses_changed(&mut self) {
        self.stack.invalidate_caches();
        let mut addresses = [SockAddr::default(); IDENTITY_ADDRESSES];
        let mut count = 0;
        let netifs = || self.stack.net.netifs.iter().skip(1).map(|(_, netif)| netif);
        for cidr in netifs().flat_map(NetIf::addresses) {
            if let Some(slot) = addresses.get_mut(count) {
                *slot = SockAddr::new(Some(cidr.address().into()), u16::from(cidr.prefix_len()));
                count += 1;
            }
        }
        let before = self.identity;
        self.identity.address_count = count as u32;
        self.identity.addresses = addresses;
        self.identity.mac = netifs().next().map_or([0; 6], |netif| netif.mac);
        if before != self.identity || self.identity.ready == 1 {
            for client in &mut self.clients {
                client.identify(&self.identity);
            }
        }
    }

    /// Hands answers to who has asked.
    fn answer(&mut self, now: u64) {
        for (requester, answer) in self.stack.answers(now) {
            match requester {
                Requester::Manager(token) => self.control.answer(token, &answer),
                Requester::Client { client, token } => self.clients[client].answer(token, &answer),
            }
        }
    }

    /// What the brane says of itself.
    pub fn status(&mut self) -> BraneStatus {
        self.stack.net.count_frames();
        let mut counters = self.stack.net.counters.report();
        let gauges = [
            ("tcp connections", self.stack.tcp.conns.len() as u64),
            ("tcp half-open", self.stack.tcp.syncache.len() as u64),
            ("tcp buffer bytes", self.stack.tcp.memory() as u64),
            ("capture dropped", self.stack.captures.dropped()),
        ];
        counters.extend(gauges.map(|(name, value)| Counter {
            name: name.to_string(),
            value,
        }));
        BraneStatus {
            interfaces: self
                .stack
                .net
                .netifs
                .iter()
                .map(|(_, netif)| netif.status())
                .collect(),
            counters,
            hooks: self.stack.hook_statuses(),
        }
    }

    /// Looks at the connections that have news.
    fn serve(&mut self, now: u64) {
        for _ in 0..self.stack.tcp.dirty.len() {
            let Some(id) = self.stack.tcp.dirty.pop_front() else {
                return;
            };
            let Some(conn) = self.stack.tcp.conns.get_mut(id) else {
                continue;
            };
            conn.queued = false;
            let state = conn.socket.state();
            if !conn.established && state.is_synchronized() {
                conn.established = true;
                conn.socket.established();
            }
            match conn.owner {
                Owner::Slot { client, slot } => self.clients[client].serve(now, &mut self.stack, slot),
                Owner::Listener(_) if state == State::Closed => {
                    self.stack.tcp.remove(id);
                    continue;
                }
                Owner::Listener(listener) if conn.established => {
                    if let Some(client) = self.stack.tcp.listeners.get(listener).map(|l| l.client) {
                        self.clients[client].transfer(&mut self.stack, listener);
                        self.stack.tcp.crowded(now, &mut self.stack.net, id);
                        client::lose_evicted(now, &mut self.stack, &mut self.clients);
                    }
                }
                _ => {}
            }
            self.stack.tcp.egress(now, &mut self.stack.net, id);
        }
    }

    /// Makes everything visible to everybody.
    fn flush(&mut self, now: u64, notify: &mut impl FnMut(Peer)) {
        let mut bits = 0;
        for (_, netif) in self.stack.net.netifs.iter_mut() {
            if netif.tx.publish()
                && let Some(p) = netif.port()
            {
                bits |= port::port_bit(p);
            }
        }
        for (nic, ports) in self.ports.iter_mut().enumerate() {
            let bits = bits >> (nic * self.ports_per_nic) & ((1 << self.ports_per_nic) - 1);
            if ports.endpoint.flush(bits) {
                notify(Peer::Driver(nic));
            }
        }
        for (index, client) in self.clients.iter_mut().enumerate() {
            if client.flush(now, &mut self.stack) {
                notify(Peer::Client(index));
            }
        }
        if self.has_filters {
            self.flush_hooks(notify);
        }
        if self.control.flush() {
            notify(Peer::Manager);
        }
    }
}
