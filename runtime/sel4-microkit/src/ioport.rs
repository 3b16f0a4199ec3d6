//! I/O ports through the kernel, which is trusted. Owns no state.

use crate::{IOPORTS, IoPortRange};
use sel4::label;

/// A range of I/O ports.
#[derive(Clone, Copy, Debug)]
pub struct IoPort(IoPortRange);

macro_rules! access {
    ($read:ident, $write:ident, $ty:ty, $in:ident, $out:ident, $bits:literal) => {
        #[doc = concat!("Reads ", $bits, " bits at `offset` in the range.")]
        pub fn $read(&self, offset: u16) -> $ty {
            let words = [u64::from(self.port(offset, size_of::<$ty>())), 0, 0, 0];
            sel4::invoke(self.capability(), label::$in, 1, words).map_or(<$ty>::MAX, |word| word as $ty)
        }

        #[doc = concat!("Writes ", $bits, " bits at `offset` in the range.")]
        pub fn $write(&self, offset: u16, value: $ty) {
            let words = [
                u64::from(self.port(offset, size_of::<$ty>())),
                u64::from(value),
                0,
                0,
            ];
            // The kernel refuses only ports outside the capability, which `port` has excluded.
            let _ = sel4::invoke(self.capability(), label::$out, 2, words);
        }
    };
}

impl IoPort {
    /// Creates the range from its entry in the system description. Panics if the domain has no range with this id.
    pub fn new(range: IoPortRange) -> IoPort {
        assert!(
            crate::symbols::ioports() & 1 << range.id != 0,
            "no I/O port range has the id {}",
            range.id
        );
        IoPort(range)
    }

    fn capability(&self) -> u64 {
        IOPORTS + self.0.id as u64
    }

    /// Returns the port at `offset`. Panics unless all of its `width` bytes lie in the range.
    fn port(&self, offset: u16, width: usize) -> u16 {
        assert!(
            usize::from(offset) + width <= usize::from(self.0.size),
            "I/O port offset {offset} is outside the range of {}",
            self.0.size
        );
        self.0.addr + offset
    }

    access!(in8, out8, u8, X86_IO_PORT_IN8, X86_IO_PORT_OUT8, 8);
    access!(in16, out16, u16, X86_IO_PORT_IN16, X86_IO_PORT_OUT16, 16);
    access!(in32, out32, u32, X86_IO_PORT_IN32, X86_IO_PORT_OUT32, 32);
}
