//! Pseudo-random numbers from a fixed seed: Marsaglia's xorshift with 64 bits of state, shifts 13, 7, 17.

/// A sequence of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Creates the sequence of a seed. Seed 0 has no sequence and counts as 1.
    pub const fn new(seed: u64) -> Random {
        Random(if seed == 0 { 1 } else { seed })
    }

    /// Returns the next number.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `n`, which must be above 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.word() >> 16) as usize % n
    }

    /// Returns a 32-bit number that often finds mistakes: near 0, near the end, near a power of two.
    pub fn awkward(&mut self) -> u32 {
        let any = self.word() as u32;
        match self.below(6) {
            0 => any & 0xff,
            1 => u32::MAX - (any & 0xff),
            2 => 1u32 << (any & 31),
            3 => (1u32 << (any & 31)).wrapping_sub(1),
            4 => any & !15,
            _ => any,
        }
    }

    /// Fills the slice with random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// Returns a random element. The slice must not be empty.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_all_are_reached() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        let mut seen = [false; 64];
        for _ in 0..2000 {
            assert_eq!(a.word(), b.word());
            seen[a.below(64)] = true;
            b.below(64);
        }
        assert!(seen.iter().all(|&s| s));
    }
}
