//! A plugin of QEMU that counts the instructions of a guest, in total or by protection domain.
//!
//! Owns: the counters, in a file that another process reads while the guest runs ([`protocol`]). On the other
//! side: QEMU, which calls these functions and is trusted. The guest is not trusted: values from its RAM are
//! only compared and stored.
//!
//! QEMU translates the guest's code into blocks and executes each as a whole. A block adds the number of its
//! instructions to the total. An iteration of a repeated string instruction is a block of its own, so it counts
//! as one instruction. A processor that waits for an interrupt counts nothing.
//!
//! Counting by domain (arguments `memory`, `root` and `places`) calls `executed` for each block. A block in
//! user space is charged to the domain whose page-table root the kernel last loaded. A block of the kernel is
//! charged to the domain that ran last in user space, until the kernel returns to another one or to its idle
//! thread.
//!
//! The interface is version 1 of QEMU's plugin interface (QEMU 7.2 to 8.2). Debian has no header file for it,
//! so this file contains the necessary declarations.

pub mod protocol;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::protocol::{EntryPoint, FILE_BYTES, MAX_DOMAINS, TOTAL, Word, argument, parse_lines, record};
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// Version of the interface that this plugin uses.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 1;

/// A block while it is translated (`struct qemu_plugin_tb`).
#[repr(C)]
struct Block {
    _private: [u8; 0],
}

/// Operation: add to a 64-bit number (`QEMU_PLUGIN_INLINE_ADD_U64`).
const ADD: c_int = 0;
/// Flag: the callback reads no registers (`QEMU_PLUGIN_CB_NO_REGS`).
const NO_REGISTERS: c_int = 0;
/// First address of the kernel's half of an address space.
const KERNEL: u64 = 1 << 63;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, callback: extern "C" fn(u64, *mut Block));
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_vaddr(block: *const Block) -> u64;
    fn qemu_plugin_register_vcpu_tb_exec_inline(block: *mut Block, op: c_int, at: *mut c_void, value: u64);
    fn qemu_plugin_register_vcpu_tb_exec_cb(
        block: *mut Block,
        callback: extern "C" fn(c_uint, *mut c_void),
        flags: c_int,
        data: *mut c_void,
    );
}

/// State that `qemu_plugin_install` sets up.
struct Counting {
    counters: &'static [AtomicU64],
    domains: Option<Domains>,
}

/// State for counting by domain.
struct Domains {
    /// Variable of the kernel with the value of CR3, in the guest's RAM.
    root: &'static AtomicU64,
    places: Vec<(EntryPoint, u64)>,
    /// Record of the domain that ran last, or that of the idle thread.
    current: AtomicUsize,
    /// Number of records in use, including that of the idle thread.
    used: AtomicUsize,
    /// Not zero if the kernel has run since the last block in user space.
    in_kernel: AtomicUsize,
}

static COUNTING: OnceLock<Counting> = OnceLock::new();

/// Maps the first `len` bytes of a file, shared with other processes, as 64-bit numbers.
fn map(path: &Path, len: usize) -> Option<&'static [AtomicU64]> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    if file.metadata().ok()?.len() < len as u64 {
        return None;
    }
    // SAFETY: the kernel chooses the address of a new mapping, so no memory of this process is replaced.
    let at = unsafe {
        mmap(
            null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            file.as_fd(),
            0,
        )
    }
    .ok()?;
    // SAFETY: the mapping has `len` bytes, begins at a page, and stays until the process ends. Other processes
    // write it too, which atomic numbers allow.
    Some(unsafe { std::slice::from_raw_parts(at.cast::<AtomicU64>(), len / 8) })
}

/// Sets up the counting that the arguments request. Returns `None` if an argument is missing or names an
/// unsuitable file.
fn set_up(arguments: &[&str]) -> Option<Counting> {
    let value = |name: &str| {
        let all = arguments.iter();
        all.filter_map(|text| text.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let counters = map(Path::new(value(argument::COUNTERS)?), FILE_BYTES)?;
    let domains = match value(argument::MEMORY) {
        None => None,
        Some(memory) => {
            let offset: usize = value(argument::ROOT)?.parse().ok()?;
            let places = std::fs::read_to_string(value(argument::PLACES)?).ok()?;
            Some(Domains {
                root: map(Path::new(memory), offset + 8)?.get(offset / 8)?,
                places: parse_lines(&places)?,
                current: AtomicUsize::new(0),
                used: AtomicUsize::new(1),
                in_kernel: AtomicUsize::new(0),
            })
        }
    };
    Some(Counting { counters, domains })
}

/// Called once by QEMU, before the guest starts. Returns zero if the plugin can work.
///
/// # Safety
/// `arguments` points to `count` pointers to strings that end with a zero byte, as QEMU's interface states.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    _info: *const c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    let text = |i: usize| {
        // SAFETY: `i` is below `count`, and the caller guarantees that many strings.
        unsafe { CStr::from_ptr(*arguments.add(i)) }
            .to_str()
            .unwrap_or_default()
    };
    let arguments: Vec<&str> = (0..count).map(text).collect();
    let Some(counting) = set_up(&arguments) else {
        eprintln!(
            "branes-bench-plugin: cannot use the arguments: {}",
            arguments.join(" ")
        );
        return -1;
    };
    if COUNTING.set(counting).is_err() {
        return -1;
    }
    // SAFETY: `id` belongs to this plugin, and the callback stays valid because the library is never unloaded.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    0
}

/// Called by QEMU for each block that it translates.
extern "C" fn translated(_id: u64, block: *mut Block) {
    let Some(counting) = COUNTING.get() else {
        return;
    };
    // SAFETY: QEMU passes a block that is valid during this call.
    let (len, start) = unsafe { (qemu_plugin_tb_n_insns(block), qemu_plugin_tb_vaddr(block)) };
    let total = counting.counters[TOTAL].as_ptr().cast();
    // SAFETY: QEMU passes a block that is valid during this call. `total` is in a mapping that is never
    // removed. There is one processor, so no other thread adds to it.
    unsafe { qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, total, len as u64) };
    let Some(domains) = &counting.domains else {
        return;
    };
    let place = domains
        .places
        .iter()
        .find(|(_, at)| *at == start)
        .map_or(0, |(place, _)| *place as usize);
    let data = len << 16 | place << 8 | usize::from(start >= KERNEL);
    // SAFETY: QEMU passes a block that is valid during this call. The callback does not use `data` as an
    // address.
    unsafe { qemu_plugin_register_vcpu_tb_exec_cb(block, executed, NO_REGISTERS, data as *mut c_void) };
}

/// Called by QEMU before each execution of a block. `data` has the number of the block's instructions, its
/// [`EntryPoint`], and whether it belongs to the kernel.
extern "C" fn executed(_processor: c_uint, data: *mut c_void) {
    let Some(Counting {
        counters,
        domains: Some(domains),
    }) = COUNTING.get()
    else {
        return;
    };
    let data = data as usize;
    let (len, place, kernel) = (
        (data >> 16) as u64,
        EntryPoint::from_number((data >> 8) as u8),
        data & 1 != 0,
    );
    let add = |domain: usize, word: Word, amount: u64| {
        // There is one processor, so no other thread writes: a plain addition is enough.
        let counter = &counters[record(domain) + word as usize];
        counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
    };
    if !kernel {
        let mut current = domains.current.load(Relaxed);
        if domains.in_kernel.swap(0, Relaxed) != 0 {
            let root = domains.root.load(Relaxed);
            let next = domains.record_of(counters, root);
            if next != current {
                current = next;
                domains.current.store(next, Relaxed);
                add(next, Word::Switches, 1);
            }
        }
        add(current, Word::User, len);
        return;
    }
    domains.in_kernel.store(1, Relaxed);
    if place == Some(EntryPoint::Idle) {
        domains.current.store(0, Relaxed);
    }
    let current = domains.current.load(Relaxed);
    match place {
        Some(EntryPoint::Call) => add(current, Word::Calls, 1),
        Some(EntryPoint::Interrupt) => add(current, Word::Interrupts, 1),
        Some(EntryPoint::Fault) => add(current, Word::Faults, 1),
        Some(EntryPoint::Idle) | None => {}
    }
    add(current, Word::Kernel, len);
}

impl Domains {
    /// Returns the record of the domain with this page-table root. A new domain gets the next free record, or
    /// shares the last.
    fn record_of(&self, counters: &[AtomicU64], root: u64) -> usize {
        let used = self.used.load(Relaxed);
        let known = (1..used).find(|i| counters[record(*i) + Word::Root as usize].load(Relaxed) == root);
        known.unwrap_or_else(|| {
            let index = used.min(MAX_DOMAINS - 1);
            counters[record(index) + Word::Root as usize].store(root, Relaxed);
            self.used.store(index + 1, Relaxed);
            index
        })
    }
}
