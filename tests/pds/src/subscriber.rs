//! A subscriber to the life cycle of branes, for the tests: it logs each transition, and misbehaves on command.
//!
//! It owns side B of its region `subscription-K`. The manager (trusted) has the other side. No domain trusts a
//! subscriber. The first one subscribes to all families of all branes at its start. The second one is late: it
//! subscribes some time later, to the family `inet` of all branes. The others subscribe to the protocol `tcp`
//! of all branes at their start.
//!
//! The names of branes are commands for the second subscriber. Its behavior at a transition of a brane with
//! this name:
//!
//! | name | the subscriber |
//! | --- | --- |
//! | `test-leaves` | leaves, and subscribes again some time after it has left |
//! | `test-hangs` | computes forever without an acknowledgement |
//! | `test-is-mute` | does not acknowledge |
//! | `test-faults` | faults |
//! | `test-lies` | acknowledges another transition than the notified one, then breaks the ring |
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{CONTROL_BIT, Family, Protocol};
use brane_abi::subscription::request;
use brane_subscriber::{Event, Notification, Subscriber, Subscription, Token, Transition};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, pd_name, protection_domain};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-subscriber.rs"));
}
use wiring::{channels, regions};

const MANAGER: Channel = Channel::new(channels::MANAGER);
const SERIAL: Channel = Channel::new(channels::SERIAL);
const TIMER: Channel = Channel::new(channels::TIMER);

/// Time of the second subscriber's subscription, in nanoseconds after its start or after it has left.
const LATE_NS: u64 = 2_000_000_000;

struct TestSubscriber {
    clock: Clock,
    alarm: Alarm,
    subscriber: Subscriber,
    /// True for the second subscriber.
    late: bool,
    /// Time of the next subscription.
    subscribes_at: Option<u64>,
}

#[protection_domain]
fn init() -> TestSubscriber {
    log::attach(regions::LOG_SUBSCRIBER, SERIAL);
    heap::init(regions::HEAP_SUBSCRIBER);
    let name = pd_name().unwrap_or_default();
    let late = name.ends_with("-1");
    let protocols = match name.ends_with("-2") {
        true => Vec::from([Protocol::Tcp]),
        false => Vec::new(),
    };
    let subscription = (!late).then(|| Subscription {
        protocols,
        ..Subscription::all()
    });
    let subscriber = Subscriber::start(regions::SUBSCRIPTION.shared(), subscription, || MANAGER.notify())
        .expect("the system description's region is smaller than the layout");
    let clock = Clock::new(regions::TSC);
    let mut own = TestSubscriber {
        subscriber,
        alarm: Alarm::new(TIMER),
        late,
        subscribes_at: late.then(|| clock.now_ns() + LATE_NS),
        clock,
    };
    own.work();
    own
}

impl TestSubscriber {
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

    fn transition(&mut self, token: Token, told: &Notification) {
        let former_name = told.former_name.as_deref();
        logln!(
            "{}{} {} {}{}{}{} (identity {}, brane {}, generation {})",
            if told.replay { "missed " } else { "" },
            told.transition.name(),
            told.brane,
            told.family.name(),
            told.protocol.map_or("", |_| " "),
            told.protocol.map_or("", Protocol::name),
            former_name.map_or_else(String::new, |name| format!(" was {name}")),
            told.identity,
            told.id,
            told.generation
        );
        match told.brane.as_str() {
            "test-hangs" if self.late => loop {
                core::hint::spin_loop();
            },
            "test-is-mute" if self.late => {}
            "test-faults" if self.late => fault(),
            "test-lies" if self.late => {
                let endpoint = self.subscriber.endpoint();
                let pushed = endpoint.rings.tx.push(&[], [request::ACK, u32::MAX, 0]);
                if pushed.is_err() || !endpoint.rings.tx.publish() {
                    logln!("the ring to the manager is full");
                }
                // The manager runs at once and reads the record.
                if endpoint.flush(CONTROL_BIT) {
                    MANAGER.notify();
                }
                // Now the index is behind the position that the manager has read.
                endpoint.rings.tx.reset();
                MANAGER.notify();
            }
            // Not at a replay, because the subscriber would then never stay.
            "test-leaves" if self.late && told.transition == Transition::AfterCreate && !told.replay => {
                self.subscriber.acknowledge(token);
                self.subscriber.leave();
            }
            _ => self.subscriber.acknowledge(token),
        }
    }
}

/// Reads from an unmapped address.
fn fault() {
    // SAFETY: the fault is intended: the first page is never mapped in a protection domain. The kernel stops
    // this thread at the instruction and reports the fault to the manager.
    unsafe { core::arch::asm!("mov {0}, [{0}]", inout(reg) 0usize => _, options(nostack, readonly)) };
}

impl Handler for TestSubscriber {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.alarm.rang();
        }
        self.work();
        Ok(())
    }
}
