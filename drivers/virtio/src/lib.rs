//! What the drivers of virtio devices share: the PCI function of a device ([`pci`]), the memory that the device may reach
//! ([`memory`]), and queues that check which buffers the device returns ([`queue`]).
//!
//! The crate owns no device: each driver domain has one function and one DMA region, and names them by a type that implements
//! [`memory::DmaRegion`] and [`pci::Function`]. On the other side is the device. It is not trusted: it may write any number
//! anywhere in its memory at any time, and a driver checks what it reads from there. The IOMMU keeps the device inside that
//! memory, if the machine has one.
//!
//! The crate does not know the kernel, so the drivers' tests run on the host.
#![no_std]

pub mod memory;
pub mod pci;
pub mod queue;

/// Defines a function that returns a physical address, and the symbol of eight bytes into which the image builder writes the
/// address (`setvar` in `system.xml`).
#[macro_export]
macro_rules! physical_address {
    ($read:ident, $symbol:ident, $about:literal) => {
        #[used]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".microkit.var")]
        static $symbol: u64 = 0;

        #[doc = $about]
        #[inline]
        pub fn $read() -> u64 {
            // SAFETY: reads a static of this program that is not written while the program runs. The read is volatile,
            // because the image builder changes the value after compilation.
            unsafe { core::ptr::addr_of!($symbol).read_volatile() }
        }
    };
}
