//! The memory that a device may reach, as the crate virtio-drivers sees it: queues are allocated at its start, and buffers lie
//! behind them.
//!
//! On the other side is the device, which is not trusted and can write anywhere in this memory at any time. A driver copies or
//! bounds the bytes that the device wrote before it uses them.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// The memory of one device, and the place of its registers.
///
/// # Safety
/// [`Self::base`] returns the same page-aligned address at each call. [`Self::SIZE`] bytes from there are valid for reads and writes
/// as long as the program runs. The program reaches them through the driver's buffers and [`Memory`] alone.
pub unsafe trait DmaRegion: 'static {
    /// Bytes of memory that the driver uses.
    const SIZE: usize;
    /// Bytes at the start of the memory that queues may use.
    const QUEUES: usize;

    /// Returns the address of the first byte.
    fn base() -> NonNull<u8>;

    /// Returns the address of the first byte as the device knows it.
    fn paddr() -> PhysAddr;

    /// Returns the bytes of the region's first part that queues use. They start at zero.
    fn allocated() -> &'static AtomicUsize;

    /// Returns where `size` bytes of the device's registers are mapped. Panics if they are not.
    fn registers(paddr: PhysAddr, size: usize) -> NonNull<u8>;
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
            offset + bytes <= R::QUEUES,
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
        assert!(offset < R::SIZE, "a buffer outside of the DMA region");
        R::paddr() + offset as u64
    }

    #[inline]
    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// A range of bytes in the region of `R`. A driver makes one for each buffer that it divides its region into.
pub struct Buffer<R> {
    offset: usize,
    len: usize,
    region: PhantomData<R>,
}

impl<R: DmaRegion> Buffer<R> {
    /// Returns the buffer of `len` bytes at `offset`.
    ///
    /// # Panics
    /// If it does not lie in the region, behind its queues.
    #[inline]
    pub fn new(offset: usize, len: usize) -> Self {
        assert!(offset >= R::QUEUES && offset + len <= R::SIZE);
        Buffer {
            offset,
            len,
            region: PhantomData,
        }
    }

    /// Returns the buffer's first `len` bytes; all of them if it has fewer.
    #[inline]
    pub fn first(self, len: usize) -> Self {
        Buffer {
            len: len.min(self.len),
            ..self
        }
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        // `new` has checked the offset, so the address is inside the region.
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
