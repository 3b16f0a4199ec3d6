//! Clears the memory that lasts over restarts, when a protection domain starts for another tenant.
//!
//! `.data`, `.bss` and all registers are fresh at each start. Memory regions and the stack are not. After a fault that
//! is intended, because the other side of a shared region may still read there. When the domain gets another tenant,
//! its parent first stops the other untrusted side. Then the parent restarts the domain with
//! [`crate::Child::restart_for_another`], and the program clears its regions before it uses them.
//! [`crate::log::attach`] clears the log ring. The parent is trusted. The code that clears is not writable, so the last
//! tenant cannot have changed it.

use crate::Region;
use core::sync::atomic::{AtomicU64, Ordering};

/// Reason of a start: for another tenant.
pub(crate) const ANOTHER: u64 = 1;

static REASON: AtomicU64 = AtomicU64::new(0);

/// Records the reason of this start, as given by the parent. Called only by the entry.
#[doc(hidden)]
pub fn set(reason: u64) {
    REASON.store(reason, Ordering::Relaxed);
}

/// Returns true if this start is for another tenant than the last one.
pub fn wanted() -> bool {
    REASON.load(Ordering::Relaxed) == ANOTHER
}

/// Writes zeros to the part of a region that begins at `offset` and has `len` bytes, both multiples of 64. Bytes beyond
/// the region are left out. The code is a loop, because under emulation every step of a string instruction counts as an
/// instruction.
pub fn clear(region: Region, offset: usize, len: usize) {
    let end = offset.saturating_add(len).min(region.size) & !63;
    let start = offset.next_multiple_of(64).min(end);
    // SAFETY: both lie inside the region, which is mapped writable at a page's start (so aligned) for this domain's
    // life. It is plain memory, and a domain that shares it does not trust its content.
    unsafe { zero(region.as_ptr().add(start), region.as_ptr().add(end)) }
}

/// Writes zeros to the part of the stack that the last tenant used and this start does not use. That is the `size`
/// bytes below the stack's top, without those above the caller's frame.
pub fn clear_stack(size: usize) {
    let here: usize;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    let top = crate::channel::STACK_TOP as usize;
    // Below the red zone and the frame of the next call.
    let end = here.saturating_sub(4096) & !63;
    let start = top.saturating_sub(size);
    if start < end {
        // SAFETY: from the stack's lowest byte (the caller passes the size in the system description) to far below the
        // present frame: mapped, writable, this domain's own, not in use now; a page's start, so aligned.
        unsafe { zero(start as *mut u8, end as *mut u8) }
    }
}

/// Writes zeros from `at` up to `end`.
///
/// # Safety
/// Both must be multiples of 64. The memory between them must be writable, and no reference to it may exist.
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
