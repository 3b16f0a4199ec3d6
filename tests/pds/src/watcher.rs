//! A subscriber to the life cycle of branes, for the tests: it logs each transition, and misbehaves on command.
//!
//! It owns side B of its region `hooks-K`; the manager (trusted) has the other. No domain trusts a watcher. The first watcher
//! subscribes to everything at its start. The second subscribes a while later, to the family `inet` of all branes, so it is late.
//!
//! The names of branes command the second watcher. At a transition of a brane with this name
//!
//! | name | the watcher |
//! | --- | --- |
//! | `watcher-leaves` | leaves, and subscribes again a while after it has left |
//! | `watcher-hangs` | computes for ever without an acknowledgement |
//! | `watcher-is-mute` | does not acknowledge |
//! | `watcher-faults` | faults |
//! | `watcher-lies` | acknowledges another transition than it was notified of, then breaks the ring |
#![no_std]
#![no_main]

use brane_abi::control::{CONTROL_BIT, Family};
use brane_abi::hooks::say;
use brane_subscriber::{Event, Subscriber, Subscription, Token, Told, Transition};
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

/// When the second watcher subscribes, in nanoseconds after its start or after it has left.
const LATE_NS: u64 = 2_000_000_000;

struct Watcher {
    clock: Clock,
    alarm: Alarm,
    subscriber: Subscriber,
    /// This is the second watcher.
    late: bool,
    /// When it subscribes.
    subscribes_at: Option<u64>,
}

#[protection_domain]
fn init() -> Watcher {
    log::attach(regions::LOG_WATCHER, SERIAL);
    heap::init(regions::HEAP_WATCHER);
    let late = pd_name().is_ok_and(|name| name.ends_with("-1"));
    let subscription = (!late).then(Subscription::all);
    let subscriber = Subscriber::start(regions::HOOKS.shared(), subscription, || MANAGER.notify())
        .expect("the system description's region is smaller than the layout");
    let clock = Clock::new(regions::TSC);
    let mut watcher = Watcher {
        subscriber,
        alarm: Alarm::new(TIMER),
        late,
        subscribes_at: late.then(|| clock.now_ns() + LATE_NS),
        clock,
    };
    watcher.work();
    watcher
}

impl Watcher {
    /// Handles all events, and subscribes when it is time.
    fn work(&mut self) {
        loop {
            if self.subscribes_at.is_some_and(|at| self.clock.now_ns() >= at) {
                self.subscribes_at = None;
                self.subscriber.subscribe(Subscription {
                    family: Some(Family::Inet),
                    ..Subscription::all()
                });
            }
            while let Some((token, event)) = self.subscriber.next_event() {
                self.handle(token, event);
            }
            if self.subscriber.arm() {
                break;
            }
        }
        if let Some(at) = self.subscribes_at {
            self.alarm.set(at);
        }
    }

    fn handle(&mut self, token: Option<Token>, event: Event) {
        match (event, token) {
            (Event::Transition(told), Some(token)) => self.transition(token, &told),
            (Event::Subscribed, _) => logln!("joined"),
            (Event::Left, _) => {
                logln!("left");
                self.subscribes_at = Some(self.clock.now_ns() + LATE_NS);
            }
            (Event::Refused(why), _) => logln!("refused: {why}"),
            (other, _) => logln!("{other:?}"),
        }
    }

    fn transition(&mut self, token: Token, told: &Told) {
        logln!(
            "{}{} {} {} (brane {}, generation {})",
            if told.replay { "missed " } else { "" },
            told.transition.name(),
            told.brane,
            told.family.name(),
            told.id,
            told.generation
        );
        match told.brane.as_str() {
            "watcher-hangs" if self.late => loop {
                core::hint::spin_loop();
            },
            "watcher-is-mute" if self.late => {}
            "watcher-faults" if self.late => fault(),
            "watcher-lies" if self.late => {
                let endpoint = self.subscriber.endpoint();
                let pushed = endpoint.rings.tx.push(&[], [say::DONE, u32::MAX, 0]);
                if pushed.is_err() || !endpoint.rings.tx.publish() {
                    logln!("the ring to the manager is full");
                }
                // The manager runs at once and reads the record.
                if endpoint.flush(CONTROL_BIT) {
                    MANAGER.notify();
                }
                // Now the index is behind what the manager has read.
                endpoint.rings.tx.reset();
                MANAGER.notify();
            }
            // Not at a replay: the watcher would never stay.
            "watcher-leaves" if self.late && told.transition == Transition::AfterCreate && !told.replay => {
                self.subscriber.acknowledge(token);
                self.subscriber.leave();
            }
            _ => self.subscriber.acknowledge(token),
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
