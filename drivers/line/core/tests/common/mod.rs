//! A virtio-serial device in memory: registers ([`Fake`]) and the device's side of the queues.
//!
//! The device reaches the driver's memory by the addresses that it was given. An address outside of the DMA region fails the test, as
//! an IOMMU would. The device can comply with the protocol, or write any bytes into its queues.

use brane_abi::layout::line_remote;
use brane_abi::shared::SharedRegion;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use line_core::device::{Features, QUEUES, QueueNotify, StartError, VirtioConsole};
use line_core::memory::{self, SIZE};
use line_core::pump::Pump;
use std::alloc::{Layout, alloc_zeroed};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use virtio::memory::DmaRegion;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Address of the region for the device.
const PADDR: PhysAddr = 0x900_0000;

thread_local! {
    static MEMORY: Cell<Option<(NonNull<u8>, &'static AtomicUsize)>> = const { Cell::new(None) };
}

fn pages(len: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(len, 4096).unwrap();
    // SAFETY: the layout has a size above zero. The memory is never freed: the driver's slices are `'static`.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap()
}

/// The DMA region of this thread's device.
pub struct HostRegion;

// SAFETY: `SIZE` bytes from a page-aligned address, allocated and never freed. Each thread has a region of its own.
unsafe impl DmaRegion for HostRegion {
    const SIZE: usize = SIZE;
    const QUEUES: usize = memory::QUEUES;
    fn base() -> NonNull<u8> {
        MEMORY.get().expect("the thread has a device").0
    }
    fn paddr() -> PhysAddr {
        PADDR
    }
    fn allocated() -> &'static AtomicUsize {
        MEMORY.get().expect("the thread has a device").1
    }
    fn registers(_: PhysAddr, _: usize) -> NonNull<u8> {
        panic!("the fake transport has no registers in memory")
    }
}

/// The device's side of a queue.
#[derive(Clone, Copy, Default)]
struct Side {
    entries: u64,
    descriptors: PhysAddr,
    available: PhysAddr,
    used: PhysAddr,
    next: u16,
    filled: u16,
}

/// State shared by registers and device.
pub struct State {
    pub offered: Features,
    pub status: DeviceStatus,
    pub interrupt: InterruptStatus,
    queues: [Side; QUEUES],
    pub notified: [usize; QUEUES],
}

/// The device.
#[derive(Clone)]
pub struct Fake(pub Rc<RefCell<State>>);

impl Transport for Fake {
    fn device_type(&self) -> DeviceType {
        DeviceType::Console
    }
    fn read_device_features(&mut self) -> u64 {
        self.0.borrow().offered.bits()
    }
    fn write_driver_features(&mut self, _: u64) {}
    fn max_queue_size(&mut self, _: u16) -> u32 {
        128
    }
    fn notify(&mut self, _: u16) {
        unreachable!("the driver notifies by `QueueNotify`")
    }
    fn get_status(&self) -> DeviceStatus {
        self.0.borrow().status
    }
    fn set_status(&mut self, status: DeviceStatus) {
        self.0.borrow_mut().status = status;
    }
    fn set_guest_page_size(&mut self, _: u32) {}
    fn requires_legacy_layout(&self) -> bool {
        false
    }
    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        available: PhysAddr,
        used: PhysAddr,
    ) {
        self.0.borrow_mut().queues[usize::from(queue)] = Side {
            entries: size.into(),
            descriptors,
            available,
            used,
            ..Side::default()
        };
    }
    fn queue_unset(&mut self, _: u16) {}
    fn queue_used(&mut self, _: u16) -> bool {
        false
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        std::mem::take(&mut self.0.borrow_mut().interrupt)
    }
    fn read_config_generation(&self) -> u32 {
        0
    }
    fn read_config_space<T: FromBytes + IntoBytes>(&self, _: usize) -> Result<T, Error> {
        unreachable!("the driver reads no configuration")
    }
    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> Result<(), Error> {
        unreachable!("the driver writes no configuration")
    }
}

impl QueueNotify for Fake {
    fn notify(&self, queue: u16) {
        self.0.borrow_mut().notified[usize::from(queue)] += 1;
    }
}

fn place(address: PhysAddr, len: usize) -> *mut u8 {
    let offset = address.checked_sub(PADDR).expect("an address below the region") as usize;
    assert!(
        offset + len <= SIZE,
        "{len} bytes at {address:#x} outside of the region"
    );
    HostRegion::base().as_ptr().wrapping_add(offset)
}

/// Returns a copy of bytes in the region.
fn load(address: PhysAddr, len: usize) -> Vec<u8> {
    // SAFETY: inside the region, as `place` has asserted. Driver and device are one thread.
    unsafe { std::slice::from_raw_parts(place(address, len), len) }.to_vec()
}

fn word(address: PhysAddr) -> u16 {
    u16::from_le_bytes(load(address, 2).try_into().unwrap())
}

/// Writes bytes into the region.
fn store(address: PhysAddr, bytes: &[u8]) {
    // SAFETY: inside the region, as `place` has asserted. Driver and device are one thread.
    unsafe { place(address, bytes.len()).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
}

impl Fake {
    /// Returns a device.
    pub fn new(offered: Features) -> Fake {
        MEMORY.set(Some((pages(SIZE), Box::leak(Box::new(AtomicUsize::new(0))))));
        Fake(Rc::new(RefCell::new(State {
            offered,
            status: DeviceStatus::empty(),
            interrupt: InterruptStatus::empty(),
            queues: Default::default(),
            notified: [0; QUEUES],
        })))
    }

    /// Returns the next buffer of a queue that the device has not used yet: descriptor, address and length.
    pub fn next(&self, queue: u16) -> Option<(u16, PhysAddr, usize)> {
        let side = &mut self.0.borrow_mut().queues[usize::from(queue)];
        if side.next == word(side.available + 2) {
            return None;
        }
        let id = word(side.available + 4 + 2 * (u64::from(side.next) % side.entries));
        side.next = side.next.wrapping_add(1);
        let descriptor = load(side.descriptors + 16 * u64::from(id), 12);
        let address = u64::from_le_bytes(descriptor[..8].try_into().unwrap());
        let len = u32::from_le_bytes(descriptor[8..].try_into().unwrap());
        Some((id, address, len as usize))
    }

    /// Returns a buffer, whatever it is.
    pub fn push_used(&self, queue: u16, id: u32, len: u32) {
        let side = &mut self.0.borrow_mut().queues[usize::from(queue)];
        let at = side.used + 4 + 8 * (u64::from(side.filled) % side.entries);
        store(at, &[id.to_le_bytes(), len.to_le_bytes()].concat());
        side.filled = side.filled.wrapping_add(1);
        store(side.used + 2, &side.filled.to_le_bytes());
    }

    /// Overwrites bytes of a used ring.
    pub fn scribble(&self, queue: u16, at: u64, bytes: [u8; 4]) {
        let side = self.0.borrow().queues[usize::from(queue)];
        store(side.used + at % (8 * side.entries), &bytes);
    }

    /// Takes the bytes of the next buffer to the device and returns the buffer.
    pub fn take(&self, queue: u16) -> Option<Vec<u8>> {
        let (id, address, len) = self.next(queue)?;
        let bytes = load(address, len);
        self.push_used(queue, id.into(), 0);
        Some(bytes)
    }

    /// Writes bytes into the next buffer from the device and returns it with the length `len`. Returns false if there is none.
    pub fn deliver(&self, queue: u16, bytes: &[u8], len: u32) -> bool {
        let Some((id, address, room)) = self.next(queue) else {
            return false;
        };
        assert!(bytes.len() <= room);
        store(address, bytes);
        self.push_used(queue, id.into(), len);
        true
    }

    /// Returns true if the driver wants no interrupts for this queue.
    pub fn suppressed(&self, queue: u16) -> bool {
        let side = self.0.borrow().queues[usize::from(queue)];
        word(side.available) & 1 != 0
    }
}

/// The driver under test, its device, and the remote domain's ends.
pub struct Bench {
    pub fake: Fake,
    pub driver: VirtioConsole<HostRegion, Fake, Fake>,
    pub pump: Pump,
    pub input: StreamConsumer,
    pub output: StreamProducer,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(Features::all()).unwrap_or_else(|why| panic!("{why}"))
    }

    pub fn with(offered: Features) -> Result<Bench, StartError> {
        let fake = Fake::new(offered);
        let driver = VirtioConsole::start(fake.clone(), fake.clone())?;
        // SAFETY: allocated with this size and never freed.
        let region = unsafe { SharedRegion::new(pages(line_remote::SIZE), line_remote::SIZE) };
        let pump = Pump::new(line_remote::LINE.driver_ends(region).unwrap());
        let (input, output) = line_remote::LINE.session_ends(region).unwrap();
        Ok(Bench {
            fake,
            driver,
            pump,
            input,
            output,
        })
    }
}
