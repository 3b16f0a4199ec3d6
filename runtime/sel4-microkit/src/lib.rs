//! Runtime of a protection domain. A program for the upstream crate of this name compiles and runs here without a
//! change; `README.md` lists the functions and the differences.
//!
//! It owns the entry point, the event loop, the places of capabilities, the message buffer, the memory functions and
//! the panic path. At the first start and at every restart, the stack is fresh, `.data` is restored and `.bss` cleared.
//! On the other side are the kernel (trusted) and the domains that share a channel; their messages are passed to the
//! [`Handler`] unchecked.
//!
//! A protection domain is `#[protection_domain] fn init() -> impl Handler`. The image builder patches the symbols in
//! `symbols`. Capabilities lie where Microkit puts them: 1 input, 10 + channel notifications, 74 + channel endpoints,
//! 138 + id interrupts, 202 + child threads, 394 + id I/O ports. Those of a `cspace` element lie in a table above.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod backtrace;
mod cell;
mod channel;
mod deferred;
pub mod entropy;
mod entry;
mod handler;
pub mod heap;
mod ioport;
pub mod log;
mod mem;
mod message;
pub mod panicking;
mod region;
pub mod scrub;
#[cfg(not(test))]
mod start;
mod symbols;
mod thread;
pub mod time;

pub use cell::StaticCell;
pub use channel::{Channel, ChannelSet, Child, DisplayChannelSet, IrqAckError};
pub use deferred::{DeferredAction, DeferredActionInterface, DeferredActionSlot};
pub use handler::{Handler, Infallible, Never, NullHandler};
pub use ioport::IoPort;
pub use message::{
    MessageInfo, MessageLabel, MessageRegisterValue, get_mr, set_mr, with_msg_bytes, with_msg_bytes_mut,
    with_msg_regs, with_msg_regs_mut,
};
pub use region::{IoPortRange, Region};
pub use sel4_microkit_macros::protection_domain;
pub use symbols::{pd_is_passive, pd_name};
pub use thread::Thread;

/// Items for the expansion of this crate's macros.
#[doc(hidden)]
pub mod _private {
    pub use crate::cell::StaticCell;
    pub use crate::entry::{Stack, begin, run_main};
    pub use crate::heap::give;
    pub use crate::symbols::Patched;
    pub use core::mem::MaybeUninit;
}

/// Lets the other domains of this priority have their turns. A domain with much work calls it between short pieces of
/// work, so that domains with little work need not wait for the end of a whole turn.
pub fn yield_turn() {
    sel4::yield_turn();
}

const INPUT: u64 = 1;
const NOTIFICATIONS: u64 = 10;
const ENDPOINTS: u64 = 74;
const IRQS: u64 = 138;
const CHILDREN: u64 = 202;
const IOPORTS: u64 = 394;
/// log2 of the slots of the upper table, which has the capabilities that `<cspace>` adds to the usual ones.
const ROOT_BITS: u32 = 6;

/// Highest id of channels and interrupts, which share the ids 0 to 61.
pub const MAX_ID: usize = 61;
