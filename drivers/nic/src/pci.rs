//! The device's PCI function: its page of configuration space (`nicN-ecam`) and its registers (`nicN-bar`).
//!
//! The domain can reach this one function only. What the configuration space says is checked against the regions that the
//! system description gives; a device that does not fit is the end of the domain, with the reason. There may be none.

use crate::dma::Memory;
use crate::own::{BAR, ECAM, NAME};
use virtio_drivers::transport::pci::bus::{
    Command, ConfigurationAccess, DeviceFunction, PCI_CAP_ID_VNDR, PciRoot,
};
use virtio_drivers::transport::pci::{
    PciTransport, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_VENDOR_ID,
};

/// What is read where no function is (PCI Express, 2.3.2).
const ABSENT: u32 = u32::MAX;

/// The one page of configuration space.
struct Page;

impl Page {
    fn register(offset: u8) -> *mut u32 {
        // A page has 4096 bytes, an offset is below 256 and its low bits are cleared.
        ECAM.as_ptr().wrapping_add(usize::from(offset & !3)).cast()
    }
}

impl ConfigurationAccess for Page {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        if function != ours() {
            return u32::MAX;
        }
        // SAFETY: aligned and inside the page, which only this domain maps, uncached.
        unsafe { Page::register(offset).read_volatile() }
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        if function == ours() {
            // SAFETY: as above.
            unsafe { Page::register(offset).write_volatile(data) }
        }
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Page
    }
}

/// Which function the page belongs to: by its place in the configuration space (PCI Express, 7.2.2), whose start is
/// aligned to its 256 MiB.
pub fn ours() -> DeviceFunction {
    let address = ECAM.paddr.unwrap_or(0);
    DeviceFunction {
        bus: (address >> 20) as u8,
        device: (address >> 15) as u8 & 31,
        function: (address >> 12) as u8 & 7,
    }
}

/// One virtio capability (virtio 1.2, 4.1.4).
#[derive(Clone, Copy)]
struct Capability {
    bar: u8,
    offset: u32,
    /// For notifications: bytes between two queues' registers.
    multiplier: u32,
}

fn capability(root: &PciRoot<Page>, kind: u8) -> Capability {
    let page = Page;
    let read = |offset: u8| page.read_word(ours(), offset);
    root.capabilities(ours())
        .find(|c| c.id == PCI_CAP_ID_VNDR && (c.private_header >> 8) as u8 == kind)
        .map(|c| Capability {
            bar: read(c.offset.saturating_add(4)) as u8,
            offset: read(c.offset.saturating_add(8)),
            multiplier: read(c.offset.saturating_add(16)),
        })
        .unwrap_or_else(|| {
            panic!("the PCI function of {NAME} is no virtio 1 device: a needed capability is missing")
        })
}

/// Finds the device, puts its registers into their region, lets it reach memory. Also the addresses by which the queues 0
/// and 1 are notified: one write each, where the transport would need three accesses. `None` where the machine has no device
/// in this place.
pub fn open() -> Option<(PciTransport, [Kick; 2])> {
    let mut root = PciRoot::new(Page);
    let id = Page.read_word(ours(), 0);
    if id == ABSENT {
        return None;
    }
    assert!(
        id as u16 == VIRTIO_VENDOR_ID,
        "no virtio device at PCI {}: its identification is {id:#010x}",
        ours()
    );
    let common = capability(&root, VIRTIO_PCI_CAP_COMMON_CFG);
    let notify = capability(&root, VIRTIO_PCI_CAP_NOTIFY_CFG);
    assert!(
        common.bar == notify.bar && common.bar < 5,
        "the device's registers are in two BARs"
    );
    let place = BAR.paddr.expect("the region of the registers needs a phys_addr");
    root.set_command(ours(), Command::empty());
    root.set_bar_64(ours(), common.bar, place);
    let found = root.bar_info(ours(), common.bar).ok().flatten();
    let found = found.and_then(|info| info.memory_address_size());
    assert!(
        found.is_some_and(|(address, size)| address == place && size <= BAR.size as u64),
        "the device's BAR {} does not take the region of the registers: {found:?}",
        common.bar
    );
    root.set_command(ours(), Command::MEMORY_SPACE | Command::BUS_MASTER);
    let kicks = [Kick::new(0, common, notify), Kick::new(1, common, notify)];
    let transport = PciTransport::new::<Memory, _>(&mut root, ours())
        .unwrap_or_else(|e| panic!("the virtio device of {NAME} cannot be used: {e}"));
    Some((transport, kicks))
}

/// The register by which a queue is notified.
#[derive(Clone, Copy)]
pub struct Kick {
    register: *mut u16,
    queue: u16,
}

impl Kick {
    fn new(queue: u16, common: Capability, notify: Capability) -> Kick {
        /// Offsets in the common configuration (virtio 1.2, 4.1.4.3).
        const QUEUE_SELECT: usize = 22;
        const QUEUE_NOTIFY_OFF: usize = 30;
        // SAFETY: `register` gives aligned places inside the region; only this domain maps it, uncached, and the
        // transport that will own the common configuration does not exist yet.
        let off = unsafe {
            register(common.offset as usize + QUEUE_SELECT).write_volatile(queue);
            register(common.offset as usize + QUEUE_NOTIFY_OFF).read_volatile()
        };
        let offset = (notify.multiplier as usize)
            .checked_mul(usize::from(off))
            .and_then(|o| o.checked_add(notify.offset as usize));
        Kick {
            register: register(offset.unwrap_or(usize::MAX)),
            queue,
        }
    }

    /// Tells the device that there are buffers in the queue.
    pub fn kick(self) {
        // SAFETY: `register` checked the place; writes there have no effect on memory of ours.
        unsafe { self.register.write_volatile(self.queue) }
    }
}

/// A 16-bit register of the device.
fn register(offset: usize) -> *mut u16 {
    assert!(
        offset < BAR.size - 1 && offset.is_multiple_of(2),
        "a register of the device outside of its region"
    );
    BAR.as_ptr().wrapping_add(offset).cast()
}
