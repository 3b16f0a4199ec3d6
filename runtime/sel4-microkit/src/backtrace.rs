//! The raw backtrace of a protection domain that failed, written by the domain itself.
//!
//! No other domain may read the stack. So the domain itself writes the data for a tool on the host
//! (`brane_abi::backtrace`) to its log. Its panic handler does that. After a fault its parent makes it continue at
//! [`Child::REPORT`] ([`Child::write_backtrace`]). The parent is trusted. The memory of the failed domain may contain
//! anything; its code and constants are not writable. This code does a bounded amount of work and ends by an invalid
//! instruction, so the parent sees one more fault.

#[cfg(not(test))]
pub(crate) use writer::write;

use crate::{Child, message};
use brane_abi::backtrace::Registers;

/// Number of registers up to RBP in the order of `seL4_UserContext`.
const REGISTERS: usize = 10;

/// Builds the message that makes a failed thread write its backtrace. The words are flags (bit 0: resume), the number
/// of registers, and the registers: RIP, RSP, RFLAGS, RAX, RBX, RCX, RDX, RSI, RDI, RBP. RDI, RSI and RDX are the
/// arguments of `report`.
const fn report_message(failed: Registers) -> [u64; 2 + REGISTERS] {
    let mut words = [0; 2 + REGISTERS];
    (words[0], words[1]) = (1, REGISTERS as u64);
    (words[2], words[3]) = (Child::REPORT, crate::channel::STACK_TOP);
    words[4] = crate::channel::PLAIN_FLAGS;
    (words[8], words[9], words[10]) = (failed.bp, failed.sp, failed.ip);
    words
}

impl Child {
    /// Address at which every program that `runtime/pd-build` links writes its backtrace; see `start`.
    pub const REPORT: u64 = Child::ENTRY + 16;

    /// Makes a child that faulted write a raw backtrace to its log. The child then faults once more, after a few lines
    /// at the latest. A child that panicked has written the backtrace already and faults at once.
    pub fn write_backtrace(self) -> Result<(), sel4::Refused> {
        let mut read = [0; REGISTERS];
        // Flags (bit 0: stop the thread), number of registers.
        let question = [0, REGISTERS as u64];
        message::ask(
            self.tcb().bits(),
            sel4::label::TCB_READ_REGISTERS,
            question,
            &mut read,
        )?;
        let [ip, sp, .., bp] = read;
        let words = report_message(Registers { ip, sp, bp });
        message::invoke(self.tcb().bits(), sel4::label::TCB_WRITE_REGISTERS, &words)
    }
}

#[cfg(not(test))]
mod writer {
    use crate::Child;
    use crate::channel::STACK_TOP;
    use crate::log::last_words;
    use brane_abi::backtrace::{Registers, Word, Words};
    use core::sync::atomic::{AtomicBool, Ordering};

    /// Maximum of bytes of the stack that are searched.
    const SEARCHED: u64 = 0x4000;
    /// Maximum of lines of stack words: they fill half of the log ring.
    const LINES: usize = 4;
    /// Bytes of the stack that `report` runs on.
    const REPORT_STACK: usize = 0x1000;

    #[repr(align(16))]
    struct Stack(
        // Only the assembly in `start` refers to it.
        #[allow(dead_code)] core::cell::UnsafeCell<[u8; REPORT_STACK]>,
    );

    // SAFETY: a protection domain has exactly one thread.
    unsafe impl Sync for Stack {}

    #[used]
    #[unsafe(export_name = "__sel4_microkit_report_stack")]
    static STACK: Stack = Stack(core::cell::UnsafeCell::new([0; REPORT_STACK]));

    /// True once the backtrace has been written. A start clears it.
    static WRITTEN: AtomicBool = AtomicBool::new(false);

    unsafe extern "C" {
        /// First address behind the code (linker script).
        static __text_end: u8;
    }

    /// Writes the backtrace after a fault, called by the assembly in `start`. It runs on [`STACK`], because the fault
    /// may be an overflow of the domain's own stack.
    #[unsafe(no_mangle)]
    extern "C" fn __sel4_microkit_report(ip: u64, sp: u64, bp: u64) {
        write(Registers { ip, sp, bp });
    }

    /// Writes the backtrace, unless it has been written since the start.
    pub(crate) fn write(failed: Registers) {
        if WRITTEN.swap(true, Ordering::Relaxed) {
            return;
        }
        last_words(format_args!("{failed}"));
        let code = Child::ENTRY..core::ptr::addr_of!(__text_end) as u64;
        let first = failed.sp.saturating_add(7) & !7;
        let end = first.saturating_add(SEARCHED).min(STACK_TOP);
        let mut line = Words::default();
        let mut lines = 1;
        let mut at = first;
        while at < end {
            // SAFETY: reads an aligned word below the stack's top. If no page is mapped there, the read faults, and the parent
            // sees the second fault that it expects.
            let value = unsafe { (at as *const u64).read_volatile() };
            if code.contains(&value) || (first..STACK_TOP).contains(&value) {
                let word = Word {
                    offset: at - failed.sp,
                    value,
                };
                if !line.push(word) {
                    if lines == LINES {
                        break;
                    }
                    lines += 1;
                    last_words(format_args!("{line}"));
                    line = Words::default();
                    let _ = line.push(word);
                }
            }
            at += 8;
        }
        line.end();
        last_words(format_args!("{line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_child_is_told_what_it_failed_at() {
        let words = report_message(Registers { ip: 1, sp: 2, bp: 3 });
        assert_eq!(words[..5], [1, 10, 0x20_0010, 0x7fff_ffff_d000, 0x202]);
        assert_eq!(words[5..], [0, 0, 0, 3, 2, 1, 0]);
    }
}
