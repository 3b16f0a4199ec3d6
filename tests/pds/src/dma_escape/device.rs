//! The misdirected device: its page of configuration space (`nic0-ecam`), its registers (`nic0-bar`), and the
//! memory of its receive queue (`nic0-dma`).
//!
//! Owns all three regions. The other side is the device, which follows its queue. The queue has an address in
//! another domain's memory, so the device is the weapon here and not a peer.

use crate::wiring::regions::{NIC_BAR as BAR, NIC_DMA as DMA, NIC_ECAM as ECAM};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use virtio_drivers::transport::pci::bus::{
    Command, ConfigurationAccess, DeviceFunction, PCI_CAP_ID_VNDR, PciRoot,
};
use virtio_drivers::transport::pci::{PciTransport, VIRTIO_PCI_CAP_COMMON_CFG};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

// The address for the device: `CANARY`.
include!(concat!(env!("OUT_DIR"), "/canary.rs"));

/// Physical address of every buffer, as given to the device.
pub const TARGET: PhysAddr = CANARY;

/// Size of the part of the DMA region for queues, in bytes. The buffers follow.
const QUEUES: usize = 64 * 1024;

/// Size of one receive buffer in bytes.
const BUFFER: usize = 8192;

/// Number of receive buffers.
pub const BUFFERS: usize = 8;

const _: () = assert!(QUEUES + BUFFERS * BUFFER <= DMA.size);

/// Symbols that the image builder sets (`setvar` in `system.xml`): the physical addresses of the regions.
macro_rules! symbol {
    ($symbol:ident) => {
        #[used]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".microkit.var")]
        static $symbol: u64 = 0;
    };
}
symbol!(nic_ecam_paddr);
symbol!(nic_bar_paddr);
symbol!(nic_dma_paddr);

/// Reads one of the symbols.
fn address(symbol: *const u64) -> PhysAddr {
    // SAFETY: a static of this program that nothing writes while the program runs. Volatile, because the image
    // builder changes it after compilation.
    unsafe { symbol.read_volatile() }
}

/// Returns receive buffer `i`, which must be below [`BUFFERS`].
///
/// # Safety
/// No other slice of this buffer is alive.
pub unsafe fn buffer(i: usize) -> &'static mut [u8] {
    assert!(i < BUFFERS);
    let start = DMA.as_ptr().wrapping_add(QUEUES + i * BUFFER);
    // SAFETY: inside the region, as asserted above, which is mapped for the domain's life. The caller
    // guarantees that no other reference to these bytes exists. The device writes elsewhere: its address is
    // `CANARY`.
    unsafe { core::slice::from_raw_parts_mut(start, BUFFER) }
}

/// The DMA region, with [`CANARY`] as the address of all buffers.
pub struct Misdirected;

/// Bytes of the DMA region that are allocated to queues.
static USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: `dma_alloc` returns disjoint zeroed pages of the DMA region, which is mapped for the domain's life. `mmio_phys_to_virt` answers
// only inside the region of the device's registers. `share` returns no address of this domain's memory, so the device changes no memory that
// the compiler uses. The change of another domain's memory is the purpose of the test.
unsafe impl Hal for Misdirected {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let bytes = pages * PAGE_SIZE;
        let offset = USED.fetch_add(bytes, Ordering::Relaxed);
        assert!(offset + bytes <= QUEUES, "the queues do not fit");
        let start =
            NonNull::new(DMA.as_ptr().wrapping_add(offset)).expect("the DMA region lies at an address");
        // SAFETY: inside the region, as just asserted, and part of no other allocation.
        unsafe { start.write_bytes(0, bytes) };
        let place = address(&raw const nic_dma_paddr);
        (place + offset as u64, start)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        // The queue lives as long as the domain.
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        let offset = paddr.checked_sub(address(&raw const nic_bar_paddr));
        let offset = offset
            .map(|offset| offset as usize)
            .filter(|offset| offset.checked_add(size).is_some_and(|end| end <= BAR.size))
            .expect("the device's registers do not lie in their region");
        NonNull::new(BAR.as_ptr().wrapping_add(offset)).expect("the registers lie at an address")
    }

    unsafe fn share(_: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        CANARY
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// The page of configuration space of the only PCI function that this domain can reach.
struct Page;

impl Page {
    fn register(offset: u8) -> *mut u32 {
        // A page has 4096 bytes, an offset is below 256, and its low bits are cleared.
        ECAM.as_ptr().wrapping_add(usize::from(offset & !3)).cast()
    }
}

impl ConfigurationAccess for Page {
    fn read_word(&self, _: DeviceFunction, offset: u8) -> u32 {
        // SAFETY: aligned and inside the page, which only this domain maps, uncached.
        unsafe { Page::register(offset).read_volatile() }
    }

    fn write_word(&mut self, _: DeviceFunction, offset: u8, data: u32) {
        // SAFETY: aligned and inside the page, which only this domain maps, uncached.
        unsafe { Page::register(offset).write_volatile(data) }
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Page
    }
}

/// Places the device's registers in their region and enables its access to memory.
pub fn open() -> PciTransport {
    // The page shows one function, regardless of the number.
    let function = DeviceFunction {
        bus: 0,
        device: 0,
        function: 0,
    };
    let mut root = PciRoot::new(Page);
    let common = root
        .capabilities(function)
        .find(|c| c.id == PCI_CAP_ID_VNDR && (c.private_header >> 8) as u8 == VIRTIO_PCI_CAP_COMMON_CFG)
        .expect("there is no virtio device to misdirect");
    let bar = Page.read_word(function, common.offset.saturating_add(4)) as u8;
    let place = address(&raw const nic_bar_paddr);
    root.set_command(function, Command::empty());
    root.set_bar_64(function, bar, place);
    root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER);
    PciTransport::new::<Misdirected, _>(&mut root, function)
        .unwrap_or_else(|e| panic!("the virtio device cannot be used: {e}"))
}
