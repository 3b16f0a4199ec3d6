//! The protection domain `filterK`, as an example: an external filter that refuses Telnet to every brane.
//!
//! It owns side B of `registration-filterK` (with the manager) and of each `hook-filterK-N` (with brane N), and its heap. The manager is
//! trusted. No domain trusts this one. It gets the headers of received IP packets. It rejects TCP segments to port 23 and passes
//! everything else.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::vec::Vec;
use brane_hook::{Decision, Filter, Head, Packet, Peer, Registration};
use sel4_microkit::{Channel, ChannelSet, Handler, Never, heap, log, logln, pd_name, protection_domain};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-filter-example.rs"));
}
use wiring::{channels, regions};

const SERIAL: Channel = Channel::new(channels::SERIAL);

/// The refused port.
const TELNET: u16 = 23;

/// TCP (RFC 9293).
const TCP: u8 = 6;

struct Example {
    filter: Filter,
}

/// Returns true if a packet is a TCP segment to the refused port.
fn is_telnet(packet: &Packet<'_>) -> bool {
    let found = || {
        let first = *packet.bytes.first()?;
        let (protocol, header) = match first >> 4 {
            4 => (*packet.bytes.get(9)?, usize::from(first & 15) * 4),
            _ => (*packet.bytes.get(6)?, 40),
        };
        let ports = packet.bytes.get(header..)?.first_chunk::<4>()?;
        Some(protocol == TCP && u16::from_be_bytes([ports[2], ports[3]]) == TELNET)
    };
    found() == Some(true)
}

#[protection_domain]
fn init() -> Example {
    log::attach(regions::LOG_FILTER, SERIAL);
    heap::init(regions::HEAP_FILTER);
    let registration = Registration {
        name: format!("telnet-{}", pd_name().unwrap_or_default()),
        rank: 100,
        branes: None,
        heads: Vec::from([Head::InetIn, Head::Inet6In]),
        headers: Some(128),
        deadline_ms: 100,
        fail_open: true,
    };
    let regions = regions::HOOK_FILTER.map(|region| region.shared());
    let manager = regions::REGISTRATION_FILTER.shared();
    let notify = |peer| match peer {
        Peer::Manager => Channel::new(channels::MANAGER).notify(),
        Peer::Brane(number) => {
            if let Some(channel) = channels::BRANE.get(number) {
                Channel::new(*channel).notify();
            }
        }
    };
    let filter = Filter::start(manager, &regions, registration, notify)
        .expect("the system description's regions are smaller than the layouts");
    let mut own = Example { filter };
    own.work();
    own
}

impl Example {
    fn work(&mut self) {
        let decide = |packet: &Packet<'_>| match is_telnet(packet) {
            true => Decision::Reject,
            false => Decision::Pass,
        };
        self.filter.run(decide, |event| logln!("{event:?}"));
    }
}

impl Handler for Example {
    type Error = Never;

    fn notified(&mut self, _: ChannelSet) -> Result<(), Never> {
        self.work();
        Ok(())
    }
}
