//! The PCI function of a device: its page of configuration space and its registers.
//!
//! A driver domain can reach this one function only. The device behind it is not trusted: what its configuration space says is
//! checked against the regions that the system description gives. A function that does not fit them ends the domain, with the
//! reason in the log. The machine may have no such function.

use crate::memory::{DmaRegion, Memory};
use crate::queue::QueueNotify;
use core::marker::PhantomData;
use core::ptr::NonNull;
use virtio_drivers::transport::pci::bus::{
    Command, ConfigurationAccess, DeviceFunction, PCI_CAP_ID_VNDR, PciRoot,
};
use virtio_drivers::transport::pci::{
    PciTransport, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_VENDOR_ID,
};

/// The identification that is read if there is no function (PCI Express, 2.3.2).
const ABSENT: u32 = u32::MAX;

/// The PCI function of a domain: where its page of configuration space and its registers are mapped.
///
/// # Safety
/// 4096 bytes from [`Self::ecam`] and [`Self::BAR_SIZE`] bytes from [`Self::bar`] are mapped uncached, page-aligned, as long as the
/// program runs. They are configuration space and registers of the device, and the program reaches them through this crate alone.
pub unsafe trait Function: DmaRegion {
    /// Bytes of the region of registers.
    const BAR_SIZE: usize;

    /// Returns the address of the page of configuration space.
    fn ecam() -> NonNull<u8>;

    /// Returns the physical address of that page.
    fn ecam_paddr() -> u64;

    /// Returns the address of the region of registers.
    fn bar() -> NonNull<u8>;

    /// Returns the physical address of that region.
    fn bar_paddr() -> u64;

    /// Returns where `size` bytes of registers at a physical address are mapped, for [`DmaRegion::registers`].
    ///
    /// # Panics
    /// If they do not lie in the region of registers.
    fn mapped(paddr: u64, size: usize) -> NonNull<u8> {
        let offset = paddr.checked_sub(Self::bar_paddr()).map(|o| o as usize);
        let offset = offset
            .filter(|o| o.checked_add(size).is_some_and(|end| end <= Self::BAR_SIZE))
            .expect("the device's registers do not lie in their region");
        NonNull::new(Self::bar().as_ptr().wrapping_add(offset)).expect("the registers lie at an address")
    }
}

/// The one page of configuration space.
struct Page<F>(PhantomData<F>);

impl<F: Function> Page<F> {
    fn register(offset: u8) -> *mut u32 {
        // A page has 4096 bytes, an offset is below 256 and its low bits are cleared.
        F::ecam().as_ptr().wrapping_add(usize::from(offset & !3)).cast()
    }
}

impl<F: Function> ConfigurationAccess for Page<F> {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        if function != place::<F>() {
            return u32::MAX;
        }
        // SAFETY: aligned and inside the page, which only this domain maps, uncached.
        unsafe { Self::register(offset).read_volatile() }
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        if function == place::<F>() {
            // SAFETY: aligned and inside the page, which only this domain maps, uncached.
            unsafe { Self::register(offset).write_volatile(data) }
        }
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Page(PhantomData)
    }
}

/// Returns the function that the page belongs to. It follows from the page's place in the configuration space (PCI Express,
/// 7.2.2), whose start is aligned to its 256 MiB.
pub fn place<F: Function>() -> DeviceFunction {
    let address = F::ecam_paddr();
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

fn capability<F: Function>(root: &PciRoot<Page<F>>, kind: u8) -> Capability {
    let ours = place::<F>();
    let read = |offset: u8| Page::<F>(PhantomData).read_word(ours, offset);
    root.capabilities(ours)
        .find(|c| c.id == PCI_CAP_ID_VNDR && (c.private_header >> 8) as u8 == kind)
        .map(|c| Capability {
            bar: read(c.offset.saturating_add(4)) as u8,
            offset: read(c.offset.saturating_add(8)),
            multiplier: read(c.offset.saturating_add(16)),
        })
        .unwrap_or_else(|| panic!("PCI {ours} is no virtio 1 device: a needed capability is missing"))
}

/// Finds the device, maps its registers into their region, and lets it reach memory. Returns its transport and the registers
/// that notify it of its first `QUEUES` queues: one write each, where the transport would need three accesses. Returns `None` if the
/// machine has no device in this place.
pub fn open<F: Function, const QUEUES: usize>() -> Option<(PciTransport, Kicks<QUEUES>)> {
    let ours = place::<F>();
    let mut root = PciRoot::new(Page::<F>(PhantomData));
    let id = Page::<F>(PhantomData).read_word(ours, 0);
    if id == ABSENT {
        return None;
    }
    assert!(
        id as u16 == VIRTIO_VENDOR_ID,
        "no virtio device at PCI {ours}: its identification is {id:#010x}"
    );
    let common = capability(&root, VIRTIO_PCI_CAP_COMMON_CFG);
    let notify = capability(&root, VIRTIO_PCI_CAP_NOTIFY_CFG);
    assert!(
        common.bar == notify.bar && common.bar < 5,
        "the device's registers are in two BARs"
    );
    let place = F::bar_paddr();
    root.set_command(ours, Command::empty());
    root.set_bar_64(ours, common.bar, place);
    let found = root.bar_info(ours, common.bar).ok().flatten();
    let found = found.and_then(|info| info.memory_address_size());
    assert!(
        found.is_some_and(|(address, size)| address == place && size <= F::BAR_SIZE as u64),
        "the device's BAR {} does not take the region of the registers: {found:?}",
        common.bar
    );
    root.set_command(ours, Command::MEMORY_SPACE | Command::BUS_MASTER);
    let kicks = Kicks(core::array::from_fn(|queue| {
        Kick::new::<F>(queue as u16, common, notify)
    }));
    let transport = PciTransport::new::<Memory<F>, _>(&mut root, ours)
        .unwrap_or_else(|e| panic!("the virtio device at PCI {ours} cannot be used: {e}"));
    Some((transport, kicks))
}

/// The registers that notify the device of its queues, by the queue's number.
pub struct Kicks<const QUEUES: usize>([Kick; QUEUES]);

impl<const QUEUES: usize> QueueNotify for Kicks<QUEUES> {
    #[inline]
    fn notify(&self, queue: u16) {
        if let Some(kick) = self.0.get(usize::from(queue)) {
            kick.kick();
        }
    }
}

/// The register that notifies the device of a queue.
#[derive(Clone, Copy)]
struct Kick {
    register: *mut u16,
    queue: u16,
}

impl Kick {
    fn new<F: Function>(queue: u16, common: Capability, notify: Capability) -> Kick {
        /// Offsets in the common configuration (virtio 1.2, 4.1.4.3).
        const QUEUE_SELECT: usize = 22;
        const QUEUE_NOTIFY_OFF: usize = 30;
        // SAFETY: `register` returns aligned addresses inside the region; only this domain maps it, uncached, and the
        // transport that will own the common configuration does not exist yet.
        let off = unsafe {
            register::<F>(common.offset as usize + QUEUE_SELECT).write_volatile(queue);
            register::<F>(common.offset as usize + QUEUE_NOTIFY_OFF).read_volatile()
        };
        let offset = (notify.multiplier as usize)
            .checked_mul(usize::from(off))
            .and_then(|o| o.checked_add(notify.offset as usize));
        Kick {
            register: register::<F>(offset.unwrap_or(usize::MAX)),
            queue,
        }
    }

    /// Notifies the device that the queue has new buffers.
    #[inline]
    fn kick(self) {
        // SAFETY: `register` has checked the address. Writes there have no effect on this domain's memory.
        unsafe { self.register.write_volatile(self.queue) }
    }
}

/// Returns the address of a 16-bit register of the device. Panics if it is outside of the region.
fn register<F: Function>(offset: usize) -> *mut u16 {
    assert!(
        offset < F::BAR_SIZE - 1 && offset.is_multiple_of(2),
        "a register of the device outside of its region"
    );
    F::bar().as_ptr().wrapping_add(offset).cast()
}
