//! The regions of this domain, and the physical addresses at which the device knows them.
//!
//! One program drives every NIC. The regions lie at equal virtual addresses in all driver domains. The physical
//! addresses differ, so the image builder writes them into the symbols below (`setvar` in `system.xml`).

use crate::wiring::regions;
use sel4_microkit::Region;

pub const ECAM: Region = regions::NIC_ECAM;
pub const BAR: Region = regions::NIC_BAR;
pub const DMA: Region = regions::NIC_DMA;
pub const LOG: Region = regions::LOG_NIC;
pub const PORTS: [Region; regions::PORTS_NIC.len()] = regions::PORTS_NIC;

/// Defines a symbol of eight bytes that the image builder sets, and the function that reads it.
macro_rules! address {
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

address!(
    ecam_paddr,
    nic_ecam_paddr,
    "Returns the physical address of `ECAM`."
);
address!(bar_paddr, nic_bar_paddr, "Returns the physical address of `BAR`.");
address!(dma_paddr, nic_dma_paddr, "Returns the physical address of `DMA`.");
