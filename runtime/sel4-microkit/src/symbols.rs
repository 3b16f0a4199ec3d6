//! Symbols that the image builder patches. They lie in a read-only section, so they survive a restart.

use core::cell::UnsafeCell;
use core::ptr::addr_of;
use core::str::Utf8Error;

#[used]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".microkit")]
static microkit_name: [u8; 64] = [0; 64];

macro_rules! word {
    ($name:ident) => {
        #[used]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".microkit")]
        static $name: u64 = 0;
    };
}

#[used]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".microkit")]
static microkit_passive: u8 = 0;

word!(microkit_irqs);
word!(microkit_notifications);
word!(microkit_pps);
word!(microkit_ioports);

fn read<T: Copy>(symbol: *const T) -> T {
    // SAFETY: the symbol is a static of this program. It is read as volatile, because the image builder changes it
    // after compilation.
    unsafe { symbol.read_volatile() }
}

/// Returns the protection domain's name, as the system description gives it.
pub fn pd_name() -> Result<&'static str, Utf8Error> {
    // SAFETY: the bytes are a static that does not change at run time (read-only pages). Reading the address through
    // `read_volatile` of a pointer keeps the compiler from assuming the zeros above.
    let bytes: &'static [u8; 64] = unsafe { &*read(&addr_of!(microkit_name)) };
    let bytes = core::hint::black_box(bytes);
    let len = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..len])
}

/// Returns true if the domain is passive, which needs the SDK's kernel.
pub fn pd_is_passive() -> bool {
    read(addr_of!(microkit_passive)) != 0
}

/// Returns the ids of interrupts, as bits.
pub fn irqs() -> u64 {
    read(addr_of!(microkit_irqs))
}

/// Returns the channels that may be notified, as bits.
pub fn notifications() -> u64 {
    read(addr_of!(microkit_notifications))
}

/// Returns the channels that may be called, as bits.
pub fn pps() -> u64 {
    read(addr_of!(microkit_pps))
}

/// Returns the ids of I/O port ranges, as bits.
pub fn ioports() -> u64 {
    read(addr_of!(microkit_ioports))
}

/// A value that the image builder may change in the finished program. Afterwards it does not change.
#[doc(hidden)]
#[repr(transparent)]
pub struct Patched<T>(UnsafeCell<T>);

// SAFETY: nothing writes to the value while the program runs; the cell only keeps the compiler from assuming the value
// in the source.
unsafe impl<T> Sync for Patched<T> {}

impl<T> Patched<T> {
    /// Creates a symbol with the value that it has if the image builder sets none.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Returns the value of the finished program.
    pub fn get(&self) -> &T {
        // SAFETY: nothing writes to the value while the program runs.
        unsafe { &*self.0.get() }
    }
}

/// Declares a symbol that the system description may set (`setvar_id` and the like), and returns a reference to its value:
/// `var!(name: usize = 0)`. The value lies in read-only memory, so it survives a restart.
#[macro_export]
macro_rules! var {
    ($(#[$attributes:meta])* $symbol:ident: $ty:ty = $default:expr) => {{
        $(#[$attributes])*
        #[allow(non_upper_case_globals)]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".microkit.var")]
        static $symbol: $crate::_private::Patched<$ty> = $crate::_private::Patched::new($default);

        $symbol.get()
    }};
}

/// Declares a symbol that the system description sets to a region's address (`setvar_vaddr`), and returns that address as a
/// `NonNull`: `memory_region_symbol!(name: *mut T)`, or `memory_region_symbol!(name: *mut [T], n = LENGTH)`. With `bytes =
/// SIZE`, panics unless the type has that size. Panics if the symbol is not set.
#[macro_export]
macro_rules! memory_region_symbol {
    ($(#[$attributes:meta])* $symbol:ident: *mut [$ty:ty], n = $n:expr, bytes = $bytes:expr $(,)?) => {{
        ::core::assert!($bytes == $n * ::core::mem::size_of::<$ty>());
        $crate::memory_region_symbol!($(#[$attributes])* $symbol: *mut [$ty], n = $n)
    }};
    ($(#[$attributes:meta])* $symbol:ident: *mut $ty:ty, bytes = $bytes:expr $(,)?) => {{
        ::core::assert!($bytes == ::core::mem::size_of::<$ty>());
        $crate::memory_region_symbol!($(#[$attributes])* $symbol: *mut $ty)
    }};
    ($(#[$attributes:meta])* $symbol:ident: *mut [$ty:ty], n = $n:expr $(,)?) => {
        ::core::ptr::NonNull::slice_from_raw_parts(
            $crate::memory_region_symbol!($(#[$attributes])* $symbol: *mut $ty),
            $n,
        )
    };
    ($(#[$attributes:meta])* $symbol:ident: *mut $ty:ty $(,)?) => {
        ::core::ptr::NonNull::new(*$crate::var!($(#[$attributes])* $symbol: usize = 0) as *mut $ty)
            .unwrap_or_else(|| ::core::panic!("{} is null", ::core::stringify!($symbol)))
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_symbol_that_nobody_sets_has_its_default() {
        assert_eq!(*var!(test_var_number: usize = 7), 7);
        assert_eq!(*var!(test_var_pair: (u32, bool) = (3, true)), (3, true));
        assert_eq!(crate::pd_name(), Ok(""));
    }

    #[test]
    #[should_panic(expected = "test_region_address is null")]
    fn a_region_that_nobody_maps_is_refused() {
        let _ = memory_region_symbol!(test_region_address: *mut [u64], n = 8, bytes = 64);
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn a_region_of_another_size_is_refused() {
        let _ = memory_region_symbol!(test_region_size: *mut u64, bytes = 16);
    }
}
