//! Table of flows, with which rules match by state.
//!
//! Hosts on the network cause the entries, so the table is bounded, and each packet costs bounded work. Memory is allocated once.
//! A flow is half-open until packets were seen in both directions and then a third one from its originator. For TCP, the third
//! packet must acknowledge the answer's sequence number, which a host with a forged address does not know. A half-open flow is
//! never protected: when room is needed, the oldest half-open flow goes. Established flows have parts of the table of their own:
//!
//! | part | entries at most | lives | evicted |
//! | --- | --- | --- | --- |
//! | half-open | 1/2, and 1/4 is free for them alone | 30 s from the first packet on | oldest first, for a new flow |
//! | TCP, established and closing | 1/2 | 7440 s idle; closing 30 s idle | closing ones, then the longest idle one above 300 s |
//! | UDP and others, established | 1/4 | 60 s idle, ICMP 20 s | never |
//!
//! A flow of TCP is closing after a RST, or after a FIN in both directions. Only a flow that gets established evicts one of
//! that part.
//! If the part of TCP is full and no entry may be evicted, new TCP flows are refused. If the part of the others is full, a flow
//! stays half-open, which its packets do not notice: it is known for 30 s, and its originator's next packet begins it anew.
//!
//! The table trusts its caller with the time and nothing else. Time is in nanoseconds and does not go back.

mod table;

use crate::names::{ICMP, ICMP6, TCP};
use crate::packet::{ACK, FIN, Flow, Icmp, Packet, Purpose, RST, SYN, Tcp, Transport};
use brane_abi::filter::FlowState;
use table::{Entry, Table};

const SECOND: u64 = 1_000_000_000;

/// Flows of one brane.
pub const CAPACITY: usize = 1024;
/// Smallest capacity: each part has an entry.
pub const LEAST: usize = 4;
/// Life of a half-open flow in nanoseconds: as long as pf waits for the first packets (`tcp.opening`).
pub const HALF_OPEN: u64 = 30 * SECOND;
/// Idle time after which an established TCP flow is forgotten: two hours and four minutes (RFC 5382, REQ-5), so that keepalives
/// every two hours (RFC 1122, 4.2.3.6) suffice.
pub const ESTABLISHED_TCP: u64 = 7440 * SECOND;
/// Idle time after which a closing TCP flow is forgotten.
pub const CLOSING_TCP: u64 = 30 * SECOND;
/// Idle time after which an established flow of UDP or another protocol is forgotten.
pub const ESTABLISHED_OTHER: u64 = 60 * SECOND;
/// Idle time after which an established flow of ICMP is forgotten.
pub const ESTABLISHED_ICMP: u64 = 20 * SECOND;
/// Idle time from which on an established TCP flow gives way to another one.
pub const GIVES_WAY: u64 = 300 * SECOND;

/// Class of an entry. Entries of one class have one time limit, so the list of a class is ordered by the end of their lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    HalfOpen,
    Tcp,
    Closing,
    Icmp,
    Other,
}

impl Class {
    const ALL: [Class; 5] = [
        Class::HalfOpen,
        Class::Tcp,
        Class::Closing,
        Class::Icmp,
        Class::Other,
    ];

    const fn limit(self) -> u64 {
        match self {
            Class::HalfOpen => HALF_OPEN,
            Class::Tcp => ESTABLISHED_TCP,
            Class::Closing => CLOSING_TCP,
            Class::Icmp => ESTABLISHED_ICMP,
            Class::Other => ESTABLISHED_OTHER,
        }
    }
}

/// Phase of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No three packets yet.
    HalfOpen,
    /// Established.
    Established,
    /// A TCP flow after a RST, or after a FIN in both directions.
    Closing,
}

/// A flow of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The flow, in the direction of its first packet.
    pub flow: Flow,
    /// Its phase.
    pub phase: Phase,
    /// Nanoseconds for which it is known if no further packet comes.
    pub left: u64,
}

/// Counters of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// New flows that were refused, because the table was full of established ones.
    pub refused: u64,
    /// Half-open flows that were evicted.
    pub evicted: u64,
    /// Established flows that were evicted.
    pub evicted_established: u64,
}

/// Error: the table has no room for a new flow. Its packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Result of [`States::classify`].
#[derive(Clone, Copy, Debug)]
pub struct Classified {
    /// State of the packet's flow.
    pub state: FlowState,
    found: Found,
    now: u64,
    /// Version of the table that `found` is about.
    version: u64,
}

/// Place of the packet's flow in the table.
#[derive(Clone, Copy, Debug)]
enum Found {
    /// The packet makes no entry.
    Nothing,
    /// The packet begins this flow.
    New(Flow),
    /// The packet begins this flow, whose entry is over.
    Over(Flow, u32),
    /// The packet comes from the originator of this entry.
    Forth(u32),
    /// The packet goes to the originator of this entry.
    Back(u32),
}

/// The table.
pub struct States {
    table: Table,
    counters: Counters,
}

impl States {
    /// Allocates a table for `capacity` flows, but [`LEAST`] at least. The seed has to be secret, so that hosts cannot choose
    /// flows of one bucket. Returns `None` if memory is short.
    pub fn new(seed: u64, capacity: usize) -> Option<States> {
        Some(States {
            table: Table::new(seed, capacity.max(LEAST))?,
            counters: Counters::default(),
        })
    }

    /// Returns the bytes of heap that a table takes.
    pub const fn bytes(capacity: usize) -> usize {
        Table::bytes(if capacity < LEAST { LEAST } else { capacity })
    }

    /// Returns the number of entries. Some of them may be over.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns true if the table has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns the flows that still live. Each class is ordered by the last packets.
    pub fn iter(&self, now: u64) -> impl Iterator<Item = Listed> {
        let listed = move |entry: &Entry| Listed {
            flow: entry.flow,
            phase: match entry.class {
                Class::HalfOpen => Phase::HalfOpen,
                Class::Closing => Phase::Closing,
                Class::Tcp | Class::Icmp | Class::Other => Phase::Established,
            },
            left: left(entry, now),
        };
        let entries = Class::ALL.into_iter().flat_map(|class| self.table.iter(class));
        entries.map(listed).filter(|listed| listed.left > 0)
    }

    /// Forgets all flows. The counters stay.
    pub fn clear(&mut self) {
        self.table.clear();
    }

    /// Returns the state of a packet's flow.
    pub fn classify(&self, now: u64, packet: &Packet) -> Classified {
        let (state, found) = self.lookup(now, packet);
        Classified {
            state,
            found,
            now,
            version: self.table.version(),
        }
    }

    fn lookup(&self, now: u64, packet: &Packet) -> (FlowState, Found) {
        let Some(flow) = packet.flow() else {
            let quoted = match packet.transport {
                Transport::Icmp(Icmp {
                    purpose: Purpose::Error(quoted),
                    ..
                }) => quoted.and_then(|flow| self.table.find(&flow)),
                _ => return (FlowState::New, Found::Nothing),
            };
            let state = match quoted {
                Some((_, entry)) if left(entry, now) > 0 => FlowState::Related,
                _ => FlowState::Invalid,
            };
            return (state, Found::Nothing);
        };
        let begins = begins(&packet.transport);
        let fresh = match self.table.find(&flow) {
            None => Found::New(flow),
            // A SYN after the end of a connection begins another one.
            Some((slot, entry)) if left(entry, now) == 0 || (begins && entry.class == Class::Closing) => {
                Found::Over(flow, slot)
            }
            Some((slot, entry)) if entry.flow == flow => {
                let state = match entry.answered || entry.class != Class::HalfOpen {
                    true => FlowState::Established,
                    false => FlowState::New,
                };
                return (state, Found::Forth(slot));
            }
            Some((slot, _)) => return (FlowState::Established, Found::Back(slot)),
        };
        match begins {
            true => (FlowState::New, fresh),
            false => (FlowState::Invalid, Found::Nothing),
        }
    }

    /// Takes note of a packet that passes, at the time of its classification. Makes the entry of a new flow. Fails if the table
    /// has no room for it.
    pub fn note(&mut self, packet: &Packet, classified: Classified) -> Result<(), Full> {
        let now = classified.now;
        let found = match classified.version == self.table.version() {
            true => classified.found,
            false => self.lookup(now, packet).1,
        };
        let tcp = match packet.transport {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        };
        match found {
            Found::Nothing => {}
            Found::New(flow) => return self.begin(now, flow),
            Found::Over(flow, slot) => {
                self.table.remove(slot);
                return self.begin(now, flow);
            }
            Found::Forth(slot) => self.forth(now, slot, tcp),
            Found::Back(slot) => self.back(now, slot, tcp),
        }
        Ok(())
    }

    /// Notes a packet of the originator.
    fn forth(&mut self, now: u64, slot: u32, tcp: Option<Tcp>) {
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        entry.fins |= u8::from(tcp.is_some_and(|tcp| tcp.flags & FIN != 0));
        if entry.class != Class::HalfOpen {
            return self.touch(now, slot, tcp);
        }
        let proven = tcp.is_none_or(|tcp| {
            tcp.flags & (ACK | SYN | RST) == ACK && tcp.acknowledgement == entry.answer.wrapping_add(1)
        });
        if !entry.answered || !proven {
            return;
        }
        let class = established(entry.flow.protocol);
        self.expire(now);
        if self.make_room(now, class) {
            self.table.touch(now, slot, class);
            self.touch(now, slot, tcp);
        }
    }

    /// Notes a packet to the originator.
    fn back(&mut self, now: u64, slot: u32, tcp: Option<Tcp>) {
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        entry.fins |= u8::from(tcp.is_some_and(|tcp| tcp.flags & FIN != 0)) << 1;
        if entry.class != Class::HalfOpen {
            return self.touch(now, slot, tcp);
        }
        match tcp {
            None => entry.answered = true,
            Some(tcp) if tcp.flags & (SYN | RST) == SYN => {
                entry.answered = true;
                entry.answer = tcp.sequence;
            }
            Some(_) => {}
        }
    }

    /// Notes a packet of an established flow.
    fn touch(&mut self, now: u64, slot: u32, tcp: Option<Tcp>) {
        let Some(entry) = self.table.get(slot) else {
            return;
        };
        let reset = tcp.is_some_and(|tcp| tcp.flags & RST != 0);
        let class = match reset || entry.fins == 3 {
            true => Class::Closing,
            false => entry.class,
        };
        self.table.touch(now, slot, class);
    }

    /// Makes the entry of a new flow.
    fn begin(&mut self, now: u64, flow: Flow) -> Result<(), Full> {
        self.expire(now);
        if flow.protocol == TCP && !self.has_room(Class::Tcp) && self.gives_way(now).is_none() {
            self.counters.refused += 1;
            return Err(Full);
        }
        // The other parts leave a quarter of the table at least, so a full table has half-open flows.
        let half = self.table.capacity() / 2;
        if (self.table.length(Class::HalfOpen) >= half || self.len() >= self.table.capacity())
            && let Some((slot, _)) = self.table.oldest(Class::HalfOpen)
        {
            self.counters.evicted += 1;
            self.table.remove(slot);
        }
        match self.table.insert(now, flow, Class::HalfOpen) {
            true => Ok(()),
            false => Err(Full),
        }
    }

    /// Removes the oldest entry of each class if its life is over. Each new flow calls this, so such entries do not collect.
    fn expire(&mut self, now: u64) {
        for class in Class::ALL {
            if let Some((slot, entry)) = self.table.oldest(class)
                && left(entry, now) == 0
            {
                self.table.remove(slot);
            }
        }
    }

    /// Returns true if one more established flow of `class` has room. Evicts another one for it if that gives way.
    fn make_room(&mut self, now: u64, class: Class) -> bool {
        if self.has_room(class) {
            return true;
        }
        match self.gives_way(now).filter(|_| class == Class::Tcp) {
            Some(slot) => {
                self.counters.evicted_established += 1;
                self.table.remove(slot);
                true
            }
            None => false,
        }
    }

    fn has_room(&self, class: Class) -> bool {
        let length = |class| self.table.length(class);
        match class {
            Class::Tcp => length(Class::Tcp) + length(Class::Closing) < self.table.capacity() / 2,
            _ => length(Class::Icmp) + length(Class::Other) < self.table.capacity() / 4,
        }
    }

    /// Returns the established TCP flow that gives way to another one.
    fn gives_way(&self, now: u64) -> Option<u32> {
        if let Some((closing, _)) = self.table.oldest(Class::Closing) {
            return Some(closing);
        }
        let (slot, entry) = self.table.oldest(Class::Tcp)?;
        (now.saturating_sub(entry.touched) > GIVES_WAY).then_some(slot)
    }
}

/// Returns the nanoseconds for which an entry lives if no further packet comes. 0: its life is over.
fn left(entry: &Entry, now: u64) -> u64 {
    entry
        .class
        .limit()
        .saturating_sub(now.saturating_sub(entry.touched))
}

/// Returns true if the packet may begin a flow.
fn begins(transport: &Transport) -> bool {
    match transport {
        Transport::Tcp(tcp) => tcp.flags & (SYN | ACK | RST | FIN) == SYN,
        Transport::Udp(..) | Transport::Other => true,
        Transport::Icmp(icmp) => matches!(icmp.purpose, Purpose::Request(_)),
    }
}

/// Returns the class of an established flow.
fn established(protocol: u8) -> Class {
    match protocol {
        TCP => Class::Tcp,
        ICMP | ICMP6 => Class::Icmp,
        _ => Class::Other,
    }
}
