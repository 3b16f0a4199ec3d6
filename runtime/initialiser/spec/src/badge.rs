//! How a protection domain tells apart what woke it.
//!
//! Microkit marks protected calls and faults by bits 63 and 62 of the badge. On this kernel a notification's badge has 64
//! bits but an endpoint's only 28, so the marks are the other way round: every notification badge carries
//! [`NOTIFICATION`], which no endpoint badge can have. The image builder writes these badges, and the PD runtime turns
//! what the kernel delivers into Microkit's form by [`to_microkit`], in one place.

/// In every notification badge, beside the bit of its channel or interrupt (0 to 61).
pub const NOTIFICATION: u64 = 1 << 62;
/// In the endpoint badge of a caller, beside the channel (at the receiver) in the low 6 bits.
pub const CALL: u64 = 1 << 27;
/// In the endpoint badge of a child's faults, beside the child's number in the low 8 bits.
pub const FAULT: u64 = 1 << 26;

/// Microkit's mark of a protected call.
pub const MICROKIT_CALL: u64 = 1 << 63;
/// Microkit's mark of a fault.
pub const MICROKIT_FAULT: u64 = 1 << 62;

/// The badge of a notification capability for channel or interrupt `id`.
pub const fn notification(id: u32) -> u64 {
    NOTIFICATION | 1 << id
}

/// The badge of an endpoint capability for protected calls over channel `id` (the receiver's number).
pub const fn call(id: u32) -> u64 {
    CALL | id as u64
}

/// The badge of the fault endpoint of child `id`.
pub const fn fault(id: u32) -> u64 {
    FAULT | id as u64
}

/// Turns a badge as the kernel delivers it into Microkit's form.
#[inline(always)]
pub const fn to_microkit(raw: u64) -> u64 {
    if raw & NOTIFICATION != 0 {
        raw & !(NOTIFICATION | MICROKIT_CALL)
    } else if raw & CALL != 0 {
        MICROKIT_CALL | raw & 0x3f
    } else if raw & FAULT != 0 {
        MICROKIT_FAULT | raw & 0xff
    } else {
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_badges_fit_the_kernel_and_come_back() {
        for id in 0..=61 {
            assert!(call(id) < 1 << 28);
            assert_eq!(to_microkit(call(id)), MICROKIT_CALL | u64::from(id));
            assert_eq!(to_microkit(notification(id)), 1 << id);
        }
        for id in 0..=255 {
            assert!(fault(id) < 1 << 28);
            assert_eq!(to_microkit(fault(id)), MICROKIT_FAULT | u64::from(id));
        }
    }

    #[test]
    fn signals_of_any_set_of_channels_are_never_taken_for_a_call_or_a_fault() {
        let everything = (0..=61).fold(0, |word, id| word | notification(id));
        assert_eq!(to_microkit(everything), (1 << 62) - 1);
        assert_eq!(
            to_microkit(notification(26) | notification(27)),
            1 << 26 | 1 << 27
        );
    }
}
