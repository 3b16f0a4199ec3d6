//! The address to which a stray program writes.

/// An address with two halves that both matter. No system maps anything there: it is far above the programs and
/// their regions, and far below their stacks.
pub const ADDRESS: u64 = 0x1234_5678_9abc;
