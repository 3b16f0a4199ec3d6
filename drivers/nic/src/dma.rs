//! The memory that the device may reach: the region `nicN-dma`, divided once and for all.
//!
//! Queues come first, then the buffers for receiving, then those for sending: many for ordinary frames, some for
//! frames of up to 64 KiB. Nothing else of this domain lies there. The device is on the other side: what it wrote is
//! copied or bounded before it is used.

use crate::own::{BAR, DMA};
use brane_abi::port::MAX_FRAME;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use nic_core::VLAN_TAG;
use nic_core::header::HEADER;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// Buffers for receiving, and entries of each queue.
pub const QUEUE: usize = 256;
/// Bytes of a buffer for receiving.
pub const RX_BUFFER: usize = 8192;
/// Buffers for sending ordinary frames, and their bytes.
pub const SMALL: usize = 128;
/// See [`SMALL`].
pub const SMALL_BYTES: usize = 2048;
/// Buffers for sending frames of any length, and their bytes.
pub const LARGE: usize = 24;
/// See [`LARGE`].
pub const LARGE_BYTES: usize = 68 * 1024;

const QUEUES: usize = 64 * 1024;
const RX: usize = QUEUES;
const TX_SMALL: usize = RX + QUEUE * RX_BUFFER;
const TX_LARGE: usize = TX_SMALL + SMALL * SMALL_BYTES;
const END: usize = TX_LARGE + LARGE * LARGE_BYTES;
const _: () =
    assert!(END <= DMA.size && SMALL + LARGE <= QUEUE && LARGE_BYTES >= HEADER + VLAN_TAG + MAX_FRAME);

const PADDR: u64 = match DMA.paddr {
    Some(paddr) => paddr,
    None => panic!("the region for DMA needs a phys_addr"),
};

/// Part of the DMA region.
#[derive(Clone, Copy)]
pub struct Buffer {
    offset: usize,
    len: usize,
}

impl Buffer {
    /// Buffer `i` for receiving.
    pub fn rx(i: usize) -> Buffer {
        assert!(i < QUEUE);
        Buffer {
            offset: RX + i * RX_BUFFER,
            len: RX_BUFFER,
        }
    }

    /// Buffer `i` for sending: the small ones first.
    pub fn tx(i: usize) -> Buffer {
        assert!(i < SMALL + LARGE);
        if i < SMALL {
            Buffer {
                offset: TX_SMALL + i * SMALL_BYTES,
                len: SMALL_BYTES,
            }
        } else {
            Buffer {
                offset: TX_LARGE + (i - SMALL) * LARGE_BYTES,
                len: LARGE_BYTES,
            }
        }
    }

    /// Its first bytes, at most all of them.
    pub fn first(self, len: usize) -> Buffer {
        Buffer {
            len: len.min(self.len),
            ..self
        }
    }

    fn start(self) -> *mut u8 {
        // All constructors stay below END, so the address is inside the region.
        DMA.as_ptr().wrapping_add(self.offset)
    }

    /// The bytes.
    ///
    /// # Safety
    /// The buffer is the driver's, not the device's, as long as the slice lives, and no slice of `bytes_mut` is alive.
    pub unsafe fn bytes(self) -> &'static [u8] {
        // SAFETY: inside the mapped region (see `start`); the caller vouches for the rest.
        unsafe { core::slice::from_raw_parts(self.start(), self.len) }
    }

    /// The bytes, for writing.
    ///
    /// # Safety
    /// As for [`Self::bytes`], and no other slice of this buffer is alive.
    pub unsafe fn bytes_mut(self) -> &'static mut [u8] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

/// What the queues and the transport need of the memory.
pub struct Memory;

static NEXT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: `dma_alloc` hands out disjoint zeroed pages of the DMA region, which is mapped for the life of the domain;
// `mmio_phys_to_virt` answers only inside the region that the device's registers were put in.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let bytes = pages * PAGE_SIZE;
        let offset = NEXT.fetch_add(bytes, Ordering::Relaxed);
        assert!(
            offset + bytes <= QUEUES,
            "the part of the DMA region for queues is too small"
        );
        let start = NonNull::new(DMA.as_ptr()).expect("the DMA region lies at an address");
        // SAFETY: the range is inside the region (just checked) and has been given to nobody else.
        let start = unsafe {
            let start = start.add(offset);
            start.write_bytes(0, bytes);
            start
        };
        (PADDR + offset as u64, start)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        // The queues live as long as the domain.
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        let offset = BAR
            .paddr
            .and_then(|start| paddr.checked_sub(start))
            .map(|o| o as usize);
        let offset = offset
            .filter(|o| o.checked_add(size).is_some_and(|end| end <= BAR.size))
            .expect("the device's registers do not lie in their region");
        NonNull::new(BAR.as_ptr().wrapping_add(offset)).expect("the registers lie at an address")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        let offset = (buffer.cast::<u8>().as_ptr() as usize).wrapping_sub(DMA.vaddr);
        assert!(offset < END, "a buffer outside of the DMA region");
        PADDR + offset as u64
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
