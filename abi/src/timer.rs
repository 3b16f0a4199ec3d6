//! Protected calls to the timer domain. The caller reads the clock itself (TSC); the timer only wakes it.
//!
//! Callers are trusted with nothing but their own one deadline: it belongs to the channel that the call came on.

/// Label: word 0 is an absolute time in nanoseconds of the shared clock; the caller's channel is notified once when
/// it has come (at once when it is past). Replaces the caller's earlier deadline. Replies with label [`OK`].
pub const SET_DEADLINE: u64 = 1;
/// Label: forget the caller's deadline. Replies with label [`OK`].
pub const CANCEL: u64 = 2;
/// Reply: done.
pub const OK: u64 = 0;
/// Reply: no such operation, or the word is missing.
pub const BAD_REQUEST: u64 = 1;
