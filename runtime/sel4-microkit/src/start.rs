//! The first instructions, and the last ones.
//!
//! The root task and a parent start a domain at `_start`. It trusts no byte of writable memory, and of the registers
//! only RAX. The parent sets RAX to the reason of a restart (`Child::restart`, `Child::restart_for_another`); it is
//! zero at the first start. The parent sets the other general registers to zero. The floating-point and vector
//! registers are cleared here, because no parent can reach them.
//!
//! The panic path writes the message and a raw backtrace ([`crate::backtrace`]) to the log and wakes the serial domain.
//! It then executes an invalid instruction, so that the parent sees a fault. A domain that faulted writes its backtrace
//! when its parent makes it continue 16 bytes after `_start` ([`crate::Child::REPORT`]).

use brane_abi::backtrace::Registers;
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, Ordering};

// The linker script aligns .data and its copy to 16 bytes and .bss to 64. The code has loops instead of string
// instructions, because under emulation every step of these counts as an instruction. MXCSR gets its value after the
// processor's reset. FNINIT leaves the eight x87 data registers unchanged, so each is loaded once. VZEROALL is
// available if the kernel keeps AVX state (CPUID.1:ECX.OSXSAVE, XCR0 bit 2).
global_asm!(
    r#"
    .section .text._start, "ax", @progbits
    .global _start
_start:
    jmp __sel4_microkit_start
    .balign 16
    .global __sel4_microkit_report_entry
__sel4_microkit_report_entry:
    lea rsp, [rip + __sel4_microkit_report_stack + 0x1000]
    xor ebp, ebp
    cld
    call __sel4_microkit_report
    ud2
    .global __sel4_microkit_start
__sel4_microkit_start:
    movabs rsp, 0x7fffffffd000
    xor ebp, ebp
    mov r12, rax
    cld
    fninit
    fldz
    fldz
    fldz
    fldz
    fldz
    fldz
    fldz
    fldz
    fninit
    mov eax, 1
    xor ecx, ecx
    cpuid
    bt ecx, 27
    jnc 6f
    xor ecx, ecx
    xgetbv
    test al, 4
    jz 6f
    vzeroall
6:
    xorps xmm0, xmm0
    xorps xmm1, xmm1
    xorps xmm2, xmm2
    xorps xmm3, xmm3
    xorps xmm4, xmm4
    xorps xmm5, xmm5
    xorps xmm6, xmm6
    xorps xmm7, xmm7
    xorps xmm8, xmm8
    xorps xmm9, xmm9
    xorps xmm10, xmm10
    xorps xmm11, xmm11
    xorps xmm12, xmm12
    xorps xmm13, xmm13
    xorps xmm14, xmm14
    xorps xmm15, xmm15
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
    mov rdi, r12
    call __sel4_microkit_main
    ud2
    .text
"#
);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // A panic while a panic is reported ends at once.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        crate::panicking::report(info);
        let (ip, sp, bp): (u64, u64, u64);
        // SAFETY: reads registers.
        unsafe {
            asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp", out(reg) ip, out(reg) sp, out(reg) bp,
                options(nomem, nostack, preserves_flags));
        }
        crate::backtrace::write(Registers { ip, sp, bp });
    }
    // SAFETY: raises an invalid-opcode exception, which the kernel turns into a fault for the parent. Nothing follows.
    unsafe { asm!("ud2", options(noreturn)) }
}

/// True while a panic is reported.
static PANICKING: AtomicBool = AtomicBool::new(false);

/// Referenced by the unwind tables of the precompiled core library; never called, because panics abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// See `rust_eh_personality`.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: as in the panic handler.
    unsafe { asm!("ud2", options(noreturn)) }
}
