//! The protection domain `nic1.elf`: the driver ([`driver`]) of `nic1`, a second network device. What differs from `nic0` is here.
#![no_std]
#![no_main]

mod dma;
mod driver;
mod pci;
mod virtio;

use sel4_microkit::protection_domain;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring-nic1.rs"));
}

/// What this domain has of the system, under names that both drivers use.
mod own {
    use crate::wiring::regions;
    use sel4_microkit::Region;

    pub const NAME: &str = "nic1";
    pub const ECAM: Region = regions::NIC1_ECAM;
    pub const BAR: Region = regions::NIC1_BAR;
    pub const DMA: Region = regions::NIC1_DMA;
    pub const LOG: Region = regions::LOG_NIC1;
    pub const PORTS: [Region; regions::PORTS_NIC1.len()] = regions::PORTS_NIC1;
}

#[protection_domain]
fn init() -> driver::Nic {
    driver::start()
}
