//! Checks that a thread's floating-point registers survive pre-emption and system calls.
//!
//! No peer is involved. The kernel is under test.

use core::arch::asm;

/// Values of the registers: XMM0 to XMM15, and a number on top of the x87 stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Registers {
    /// XMM0 to XMM15, low half first.
    pub xmm: [[u64; 2]; 16],
    /// ST(0).
    pub st: f64,
}

impl Registers {
    /// Returns values that differ in every register, and for every seed.
    pub fn pattern(seed: u64) -> Registers {
        let word = |i: u64| (seed ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Registers {
            xmm: core::array::from_fn(|i| [word(2 * i as u64), word(2 * i as u64 + 1)]),
            st: (seed % 0x10_0000) as f64 + 0.5,
        }
    }

    /// Loads all registers and does nothing for `turns` turns of a loop. Returns the values of the registers
    /// after that, which must be unchanged although other threads ran.
    pub fn hold(&self, turns: u32) -> Registers {
        let mut after = Registers {
            xmm: [[0; 2]; 16],
            st: 0.0,
        };
        // SAFETY: reads `self` and writes `after`, both whole and no more: 256 bytes each at `xmm`, 8 at `st`.
        // All changed registers are named. The x87 stack is empty before (ABI) and after. The loop ends,
        // because `turns` is at least 1.
        unsafe {
            asm!(
                "fld qword ptr [{st}]",
                "movups xmm0, [{from}]", "movups xmm1, [{from} + 16]",
                "movups xmm2, [{from} + 32]", "movups xmm3, [{from} + 48]",
                "movups xmm4, [{from} + 64]", "movups xmm5, [{from} + 80]",
                "movups xmm6, [{from} + 96]", "movups xmm7, [{from} + 112]",
                "movups xmm8, [{from} + 128]", "movups xmm9, [{from} + 144]",
                "movups xmm10, [{from} + 160]", "movups xmm11, [{from} + 176]",
                "movups xmm12, [{from} + 192]", "movups xmm13, [{from} + 208]",
                "movups xmm14, [{from} + 224]", "movups xmm15, [{from} + 240]",
                "2:", "dec {turns:e}", "jnz 2b",
                "movups [{to}], xmm0", "movups [{to} + 16], xmm1",
                "movups [{to} + 32], xmm2", "movups [{to} + 48], xmm3",
                "movups [{to} + 64], xmm4", "movups [{to} + 80], xmm5",
                "movups [{to} + 96], xmm6", "movups [{to} + 112], xmm7",
                "movups [{to} + 128], xmm8", "movups [{to} + 144], xmm9",
                "movups [{to} + 160], xmm10", "movups [{to} + 176], xmm11",
                "movups [{to} + 192], xmm12", "movups [{to} + 208], xmm13",
                "movups [{to} + 224], xmm14", "movups [{to} + 240], xmm15",
                "fstp qword ptr [{st_after}]",
                from = in(reg) self.xmm.as_ptr(), to = in(reg) after.xmm.as_mut_ptr(),
                st = in(reg) &raw const self.st, st_after = in(reg) &raw mut after.st,
                turns = inout(reg) turns.max(1) => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                options(nostack),
            );
        }
        after
    }
}

/// A sequence of numbers in which one wrong number changes all later ones: the logistic map in its chaotic
/// range. System calls must not change the results that the processor computes between them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sequence(f64);

impl Sequence {
    /// Creates the sequence of a seed.
    pub fn new(seed: u64) -> Sequence {
        Sequence((seed % 1021 + 1) as f64 / 1023.0)
    }

    /// Computes the next number.
    #[inline]
    pub fn step(&mut self) {
        self.0 *= 3.99 * (1.0 - self.0);
    }

    /// Returns the sequence of a seed after `steps` steps.
    pub fn after(seed: u64, steps: u64) -> Sequence {
        let mut sequence = Sequence::new(seed);
        (0..steps).for_each(|_| sequence.step());
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_registers_come_back_as_they_were() {
        for seed in 0..100 {
            let registers = Registers::pattern(seed);
            assert_eq!(registers.hold(seed as u32 * 1000), registers);
        }
    }

    #[test]
    fn patterns_differ_in_every_register() {
        let (a, b) = (Registers::pattern(1), Registers::pattern(2));
        assert!(a.xmm.iter().zip(&b.xmm).all(|(a, b)| a != b) && a.st != b.st);
        assert!((1..16).all(|i| !a.xmm[..i].contains(&a.xmm[i])));
    }

    #[test]
    fn a_wrong_number_or_a_lost_step_is_seen() {
        let mut sequence = Sequence::new(5);
        (0..1000).for_each(|_| sequence.step());
        assert_eq!(sequence, Sequence::after(5, 1000));
        assert_ne!(sequence, Sequence::after(5, 999));
        let mut wrong = Sequence(f64::from_bits(Sequence::new(5).0.to_bits() ^ 1 << 20));
        (0..1000).for_each(|_| wrong.step());
        assert_ne!(wrong, sequence);
    }
}
