//! The device's regions, and their physical addresses, which the image builder writes into the symbols below (`setvar` in
//! `system.xml`).

use crate::wiring::regions::{LINE_BAR as BAR, LINE_DMA as DMA, LINE_ECAM as ECAM};
use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;
use line_core::memory::{QUEUES, SIZE};
use virtio::memory::DmaRegion;
use virtio::pci::Function;
use virtio::physical_address;

physical_address!(
    ecam_paddr,
    line_ecam_paddr,
    "Returns the physical address of `ECAM`."
);
physical_address!(
    bar_paddr,
    line_bar_paddr,
    "Returns the physical address of `BAR`."
);
physical_address!(
    dma_paddr,
    line_dma_paddr,
    "Returns the physical address of `DMA`."
);

/// The device's function, memory and registers.
pub struct Own;

const _: () = assert!(SIZE <= DMA.size);

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the region is mapped, page-aligned, for the life of the domain, and has at least `SIZE` bytes (above). This domain uses
// it through its driver alone.
unsafe impl DmaRegion for Own {
    const SIZE: usize = SIZE;
    const QUEUES: usize = QUEUES;

    fn base() -> NonNull<u8> {
        const { NonNull::new(DMA.as_ptr()).expect("the DMA region lies at an address") }
    }

    fn paddr() -> u64 {
        dma_paddr()
    }

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
