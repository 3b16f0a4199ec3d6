//! Where things lie inside the shared regions, and how large they are: said once, for both sides.
//!
//! Offsets are in bytes from the start of a region; data parts of rings are powers of two. The regions' own sizes are
//! in `system.xml`; each `assert!` below ties them to what is laid out here.

/// Network ports of each brane at one NIC: how many interfaces on that NIC it can have at a time.
pub const PORTS_PER_BRANE: usize = 2;

/// NICs that any system can have. How many there are follows from `system.xml`. A brane's ports are numbered through:
/// [`PORTS_PER_BRANE`] at `nic0`, then those at `nic1`, and so on.
pub const MAX_NICS: usize = 8;

/// Names of the NICs' drivers, by the number of the NIC.
pub const NIC_NAMES: [&str; MAX_NICS] = ["nic0", "nic1", "nic2", "nic3", "nic4", "nic5", "nic6", "nic7"];

/// A part of a region: offset and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes from the start of the region.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Part {
    const fn new(offset: usize, len: usize) -> Part {
        Part { offset, len }
    }
    const fn end(self) -> usize {
        self.offset + self.len
    }
}

/// Size of one [`crate::ring::RingIndices`].
pub const INDICES: usize = 128;

/// `ports-N`, between a NIC driver (side A) and a brane (side B). A [`crate::link::LinkHeader`] comes first.
pub mod ports {
    use super::{INDICES, PORTS_PER_BRANE, Part};
    use crate::endpoint::RingPair;
    use crate::shared::SharedRegion;
    /// Bytes that the region must have.
    pub const SIZE: usize = 0x20_0000;
    /// Indices of port `p`'s receive ring (driver to brane).
    pub const fn rx_indices(p: usize) -> usize {
        0x1000 + 2 * p * INDICES
    }
    /// Indices of port `p`'s transmit ring (brane to driver).
    pub const fn tx_indices(p: usize) -> usize {
        rx_indices(p) + INDICES
    }
    /// Data of the receive rings.
    pub const RX: [Part; PORTS_PER_BRANE] = [Part::new(0x8_0000, 0x8_0000), Part::new(0x18_0000, 0x4_0000)];
    /// Data of the transmit rings.
    pub const TX: [Part; PORTS_PER_BRANE] = [Part::new(0x10_0000, 0x8_0000), Part::new(0x1c_0000, 0x4_0000)];
    const _: () = assert!(TX[1].end() == SIZE && RX[0].end() == TX[0].offset && TX[0].end() == RX[1].offset);

    /// The driver's ends of port `p` (side A). Returns `None` if the region is too small or has no such port.
    pub fn driver_rings(region: SharedRegion, p: usize) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (rx_indices(p), *RX.get(p)?),
            (tx_indices(p), *TX.get(p)?),
        )
    }

    /// The brane's ends of port `p` (side B). Returns `None` if the region is too small or has no such port.
    pub fn brane_rings(region: SharedRegion, p: usize) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (tx_indices(p), *TX.get(p)?),
            (rx_indices(p), *RX.get(p)?),
        )
    }
}

/// `sock-N`, between a brane (side A) and its client (side B). A [`crate::link::LinkHeader`] comes first.
pub mod sock {
    use super::{INDICES, Part};
    use crate::endpoint::RingPair;
    use crate::shared::SharedRegion;
    /// Bytes that the region must have.
    pub const SIZE: usize = 0x40_0000;
    /// Sockets that one client can have at a time.
    pub const SLOTS: usize = 62;
    /// Indices of the request ring (client to brane).
    pub const REQUEST_INDICES: usize = 0x1000;
    /// Indices of the event ring (brane to client).
    pub const EVENT_INDICES: usize = REQUEST_INDICES + INDICES;
    /// Indices of slot `s`'s receive ring (brane to client).
    pub const fn rx_indices(s: usize) -> usize {
        0x2000 + 2 * s * INDICES
    }
    /// Indices of slot `s`'s transmit ring (client to brane).
    pub const fn tx_indices(s: usize) -> usize {
        rx_indices(s) + INDICES
    }
    /// Data of the request ring.
    pub const REQUESTS: Part = Part::new(0x8000, 0x8000);
    /// Data of the event ring.
    pub const EVENTS: Part = Part::new(0x1_0000, 0x8000);
    /// What the client divides among its sockets' rings as it likes.
    pub const DATA: Part = Part::new(0x2_0000, SIZE - 0x2_0000);
    /// Smallest and largest data part of a socket's ring.
    pub const RING_MIN: usize = 1024;
    /// See [`RING_MIN`].
    pub const RING_MAX: usize = 1 << 20;
    const _: () = assert!(rx_indices(SLOTS) <= REQUESTS.offset && EVENTS.end() <= DATA.offset);

    /// The brane's ends of the rings of events and requests (side A). Returns `None` if the region is too small.
    pub fn brane_rings(region: SharedRegion) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (EVENT_INDICES, EVENTS),
            (REQUEST_INDICES, REQUESTS),
        )
    }

    /// The client's ends of the rings of requests and events (side B). Returns `None` if the region is too small.
    pub fn client_rings(region: SharedRegion) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (REQUEST_INDICES, REQUESTS),
            (EVENT_INDICES, EVENTS),
        )
    }
}

/// `ctl-N`, between the manager (side A) and a brane (side B). A [`crate::link::LinkHeader`] comes first.
pub mod ctl {
    use super::{INDICES, Part};
    use crate::endpoint::RingPair;
    use crate::shared::SharedRegion;
    /// Bytes that the region must have.
    pub const SIZE: usize = 0x1_0000;
    /// Indices of the command ring (manager to brane).
    pub const COMMAND_INDICES: usize = 0x1000;
    /// Indices of the report ring (brane to manager).
    pub const REPORT_INDICES: usize = COMMAND_INDICES + INDICES;
    /// Data of the command ring.
    pub const COMMANDS: Part = Part::new(0x4000, 0x4000);
    /// Data of the report ring.
    pub const REPORTS: Part = Part::new(0x8000, 0x8000);
    const _: () = assert!(REPORTS.end() <= SIZE);

    /// The manager's ends (side A). Returns `None` if the region is too small.
    pub fn manager_rings(region: SharedRegion) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (COMMAND_INDICES, COMMANDS),
            (REPORT_INDICES, REPORTS),
        )
    }

    /// The ends of a brane or subscriber (side B). Returns `None` if the region is too small.
    pub fn brane_rings(region: SharedRegion) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (REPORT_INDICES, REPORTS),
            (COMMAND_INDICES, COMMANDS),
        )
    }
}

/// `log-NAME`, from one protection domain to serial: a [`crate::stream`] ring. No link: serial is never restarted, and
/// a restarted writer goes on where its indices stand.
pub mod log {
    use super::Part;
    /// Bytes that the region must have.
    pub const SIZE: usize = 0x1000;
    /// The ring's indices.
    pub const INDICES: usize = 0;
    /// The writer's level ([`crate::log::LevelWord`]), written by serial.
    pub const LEVEL: usize = 0x400;
    /// The ring's data.
    pub const DATA: Part = Part::new(0x800, 0x800);
}

/// `tty`, between serial and console: two [`crate::stream`] rings and a doorbell each.
pub mod tty {
    use super::Part;
    /// Bytes that the region must have.
    pub const SIZE: usize = 0x4000;
    /// Indices of the keyboard ring (serial to console).
    pub const INPUT_INDICES: usize = 0;
    /// Indices of the screen ring (console to serial).
    pub const OUTPUT_INDICES: usize = super::INDICES;
    /// Data of the keyboard ring.
    pub const INPUT: Part = Part::new(0x400, 0x400);
    /// Data of the screen ring.
    pub const OUTPUT: Part = Part::new(0x2000, 0x2000);
}

/// `remote-line`, between serial and the remote line's domain: as [`tty`], for frames that come and go at the line's speed.
pub mod remote_line {
    use super::Part;
    /// Bytes that the region must have.
    pub const SIZE: usize = 0x1_0000;
    /// Indices of the ring of what was received (serial to remote).
    pub const INPUT_INDICES: usize = 0;
    /// Indices of the ring of what is to be sent (remote to serial).
    pub const OUTPUT_INDICES: usize = super::INDICES;
    /// Data of the ring of what was received.
    pub const INPUT: Part = Part::new(0x4000, 0x4000);
    /// Data of the ring of what is to be sent.
    pub const OUTPUT: Part = Part::new(0x8000, 0x8000);
    const _: () = assert!(INPUT.end() == OUTPUT.offset && OUTPUT.end() == SIZE);
}

/// Memory for tests that plays a shared region.
#[cfg(all(test, not(loom)))]
pub mod testing {
    use crate::shared::SharedRegion;
    use core::ptr::NonNull;
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    /// Zeroed, page-aligned memory.
    pub struct Backing(NonNull<u8>, Layout);

    impl Backing {
        /// `len` bytes of it.
        pub fn new(len: usize) -> Backing {
            let layout = Layout::from_size_align(len, 4096).unwrap();
            // SAFETY: the layout has a size above zero.
            Backing(NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap(), layout)
        }
        /// The whole as a region.
        pub fn region(&self) -> SharedRegion {
            // SAFETY: valid for the layout's size until drop; the tests keep the backing alive.
            unsafe { SharedRegion::new(self.0, self.1.size()) }
        }
        /// Overwrites a range, as a hostile peer would.
        pub fn fill(&self, offset: usize, len: usize, value: u8) {
            assert!(offset + len <= self.1.size());
            // SAFETY: inside the allocation as just asserted.
            unsafe { self.0.as_ptr().add(offset).write_bytes(value, len) }
        }
    }

    impl Drop for Backing {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout in `new`.
            unsafe { dealloc(self.0.as_ptr(), self.1) }
        }
    }
}
