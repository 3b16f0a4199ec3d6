//! The memory that the device may reach, divided at compile time.
//!
//! The queues come first. The receive buffers follow, then the transmit buffers: many for ordinary frames, some for
//! frames of up to 64 KiB. Nothing else lies in this memory. On the other side is the device, which is not trusted and
//! can write anywhere in it at any time. The driver copies or bounds the bytes that the device wrote before it uses
//! them.

use brane_abi::port::MAX_FRAME;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use nic_switch::VLAN_TAG;
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::header::HEADER;

/// Receive buffers, and entries of each queue.
pub const QUEUE: usize = 256;
/// Bytes of a receive buffer.
pub const RX_BUFFER: usize = 8192;
/// Transmit buffers for ordinary frames.
pub const SMALL: usize = 128;
/// Bytes of each of them.
pub const SMALL_BYTES: usize = 2048;
/// Transmit buffers for frames of any length.
pub const LARGE: usize = 24;
/// Bytes of each of them.
pub const LARGE_BYTES: usize = 68 * 1024;

const QUEUES: usize = 64 * 1024;
const RX: usize = QUEUES;
const TX_SMALL: usize = RX + QUEUE * RX_BUFFER;
const TX_LARGE: usize = TX_SMALL + SMALL * SMALL_BYTES;
/// Bytes of memory that the driver uses.
pub const SIZE: usize = TX_LARGE + LARGE * LARGE_BYTES;
const _: () = assert!(SMALL + LARGE <= QUEUE && LARGE_BYTES >= HEADER + VLAN_TAG + MAX_FRAME);

/// The memory of one device, and the place of its registers.
///
/// # Safety
/// [`Self::base`] returns the same page-aligned address at each call. [`SIZE`] bytes from there are valid for reads and writes
/// as long as the program runs. The program reaches them through this crate alone.
pub unsafe trait DmaRegion: 'static {
    /// Returns the address of the first byte.
    fn base() -> NonNull<u8>;

    /// Returns the address of the first byte as the device knows it.
    fn paddr() -> PhysAddr;

    /// Returns the bytes of the region's first part that queues use. They start at zero.
    fn allocated() -> &'static AtomicUsize;

    /// Returns where `size` bytes of the device's registers are mapped. Panics if they are not.
    fn registers(paddr: PhysAddr, size: usize) -> NonNull<u8>;
}

/// A buffer in the region of `R`.
pub struct Buffer<R> {
    offset: usize,
    len: usize,
    region: PhantomData<R>,
}

impl<R: DmaRegion> Buffer<R> {
    fn new(offset: usize, len: usize) -> Self {
        Buffer {
            offset,
            len,
            region: PhantomData,
        }
    }

    /// Returns receive buffer `i`.
    #[inline]
    pub fn rx(i: usize) -> Self {
        assert!(i < QUEUE);
        Buffer::new(RX + i * RX_BUFFER, RX_BUFFER)
    }

    /// Returns transmit buffer `i`. The small ones come first.
    #[inline]
    pub fn tx(i: usize) -> Self {
        assert!(i < SMALL + LARGE);
        if i < SMALL {
            Buffer::new(TX_SMALL + i * SMALL_BYTES, SMALL_BYTES)
        } else {
            Buffer::new(TX_LARGE + (i - SMALL) * LARGE_BYTES, LARGE_BYTES)
        }
    }

    /// Returns the buffer's first `len` bytes; all of them if it has fewer.
    #[inline]
    pub fn first(self, len: usize) -> Self {
        Buffer::new(self.offset, len.min(self.len))
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        // All constructors stay below SIZE, so the address is inside the region.
        R::base().as_ptr().wrapping_add(self.offset)
    }

    /// Returns the bytes.
    ///
    /// # Safety
    /// As long as the slice lives, the driver has the buffer and not the device, and no slice of [`Self::bytes_mut`] lives.
    #[inline]
    pub unsafe fn bytes(self) -> &'static [u8] {
        // SAFETY: inside the region (see `start`), which `DmaRegion` promises to be valid. The caller vouches for the rest.
        unsafe { core::slice::from_raw_parts(self.start(), self.len) }
    }

    /// Returns the bytes, for writing.
    ///
    /// # Safety
    /// As long as the slice lives, the driver has the buffer and not the device, and no other slice of the buffer lives.
    #[inline]
    pub unsafe fn bytes_mut(self) -> &'static mut [u8] {
        // SAFETY: inside the region (see `start`), which `DmaRegion` promises to be valid. The caller vouches for the rest.
        unsafe { core::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

/// The virtio-drivers' view of the region of `R`.
pub struct Memory<R>(PhantomData<R>);

// SAFETY: `dma_alloc` returns disjoint zeroed pages of the region, which is valid as long as the program runs.
// `mmio_phys_to_virt` returns what `DmaRegion::registers` maps.
unsafe impl<R: DmaRegion> Hal for Memory<R> {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let bytes = pages * PAGE_SIZE;
        let offset = R::allocated().fetch_add(bytes, Ordering::Relaxed);
        assert!(
            offset + bytes <= QUEUES,
            "the part of the DMA region for queues is too small"
        );
        // SAFETY: the range is inside the region (just checked), and `allocated` gives each byte once.
        let start = unsafe {
            let start = R::base().add(offset);
            start.write_bytes(0, bytes);
            start
        };
        (R::paddr() + offset as u64, start)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        // The queues live as long as the program.
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        R::registers(paddr, size)
    }

    #[inline]
    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        let offset = (buffer.cast::<u8>().as_ptr() as usize).wrapping_sub(R::base().as_ptr() as usize);
        assert!(offset < SIZE, "a buffer outside of the DMA region");
        R::paddr() + offset as u64
    }

    #[inline]
    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
