//! The first instructions, and the last ones.
//!
//! `_start` is where the root task begins and where a parent restarts: it trusts no register and no byte of writable
//! memory. The panic path writes a line to the log, wakes the serial domain and then executes an invalid instruction,
//! so that the parent sees a fault.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text._start, "ax", @progbits
    .global _start
_start:
    cld
    movabs rsp, 0x7fffffffd000
    xor ebp, ebp
    lea rsi, [rip + __pristine_start]
    lea rdi, [rip + __data_start]
    lea rcx, [rip + __data_end]
    sub rcx, rdi
    shr rcx, 3
    rep movsq
    lea rdi, [rip + __bss_start]
    lea rcx, [rip + __bss_end]
    sub rcx, rdi
    shr rcx, 3
    xor eax, eax
    rep stosq
    call __sel4_microkit_main
    ud2
    .text
"#
);

#[cfg(not(test))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::logln!("{info}");
    // SAFETY: raises an invalid-opcode exception, which the kernel turns into a fault for the parent. Nothing follows.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

/// Named by the unwind tables of the precompiled core library; never called, since panics abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: as in the panic handler.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}
