//! Randomness from the processor, which is trusted. Owns no state.

use core::arch::x86_64::{__cpuid, _rdrand64_step};

/// Returns a random number from RDRAND. Returns `None` if the processor has no RDRAND, or if ten tries failed (Intel's
/// own advice).
pub fn rdrand() -> Option<u64> {
    const RDRAND: u32 = 1 << 30;
    if __cpuid(1).ecx & RDRAND == 0 {
        return None;
    }
    #[target_feature(enable = "rdrand")]
    fn step() -> Option<u64> {
        let mut value = 0;
        (0..10).find_map(|_| (_rdrand64_step(&mut value) == 1).then_some(value))
    }
    // SAFETY: CPUID has just reported that the instruction exists.
    unsafe { step() }
}
