//! Messages: the words of the buffer, and the decoding of fault messages.
//!
//! The buffer is the page at [`BUFFER`]: a tag word, then 120 message words. The kernel, which is trusted, keeps the
//! first four words in registers. They are copied to the buffer on receipt and from it on sending, so a message is read
//! and written in one place.

use core::slice;
use sel4::{Fault, Registers, Word};

/// Address of the message buffer, fixed by the ABI.
const BUFFER: usize = 0x7fff_ffff_e000;

fn words() -> *mut u64 {
    (BUFFER + 8) as *mut u64
}

/// The label of a message. [`MessageInfo::label_width`] bits of it are sent.
pub type MessageLabel = Word;

/// A word of a message.
pub type MessageRegisterValue = Word;

/// Label and number of words of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct MessageInfo {
    inner: sel4::MessageInfo,
}

impl MessageInfo {
    /// Wraps the kernel's format.
    #[doc(hidden)]
    pub const fn from_inner(inner: sel4::MessageInfo) -> Self {
        Self { inner }
    }

    /// Returns the kernel's format.
    #[doc(hidden)]
    pub const fn inner(&self) -> &sel4::MessageInfo {
        &self.inner
    }

    /// Returns the kernel's format.
    #[doc(hidden)]
    pub const fn into_inner(self) -> sel4::MessageInfo {
        self.inner
    }

    /// Creates a message of `count` words, at most 120.
    pub const fn new(label: MessageLabel, count: usize) -> Self {
        Self::from_inner(sel4::MessageInfo::new(label, count))
    }

    /// Returns the label.
    pub const fn label(&self) -> MessageLabel {
        self.inner.label()
    }

    /// Returns the number of bits of a label that are sent.
    pub const fn label_width() -> usize {
        sel4::MessageInfo::LABEL_BITS as usize
    }

    /// Returns the number of words, at most 120.
    pub const fn count(&self) -> usize {
        self.inner.length()
    }

    /// Decodes the fault message just received.
    pub fn fault(&self) -> Fault {
        with_msg_regs(|words| Fault::decode(self.inner, words))
    }
}

/// Returns message word `i`, below 120.
pub fn get_mr(i: usize) -> MessageRegisterValue {
    assert!(i < sel4::MESSAGE_WORDS, "message words end at 119");
    // SAFETY: inside the buffer's page as just checked; the kernel writes it only during system calls.
    unsafe { words().add(i).read_volatile() }
}

/// Sets message word `i`, below 120.
pub fn set_mr(i: usize, value: MessageRegisterValue) {
    assert!(i < sel4::MESSAGE_WORDS, "message words end at 119");
    // SAFETY: inside the buffer's page as just checked; the kernel accesses it only during system calls.
    unsafe { words().add(i).write_volatile(value) }
}

/// Calls `f` with all message words, and returns its result.
pub fn with_msg_regs<R>(f: impl FnOnce(&[MessageRegisterValue]) -> R) -> R {
    // SAFETY: the buffer's page; nothing writes to it while `f` runs (one thread, no system call through this view).
    f(unsafe { slice::from_raw_parts(words(), sel4::MESSAGE_WORDS) })
}

/// Calls `f` with all message words, for writing, and returns its result.
pub fn with_msg_regs_mut<R>(f: impl FnOnce(&mut [MessageRegisterValue]) -> R) -> R {
    // SAFETY: as in `with_msg_regs`; one thread, so the view is the only one unless `f` makes another, which
    // the crates of this project do not.
    f(unsafe { slice::from_raw_parts_mut(words(), sel4::MESSAGE_WORDS) })
}

/// Calls `f` with all message bytes, and returns its result.
pub fn with_msg_bytes<R>(f: impl FnOnce(&[u8]) -> R) -> R {
    // SAFETY: as in `with_msg_regs`.
    f(unsafe { slice::from_raw_parts(words().cast(), sel4::MESSAGE_WORDS * 8) })
}

/// Calls `f` with all message bytes, for writing, and returns its result.
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
    let reply = sel4::call(endpoint, info.inner, &mut registers);
    store(registers);
    MessageInfo::from_inner(reply)
}

/// Words of the longest message to a kernel object, which writes all registers of a thread.
pub(crate) const INVOCATION_WORDS: usize = 24;

/// Invokes a kernel object with at most [`INVOCATION_WORDS`] words. The caller's message words remain unchanged.
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
    let info = sel4::call(
        object,
        sel4::MessageInfo::new(label, message.len()),
        &mut registers,
    );
    for i in registers.len()..message.len() {
        set_mr(i, saved[i - registers.len()]);
    }
    match info.label() {
        0 => Ok(()),
        refused => Err(sel4::Refused(refused)),
    }
}

/// Invokes a kernel object that replies with words. The caller's message words remain unchanged.
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
    let info = sel4::call(
        object,
        sel4::MessageInfo::new(label, question.len()),
        &mut registers,
    );
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
    (MessageInfo::from_inner(info), badge)
}

pub(crate) fn reply_recv(input: u64, info: MessageInfo) -> (MessageInfo, u64) {
    let mut registers = load();
    let (info, badge) = sel4::reply_recv(input, info.inner, &mut registers);
    if info.length() != 0 {
        store(registers);
    }
    (MessageInfo::from_inner(info), badge)
}
