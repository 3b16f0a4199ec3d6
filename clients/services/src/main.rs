//! The protection domain `services-N`: the services of `services-core` in brane N.
//!
//! It owns the client's end of `sock-N`, its heap and one deadline at the timer. On the other side is its brane, which can
//! restart; beyond it the network, trusted with nothing. All decisions are in the libraries; here is only the wiring.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use brane_abi::timer;
use brane_socket::{Executor, Platform, Stack};
use sel4_microkit::time::Clock;
use sel4_microkit::{
    Channel, ChannelSet, Handler, MessageInfo, Never, heap, log, logln, protection_domain, set_mr,
};
use services_core::Services;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}

const BRANE: Channel = Channel::new(wiring::channels::BRANE);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// What the socket library needs from here.
struct Surroundings {
    clock: Clock,
}

impl Platform for Surroundings {
    fn notify(&self) {
        BRANE.notify();
    }

    fn now(&self) -> u64 {
        self.clock.now_ns()
    }
}

struct Client {
    stack: Stack,
    executor: Executor,
    /// The deadline that the timer has of us.
    armed: Option<u64>,
}

#[protection_domain]
fn init() -> Client {
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    heap::init(wiring::regions::HEAP_SERVICES);
    let clock = Clock::new(wiring::regions::TSC)
        .expect("the boot information has no frequency of the time stamp counter");
    let stack = Stack::start(wiring::regions::SOCK.shared(), Box::new(Surroundings { clock }))
        .expect("the region `sock` of this client is too small for its layout");
    let executor = Executor::new();
    let services = Services::new(stack.clone(), executor, |line| logln!("{line}"));
    executor.spawn(services.run()).detach();
    let mut client = Client {
        stack,
        executor,
        armed: None,
    };
    client.work();
    client
}

impl Client {
    /// Works until there is nothing to do, and has the timer wake us where something is due later. The timer is called
    /// only for a deadline that is earlier than the one that it has.
    fn work(&mut self) {
        let Some(at) = self.stack.run(&self.executor) else {
            return;
        };
        if self.armed.is_none_or(|armed| at < armed) {
            set_mr(0, at);
            // The timer knows this operation, and a deadline that it does not take only comes late.
            let _ = TIMER.pp_call(MessageInfo::new(timer::SET_DEADLINE, 1));
            self.armed = Some(at);
        }
    }
}

impl Handler for Client {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.armed = None;
        }
        self.work();
        Ok(())
    }
}
