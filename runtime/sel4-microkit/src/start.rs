//! The first instructions, and the last ones.
//!
//! `_start` is where the root task begins and where a parent restarts: it trusts no byte of writable memory, and of the
//! registers RAX alone, in which the parent says why (`Child::restart`, `Child::restart_for_another`); it is zero at the first start. The panic path writes a line to the log, wakes the serial domain and then executes an invalid instruction,
//! so that the parent sees a fault.

use core::arch::global_asm;

// The linker script aligns .data and its copy to 16 bytes and .bss to 64. Loops rather than string instructions, whose
// every step counts as an instruction under emulation. MXCSR as the processor's reset has it.
global_asm!(
    r#"
    .section .text._start, "ax", @progbits
    .global _start
_start:
    movabs rsp, 0x7fffffffd000
    xor ebp, ebp
    mov rbx, rax
    cld
    fninit
    push 0x1f80
    ldmxcsr [rsp]
    add rsp, 8
    lea rsi, [rip + __pristine_start]
    lea rdi, [rip + __data_start]
    lea rcx, [rip + __data_end]
    jmp 3f
2:
    movaps xmm0, [rsi]
    movaps [rdi], xmm0
    add rsi, 16
    add rdi, 16
3:
    cmp rdi, rcx
    jb 2b
    lea rdi, [rip + __bss_start]
    lea rcx, [rip + __bss_end]
    xorps xmm0, xmm0
    jmp 5f
4:
    movaps [rdi], xmm0
    movaps [rdi + 16], xmm0
    movaps [rdi + 32], xmm0
    movaps [rdi + 48], xmm0
    add rdi, 64
5:
    cmp rdi, rcx
    jb 4b
    mov rdi, rbx
    call __sel4_microkit_main
    ud2
    .text
"#
);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::log::last_words(format_args!("{info}"));
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
