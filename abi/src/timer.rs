//! Protected calls to the timer domain. The caller reads the clock itself (TSC); the timer only wakes it.
//!
//! A caller is not trusted. It can set only its own one deadline, which belongs to the channel of the call.

/// Label: word 0 is an absolute time in nanoseconds of the shared clock. The caller's channel is notified once at this time, or
/// at once if it is past. Replaces the caller's earlier deadline. Replies with label [`OK`].
pub const SET_DEADLINE: u64 = 1;
/// Label: cancels the caller's deadline. Replies with label [`OK`].
pub const CANCEL: u64 = 2;
/// Reply: done.
pub const OK: u64 = 0;
/// Reply: no such operation, or the word is missing.
pub const BAD_REQUEST: u64 = 1;
