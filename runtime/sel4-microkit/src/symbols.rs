//! Symbols that the image builder patches. They lie in a read-only section, so they survive a restart.

use core::ptr::addr_of;

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
    // SAFETY: the symbol is a static of ours; read as volatile because the image builder changes it after compilation.
    unsafe { symbol.read_volatile() }
}

/// The protection domain's name, as the system description gives it.
pub fn pd_name() -> &'static str {
    // SAFETY: the bytes are a static that nobody writes at run time (read-only pages). Reading the address through
    // `read_volatile` of a pointer keeps the compiler from taking the zeros above for granted.
    let bytes: &'static [u8; 64] = unsafe { &*read(&addr_of!(microkit_name)) };
    let bytes = core::hint::black_box(bytes);
    let len = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..len]).unwrap_or("?")
}

/// Whether the domain is passive (never on this kernel).
pub fn pd_is_passive() -> bool {
    read(addr_of!(microkit_passive)) != 0
}

/// Interrupt ids.
pub fn irqs() -> u64 {
    read(addr_of!(microkit_irqs))
}

/// Channels that may be notified.
pub fn notifications() -> u64 {
    read(addr_of!(microkit_notifications))
}

/// Channels that may be called.
pub fn pps() -> u64 {
    read(addr_of!(microkit_pps))
}

/// I/O port ids.
pub fn ioports() -> u64 {
    read(addr_of!(microkit_ioports))
}

/// A symbol of eight bytes that the image builder sets (`setvar`), read by [`crate::var!`].
#[macro_export]
macro_rules! var {
    ($symbol:ident) => {{
        #[used]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".microkit.var")]
        static $symbol: u64 = 0;
        // SAFETY: a static of ours, read as volatile because the image builder changes it after compilation.
        unsafe { ::core::ptr::addr_of!($symbol).read_volatile() }
    }};
}

/// A region's address that the image builder sets (`setvar_vaddr`), as a pointer.
#[macro_export]
macro_rules! memory_region_symbol {
    ($symbol:ident : $ty:ty) => {
        ::core::ptr::NonNull::new($crate::var!($symbol) as *mut $ty)
    };
}
