//! System calls of seL4 5.0.0 on x86_64: the instruction, the registers, the invocation labels.
//!
//! The other side is the kernel, which is trusted. This crate and the root task are the only places that know its
//! numbers; everything above speaks in terms of `sel4-microkit`.
//!
//! Registers (seL4 manual 5.0.0, and `libsel4`): RDX system call number, RDI capability and then badge, RSI message
//! info, R10 R8 R9 R15 the first four message words; RCX and R11 are destroyed, RSP is not preserved by the kernel, so it
//! is parked in R12.
#![no_std]

pub mod label;

use core::arch::asm;

/// A capability's place in the caller's capability space.
pub type CPtr = u64;

/// Words in a message at most (`seL4_MsgMaxLength`).
pub const MESSAGE_WORDS: usize = 120;

const SYS_CALL: i64 = -1;
const SYS_REPLY_RECV: i64 = -2;
const SYS_SEND: i64 = -3;
const SYS_RECV: i64 = -5;
const SYS_YIELD: i64 = -7;

/// Message info: label above bit 12, number of capabilities above bit 7, length in the low 7 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct MessageInfo(u64);

impl MessageInfo {
    /// A message with a label and a number of words, at most [`MESSAGE_WORDS`].
    pub const fn new(label: u64, length: usize) -> Self {
        let length = if length > MESSAGE_WORDS {
            MESSAGE_WORDS
        } else {
            length
        };
        Self(label << 12 | length as u64)
    }
    /// The same message with `count` capabilities, at most 3; only the root task sends any.
    pub const fn with_caps(self, count: usize) -> Self {
        Self(self.0 & !(3 << 7) | (count as u64 & 3) << 7)
    }
    /// The number of words, by the name that the upstream crate gives it.
    pub const fn count(self) -> usize {
        self.length()
    }
    /// The label.
    pub const fn label(self) -> u64 {
        self.0 >> 12
    }
    /// The number of words, at most [`MESSAGE_WORDS`].
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

/// `seL4_Call`: sends and waits for the answer.
#[inline]
pub fn call(dest: CPtr, info: MessageInfo, registers: &mut Registers) -> MessageInfo {
    let mut reply = info.0;
    // SAFETY: the register convention of the kernel as stated above; the kernel touches no memory of ours but the
    // IPC buffer, which only raw pointers reach.
    unsafe {
        asm!("mov r12, rsp", "syscall", "mov rsp, r12",
            in("rdx") SYS_CALL, inout("rdi") dest => _, inout("rsi") reply,
            inout("r10") registers[0], inout("r8") registers[1], inout("r9") registers[2],
            inout("r15") registers[3], out("rcx") _, out("r11") _, out("r12") _);
    }
    MessageInfo(reply)
}

/// `seL4_Recv` on an endpoint or a notification: message info and badge.
#[inline]
pub fn recv(source: CPtr, registers: &mut Registers) -> (MessageInfo, u64) {
    let (badge, info);
    // SAFETY: as in `call`.
    unsafe {
        asm!("mov r12, rsp", "syscall", "mov rsp, r12",
            in("rdx") SYS_RECV, inout("rdi") source => badge, out("rsi") info,
            out("r10") registers[0], out("r8") registers[1], out("r9") registers[2],
            out("r15") registers[3], out("rcx") _, out("r11") _, out("r12") _);
    }
    (MessageInfo(info), badge)
}

/// `seL4_ReplyRecv`: answers the last caller and waits for what comes next.
#[inline]
pub fn reply_recv(source: CPtr, info: MessageInfo, registers: &mut Registers) -> (MessageInfo, u64) {
    let badge;
    let mut message = info.0;
    // SAFETY: as in `call`.
    unsafe {
        asm!("mov r12, rsp", "syscall", "mov rsp, r12",
            in("rdx") SYS_REPLY_RECV, inout("rdi") source => badge, inout("rsi") message,
            inout("r10") registers[0], inout("r8") registers[1], inout("r9") registers[2],
            inout("r15") registers[3], out("rcx") _, out("r11") _, out("r12") _);
    }
    (MessageInfo(message), badge)
}

/// `seL4_Signal`: sends an empty message to a notification. Never blocks.
#[inline]
pub fn signal(notification: CPtr) {
    // SAFETY: as in `call`; the kernel preserves the message registers on a send.
    unsafe {
        asm!("mov r12, rsp", "syscall", "mov rsp, r12",
            in("rdx") SYS_SEND, inout("rdi") notification => _, inout("rsi") 0u64 => _,
            out("rcx") _, out("r11") _, out("r12") _);
    }
}

/// `seL4_Yield`: gives up the rest of the time slice.
#[inline]
pub fn yield_now() {
    // SAFETY: as in `call`.
    unsafe {
        asm!("mov r12, rsp", "syscall", "mov rsp, r12",
            in("rdx") SYS_YIELD, out("rdi") _, out("rsi") _, out("rcx") _, out("r11") _, out("r12") _);
    }
}

/// Why the kernel refused an invocation: the label of its answer (`seL4_Error`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub u64);

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

/// An invocation of at most four words; the answer's first word.
#[inline]
pub fn invoke(object: CPtr, label: u64, length: usize, mut words: Registers) -> Result<u64, Refused> {
    let answer = call(object, MessageInfo::new(label, length.min(4)), &mut words);
    if answer.label() == 0 {
        Ok(words[0])
    } else {
        Err(Refused(answer.label()))
    }
}

/// Acknowledges an interrupt at its handler.
#[inline]
pub fn irq_ack(handler: CPtr) -> Result<(), Refused> {
    invoke(handler, label::IRQ_ACK_IRQ, 0, [0; 4]).map(drop)
}

/// Stops a thread.
pub fn tcb_suspend(tcb: CPtr) -> Result<(), Refused> {
    invoke(tcb, label::TCB_SUSPEND, 0, [0; 4]).map(drop)
}

/// Lets a thread go on.
pub fn tcb_resume(tcb: CPtr) -> Result<(), Refused> {
    invoke(tcb, label::TCB_RESUME, 0, [0; 4]).map(drop)
}
