//! Clearing the memory that outlives a protection domain's start, when it starts for another tenant.
//!
//! `.data`, `.bss` and all registers are fresh at each start. Memory regions and the stack are not: after a fault that is as wanted, since
//! the other side of a shared region may still read there. When the domain is given to somebody else, its parent says so
//! ([`crate::Child::restart_for_another`]) and stops the other untrusted side first; then the program clears its regions
//! before it uses them. The log ring is cleared by [`crate::log::attach`]. The parent is trusted; the code that clears is not writable, so the last tenant cannot have changed it.

use crate::Region;
use core::sync::atomic::{AtomicU64, Ordering};

/// Why a start: for another tenant.
pub(crate) const ANOTHER: u64 = 1;

static REASON: AtomicU64 = AtomicU64::new(0);

/// What the parent gave as the reason of this start. Called by the entry alone.
#[doc(hidden)]
pub fn set(reason: u64) {
    REASON.store(reason, Ordering::Relaxed);
}

/// Whether this start is for another tenant than the last one.
pub fn wanted() -> bool {
    REASON.load(Ordering::Relaxed) == ANOTHER
}

/// Writes zeros to the part of a region that begins at `offset` and has `len` bytes, both multiples of 64; what lies beyond the
/// region is left out. A loop rather than a string instruction, whose every step counts as an instruction under emulation.
pub fn clear(region: Region, offset: usize, len: usize) {
    let end = offset.saturating_add(len).min(region.size) & !63;
    let start = offset.next_multiple_of(64).min(end);
    // SAFETY: both lie inside the region, which is mapped writable at a page's start (so aligned) for this domain's life; what is
    // there is plain memory, and whoever shares it takes it for an allegation.
    unsafe { zero(region.as_ptr().add(start), region.as_ptr().add(end)) }
}

/// Writes zeros to what the last tenant used of the stack and this start does not: `size` bytes from its top on, but for those
/// above the caller's frame.
pub fn clear_stack(size: usize) {
    let here: usize;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    let top = crate::channel::STACK_TOP as usize;
    // Below the red zone and the frame of what is called next.
    let end = here.saturating_sub(4096) & !63;
    let start = top.saturating_sub(size);
    if start < end {
        // SAFETY: from the stack's lowest byte (the caller gives the size of the system description) to far below our frame:
        // mapped, writable, ours, used by nobody now; a page's start, so aligned.
        unsafe { zero(start as *mut u8, end as *mut u8) }
    }
}

/// Writes zeros from `at` up to `end`.
///
/// # Safety
/// Both are multiples of 64 and enclose memory that may be written and that nobody holds a reference to.
unsafe fn zero(at: *mut u8, end: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!(
            "xorps {zero}, {zero}",
            "jmp 3f",
            "2:",
            "movaps [{at}], {zero}",
            "movaps [{at} + 16], {zero}",
            "movaps [{at} + 32], {zero}",
            "movaps [{at} + 48], {zero}",
            "add {at}, 64",
            "3:",
            "cmp {at}, {end}",
            "jb 2b",
            zero = out(xmm_reg) _,
            at = inout(reg) at => _,
            end = in(reg) end,
            options(nostack),
        );
    }
}
