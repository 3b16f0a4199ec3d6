//! A mark in every register and in the log ring of a program, and the search for marks that its previous
//! incarnation left there.
//!
//! No peer is involved. The runtime is under test: it must not leave any data of one tenant to the next.

use core::arch::asm;
use sel4_microkit::Region;

/// The mark. As a number it is positive, so the x87 registers hold it twice as large.
const MARK: u64 = 0x5ec2_e75e_c2e7_5ec3;
/// Size of the state that FXSAVE stores, in bytes (Intel SDM volume 1, 10.5.1). Eight x87 registers of 16 bytes
/// each begin at byte 32, and XMM0 to XMM15 follow.
const STATE: usize = 512;
const DATA: core::ops::Range<usize> = 32..416;

#[repr(C, align(16))]
struct State([u8; STATE]);

/// Writes the mark into all vector, x87 and most general registers and does nothing for `turns` turns of a
/// loop.
pub fn hold(turns: u32) {
    let mark = MARK;
    // SAFETY: reads `mark` only. All changed registers are named or restored. The x87 stack is empty before
    // (ABI), gets eight numbers, and is empty after. The loop ends, because `turns` is at least 1.
    unsafe {
        asm!(
            "fild qword ptr [{mark}]", "fild qword ptr [{mark}]", "fild qword ptr [{mark}]", "fild qword ptr [{mark}]",
            "fild qword ptr [{mark}]", "fild qword ptr [{mark}]", "fild qword ptr [{mark}]", "fild qword ptr [{mark}]",
            "movq xmm0, qword ptr [{mark}]",
            "movdqa xmm1, xmm0", "movdqa xmm2, xmm0", "movdqa xmm3, xmm0", "movdqa xmm4, xmm0", "movdqa xmm5, xmm0",
            "movdqa xmm6, xmm0", "movdqa xmm7, xmm0", "movdqa xmm8, xmm0", "movdqa xmm9, xmm0", "movdqa xmm10, xmm0",
            "movdqa xmm11, xmm0", "movdqa xmm12, xmm0", "movdqa xmm13, xmm0", "movdqa xmm14, xmm0", "movdqa xmm15, xmm0",
            "mov r8, [{mark}]",
            "mov r9, r8", "mov r10, r8", "mov r11, r8", "mov r12, r8", "mov r13, r8", "mov r14, r8", "mov r15, r8",
            "2:", "dec {turns:e}", "jnz 2b",
            "fstp st(0)", "fstp st(0)", "fstp st(0)", "fstp st(0)", "fstp st(0)", "fstp st(0)", "fstp st(0)", "fstp st(0)",
            mark = in(reg) &raw const mark,
            turns = inout(reg) turns.max(1) => _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
            out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
            out("xmm14") _, out("xmm15") _,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            options(nostack, readonly),
        );
    }
}

/// Returns the number of words in registers that hold the mark. Must be called first, because a program changes
/// its registers.
pub fn in_registers() -> usize {
    let mut state = State([0; STATE]);
    let mut general = [0u64; 8];
    // SAFETY: writes `general` and then `state`, 64 and 512 bytes, the latter aligned to 16.
    unsafe {
        asm!(
            "mov [{general}], r8", "mov [{general} + 8], r9", "mov [{general} + 16], r10", "mov [{general} + 24], r11",
            "mov [{general} + 32], r12", "mov [{general} + 40], r13", "mov [{general} + 48], r14", "mov [{general} + 56], r15",
            "fxsave64 [{state}]",
            general = in(reg) general.as_mut_ptr(),
            state = in(reg) &raw mut state,
            options(nostack, preserves_flags),
        );
    }
    // The mark is computed after the registers are stored, because a constant in the code could be in a
    // register before.
    let mark = !core::hint::black_box(!MARK);
    let words = state.0[DATA]
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word));
    words
        .chain(general)
        .filter(|word| [mark, mark << 1].contains(word))
        .count()
}

/// Returns how often a text occurs in a region.
pub fn in_region(region: Region, text: &[u8]) -> usize {
    // SAFETY: the region is mapped for this domain's life. Serial, which shares it, writes one index there and
    // no text.
    let bytes = unsafe { core::slice::from_raw_parts(region.as_ptr().cast_const(), region.size) };
    bytes.windows(text.len()).filter(|window| *window == text).count()
}
