//! The protection domain `nic.elf`: the driver ([`driver`]) of `nic0`. What differs from `nic1` is here.
#![no_std]
#![no_main]

mod dma;
mod driver;
mod pci;
mod virtio;

use sel4_microkit::protection_domain;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-nic.rs"));
}

/// What this domain has of the system, under names that both drivers use.
mod own {
    use crate::wiring::regions;
    use sel4_microkit::Region;

    pub const NAME: &str = "nic0";
    pub const ECAM: Region = regions::NIC0_ECAM;
    pub const BAR: Region = regions::NIC0_BAR;
    pub const DMA: Region = regions::NIC0_DMA;
    pub const LOG: Region = regions::LOG_NIC0;
    pub const PORTS: [Region; regions::PORTS.len()] = regions::PORTS;
}

#[protection_domain]
fn init() -> driver::Nic {
    driver::start()
}
