//! The root task of the registry kernel. Builds the system that the image's description asks for and starts
//! the protection domains. Then it is the monitor that reports faults of domains without a parent.
//!
//! It holds every capability of the machine, and all domains trust it. After the start it only waits.

#![no_std]
#![no_main]

mod console;
mod construct;
mod kernel;
mod memory;
mod monitor;
mod untyped;

use core::arch::{asm, global_asm};

use initialiser_spec::{Payload, Spec};

use console::say;
use construct::Construction;
use kernel::{BootInfo, Kernel};
use untyped::Memory;

// The kernel starts the initial thread without a stack, the boot information's address in rdi.
global_asm!(
    ".section .text._start, \"ax\"",
    ".global _start",
    "_start:",
    "lea rsp, [rip + {stack} + {size}]",
    "xor ebp, ebp",
    "call {main}",
    "ud2",
    ".text",
    stack = sym STACK,
    size = const STACK_SIZE,
    main = sym main,
);

const STACK_SIZE: usize = 64 << 10;

#[repr(C, align(4096))]
struct Stack([u8; STACK_SIZE]);

static mut STACK: Stack = Stack([0; STACK_SIZE]);
static mut MEMORY: Memory = Memory::empty();

/// Location of description and contents. The image builder writes it.
#[used]
#[unsafe(export_name = "initialiser_payload")]
#[unsafe(link_section = ".payload")]
static PAYLOAD: Payload = Payload {
    image_start: 0,
    spec_start: 0,
    spec_len: 0,
    pages_start: 0,
    pages: 0,
};

unsafe extern "C" fn main(info: *const BootInfo) -> ! {
    // SAFETY: the kernel passes the address of the boot information, which it has mapped and which does not change.
    let info = unsafe { &*info };
    // SAFETY: this is the only thread, and it gets here once.
    let mut kernel = unsafe { Kernel::new(info.ipc_buffer) };
    let memory = &raw mut MEMORY;
    // SAFETY: this is the only thread and it gets here once, so no other reference to the memory exists.
    let memory = unsafe { &mut *memory };
    let began = timestamp();
    // SAFETY: the builder writes these words into the finished image, behind the compiler's back.
    let payload = unsafe { (&raw const PAYLOAD).read_volatile() };
    // SAFETY: the builder puts the description there, inside the image, where nothing else is.
    let bytes =
        unsafe { core::slice::from_raw_parts(payload.spec_start as *const u8, payload.spec_len as usize) };
    let spec = match Spec::parse(
        if payload.spec_start == 0 { &[] } else { bytes },
        payload.pages as usize,
    ) {
        Ok(spec) => spec,
        Err(error) => {
            say!(&mut kernel, "initialiser: cannot build the system: {error}");
            halt()
        }
    };
    let mut construction = Construction::new(&mut kernel, memory, &spec, &payload, info);
    let built = construction.build().and_then(|()| construction.start());
    if let Err(failure) = built {
        say!(&mut kernel, "initialiser: cannot build the system: {failure}");
        halt()
    }
    if cfg!(debug_assertions) {
        let micros = (timestamp() - began) / info.tsc_mhz.max(1);
        let pages: u64 = spec
            .mappings
            .iter()
            .map(|mapping| u64::from(mapping.pages.count.get()))
            .sum();
        say!(
            &mut kernel,
            "initialiser: {} protection domains, {pages} pages mapped, {} MiB, {}.{} ms",
            spec.pds.len(),
            spec.header.ram.get().div_ceil(1 << 20),
            micros / 1000,
            micros / 100 % 10
        );
    }
    let endpoint = info.empty.start as usize + spec.header.monitor_endpoint.get() as usize;
    monitor::watch(&mut kernel, endpoint, &spec)
}

fn timestamp() -> u64 {
    // SAFETY: reads a counter that user code may read on this kernel.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Stops. No system was built, so there is nothing to wait for.
fn halt() -> ! {
    loop {
        // SAFETY: a hint to the processor.
        unsafe { asm!("pause", options(nomem, nostack, preserves_flags)) };
    }
}

#[panic_handler]
fn panic(panic: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the panic ends all other use of the system call layer; I/O port calls do not use the IPC buffer.
    let mut kernel = unsafe { Kernel::new(0) };
    say!(&mut kernel, "initialiser: {panic}");
    halt()
}

/// The compiler's libraries refer to it. Nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// See `rust_eh_personality`.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    halt()
}
