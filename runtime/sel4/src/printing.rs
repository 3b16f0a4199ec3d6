//! Text on the kernel's debug console, with the upstream crate's names.
//!
//! A debug kernel has a system call that prints one byte on COM1. A release kernel does not have it: a thread that used
//! it would fault. So the decision is made when the program is compiled, by `BRANES_SEL4_PRINTING` (`build.rs`);
//! without it all text is discarded. The kernel is trusted. The console's readers see the text of all programs.

use core::fmt;

/// True if text reaches the kernel's debug console.
pub const PRINTING: bool = cfg!(sel4_printing);

/// Prints one byte.
#[inline]
pub fn debug_put_char(byte: u8) {
    #[cfg(sel4_printing)]
    crate::kernel::debug_put_char(byte);
    #[cfg(not(sel4_printing))]
    let _ = byte;
}

/// Writer to the kernel's debug console.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugWrite;

impl fmt::Write for DebugWrite {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(debug_put_char);
        Ok(())
    }
}

/// Prints formatted text. If a `Display` fails, its text so far has been printed.
#[doc(hidden)]
pub fn print(arguments: fmt::Arguments<'_>) {
    if PRINTING {
        let _ = fmt::write(&mut DebugWrite, arguments);
    }
}

/// Prints formatted text on the kernel's debug console.
#[macro_export]
macro_rules! debug_print {
    ($($argument:tt)*) => { $crate::print(::core::format_args!($($argument)*)) };
}

/// Prints formatted text and a line's end on the kernel's debug console.
#[macro_export]
macro_rules! debug_println {
    () => { $crate::debug_print!("\n") };
    ($($argument:tt)*) => { $crate::debug_print!("{}\n", ::core::format_args!($($argument)*)) };
}
