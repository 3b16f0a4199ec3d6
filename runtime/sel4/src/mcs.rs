//! System calls of seL4 16 with the mixed-criticality scheduler (MCS), as the Microkit SDK 2.3 configures it. The
//! kernel is trusted.
//!
//! Registers (`libsel4` of that version): RDX system call number, RDI capability and then badge, RSI message info. R10
//! R8 R9 R15 have the first four message words, R12 the reply object of a receive. RCX and R11 are destroyed. The
//! kernel does not preserve RSP, so it is kept in R14.

use crate::{CPtr, MessageInfo, Origin, Registers};
use core::arch::asm;

/// Labels of invocations. They differ between the SDK's configurations. So the build script takes them from the SDK's
/// own `invocations_all.json` if its path is given, and otherwise from the facts recorded in `labels.txt`.
pub mod label {
    include!(concat!(env!("OUT_DIR"), "/mcs_label.rs"));
}

/// Labels of fault messages (`libsel4`, with MCS).
pub mod fault {
    /// A capability that does not exist.
    pub const CAPABILITY: u64 = 1;
    /// A system call that does not exist.
    pub const SYSCALL: u64 = 2;
    /// A processor exception.
    pub const EXCEPTION: u64 = 3;
    /// An address that is not mapped.
    pub const PAGE: u64 = 6;
}

const SYS_CALL: i64 = -1;
const SYS_REPLY_RECV: i64 = -2;
const SYS_SEND: i64 = -5;
const SYS_RECV: i64 = -7;
const SYS_YIELD: i64 = -11;
const SYS_DEBUG_PUT_CHAR: i64 = -12;

/// Slot of a protection domain's reply object in Microkit.
const REPLY: CPtr = 4;

/// Bit in the badge of a protected call; the channel is in the low 6 bits.
const CALL: u64 = 1 << 63;
/// Bit in the badge of a child's fault; the child's number is in the low 8 bits.
const FAULT: u64 = 1 << 62;

/// Decodes a badge that Microkit's tool assigned.
#[inline(always)]
pub const fn origin(badge: u64) -> Origin {
    if badge & CALL != 0 {
        Origin::Call((badge & 0x3f) as usize)
    } else if badge & FAULT != 0 {
        Origin::Fault((badge & 0xff) as usize)
    } else {
        Origin::Notification(badge)
    }
}

/// `seL4_Call`: sends and waits for the answer.
#[inline]
pub fn call(dest: CPtr, info: MessageInfo, registers: &mut Registers) -> MessageInfo {
    let mut reply = info.0;
    // SAFETY: the register convention of the kernel as stated above; of this program's memory the kernel touches only
    // the IPC buffer, which only raw pointers reach.
    unsafe {
        asm!("mov r14, rsp", "syscall", "mov rsp, r14",
            in("rdx") SYS_CALL, inout("rdi") dest => _, inout("rsi") reply,
            inout("r10") registers[0], inout("r8") registers[1], inout("r9") registers[2],
            inout("r15") registers[3], in("r12") 0u64, out("rcx") _, out("r11") _, out("r14") _);
    }
    MessageInfo(reply)
}

/// `seL4_Recv` on an endpoint or a notification, with the domain's reply object. Returns message info and badge.
#[inline]
pub fn recv(source: CPtr, registers: &mut Registers) -> (MessageInfo, u64) {
    let (badge, info);
    // SAFETY: as in `call`.
    unsafe {
        asm!("mov r14, rsp", "syscall", "mov rsp, r14",
            in("rdx") SYS_RECV, inout("rdi") source => badge, out("rsi") info,
            out("r10") registers[0], out("r8") registers[1], out("r9") registers[2],
            out("r15") registers[3], in("r12") REPLY, out("rcx") _, out("r11") _, out("r14") _);
    }
    (MessageInfo(info), badge)
}

/// `seL4_ReplyRecv`: answers the caller in the reply object and waits for the next event.
#[inline]
pub fn reply_recv(source: CPtr, info: MessageInfo, registers: &mut Registers) -> (MessageInfo, u64) {
    let badge;
    let mut message = info.0;
    // SAFETY: as in `call`.
    unsafe {
        asm!("mov r14, rsp", "syscall", "mov rsp, r14",
            in("rdx") SYS_REPLY_RECV, inout("rdi") source => badge, inout("rsi") message,
            inout("r10") registers[0], inout("r8") registers[1], inout("r9") registers[2],
            inout("r15") registers[3], in("r12") REPLY, out("rcx") _, out("r11") _, out("r14") _);
    }
    (MessageInfo(message), badge)
}

/// `seL4_Signal`: sends an empty message to a notification. Never blocks.
#[inline]
pub fn signal(notification: CPtr) {
    // SAFETY: as in `call`; the kernel preserves the message registers on a send.
    unsafe {
        asm!("mov r14, rsp", "syscall", "mov rsp, r14",
            in("rdx") SYS_SEND, inout("rdi") notification => _, inout("rsi") 0u64 => _, in("r12") 0u64,
            out("rcx") _, out("r11") _, out("r14") _);
    }
}

/// `seL4_Yield`: lets the other threads of this priority have their turns, and returns at this thread's next turn.
#[inline]
pub fn yield_turn() {
    // SAFETY: as in `call`; no message is sent or received.
    unsafe {
        asm!("mov r14, rsp", "syscall", "mov rsp, r14",
            in("rdx") SYS_YIELD, inout("rdi") 0u64 => _, inout("rsi") 0u64 => _,
            out("r10") _, out("r8") _, out("r9") _, out("r15") _, in("r12") 0u64, out("rcx") _, out("r11") _, out("r14") _);
    }
}

/// `seL4_DebugPutChar`: prints one byte on the kernel's console. Only a debug kernel has this system call; with any other the
/// caller faults.
pub fn debug_put_char(byte: u8) {
    // SAFETY: as in `call`; no message is sent or received.
    unsafe {
        asm!("mov r14, rsp", "syscall", "mov rsp, r14",
            in("rdx") SYS_DEBUG_PUT_CHAR, inout("rdi") u64::from(byte) => _, inout("rsi") 0u64 => _,
            inout("r10") 0u64 => _, inout("r8") 0u64 => _, inout("r9") 0u64 => _, inout("r15") 0u64 => _,
            in("r12") 0u64, out("rcx") _, out("r11") _, out("r14") _);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the labels of SDK 2.3.0 in its debug configuration. A build for an SDK uses that SDK's own numbers.
    #[test]
    fn without_an_sdk_the_recorded_facts_are_taken() {
        if option_env!("BRANES_SEL4_LABELS").is_none() {
            let taken = [label::TCB_WRITE_REGISTERS, label::TCB_SUSPEND, label::TCB_RESUME];
            assert_eq!(taken, [3, 12, 13]);
            assert_eq!(
                [
                    label::IRQ_ACK_IRQ,
                    label::X86_IO_PORT_IN8,
                    label::X86_IO_PORT_OUT32
                ],
                [31, 58, 63]
            );
        }
    }

    #[test]
    fn badges_are_microkit_s() {
        assert_eq!(origin(1 << 63 | 61), Origin::Call(61));
        assert_eq!(origin(1 << 62 | 255), Origin::Fault(255));
        assert_eq!(origin((1 << 62) - 1), Origin::Notification((1 << 62) - 1));
    }
}
