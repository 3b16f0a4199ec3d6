//! Calls of the console to the manager: a label, an argument in the message bytes, the answer as CBOR in `console-reply`.
//!
//! The console is not trusted: the manager checks its arguments and writes the answer into a region that the console
//! can only read. The reply's label is [`OK`] or [`ERROR`], its word 0 the length of the CBOR text in bytes.

use crate::control::{BraneStatus, Counter};
use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};

/// Bytes of the region `console-reply`.
pub const REPLY_SIZE: usize = 0x1_0000;

/// Reply: the region holds the answer.
pub const OK: u64 = 0;
/// Reply: the region holds a [`Refusal`].
pub const ERROR: u64 = 1;

/// Label: ask all branes for a fresh status; answers at once with an empty text. Give them a moment.
pub const REFRESH: u64 = 1;
/// Label: all branes → [`List`].
pub const LIST: u64 = 2;
/// Label: one brane by name (UTF-8 in the message bytes, word 0 its length) → [`Brane`].
pub const SHOW: u64 = 3;
/// Label: counters of everything → [`Stats`].
pub const STATS: u64 = 4;
/// Label: make the named brane fault → empty text.
pub const CRASH: u64 = 5;
/// Label: make the named brane hang (it runs and answers nobody) → empty text.
pub const HANG: u64 = 6;

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Refusal {
    /// What is wrong, naming the thing.
    #[n(0)]
    pub what: String,
    /// What to do.
    #[n(1)]
    pub help: String,
}

/// Answer of [`LIST`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct List {
    /// The branes, by number.
    #[n(0)]
    pub branes: Vec<Brane>,
}

/// One brane as the manager knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Brane {
    /// Number.
    #[n(0)]
    pub id: u32,
    /// Name.
    #[n(1)]
    pub name: String,
    /// State in a word: `starting`, `started`, `restarting`, `failed`.
    #[n(2)]
    pub state: String,
    /// Restarts so far.
    #[n(3)]
    pub restarts: u32,
    /// The last fault, in words; empty when there was none.
    #[n(4)]
    pub last_fault: String,
    /// Its own last report.
    #[n(5)]
    pub status: BraneStatus,
    /// Age of that report in milliseconds.
    #[n(6)]
    pub status_age_ms: u64,
    /// The driver's counters of its vifs, one group for each.
    #[n(7)]
    pub vifs: Vec<CounterGroup>,
    /// Whether it is the primary brane.
    #[n(8)]
    pub primary: bool,
    /// Time from the last fault to being configured again, in microseconds; 0 when there was none.
    #[n(9)]
    pub recovery_us: u64,
}

/// Answer of [`STATS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Stats {
    /// Counters in groups: `nic0`, then one for each vif and brane.
    #[n(0)]
    pub groups: Vec<CounterGroup>,
}

/// Counters of one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct CounterGroup {
    /// The thing's name.
    #[n(0)]
    pub name: String,
    /// Its counters.
    #[n(1)]
    pub counters: Vec<Counter>,
}
