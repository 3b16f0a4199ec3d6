//! Messages: the words of the buffer, and what a fault message says.
//!
//! The buffer is the page at [`BUFFER`]: a tag word, then 120 message words. The kernel keeps the first four in registers;
//! they are put into the buffer on receipt and taken from it on sending, so a message is read and written in one place.

use core::fmt;
use core::slice;
use sel4::{Registers, fault};

/// Address of the message buffer, fixed by the ABI.
const BUFFER: usize = 0x7fff_ffff_e000;

fn words() -> *mut u64 {
    (BUFFER + 8) as *mut u64
}

/// Label and number of words of a message.
pub type MessageInfo = sel4::MessageInfo;

/// Message word `i`, below 120.
pub fn get_mr(i: usize) -> u64 {
    assert!(i < sel4::MESSAGE_WORDS, "message words end at 119");
    // SAFETY: inside the buffer's page as just checked; the kernel writes it only during system calls.
    unsafe { words().add(i).read_volatile() }
}

/// Sets message word `i`, below 120.
pub fn set_mr(i: usize, value: u64) {
    assert!(i < sel4::MESSAGE_WORDS, "message words end at 119");
    // SAFETY: as in `get_mr`.
    unsafe { words().add(i).write_volatile(value) }
}

/// All message words.
pub fn with_msg_regs<R>(f: impl FnOnce(&[u64]) -> R) -> R {
    // SAFETY: the buffer's page; nothing writes to it while `f` runs (one thread, no system call through this view).
    f(unsafe { slice::from_raw_parts(words(), sel4::MESSAGE_WORDS) })
}

/// All message words, for writing.
pub fn with_msg_regs_mut<R>(f: impl FnOnce(&mut [u64]) -> R) -> R {
    // SAFETY: as in `with_msg_regs`; one thread, so the view is the only one unless `f` makes another, which
    // the crates of this project do not.
    f(unsafe { slice::from_raw_parts_mut(words(), sel4::MESSAGE_WORDS) })
}

/// All message bytes.
pub fn with_msg_bytes<R>(f: impl FnOnce(&[u8]) -> R) -> R {
    // SAFETY: as in `with_msg_regs`.
    f(unsafe { slice::from_raw_parts(words().cast(), sel4::MESSAGE_WORDS * 8) })
}

/// All message bytes, for writing.
pub fn with_msg_bytes_mut<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    // SAFETY: as in `with_msg_regs_mut`.
    f(unsafe { slice::from_raw_parts_mut(words().cast(), sel4::MESSAGE_WORDS * 8) })
}

fn load() -> Registers {
    // SAFETY: the first four words of the buffer's page.
    unsafe { words().cast::<Registers>().read_volatile() }
}

fn store(registers: Registers) {
    // SAFETY: as in `load`.
    unsafe { words().cast::<Registers>().write_volatile(registers) }
}

pub(crate) fn call(endpoint: u64, info: MessageInfo) -> MessageInfo {
    let mut registers = load();
    let reply = sel4::call(endpoint, info, &mut registers);
    store(registers);
    reply
}

/// Words of the longest message to a kernel object: one that writes all registers of a thread.
pub(crate) const INVOCATION_WORDS: usize = 24;

/// Asks something of a kernel object, in [`INVOCATION_WORDS`] words at most. The caller's message words stay as they are.
pub(crate) fn invoke(object: u64, label: u64, message: &[u64]) -> Result<(), sel4::Refused> {
    let mut registers = [0; 4];
    let mut saved = [0; INVOCATION_WORDS - 4];
    for (i, word) in message.iter().enumerate() {
        match registers.get_mut(i) {
            Some(register) => *register = *word,
            None => {
                saved[i - registers.len()] = get_mr(i);
                set_mr(i, *word);
            }
        }
    }
    let info = sel4::call(object, MessageInfo::new(label, message.len()), &mut registers);
    for i in registers.len()..message.len() {
        set_mr(i, saved[i - registers.len()]);
    }
    match info.label() {
        0 => Ok(()),
        refused => Err(sel4::Refused(refused)),
    }
}

/// Invokes a kernel object that replies with words. The caller's message words stay as they are.
pub(crate) fn ask(
    object: u64,
    label: u64,
    question: [u64; 2],
    answer: &mut [u64],
) -> Result<(), sel4::Refused> {
    let mut registers = [question[0], question[1], 0, 0];
    let mut saved = [0; INVOCATION_WORDS - 4];
    let behind = answer.len().saturating_sub(registers.len()).min(saved.len());
    for (i, word) in saved.iter_mut().enumerate().take(behind) {
        *word = get_mr(registers.len() + i);
    }
    let info = sel4::call(object, MessageInfo::new(label, question.len()), &mut registers);
    for (i, word) in answer.iter_mut().enumerate().take(info.length()) {
        *word = match registers.get(i) {
            Some(register) => *register,
            None => get_mr(i),
        };
    }
    for (i, word) in saved.iter().enumerate().take(behind) {
        set_mr(registers.len() + i, *word);
    }
    match info.label() {
        0 => Ok(()),
        refused => Err(sel4::Refused(refused)),
    }
}

pub(crate) fn recv(input: u64) -> (MessageInfo, u64) {
    let mut registers = [0; 4];
    let (info, badge) = sel4::recv(input, &mut registers);
    if info.length() != 0 {
        store(registers);
    }
    (info, badge)
}

pub(crate) fn reply_recv(input: u64, info: MessageInfo) -> (MessageInfo, u64) {
    let mut registers = load();
    let (info, badge) = sel4::reply_recv(input, info, &mut registers);
    if info.length() != 0 {
        store(registers);
    }
    (info, badge)
}

/// What happened to a faulting child, read from the message that the handler is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A capability that does not exist.
    Capability {
        /// Instruction.
        ip: u64,
        /// The place it named.
        address: u64,
    },
    /// A system call that does not exist.
    Syscall {
        /// Instruction.
        ip: u64,
        /// Its number.
        number: u64,
    },
    /// A processor exception.
    Exception {
        /// Instruction.
        ip: u64,
        /// Its vector; 6 is an invalid instruction, by which a panic ends.
        vector: u64,
        /// Its error code.
        code: u64,
    },
    /// A page fault.
    Page {
        /// Instruction.
        ip: u64,
        /// Address.
        address: u64,
        /// Instruction fetch.
        fetch: bool,
        /// Write access.
        write: bool,
    },
    /// Something this runtime does not know, by its label.
    Other(u64),
}

impl Fault {
    /// Decodes the fault message just received (kernel's `seL4_Fault_*` of 5.0.0).
    pub fn read(info: MessageInfo) -> Fault {
        match info.label() {
            fault::CAPABILITY => Fault::Capability {
                ip: get_mr(0),
                address: get_mr(1),
            },
            fault::SYSCALL => Fault::Syscall {
                ip: get_mr(15),
                number: get_mr(18),
            },
            fault::EXCEPTION => Fault::Exception {
                ip: get_mr(0),
                vector: get_mr(3),
                code: get_mr(4),
            },
            fault::PAGE => Fault::Page {
                ip: get_mr(0),
                address: get_mr(1),
                fetch: get_mr(2) != 0,
                write: get_mr(3) & 2 != 0,
            },
            other => Fault::Other(other),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::Capability { ip, address } => {
                write!(f, "invalid capability {address:#x} at instruction {ip:#x}")
            }
            Fault::Syscall { ip, number } => {
                write!(f, "unknown system call {} at instruction {ip:#x}", number as i64)
            }
            Fault::Exception { ip, vector: 6, .. } => write!(f, "invalid instruction (panic) at {ip:#x}"),
            Fault::Exception { ip, vector, code } => {
                write!(f, "exception {vector}, code {code:#x}, at instruction {ip:#x}")
            }
            Fault::Page {
                ip,
                address,
                fetch,
                write,
            } => {
                let kind = if fetch {
                    "fetch from"
                } else if write {
                    "write to"
                } else {
                    "read from"
                };
                write!(f, "{kind} unmapped {address:#x} at instruction {ip:#x}")
            }
            Fault::Other(label) => write!(f, "fault {label}"),
        }
    }
}
