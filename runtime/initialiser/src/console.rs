//! Text output on COM1 by polling. The root task prints little, and only if no other domain could.

use core::fmt;

use crate::kernel::Kernel;

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const TRANSMITTER_EMPTY: u8 = 0x20;
/// Maximum of polls of the line status for one byte. The byte is dropped afterwards, so that a machine
/// without COM1 boots too.
const POLLS: u32 = 10_000;

/// Writes text to COM1.
pub struct Console<'a>(pub &'a mut Kernel);

impl fmt::Write for Console<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        Ok(())
    }
}

impl Console<'_> {
    fn put(&mut self, byte: u8) {
        for _ in 0..POLLS {
            if self.0.in8(LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
                self.0.out8(COM1, byte);
                return;
            }
        }
    }
}

/// Prints a line on COM1.
macro_rules! say {
    ($kernel:expr, $($argument:tt)*) => {{
        use core::fmt::Write as _;
        // Writing to COM1 never fails: bytes that the port does not take are dropped.
        let _ = writeln!($crate::console::Console($kernel), $($argument)*);
    }};
}
pub(crate) use say;
