//! The regions of this domain that the device reaches or lies in: `nicN-dma` and `nicN-bar`.

use crate::own::{self, BAR, DMA};
use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;
use virtio_drivers::PhysAddr;
use virtio_net::memory::{DmaRegion, SIZE};

/// The device's memory and registers.
pub struct Own;

const _: () = assert!(SIZE <= DMA.size);

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the region is mapped, page-aligned, for the life of the domain, and has at least `SIZE` bytes (above). This domain
// uses it through virtio-net alone.
unsafe impl DmaRegion for Own {
    #[inline]
    fn base() -> NonNull<u8> {
        const { NonNull::new(DMA.as_ptr()).expect("the DMA region lies at an address") }
    }

    #[inline]
    fn paddr() -> PhysAddr {
        own::dma_paddr()
    }

    #[inline]
    fn allocated() -> &'static AtomicUsize {
        &ALLOCATED
    }

    fn registers(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        let offset = paddr.checked_sub(own::bar_paddr()).map(|o| o as usize);
        let offset = offset
            .filter(|o| o.checked_add(size).is_some_and(|end| end <= BAR.size))
            .expect("the device's registers do not lie in their region");
        NonNull::new(BAR.as_ptr().wrapping_add(offset)).expect("the registers lie at an address")
    }
}
