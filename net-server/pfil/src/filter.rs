//! The filter of one brane: its rules in force, and its table of flows.
//!
//! The first rule that matches a packet decides. A packet that matches no rule passes. The table of flows is used only if a rule
//! has a `state` clause. Then each packet that passes is noted, and a packet of a new flow for which the table has no room is dropped.
//! A packet with a wrong length is dropped if the filter has rules.

use crate::chain::Verdict;
use crate::packet::Packet;
use crate::state::{Counters, Listed, States};
use crate::{Problem, compile};
use alloc::vec::Vec;
use brane_abi::filter::{Action, Direction, MAX_FILTER, MAX_RULES, Rate, Rule, RuleStatus};
use branes_bpf::Program;

/// Credit for a packet, in the unit of [`Bucket`]: packets per second times nanoseconds.
const PACKET: u64 = 1_000_000_000;

/// Bytes of heap that a filter takes at most: the table of flows, and twice all rules, because a replacement is complete before the
/// old rules go. A rule has a record, and each byte of its CBOR text becomes 16 bytes at most.
pub const BYTES: usize =
    States::bytes(crate::state::CAPACITY) + 2 * (MAX_RULES * RECORD + MAX_FILTER * EXPANSION);

/// Bytes of a rule without clauses, as data and as a program of a few instructions.
const RECORD: usize = 512;

/// Bytes of data and of compiled instructions for each byte of a rule's CBOR text. A range of ports expands most: it has five bytes,
/// and takes up to five instructions.
const EXPANSION: usize = 16;

/// The filter of one brane.
pub struct Filter {
    rules: Vec<Active>,
    states: States,
    /// A rule has a `state` clause.
    tracks: bool,
    malformed: u64,
}

/// A rule in force.
struct Active {
    status: RuleStatus,
    /// What the rule demands of the IP packet.
    program: Program,
    /// The rule's own program.
    own: Option<Program>,
    bucket: Option<Bucket>,
}

/// Token bucket of a rule's rate.
#[derive(Clone, Copy)]
struct Bucket {
    rate: Rate,
    credit: u64,
    filled: u64,
}

impl Filter {
    /// Creates a filter without rules, with a table for `capacity` flows ([`crate::state::CAPACITY`]). The seed has to be secret.
    /// Returns `None` if memory is short.
    pub fn new(seed: u64, capacity: usize) -> Option<Filter> {
        Some(Filter {
            rules: Vec::new(),
            states: States::new(seed, capacity)?,
            tracks: false,
            malformed: 0,
        })
    }

    /// Returns true if the filter has no rules. Then every packet passes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Replaces all rules. A rule that the filter has already keeps its counters and the state of its rate. If a rule is refused,
    /// nothing changes; the error has its index.
    pub fn replace(&mut self, rules: &[Rule]) -> Result<(), (usize, Problem)> {
        if rules.len() > MAX_RULES {
            return Err((MAX_RULES, Problem::TooManyRules(rules.len())));
        }
        let mut next = Vec::with_capacity(rules.len());
        for (index, rule) in rules.iter().enumerate() {
            next.push(Active::new(rule).map_err(|problem| (index, problem))?);
        }
        for rule in &mut next {
            // Each old rule gives its counters to one new rule.
            let same = |old: &Active| old.status.rule == rule.status.rule;
            if let Some(at) = self.rules.iter().position(same) {
                *rule = self.rules.remove(at);
            }
        }
        self.rules = next;
        self.tracks = self.rules.iter().any(|rule| !rule.status.rule.states.is_empty());
        if !self.tracks {
            self.states.clear();
        }
        Ok(())
    }

    /// Decides on an IP packet: IPv4, or IPv6 without extension headers, whole or the first fragment. `interface` is the
    /// interface's name in the brane. A call has the packet of [`crate::socket::Call`]. Returns `Pass`, `Drop` or `Reject`.
    pub fn decide(&mut self, now: u64, direction: Direction, interface: &str, packet: &[u8]) -> Verdict {
        if self.rules.is_empty() {
            return Verdict::Pass;
        }
        let Some(packet) = Packet::parse(packet) else {
            self.malformed += 1;
            return Verdict::Drop;
        };
        let is_call = direction.is_call();
        // A call belongs to no flow.
        let classified = (self.tracks && !is_call).then(|| self.states.classify(now, &packet));
        let mut action = Action::Pass;
        for active in &mut self.rules {
            let rule = &active.status.rule;
            let matches = rule.direction.map_or(!is_call, |wanted| wanted == direction)
                && rule.interface.as_deref().is_none_or(|wanted| wanted == interface)
                && (rule.states.is_empty()
                    || classified.is_some_and(|found| rule.states.contains(&found.state)))
                && accepts(&active.program, &packet)
                && active.own.as_ref().is_none_or(|own| accepts(own, &packet))
                && active.bucket.as_mut().is_none_or(|bucket| bucket.take(now));
            if matches {
                active.status.packets += 1;
                active.status.bytes += packet.bytes.len() as u64;
                action = active.status.rule.action;
                break;
            }
        }
        match action {
            Action::Drop => return Verdict::Drop,
            Action::Reject => return Verdict::Reject,
            Action::Pass => {}
        }
        match classified.map(|classified| self.states.note(&packet, classified)) {
            Some(Err(_)) => Verdict::Drop,
            Some(Ok(())) | None => Verdict::Pass,
        }
    }

    /// Returns the rules in force with their counters, in their order.
    pub fn statuses(&self) -> impl ExactSizeIterator<Item = &RuleStatus> {
        self.rules.iter().map(|rule| &rule.status)
    }

    /// Returns the flows that the filter knows.
    pub fn states(&self, now: u64) -> impl Iterator<Item = Listed> {
        self.states.iter(now)
    }

    /// Returns the counters of the table of flows.
    pub fn counters(&self) -> Counters {
        self.states.counters()
    }

    /// Returns the number of packets that were dropped because a length in them is wrong.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }
}

fn accepts(program: &Program, packet: &Packet) -> bool {
    let length = u32::try_from(packet.bytes.len()).unwrap_or(u32::MAX);
    program.run(packet.bytes, length) != 0
}

impl Active {
    fn new(rule: &Rule) -> Result<Active, Problem> {
        let program = compile(rule)?;
        let own = match rule.program.as_slice() {
            [] => None,
            own => Some(Program::verify(own).map_err(Problem::Program)?),
        };
        Ok(Active {
            status: RuleStatus {
                rule: rule.clone(),
                packets: 0,
                bytes: 0,
            },
            program,
            own,
            bucket: rule.rate.map(Bucket::new),
        })
    }
}

impl Bucket {
    /// Creates a full bucket.
    fn new(rate: Rate) -> Bucket {
        Bucket {
            rate,
            credit: u64::from(rate.burst) * PACKET,
            filled: 0,
        }
    }

    /// Takes the credit for a packet. Returns false if the bucket has none.
    fn take(&mut self, now: u64) -> bool {
        let full = u64::from(self.rate.burst) * PACKET;
        let more = now
            .saturating_sub(self.filled)
            .saturating_mul(self.rate.per_second.into());
        self.credit = self.credit.saturating_add(more).min(full);
        self.filled = now;
        match self.credit.checked_sub(PACKET) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }
}
