//! System calls of seL4 5.0.0. It has no scheduling contexts and no reply objects; the kernel, which is trusted,
//! remembers the caller to reply to.
//!
//! Registers (seL4 manual 5.0.0, and `libsel4`): RDX system call number, RDI capability and then badge, RSI message
//! info. R10 R8 R9 R15 have the first four message words. RCX and R11 are destroyed. The kernel does not preserve RSP,
//! so it is kept in R12.

pub mod badge;
pub mod label;

pub use badge::origin;

use crate::{CPtr, MessageInfo, Registers};
use core::arch::asm;

/// Labels of fault messages (`libsel4`, without MCS).
pub mod fault {
    /// A capability that does not exist.
    pub const CAPABILITY: u64 = 1;
    /// A system call that does not exist.
    pub const SYSCALL: u64 = 2;
    /// A processor exception.
    pub const EXCEPTION: u64 = 3;
    /// An address that is not mapped.
    pub const PAGE: u64 = 5;
}

const SYS_CALL: i64 = -1;
const SYS_REPLY_RECV: i64 = -2;
const SYS_SEND: i64 = -3;
const SYS_RECV: i64 = -5;
const SYS_YIELD: i64 = -7;
/// The system call that the debug flavour adds to the interface (`tools/kernel`).
pub const SYS_DEBUG_PUT_CHAR: i64 = -9;

/// `seL4_Call`: sends and waits for the answer.
#[inline]
pub fn call(dest: CPtr, info: MessageInfo, registers: &mut Registers) -> MessageInfo {
    let mut reply = info.0;
    // SAFETY: the register convention of the kernel as stated above; of this program's memory the kernel touches only
    // the IPC buffer, which only raw pointers reach.
    unsafe {
        asm!("mov r12, rsp", "syscall", "mov rsp, r12",
            in("rdx") SYS_CALL, inout("rdi") dest => _, inout("rsi") reply,
            inout("r10") registers[0], inout("r8") registers[1], inout("r9") registers[2],
            inout("r15") registers[3], out("rcx") _, out("r11") _, out("r12") _);
    }
    MessageInfo(reply)
}

/// `seL4_Recv` on an endpoint or a notification. Returns message info and badge.
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

/// `seL4_ReplyRecv`: answers the last caller and waits for the next event.
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

/// `seL4_Yield`: lets the other threads of this priority have their turns, and returns at this thread's next turn.
#[inline]
pub fn yield_turn() {
    // SAFETY: as in `call`; no message is sent or received.
    unsafe {
        asm!("mov r12, rsp", "syscall", "mov rsp, r12",
            in("rdx") SYS_YIELD, inout("rdi") 0u64 => _, inout("rsi") 0u64 => _,
            out("r10") _, out("r8") _, out("r9") _, out("r15") _, out("rcx") _, out("r11") _, out("r12") _);
    }
}

/// `seL4_DebugPutChar`: prints one byte on the kernel's console. Only a debug kernel has this system call; with any other the
/// caller faults.
pub fn debug_put_char(byte: u8) {
    // SAFETY: as in `call`; no message is sent or received.
    unsafe {
        asm!("mov r12, rsp", "syscall", "mov rsp, r12",
            in("rdx") SYS_DEBUG_PUT_CHAR, inout("rdi") u64::from(byte) => _, inout("rsi") 0u64 => _,
            inout("r10") 0u64 => _, inout("r8") 0u64 => _, inout("r9") 0u64 => _, inout("r15") 0u64 => _,
            out("rcx") _, out("r11") _, out("r12") _);
    }
}
