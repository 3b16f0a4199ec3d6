//! Badges that identify the event that woke a protection domain, on a kernel with short endpoint badges.
//!
//! Microkit marks protected calls and faults by bits 63 and 62 of the badge. Here a notification's badge has 64 bits
//! but an endpoint's only 28, so the marks are reversed: every notification badge contains [`NOTIFICATION`], which no
//! endpoint badge can have. The image builder writes these badges, and [`origin`] decodes them. Builder and kernel are
//! trusted.

use crate::Origin;

/// Bit in every notification badge; another bit is that of the channel or interrupt (0 to 61).
pub const NOTIFICATION: u64 = 1 << 62;
/// Bit in the endpoint badge of a caller; the channel (at the receiver) is in the low 6 bits.
pub const CALL: u64 = 1 << 27;
/// Bit in the endpoint badge of a child's faults; the child's number is in the low 8 bits.
pub const FAULT: u64 = 1 << 26;

/// Returns the badge of a notification capability for channel or interrupt `id`.
pub const fn notification(id: u32) -> u64 {
    NOTIFICATION | 1 << id
}

/// Returns the badge of an endpoint capability for protected calls over channel `id` (the receiver's number).
pub const fn call(id: u32) -> u64 {
    CALL | id as u64
}

/// Returns the badge of the fault endpoint of child `id`.
pub const fn fault(id: u32) -> u64 {
    FAULT | id as u64
}

/// Decodes a badge as the kernel delivers it.
#[inline(always)]
pub const fn origin(badge: u64) -> Origin {
    if badge & NOTIFICATION != 0 {
        Origin::Notification(badge & !(3 << 62))
    } else if badge & CALL != 0 {
        Origin::Call((badge & 0x3f) as usize)
    } else if badge & FAULT != 0 {
        Origin::Fault((badge & 0xff) as usize)
    } else {
        Origin::Notification(badge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_badges_fit_the_kernel_and_come_back() {
        for id in 0..=61 {
            assert!(call(id) < 1 << 28);
            assert_eq!(origin(call(id)), Origin::Call(id as usize));
            assert_eq!(origin(notification(id)), Origin::Notification(1 << id));
        }
        for id in 0..=255 {
            assert!(fault(id) < 1 << 28);
            assert_eq!(origin(fault(id)), Origin::Fault(id as usize));
        }
    }

    #[test]
    fn signals_of_any_set_of_channels_are_never_taken_for_a_call_or_a_fault() {
        let everything = (0..=61).fold(0, |word, id| word | notification(id));
        assert_eq!(origin(everything), Origin::Notification((1 << 62) - 1));
        let two = origin(notification(26) | notification(27));
        assert_eq!(two, Origin::Notification(1 << 26 | 1 << 27));
    }
}
