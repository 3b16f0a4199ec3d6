//! A heap in a memory region: the TLSF allocator of the crate `rlsf`, whose operations take bounded time.
//!
//! Owns the memory of the region. A protection domain has one thread, so there is no lock.

use crate::Region;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null_mut};
use rlsf::Tlsf;

type Pool = Tlsf<'static, u32, u32, 20, 32>;

/// The global allocator of a protection domain. Without [`init`] it has no memory and every allocation fails.
struct Heap(UnsafeCell<Pool>, Cell<usize>);

// SAFETY: a protection domain has exactly one thread, and the allocator is never entered from itself.
unsafe impl Sync for Heap {}

#[cfg_attr(not(test), global_allocator)]
static HEAP: Heap = Heap(UnsafeCell::new(Pool::new()), Cell::new(0));

/// Returns the bytes that are allocated now, in the sizes that were requested.
pub fn used() -> usize {
    HEAP.1.get()
}

impl Heap {
    fn count(&self, got: bool, more: usize, less: usize) {
        if got {
            self.1.set(self.1.get().wrapping_add(more).wrapping_sub(less));
        }
    }
}

/// Gives all of a region to the heap. Must be called once at the start, before the first allocation.
pub fn init(region: Region) {
    // SAFETY: the region is mapped for the domain's life and has no other user (the caller's contract by the system
    // description).
    give(unsafe { core::slice::from_raw_parts_mut(region.as_ptr().cast::<MaybeUninit<u8>>(), region.size) });
}

/// Gives memory to the heap, for `#[protection_domain(heap_size = N)]`.
#[doc(hidden)]
pub fn give(memory: &'static mut [MaybeUninit<u8>]) {
    // SAFETY: one thread, and the allocator is never entered from itself, so no other reference to the pool exists now.
    unsafe { (*HEAP.0.get()).insert_free_block(memory) };
}

// SAFETY: Tlsf fulfils the contract of an allocator. There is one thread, and the allocator is never entered from
// itself.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the only reference to the pool for the duration of the call.
        let got = unsafe { (*self.0.get()).allocate(layout) };
        self.count(got.is_some(), layout.size(), 0);
        got.map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(ptr) = NonNull::new(ptr) {
            self.count(true, 0, layout.size());
            // SAFETY: the only reference to the pool for the duration of the call; the pointer came from `alloc` with
            // this layout, by GlobalAlloc's contract.
            unsafe { (*self.0.get()).deallocate(ptr, layout.align()) }
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let old = layout.size();
        let (Some(ptr), Ok(layout)) = (NonNull::new(ptr), Layout::from_size_align(size, layout.align()))
        else {
            return null_mut();
        };
        // SAFETY: the only reference to the pool for the duration of the call; the pointer came from `alloc` with this
        // layout, by GlobalAlloc's contract. The block grows in place if there is room.
        let got = unsafe { (*self.0.get()).reallocate(ptr, layout) };
        self.count(got.is_some(), size, old);
        got.map_or(null_mut(), NonNull::as_ptr)
    }
}
