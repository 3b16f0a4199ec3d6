//! System calls of seL4 on x86_64, for two kernels: the instruction, the registers, the labels, the badges.
//!
//! The other side is the kernel, which is trusted. Only this crate and the root task know its numbers. All other code
//! uses `sel4-microkit` and runs on either kernel unchanged.
//!
//! - [`registry`]: seL4 5.0.0, built from a registry package. Images of this project's own builder run on it.
//! - [`mcs`]: seL4 16 with the mixed-criticality scheduler, as in the official Microkit SDK.
//!
//! Both are always compiled. The environment variable `BRANES_SEL4` at build time (`build.rs`) chooses one of them for
//! all protection domains, and this crate re-exports it.
#![no_std]

mod cptr;
mod fault;
pub mod mcs;
mod printing;
pub mod registry;

#[cfg(sel4_mcs)]
use mcs as kernel;
#[cfg(not(sel4_mcs))]
use registry as kernel;

pub use cptr::{CPtrBits, Cap, CapType, cap, cap_type};
pub use fault::{CapFault, Fault, NullFault, UnknownSyscall, UserException, VmFault, sys};
pub use kernel::{call, label, origin, recv, reply_recv, signal, yield_turn};
pub use printing::{DebugWrite, PRINTING, debug_put_char, print};

/// Both kernels' modules have equal interfaces, so that code that compiles for one compiles for the other.
const _: () = {
    type Call = fn(CPtr, MessageInfo, &mut Registers) -> MessageInfo;
    type Receive = fn(CPtr, &mut Registers) -> (MessageInfo, u64);
    type ReplyReceive = fn(CPtr, MessageInfo, &mut Registers) -> (MessageInfo, u64);
    let _: [Call; 2] = [registry::call, mcs::call];
    let _: [Receive; 2] = [registry::recv, mcs::recv];
    let _: [ReplyReceive; 2] = [registry::reply_recv, mcs::reply_recv];
    let _: [fn(CPtr); 2] = [registry::signal, mcs::signal];
    let _: [fn(); 2] = [registry::yield_turn, mcs::yield_turn];
    let _: [fn(u64) -> Origin; 2] = [registry::origin, mcs::origin];
    let _: [fn(u8); 2] = [registry::debug_put_char, mcs::debug_put_char];
    macro_rules! labels {
        ($($module:ident: $($name:ident)*;)*) => {
            $($(let _: [u64; 2] = [registry::$module::$name, mcs::$module::$name];)*)*
        };
    }
    labels! {
        label: TCB_READ_REGISTERS TCB_WRITE_REGISTERS TCB_SUSPEND TCB_RESUME IRQ_ACK_IRQ X86_IO_PORT_IN8 X86_IO_PORT_IN16
            X86_IO_PORT_IN32 X86_IO_PORT_OUT8 X86_IO_PORT_OUT16 X86_IO_PORT_OUT32;
        fault: CAPABILITY SYSCALL EXCEPTION PAGE;
    }
};

/// A word of the kernel's interface.
pub type Word = u64;

/// A capability's place in the caller's capability space.
pub type CPtr = Word;

/// Maximum number of words in a message (`seL4_MsgMaxLength`).
pub const MESSAGE_WORDS: usize = 120;

/// The event that woke a protection domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Channels and interrupts that were signalled: bit `n` for id `n`.
    Notification(u64),
    /// A protected call over this channel (0 to 63).
    Call(usize),
    /// A fault of this child (0 to 255).
    Fault(usize),
}

/// Message info: label above bit 12, number of capabilities above bit 7, length in the low 7 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct MessageInfo(u64);

impl MessageInfo {
    /// Number of bits of a label.
    pub const LABEL_BITS: u32 = 52;

    /// Creates a message with a label and a number of words, at most [`MESSAGE_WORDS`].
    pub const fn new(label: u64, length: usize) -> Self {
        let length = if length > MESSAGE_WORDS {
            MESSAGE_WORDS
        } else {
            length
        };
        Self(label << 12 | length as u64)
    }
    /// Returns this message with `count` capabilities, at most 3. Only the root task sends any.
    pub const fn with_caps(self, count: usize) -> Self {
        Self(self.0 & !(3 << 7) | (count as u64 & 3) << 7)
    }
    /// Returns the label.
    pub const fn label(self) -> u64 {
        self.0 >> 12
    }
    /// Returns the number of words, at most [`MESSAGE_WORDS`].
    pub const fn length(self) -> usize {
        let length = (self.0 & 0x7f) as usize;
        if length > MESSAGE_WORDS {
            MESSAGE_WORDS
        } else {
            length
        }
    }
}

/// The first four words of a message, which travel in registers.
pub type Registers = [u64; 4];

/// Why the kernel refused an invocation: the label of its answer (`seL4_Error`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub u64);

/// [`Refused`], by the upstream crate's name.
pub type Error = Refused;

/// What an invocation returns.
pub type Result<T> = core::result::Result<T, Error>;

/// The reasons, by the upstream crate's names.
#[allow(non_upper_case_globals, missing_docs)]
impl Refused {
    pub const InvalidArgument: Error = Refused(1);
    pub const InvalidCapability: Error = Refused(2);
    pub const IllegalOperation: Error = Refused(3);
    pub const RangeError: Error = Refused(4);
    pub const AlignmentError: Error = Refused(5);
    pub const FailedLookup: Error = Refused(6);
    pub const TruncatedMessage: Error = Refused(7);
    pub const DeleteFirst: Error = Refused(8);
    pub const RevokeFirst: Error = Refused(9);
    pub const NotEnoughMemory: Error = Refused(10);
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = match self.0 {
            1 => "invalid argument",
            2 => "invalid capability",
            3 => "illegal operation",
            4 => "range error",
            5 => "alignment error",
            6 => "failed lookup",
            7 => "truncated message",
            8 => "delete first",
            9 => "revoke first",
            10 => "not enough memory",
            _ => return write!(f, "kernel error {}", self.0),
        };
        f.write_str(name)
    }
}

impl core::error::Error for Refused {}

/// Invokes a kernel object with at most four words. Returns the first word of the answer.
#[inline]
pub fn invoke(object: CPtr, label: u64, length: usize, mut words: Registers) -> Result<u64> {
    let answer = call(object, MessageInfo::new(label, length.min(4)), &mut words);
    if answer.label() == 0 {
        Ok(words[0])
    } else {
        Err(Refused(answer.label()))
    }
}

/// Acknowledges an interrupt at its handler.
#[inline]
pub fn irq_ack(handler: CPtr) -> Result<()> {
    invoke(handler, kernel::label::IRQ_ACK_IRQ, 0, [0; 4]).map(drop)
}

/// Stops a thread.
pub fn tcb_suspend(tcb: CPtr) -> Result<()> {
    invoke(tcb, kernel::label::TCB_SUSPEND, 0, [0; 4]).map(drop)
}

/// Lets a stopped thread continue.
pub fn tcb_resume(tcb: CPtr) -> Result<()> {
    invoke(tcb, kernel::label::TCB_RESUME, 0, [0; 4]).map(drop)
}
