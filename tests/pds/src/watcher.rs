//! A subscriber to the life of branes, for the tests: it logs what it is told, and misbehaves when it is told to.
//!
//! It owns side B of its region `hooks-K`; the manager (trusted) has the other. Nobody trusts a watcher. The first one
//! subscribes at its start to everything, the second a while later, to the family `inet` of all branes: so it is late.
//!
//! The second one is commanded by the names of branes. Being told of a brane that is called
//!
//! | name | it |
//! | --- | --- |
//! | `watcher-leaves` | leaves, and subscribes again a while after it has left, for good |
//! | `watcher-hangs` | computes for ever without an answer |
//! | `watcher-is-mute` | does not answer |
//! | `watcher-faults` | faults |
//! | `watcher-lies` | answers to a transition that it was not told of, then breaks the ring |
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use brane_abi::control::{CONTROL_BIT, Family, MAX_MESSAGE};
use brane_abi::hooks::{Subscription, Told, Transition, say, tell};
use brane_abi::layout::{Part, ctl};
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::ring::{Consumer, Producer, RingIndices};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, pd_name, protection_domain};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-watcher.rs"));
}
use wiring::{channels, regions};

const MANAGER: Channel = Channel::new(channels::MANAGER);
const SERIAL: Channel = Channel::new(channels::SERIAL);
const TIMER: Channel = Channel::new(channels::TIMER);

/// When the second one subscribes, in nanoseconds after its start or after it has left.
const LATE_NS: u64 = 2_000_000_000;
/// What is told in one wake at most; then others have their turn.
const BUDGET: usize = 32;

struct Watcher {
    clock: Clock,
    alarm: Alarm,
    link: Link,
    tells: Consumer,
    says: Producer,
    indices: [&'static RingIndices; 2],
    /// Whether it is the second one.
    late: bool,
    /// When it subscribes.
    joins_at: Option<u64>,
    up: bool,
}

const TOO_SMALL: &str = "a region of the system description is smaller than the layout asks for";

#[protection_domain]
fn init() -> Watcher {
    log::attach(regions::LOG_WATCHER, SERIAL);
    heap::init(regions::HEAP_WATCHER);
    let region = regions::HOOKS.shared();
    let part = |part: Part| region.part(part.offset, part.len).expect(TOO_SMALL);
    let indices = |at: usize| -> &'static RingIndices {
        // SAFETY: RingIndices is made of atomics only.
        unsafe { region.object(at) }.expect(TOO_SMALL)
    };
    let indices = [ctl::COMMAND_INDICES, ctl::REPORT_INDICES].map(indices);
    let clock = Clock::new(regions::TSC);
    let late = pd_name().ends_with("-1");
    let mut watcher = Watcher {
        link: Link::start(region, Side::B).expect(TOO_SMALL),
        tells: Consumer::new(indices[0], part(ctl::COMMANDS)).expect(TOO_SMALL),
        says: Producer::new(indices[1], part(ctl::REPORTS)).expect(TOO_SMALL),
        indices,
        alarm: Alarm::new(TIMER),
        late,
        joins_at: Some(clock.now_ns() + if late { LATE_NS } else { 0 }),
        clock,
        up: false,
    };
    MANAGER.notify();
    watcher.work();
    watcher
}

impl Watcher {
    /// Looks at the region until there is nothing new, and subscribes when it is time.
    fn work(&mut self) {
        self.link.own_bell().disarm();
        for _ in 0..BUDGET {
            self.link.own_bell().take();
            match self.link.poll() {
                LinkState::PeerRestarted => {
                    self.indices.iter().for_each(|indices| indices.reset());
                    self.tells.reset();
                    self.says.reset();
                    self.up = false;
                    self.link.acknowledge();
                    MANAGER.notify();
                }
                LinkState::Up => {
                    self.up = true;
                    self.join();
                    if self.hear() {
                        continue;
                    }
                }
                LinkState::Down | LinkState::Incompatible => {}
            }
            if self.link.own_bell().arm() {
                return self.sleep();
            }
        }
        // More than the budget: the timer brings it back at once.
        self.alarm.set(self.clock.now_ns());
    }

    fn sleep(&mut self) {
        if let Some(at) = self.joins_at {
            self.alarm.set(at);
        }
    }

    fn say(&mut self, kind: u32, token: u32, payload: &[u8]) {
        let said = self.says.push(&[payload], [kind, token, 0]);
        if said.is_err() {
            logln!("the ring to the manager is full or makes no sense");
        }
        if self.says.publish() && self.link.peer_bell().ring(CONTROL_BIT) {
            MANAGER.notify();
        }
    }

    fn join(&mut self) {
        let now = self.clock.now_ns();
        if self.joins_at.is_none_or(|at| now < at) {
            return;
        }
        self.joins_at = None;
        let subscription = Subscription {
            brane: None,
            family: self.late.then_some(Family::Inet),
            transitions: Vec::from(Transition::ALL),
        };
        match minicbor::to_vec(&subscription) {
            Ok(bytes) => self.say(say::SUBSCRIBE, 0, &bytes),
            Err(_) => logln!("the subscription cannot be written"),
        }
    }

    /// Hears one thing; whether there was any.
    fn hear(&mut self) -> bool {
        let mut buffer = [0; MAX_MESSAGE];
        let taken = self.tells.take(|record| {
            let len = record.copy_to(&mut buffer).len();
            (record.meta, len)
        });
        let ([kind, token, _], len) = match taken {
            Ok(Some(taken)) => taken,
            Ok(None) => return false,
            Err(_) => {
                logln!("the ring from the manager makes no sense");
                return false;
            }
        };
        if self.tells.release() && self.link.peer_bell().ring(CONTROL_BIT) {
            MANAGER.notify();
        }
        let text = &buffer[..len];
        match kind {
            tell::TRANSITION => match minicbor::decode::<Told>(text) {
                Ok(told) => self.told(token, &told),
                Err(_) => logln!("what was told cannot be read"),
            },
            tell::JOINED => logln!("joined"),
            tell::LEFT => {
                logln!("left");
                self.joins_at = Some(self.clock.now_ns() + LATE_NS);
            }
            tell::REFUSED => logln!("refused: {}", core::str::from_utf8(text).unwrap_or("?")),
            other => logln!("told something of kind {other}"),
        }
        true
    }

    fn told(&mut self, token: u32, told: &Told) {
        logln!(
            "{}{} {} {} (brane {}, generation {})",
            if told.replay { "missed " } else { "" },
            told.transition.name(),
            told.brane,
            told.family.name(),
            told.id,
            told.generation
        );
        if !self.late {
            return self.say(say::DONE, token, &[]);
        }
        match told.brane.as_str() {
            "watcher-hangs" => loop {
                core::hint::spin_loop();
            },
            "watcher-is-mute" => {}
            "watcher-faults" => fault(),
            "watcher-lies" => {
                self.say(say::DONE, token.wrapping_add(7), &[]);
                // Behind what the manager has read.
                self.indices[1].reset();
                MANAGER.notify();
            }
            // Not for the one that it is told of as it subscribes again: it would never stay.
            "watcher-leaves" if told.transition == Transition::AfterCreate && !told.replay => {
                self.say(say::DONE, token, &[]);
                self.say(say::LEAVE, 0, &[]);
            }
            _ => self.say(say::DONE, token, &[]),
        }
    }
}

/// Reads where nothing is mapped.
fn fault() {
    // SAFETY: it is meant to fault: the first page is never mapped in a protection domain. The kernel stops this thread
    // at the instruction and tells the manager.
    unsafe { core::arch::asm!("mov {0}, [{0}]", inout(reg) 0usize => _, options(nostack, readonly)) };
}

impl Handler for Watcher {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.alarm.rang();
        }
        self.work();
        Ok(())
    }
}
