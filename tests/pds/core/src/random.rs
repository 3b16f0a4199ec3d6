//! Pseudo-random numbers from a fixed seed: Marsaglia's xorshift with 64 bits of state, shifts 13, 7, 17.

/// The sequence.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed; 0, from which there is none, counts as 1.
    pub const fn new(seed: u64) -> Random {
        Random(if seed == 0 { 1 } else { seed })
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `n`, which is above 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.word() >> 16) as usize % n
    }

    /// A 32-bit number that is often of the kind that finds mistakes: near 0, near the end, near a power of two.
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

    /// Fills bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// One of several.
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
