//! A virtio-net device in memory: registers ([`FakeTransport`]), and the device's side of the virtqueues
//! ([`FakeDevice`]).
//!
//! The device reaches the driver's memory only by the addresses that it was given. An address outside of the DMA region
//! fails the test, as an IOMMU would. The device can comply with the protocol, or write any bytes into its queues.
#![allow(dead_code)]

use std::alloc::{Layout, alloc_zeroed};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr};
use virtio_net::memory::{DmaRegion, QUEUE, QUEUES, SIZE};
use virtio_net::{Features, QueueNotify, StartError, VirtioNet};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Address of the region for the device. The address for the driver is another one.
const PADDR: PhysAddr = 0x800_0000;
/// Bytes of the guard before and after the region. They must not change.
const GUARD: usize = 4096;
const GUARD_BYTE: u8 = 0x5a;
/// Numbers of the receive queue and of the transmit queue.
pub const RX: u16 = 0;
pub const TX: u16 = 1;
/// The link is up (virtio 1.2, 5.1.4).
pub const LINK_UP: u8 = 1;
/// The device's address.
pub const MAC: [u8; 6] = [2, 0x77, 1, 2, 3, 4];

thread_local! {
    static MEMORY: Cell<Option<(NonNull<u8>, &'static AtomicUsize)>> = const { Cell::new(None) };
}

/// The DMA region of this thread's device. Never freed: the driver's slices are `'static`.
pub struct HostRegion;

impl HostRegion {
    /// Makes a fresh region for the next device of this thread.
    fn fresh() {
        let layout = Layout::from_size_align(SIZE + 2 * GUARD, 4096).unwrap();
        // SAFETY: the layout has a size above zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        // SAFETY: both guards lie inside the allocation.
        let base = unsafe {
            start.write_bytes(GUARD_BYTE, GUARD);
            start.add(GUARD + SIZE).write_bytes(GUARD_BYTE, GUARD);
            start.add(GUARD)
        };
        MEMORY.set(Some((base, Box::leak(Box::new(AtomicUsize::new(0))))));
    }

    fn get() -> (NonNull<u8>, &'static AtomicUsize) {
        MEMORY.get().expect("the thread has a device")
    }

    /// Fails if something was written outside of the region.
    pub fn check_guards() {
        let (base, _) = HostRegion::get();
        // SAFETY: the guards lie inside the allocation, and nothing else refers to them.
        let guards = unsafe {
            [
                std::slice::from_raw_parts(base.sub(GUARD).as_ptr(), GUARD),
                std::slice::from_raw_parts(base.add(SIZE).as_ptr(), GUARD),
            ]
        };
        assert!(guards.iter().all(|guard| guard.iter().all(|b| *b == GUARD_BYTE)));
    }
}

// SAFETY: `SIZE` bytes from a page-aligned address, allocated and never freed. Each thread has a region of its own.
unsafe impl DmaRegion for HostRegion {
    const SIZE: usize = SIZE;
    const QUEUES: usize = QUEUES;
    fn base() -> NonNull<u8> {
        HostRegion::get().0
    }
    fn paddr() -> PhysAddr {
        PADDR
    }
    fn allocated() -> &'static AtomicUsize {
        HostRegion::get().1
    }
    fn registers(_: PhysAddr, _: usize) -> NonNull<u8> {
        panic!("the fake transport has no registers in memory")
    }
}

/// Addresses of a queue's three parts, as the driver set them.
#[derive(Clone, Copy, Default)]
pub struct QueueAddresses {
    descriptors: PhysAddr,
    available: PhysAddr,
    used: PhysAddr,
}

/// State shared by registers and device.
pub struct State {
    pub offered: Features,
    pub accepted: u64,
    /// The device takes the features that the driver wants.
    pub agrees: bool,
    pub entries: u32,
    pub status: DeviceStatus,
    pub interrupt: InterruptStatus,
    /// MAC address and link status.
    pub config: [u8; 8],
    /// Length of the configuration space.
    pub config_len: usize,
    pub queues: [QueueAddresses; 2],
    pub notified: [usize; 2],
}

impl Default for State {
    fn default() -> Self {
        let mut config = [0; 8];
        config[..6].copy_from_slice(&MAC);
        config[6] = LINK_UP;
        State {
            offered: Features::all(),
            accepted: 0,
            agrees: true,
            entries: QUEUE as u32,
            status: DeviceStatus::empty(),
            interrupt: InterruptStatus::empty(),
            config,
            config_len: 8,
            queues: [QueueAddresses::default(); 2],
            notified: [0; 2],
        }
    }
}

/// The device's registers.
#[derive(Clone)]
pub struct FakeTransport(pub Rc<RefCell<State>>);

impl Transport for FakeTransport {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }
    fn read_device_features(&mut self) -> u64 {
        self.0.borrow().offered.bits()
    }
    fn write_driver_features(&mut self, features: u64) {
        self.0.borrow_mut().accepted = features;
    }
    fn max_queue_size(&mut self, _: u16) -> u32 {
        self.0.borrow().entries
    }
    fn notify(&mut self, _: u16) {
        unreachable!("the driver notifies by `QueueNotify`")
    }
    fn get_status(&self) -> DeviceStatus {
        self.0.borrow().status
    }
    fn set_status(&mut self, status: DeviceStatus) {
        let mut state = self.0.borrow_mut();
        state.status = match state.agrees {
            true => status,
            false => status.difference(DeviceStatus::FEATURES_OK),
        };
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
        assert_eq!(size as usize, QUEUE);
        self.0.borrow_mut().queues[usize::from(queue)] = QueueAddresses {
            descriptors,
            available,
            used,
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
    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        let state = self.0.borrow();
        let bytes = state.config[..state.config_len].get(offset..offset + size_of::<T>());
        let bytes = bytes.ok_or(Error::ConfigSpaceTooSmall)?;
        Ok(T::read_from_bytes(bytes).unwrap())
    }
    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> Result<(), Error> {
        unreachable!("the driver writes no configuration")
    }
}

impl QueueNotify for FakeTransport {
    fn notify(&self, queue: u16) {
        self.0.borrow_mut().notified[usize::from(queue)] += 1;
    }
}

/// The driver under test.
pub type Driver = VirtioNet<HostRegion, FakeTransport, FakeTransport>;

/// A buffer that the driver has given to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    pub address: PhysAddr,
    pub len: usize,
    /// The device may write it.
    pub writable: bool,
}

/// The device's side of the queues.
pub struct FakeDevice {
    pub state: Rc<RefCell<State>>,
    /// Buffers that the device has, by descriptor.
    pub has: [BTreeMap<u16, Given>; 2],
    /// True if the device has complied with the protocol, so its record of the driver's buffers is correct.
    pub honest: bool,
    /// For each queue: the next available entry, and the used index.
    next: [u16; 2],
    used: [u16; 2],
}

impl FakeDevice {
    /// Returns a device and its started driver.
    pub fn start(state: State) -> Result<(FakeDevice, Driver), StartError> {
        HostRegion::fresh();
        let transport = FakeTransport(Rc::new(RefCell::new(state)));
        let driver = Driver::start(transport.clone(), transport.clone())?;
        let mut device = FakeDevice {
            state: transport.0,
            has: Default::default(),
            honest: true,
            next: [0; 2],
            used: [0; 2],
        };
        device.take(RX);
        Ok((device, driver))
    }

    /// Returns the place of `len` bytes at an address of the device. Fails if they are not in the region.
    fn place(address: PhysAddr, len: usize) -> NonNull<u8> {
        let offset = address.checked_sub(PADDR).expect("an address below the region") as usize;
        assert!(
            offset + len <= SIZE,
            "{len} bytes at {address:#x} outside of the region"
        );
        // SAFETY: inside the region, as just asserted.
        unsafe { HostRegion::base().add(offset) }
    }

    fn load<const N: usize>(address: PhysAddr) -> [u8; N] {
        let place = FakeDevice::place(address, N).cast::<[u8; N]>();
        // SAFETY: `N` bytes inside the region. Driver and device are one thread.
        unsafe { place.as_ptr().read_volatile() }
    }

    fn store<const N: usize>(address: PhysAddr, bytes: [u8; N]) {
        let place = FakeDevice::place(address, N).cast::<[u8; N]>();
        // SAFETY: `N` bytes inside the region. Driver and device are one thread.
        unsafe { place.as_ptr().write_volatile(bytes) }
    }

    fn queue(&self, queue: u16) -> QueueAddresses {
        self.state.borrow().queues[usize::from(queue)]
    }

    /// Returns true if the driver wants no interrupts for this queue.
    pub fn suppressed(&self, queue: u16) -> bool {
        u16::from_le_bytes(FakeDevice::load(self.queue(queue).available)) & 1 != 0
    }

    /// Takes the buffers that the driver has made available. Checks that an honest device gets no buffer twice.
    pub fn take(&mut self, queue: u16) -> Vec<u16> {
        fence(Ordering::SeqCst);
        let (q, at) = (usize::from(queue), self.queue(queue));
        let available = u16::from_le_bytes(FakeDevice::load(at.available + 2));
        let mut taken = Vec::new();
        while self.next[q] != available {
            let slot = u64::from(self.next[q]) % QUEUE as u64;
            let id = u16::from_le_bytes(FakeDevice::load(at.available + 4 + 2 * slot));
            let descriptor: [u8; 16] = FakeDevice::load(at.descriptors + 16 * u64::from(id));
            let word = |range: std::ops::Range<usize>| {
                descriptor[range]
                    .iter()
                    .rev()
                    .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
            };
            let flags = word(12..14);
            assert_eq!(flags & !2, 0, "one descriptor for each buffer");
            let given = Given {
                address: word(0..8),
                len: word(8..12) as usize,
                writable: flags == 2,
            };
            self.next[q] = self.next[q].wrapping_add(1);
            if !self.honest && given.address == 0 {
                // It returned the buffer before it read the descriptor, which is empty now.
                continue;
            }
            FakeDevice::place(given.address, given.len);
            if !self.honest {
                self.has[q].insert(id, given);
                taken.push(id);
                continue;
            }
            assert_eq!(given.writable, queue == RX);
            let twice = self
                .has
                .iter()
                .any(|has| has.values().any(|g| g.address == given.address));
            assert!(
                !twice,
                "the device has the buffer at {:#x} already",
                given.address
            );
            assert!(
                self.has[q].insert(id, given).is_none(),
                "descriptor {id} is in use"
            );
            taken.push(id);
        }
        taken
    }

    /// Writes a used element and advances the index, whatever buffers the device has.
    pub fn push_used(&mut self, queue: u16, id: u32, len: u32) {
        let (q, at) = (usize::from(queue), self.queue(queue));
        let slot = u64::from(self.used[q]) % QUEUE as u64;
        FakeDevice::store(at.used + 4 + 8 * slot, id.to_le_bytes());
        FakeDevice::store(at.used + 8 + 8 * slot, len.to_le_bytes());
        self.jump(queue, 1);
    }

    /// Moves the used index by `by`.
    pub fn jump(&mut self, queue: u16, by: u16) {
        let q = usize::from(queue);
        self.used[q] = self.used[q].wrapping_add(by);
        fence(Ordering::SeqCst);
        FakeDevice::store(self.queue(queue).used + 2, self.used[q].to_le_bytes());
    }

    /// Overwrites word `n` of a used ring, its head included.
    pub fn scribble(&mut self, queue: u16, n: usize, bytes: [u8; 4]) {
        self.honest = false;
        let word = n % (1 + 2 * QUEUE);
        FakeDevice::store(self.queue(queue).used + 4 * word as u64, bytes);
    }

    /// Overwrites word `n` of the driver's descriptors and available entries. Only the device reads these, so it takes
    /// no buffers afterwards.
    pub fn scribble_own(&mut self, queue: u16, n: usize, bytes: [u8; 4]) {
        self.honest = false;
        let at = self.queue(queue);
        let words = (at.available + 4 + 2 * QUEUE as u64 - at.descriptors) / 4;
        FakeDevice::store(at.descriptors + 4 * (n as u64 % words), bytes);
    }

    /// Writes into one of the driver's receive buffers and returns it with the length `len`. Returns false if the
    /// device has no buffer.
    pub fn deliver(&mut self, bytes: &[u8], len: u32) -> bool {
        let Some((id, given)) = self.has[usize::from(RX)].pop_first() else {
            return false;
        };
        assert!(bytes.len() <= given.len, "the test writes more than fits");
        let place = FakeDevice::place(given.address, bytes.len());
        // SAFETY: inside the region, as `place` has asserted.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        self.push_used(RX, id.into(), len);
        true
    }

    /// Delivers one frame with the header, in buffers of up to `part` bytes, as an honest device does.
    pub fn deliver_frame(&mut self, mut header: [u8; 12], frame: &[u8], part: usize) {
        let first = frame.len().min(part - header.len());
        let (first, rest) = frame.split_at(first);
        let parts = 1 + rest.len().div_ceil(part);
        header[10..12].copy_from_slice(&(parts as u16).to_le_bytes());
        let start = [&header[..], first].concat();
        assert!(self.deliver(&start, start.len() as u32));
        for bytes in rest.chunks(part) {
            assert!(self.deliver(bytes, bytes.len() as u32));
        }
    }

    /// Sends all frames that the driver has queued. Returns each with its header.
    pub fn transmit(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for id in self.take(TX) {
            let Some(given) = self.has[usize::from(TX)].remove(&id) else {
                assert!(!self.honest, "just taken");
                continue;
            };
            let place = FakeDevice::place(given.address, given.len);
            // SAFETY: inside the region, as `place` has asserted.
            frames.push(unsafe { std::slice::from_raw_parts(place.as_ptr(), given.len) }.to_vec());
            self.push_used(TX, id.into(), 0);
        }
        frames
    }

    /// Returns true if the bytes lie in the driver's region.
    pub fn owns(bytes: &[u8]) -> bool {
        let offset = (bytes.as_ptr() as usize).wrapping_sub(HostRegion::base().as_ptr() as usize);
        offset.checked_add(bytes.len()).is_some_and(|end| end <= SIZE)
    }

    /// Interrupts for a change of the configuration.
    pub fn config_changed(&mut self) {
        self.state
            .borrow_mut()
            .interrupt
            .insert(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT);
    }
}
