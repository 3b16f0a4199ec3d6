//! The protection domain `services-N`: the services of `services-core` in brane N.
//!
//! Owns the client's end of `sock-N`, its heap and one deadline at the timer. On the other side: its brane,
//! which can restart, and beyond it the untrusted network. The libraries make all decisions.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use brane_socket::{Executor, NetClient, Platform};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, protection_domain, scrub};
use services_core::Services;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}

const BRANE: Channel = Channel::new(wiring::channels::BRANE);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// The socket library's platform: this domain's channels, clock and timer.
struct PdPlatform {
    clock: Clock,
}

impl Platform for PdPlatform {
    fn notify(&self) {
        BRANE.notify();
    }

    fn now(&self) -> u64 {
        self.clock.now_ns()
    }
}

struct Client {
    net: NetClient,
    executor: Executor,
    alarm: Alarm,
}

#[protection_domain]
fn init() -> Client {
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    let heap = wiring::regions::HEAP_SERVICES;
    if scrub::wanted() {
        // The domain may have served another brane's client. That brane has cleared the shared region.
        scrub::clear_stack(wiring::STACK_SIZE);
        scrub::clear(heap, 0, heap.size);
    }
    heap::init(heap);
    let clock = Clock::new(wiring::regions::TSC);
    let net = NetClient::start(wiring::regions::SOCK.shared(), Box::new(PdPlatform { clock }))
        .expect("the region `sock` of this client is too small for its layout");
    let executor = Executor::new();
    let services = Services::new(net.clone(), executor, |line| logln!("{line}"));
    executor.spawn(services.run()).detach();
    let mut client = Client {
        net,
        executor,
        alarm: Alarm::new(TIMER),
    };
    client.work();
    client
}

impl Client {
    /// Works until nothing is left to do. Sets the timer if work is due later.
    fn work(&mut self) {
        if let Some(at) = self.net.run(&self.executor) {
            // If the timer rejects a deadline, the work is only late.
            self.alarm.set(at);
        }
    }
}

impl Handler for Client {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        if channels.contains(TIMER) {
            self.alarm.rang();
        }
        self.work();
        Ok(())
    }
}
