//! A heap in a memory region: the TLSF allocator of the crate `rlsf`, whose operations take bounded time.
//!
//! A protection domain has one thread, so there is no lock.

use crate::Region;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null_mut};
use rlsf::Tlsf;

type Pool = Tlsf<'static, u32, u32, 20, 32>;

/// The global allocator of a protection domain. Without [`init`] it has no memory and every allocation fails.
struct Heap(UnsafeCell<Pool>);

// SAFETY: a protection domain has exactly one thread, and the allocator is never entered from itself.
unsafe impl Sync for Heap {}

#[cfg_attr(not(test), global_allocator)]
static HEAP: Heap = Heap(UnsafeCell::new(Pool::new()));

/// Gives the heap all of a region. To be called once at the start, before the first allocation.
pub fn init(region: Region) {
    // SAFETY: the region is mapped for the domain's life and used by nobody else (the caller's contract by the
    // system description); one thread, so no other reference to the pool exists now.
    unsafe {
        let memory = core::slice::from_raw_parts_mut(region.as_ptr().cast::<MaybeUninit<u8>>(), region.size);
        (*HEAP.0.get()).insert_free_block(memory);
    }
}

// SAFETY: Tlsf fulfils the contract of an allocator; one thread, as said above.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the only reference to the pool for the duration of the call.
        unsafe {
            (*self.0.get())
                .allocate(layout)
                .map_or(null_mut(), NonNull::as_ptr)
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(ptr) = NonNull::new(ptr) {
            // SAFETY: as above; the pointer came from `alloc` with this layout, by GlobalAlloc's contract.
            unsafe { (*self.0.get()).deallocate(ptr, layout.align()) }
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (Some(ptr), Ok(layout)) = (NonNull::new(ptr), Layout::from_size_align(size, layout.align()))
        else {
            return null_mut();
        };
        // SAFETY: as above; grows in place where there is room.
        unsafe {
            (*self.0.get())
                .reallocate(ptr, layout)
                .map_or(null_mut(), NonNull::as_ptr)
        }
    }
}
