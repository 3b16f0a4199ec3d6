//! The protection domain `multicast.elf`: in a client's place, it joins a group of each family and echoes what its socket receives.
//!
//! For tests: a datagram `leave` makes it leave both groups, a datagram `join` makes it join them again. On the other side is its
//! brane, and beyond it the host of the test.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use brane_socket::{Error, Executor, Interface, NetClient, Platform, RingSizes, UdpSocket};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use sel4_microkit::time::{Alarm, Clock};
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, protection_domain, scrub};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-multicast.rs"));
}

const BRANE: Channel = Channel::new(wiring::channels::BRANE);
const TIMER: Channel = Channel::new(wiring::channels::TIMER);
const SERIAL: Channel = Channel::new(wiring::channels::SERIAL);

/// The groups.
const GROUPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(239, 7, 7, 7)),
    IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 7)),
];
/// The socket.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 5000);
/// Pause in nanoseconds before a failed attempt is repeated.
const RETRY: u64 = 1_000_000_000;

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

async fn serve(net: &NetClient) -> Result<(), Error> {
    let mut socket = UdpSocket::bind(net, LOCAL, RingSizes::default()).await?;
    for group in GROUPS {
        socket.join_multicast(group, Interface::Any).await?;
    }
    logln!("multicast: joined");
    let mut data = [0; 1500];
    loop {
        let (len, from, _) = socket.recv_from(&mut data).await?;
        match &data[..len] {
            b"leave" => {
                for group in GROUPS {
                    socket.leave_multicast(group, Interface::Any).await?;
                }
                logln!("multicast: left");
            }
            b"join" => {
                for group in GROUPS {
                    socket.join_multicast(group, Interface::Any).await?;
                }
                logln!("multicast: joined again");
            }
            text => socket.send_to(text, from).await?,
        }
    }
}

#[protection_domain]
fn init() -> Client {
    log::attach(wiring::regions::LOG_SERVICES, SERIAL);
    let region = wiring::regions::HEAP_SERVICES;
    if scrub::wanted() {
        // The domain may have served another brane's client.
        scrub::clear_stack(wiring::STACK_SIZE);
        scrub::clear(region, 0, region.size);
    }
    heap::init(region);
    let clock = Clock::new(wiring::regions::TSC);
    let net = NetClient::start(wiring::regions::SOCK.shared(), Box::new(PdPlatform { clock }))
        .expect("the region `sock` of this client is too small for its layout");
    let executor = Executor::new();
    let own = net.clone();
    executor
        .spawn(async move {
            loop {
                own.ready().await;
                if let Err(error) = serve(&own).await {
                    logln!("multicast: {error}");
                }
                own.sleep(RETRY).await;
            }
        })
        .detach();
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
