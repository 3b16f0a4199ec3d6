//! The monitor: receives faults of protection domains without a parent and reports them on COM1.
//!
//! A faulting domain is not trusted: its message is only printed. It receives no reply, so it stays stopped.

use core::fmt;

use initialiser_spec::{Mapping, PAGE_SIZE, Pd, Spec};

use crate::console::say;
use crate::kernel::{Kernel, Received, Slot};

/// Label of a page fault's message.
const VM_FAULT: u64 = 5;

/// Waits for faults forever.
pub fn watch(kernel: &mut Kernel, endpoint: Slot, spec: &Spec<'_>) -> ! {
    loop {
        let message = kernel.recv(endpoint);
        let index = (message.badge as usize).wrapping_sub(1);
        match spec.pds.get(index) {
            Some(pd) => {
                say!(
                    kernel,
                    "monitor: '{}' stopped: {}",
                    spec.text(pd.name),
                    Fault(&message)
                );
                if let Some(size) = overflowed_stack(spec, pd, &message) {
                    say!(
                        kernel,
                        "monitor: '{}' needs more than its {size:#x} bytes of stack",
                        spec.text(pd.name)
                    );
                }
            }
            None => say!(
                kernel,
                "monitor: a message from nobody (badge {:#x})",
                message.badge
            ),
        }
    }
}

/// Returns the size of the domain's stack if the fault is an access to the page below it.
fn overflowed_stack(spec: &Spec<'_>, pd: &Pd, message: &Received) -> Option<u64> {
    let end = |mapping: &&Mapping| {
        mapping.vaddr.get() + u64::from(mapping.pages.count.get()) * PAGE_SIZE as u64 == pd.stack_top.get()
    };
    let bottom = spec.mappings[pd.mappings.range()].iter().find(end)?.vaddr.get();
    let page = |address: u64| address / PAGE_SIZE as u64;
    let hit = message.label == VM_FAULT && page(message.words[1]) == page(bottom - 1);
    hit.then(|| pd.stack_top.get() - bottom)
}

/// Formats a fault message. The layouts are libsel4's fault messages for x86_64.
struct Fault<'a>(&'a Received);

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = &self.0.words;
        match self.0.label {
            1 => {
                let phase = if words[2] != 0 { "receive" } else { "send" };
                write!(
                    f,
                    "no such capability: {phase} on {:#x}, instruction {:#x}",
                    words[1], words[0]
                )
            }
            2 => {
                write!(
                    f,
                    "unknown system call {}, instruction {:#x}, stack {:#x}",
                    words[18] as i64, words[15], words[16]
                )
            }
            3 => {
                let [ip, sp, flags, number, code, ..] = *words;
                let name = exception(number);
                write!(
                    f,
                    "exception {number} ({name}), code {code:#x}, instruction {ip:#x}, stack {sp:#x}, flags {flags:#x}"
                )
            }
            VM_FAULT => {
                let [ip, address, fetch, status, ..] = *words;
                let kind = match (fetch != 0, status & 2 != 0) {
                    (true, _) => "instruction fetch from",
                    (false, true) => "write to",
                    (false, false) => "read from",
                };
                let why = if status & 1 != 0 {
                    "not permitted"
                } else {
                    "nothing is mapped there"
                };
                write!(f, "page fault: {kind} {address:#x} ({why}), instruction {ip:#x}")
            }
            label => write!(f, "fault {label}, words {:x?}", &words[..4]),
        }
    }
}

/// Returns the name of an exception (Intel SDM volume 3, table 6-1).
fn exception(number: u64) -> &'static str {
    match number {
        0 => "division by zero",
        1 => "debug",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range",
        6 => "invalid instruction",
        7 => "no floating-point unit",
        8 => "double fault",
        10 => "invalid task state segment",
        11 => "segment not present",
        12 => "stack segment",
        13 => "general protection",
        14 => "page fault",
        16 => "floating point",
        17 => "alignment",
        18 => "machine check",
        19 => "SIMD floating point",
        _ => "unknown",
    }
}
