//! The regions of this domain, and the physical addresses at which the device knows them.
//!
//! One program drives every NIC. The regions lie at equal virtual addresses in all driver domains. The physical
//! addresses differ, so the image builder writes them into the symbols below (`setvar` in `system.xml`).

use crate::wiring::regions;
use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;
use sel4_microkit::Region;
use virtio::memory::DmaRegion;
use virtio::pci::Function;
use virtio::physical_address;
use virtio_net::memory::{QUEUES, SIZE};

pub const LOG: Region = regions::LOG_NIC;
pub const PORTS: [Region; regions::PORTS_NIC.len()] = regions::PORTS_NIC;
const ECAM: Region = regions::NIC_ECAM;
const BAR: Region = regions::NIC_BAR;
const DMA: Region = regions::NIC_DMA;

physical_address!(
    ecam_paddr,
    nic_ecam_paddr,
    "Returns the physical address of `ECAM`."
);
physical_address!(bar_paddr, nic_bar_paddr, "Returns the physical address of `BAR`.");
physical_address!(dma_paddr, nic_dma_paddr, "Returns the physical address of `DMA`.");

/// The device's function, memory and registers.
pub struct Own;

const _: () = assert!(SIZE <= DMA.size);

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the region is mapped, page-aligned, for the life of the domain, and has at least `SIZE` bytes (above). This domain
// uses it through virtio-net alone.
unsafe impl DmaRegion for Own {
    const SIZE: usize = SIZE;
    const QUEUES: usize = QUEUES;

    #[inline]
    fn base() -> NonNull<u8> {
        const { NonNull::new(DMA.as_ptr()).expect("the DMA region lies at an address") }
    }

    #[inline]
    fn paddr() -> u64 {
        dma_paddr()
    }

    #[inline]
    fn allocated() -> &'static AtomicUsize {
        &ALLOCATED
    }

    fn registers(paddr: u64, size: usize) -> NonNull<u8> {
        Self::mapped(paddr, size)
    }
}

// SAFETY: the system description maps both regions, uncached, for the life of the domain, and for no other purpose.
unsafe impl Function for Own {
    const BAR_SIZE: usize = BAR.size;

    fn ecam() -> NonNull<u8> {
        const { NonNull::new(ECAM.as_ptr()).expect("the configuration space lies at an address") }
    }

    fn ecam_paddr() -> u64 {
        ecam_paddr()
    }

    fn bar() -> NonNull<u8> {
        const { NonNull::new(BAR.as_ptr()).expect("the registers lie at an address") }
    }

    fn bar_paddr() -> u64 {
        bar_paddr()
    }
}
