//! The protection domain `nic.elf`: the driver ([`driver`]) of one NIC. Each NIC has a domain that runs this program;
//! which NIC it is follows from the regions that `system.xml` gives to the domain ([`own`]).
#![no_std]
#![no_main]

mod device;
mod driver;
mod own;
mod virtio;

use sel4_microkit::protection_domain;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-nic.rs"));
}

#[protection_domain]
fn init() -> driver::Nic<virtio::Virtio> {
    driver::start()
}
