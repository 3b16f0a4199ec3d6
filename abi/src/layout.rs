//! Places and sizes inside the shared regions, defined once for both sides.
//!
//! Offsets are in bytes from the start of a region; data parts of rings are powers of two. The regions' own sizes are in
//! `system.xml`; each `assert!` below compares them with this layout. No side can change a layout at run time, so the peer need
//! not be trusted for it.

use crate::ring::RingIndices;
use crate::shared::SharedRegion;
use crate::stream::{StreamConsumer, StreamProducer};

/// NICs that any system can have. The number of NICs follows from `system.xml`. A brane's ports are numbered through: those at
/// `nic0` first, then those at `nic1`, and so on. Each NIC has the same number of them ([`ports::count`]).
pub const MAX_NICS: usize = 8;

/// Names of the NICs' drivers, by NIC number.
pub const NIC_NAMES: [&str; MAX_NICS] = ["nic0", "nic1", "nic2", "nic3", "nic4", "nic5", "nic6", "nic7"];

/// A part of a region.
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
    use super::{INDICES, Part};
    use crate::endpoint::RingPair;
    use crate::shared::SharedRegion;
    /// Bytes of the region for each two ports.
    pub const SIZE: usize = 0x20_0000;
    /// Ports of a brane at one NIC in the largest region. Those of [`super::MAX_NICS`] NICs have a doorbell bit each.
    pub const MAX_PORTS: usize = 8;
    /// Returns the number of ports in a region of `size` bytes. A brane can have as many interfaces at one NIC at a time.
    pub const fn count(size: usize) -> usize {
        let count = size / SIZE * 2;
        if count < MAX_PORTS { count } else { MAX_PORTS }
    }
    /// Indices of port `p`'s receive ring (driver to brane).
    pub const fn rx_indices(p: usize) -> usize {
        0x1000 + 2 * p * INDICES
    }
    /// Returns the offset of the indices of port `p`'s transmit ring (brane to driver).
    pub const fn tx_indices(p: usize) -> usize {
        rx_indices(p) + INDICES
    }
    /// Data of the receive rings of the first two ports.
    pub const RX: [Part; 2] = [Part::new(0x8_0000, 0x8_0000), Part::new(0x18_0000, 0x4_0000)];
    /// Data of the transmit rings of the first two ports.
    pub const TX: [Part; 2] = [Part::new(0x10_0000, 0x8_0000), Part::new(0x1c_0000, 0x4_0000)];
    const _: () = assert!(TX[1].end() == SIZE && RX[0].end() == TX[0].offset && TX[0].end() == RX[1].offset);
    const _: () = assert!(rx_indices(MAX_PORTS) <= RX[0].offset && MAX_PORTS * super::MAX_NICS <= 64);

    /// Returns the data of port `p`'s receive ring: each further pair of ports lies [`SIZE`] bytes behind the one before.
    pub const fn rx(p: usize) -> Part {
        let Part { offset, len } = RX[p % 2];
        Part::new(p / 2 * SIZE + offset, len)
    }

    /// Returns the data of port `p`'s transmit ring.
    pub const fn tx(p: usize) -> Part {
        let Part { offset, len } = TX[p % 2];
        Part::new(p / 2 * SIZE + offset, len)
    }

    /// Returns the driver's ends of port `p` (side A). Returns `None` if the region is too small or has no such port.
    pub fn driver_rings(region: SharedRegion, p: usize) -> Option<RingPair> {
        (p < count(region.len()))
            .then(|| RingPair::new(region, (rx_indices(p), rx(p)), (tx_indices(p), tx(p))))?
    }

    /// Returns the brane's ends of port `p` (side B). Returns `None` if the region is too small or has no such port.
    pub fn brane_rings(region: SharedRegion, p: usize) -> Option<RingPair> {
        (p < count(region.len()))
            .then(|| RingPair::new(region, (tx_indices(p), tx(p)), (rx_indices(p), rx(p))))?
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
    /// Returns the offset of the indices of slot `s`'s receive ring (brane to client).
    pub const fn rx_indices(s: usize) -> usize {
        0x2000 + 2 * s * INDICES
    }
    /// Returns the offset of the indices of slot `s`'s transmit ring (client to brane).
    pub const fn tx_indices(s: usize) -> usize {
        rx_indices(s) + INDICES
    }
    /// Data of the request ring.
    pub const REQUESTS: Part = Part::new(0x8000, 0x8000);
    /// Data of the event ring.
    pub const EVENTS: Part = Part::new(0x1_0000, 0x8000);
    /// Data area: the client divides it among its sockets' rings.
    pub const DATA: Part = Part::new(0x2_0000, SIZE - 0x2_0000);
    /// Smallest data part of a socket's ring in bytes.
    pub const RING_MIN: usize = 1024;
    /// Largest data part of a socket's ring in bytes.
    pub const RING_MAX: usize = 1 << 20;
    const _: () = assert!(rx_indices(SLOTS) <= REQUESTS.offset && EVENTS.end() <= DATA.offset);

    /// Returns the brane's ends of the event and request rings (side A). Returns `None` if the region is too small.
    pub fn brane_rings(region: SharedRegion) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (EVENT_INDICES, EVENTS),
            (REQUEST_INDICES, REQUESTS),
        )
    }

    /// Returns the client's ends of the request and event rings (side B). Returns `None` if the region is too small.
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
    pub const COMMANDS: Part = Part::new(0x4000, 0x8000);
    /// Data of the report ring.
    pub const REPORTS: Part = Part::new(0xc000, 0x4000);
    const _: () = assert!(REPORTS.end() <= SIZE);

    /// Returns the manager's ends (side A). Returns `None` if the region is too small.
    pub fn manager_rings(region: SharedRegion) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (COMMAND_INDICES, COMMANDS),
            (REPORT_INDICES, REPORTS),
        )
    }

    /// Returns the ends of a brane or subscriber (side B). Returns `None` if the region is too small.
    pub fn brane_rings(region: SharedRegion) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (REPORT_INDICES, REPORTS),
            (COMMAND_INDICES, COMMANDS),
        )
    }
}

/// `capture-N`, between a brane (side A) and the domain remote (side B): one ring of records, from the brane. A
/// [`crate::link::LinkHeader`] comes first.
pub mod capture {
    use super::Part;
    use crate::ring::{Consumer, Producer, RingIndices};
    use crate::shared::SharedRegion;
    /// Bytes that the region must have.
    pub const SIZE: usize = 0x4_0000;
    /// Indices of the ring.
    pub const RECORD_INDICES: usize = 0x1000;
    /// Data of the ring.
    pub const RECORDS: Part = Part::new(0x2_0000, 0x2_0000);
    const _: () = assert!(RECORDS.end() <= SIZE);

    fn ring(region: SharedRegion) -> Option<(&'static RingIndices, SharedRegion)> {
        let region = region.part(0, SIZE)?;
        // SAFETY: RingIndices is made of atomics only.
        let indices = unsafe { region.object(RECORD_INDICES)? };
        Some((indices, region.part(RECORDS.offset, RECORDS.len)?))
    }

    /// Returns the brane's end of the ring (side A). Returns `None` if the region is too small.
    pub fn brane_ring(region: SharedRegion) -> Option<Producer> {
        let (indices, data) = ring(region)?;
        Producer::new(indices, data)
    }

    /// Returns remote's end of the ring (side B). Returns `None` if the region is too small.
    pub fn remote_ring(region: SharedRegion) -> Option<Consumer> {
        let (indices, data) = ring(region)?;
        Consumer::new(indices, data)
    }
}

/// `hook-filterK-N`, between a brane (side A) and a filter (side B). A [`crate::link::LinkHeader`] comes first.
pub mod hook {
    use super::{INDICES, Part};
    use crate::endpoint::RingPair;
    use crate::shared::SharedRegion;
    /// Bytes that the region must have.
    pub const SIZE: usize = 0x4_0000;
    /// Indices of the packet ring (brane to filter).
    pub const PACKET_INDICES: usize = 0x1000;
    /// Indices of the verdict ring (filter to brane).
    pub const VERDICT_INDICES: usize = PACKET_INDICES + INDICES;
    /// Data of the verdict ring.
    pub const VERDICTS: Part = Part::new(0x1_0000, 0x1_0000);
    /// Data of the packet ring.
    pub const PACKETS: Part = Part::new(0x2_0000, 0x2_0000);
    const _: () = assert!(VERDICTS.end() == PACKETS.offset && PACKETS.end() == SIZE);

    /// Returns the brane's ends (side A). Returns `None` if the region is too small.
    pub fn brane_rings(region: SharedRegion) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (PACKET_INDICES, PACKETS),
            (VERDICT_INDICES, VERDICTS),
        )
    }

    /// Returns the filter's ends (side B). Returns `None` if the region is too small.
    pub fn filter_rings(region: SharedRegion) -> Option<RingPair> {
        RingPair::new(
            region.part(0, SIZE)?,
            (VERDICT_INDICES, VERDICTS),
            (PACKET_INDICES, PACKETS),
        )
    }
}

/// `log-NAME`, from one protection domain to serial: a [`crate::stream`] ring. It has no link: serial never restarts, and a
/// restarted writer continues at the present indices.
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

/// A region that carries the bytes of the control line: two [`crate::stream`] rings. One side is the domain of the session
/// (remote), the other the driver of a device. The bytes are frames ([`crate::remote`]), which only remote decodes.
#[derive(Clone, Copy, Debug)]
pub struct ByteLine {
    /// Indices and data of the ring from the driver to remote.
    pub input: (usize, Part),
    /// Indices and data of the ring from remote to the driver.
    pub output: (usize, Part),
}

impl ByteLine {
    /// Returns remote's ends. They continue at the present indices, because each side can restart without the other. Returns `None`
    /// if the region is too small.
    pub fn session_ends(self, region: SharedRegion) -> Option<(StreamConsumer, StreamProducer)> {
        let input = ring(region, self.input)?;
        let output = ring(region, self.output)?;
        Some((
            StreamConsumer::resume(input.0, input.1)?,
            StreamProducer::resume(output.0, output.1)?,
        ))
    }

    /// Returns the driver's ends, which continue too. Returns `None` if the region is too small.
    pub fn driver_ends(self, region: SharedRegion) -> Option<(StreamProducer, StreamConsumer)> {
        let input = ring(region, self.input)?;
        let output = ring(region, self.output)?;
        Some((
            StreamProducer::resume(input.0, input.1)?,
            StreamConsumer::resume(output.0, output.1)?,
        ))
    }
}

/// Returns indices and data of a ring.
fn ring(
    region: SharedRegion,
    (indices, data): (usize, Part),
) -> Option<(&'static RingIndices, SharedRegion)> {
    // SAFETY: RingIndices is made of atomics only.
    let indices = unsafe { region.object::<RingIndices>(indices)? };
    Some((indices, region.part(data.offset, data.len)?))
}

/// `remote-line`, between serial and the remote line's domain: the bytes of COM2, which move at the line's speed.
pub mod remote_line {
    use super::{ByteLine, Part};
    /// Bytes that the region must have.
    pub const SIZE: usize = 0x1_0000;
    /// Indices of the receive ring (serial to remote).
    pub const INPUT_INDICES: usize = 0;
    /// Indices of the transmit ring (remote to serial).
    pub const OUTPUT_INDICES: usize = super::INDICES;
    /// Data of the receive ring.
    pub const INPUT: Part = Part::new(0x4000, 0x4000);
    /// Data of the transmit ring.
    pub const OUTPUT: Part = Part::new(0x8000, 0x8000);
    /// Both rings.
    pub const LINE: ByteLine = ByteLine {
        input: (INPUT_INDICES, INPUT),
        output: (OUTPUT_INDICES, OUTPUT),
    };
    const _: () = assert!(INPUT.end() == OUTPUT.offset && OUTPUT.end() == SIZE);
}

/// `line-remote`, between the driver of the virtio-console device and the remote line's domain. The transmit ring holds some
/// milliseconds of a capture of packets.
pub mod line_remote {
    use super::{ByteLine, Part};
    /// Bytes that the region must have.
    pub const SIZE: usize = 0x8_0000;
    /// Indices of the receive ring (driver to remote).
    pub const INPUT_INDICES: usize = 0;
    /// Indices of the transmit ring (remote to driver).
    pub const OUTPUT_INDICES: usize = super::INDICES;
    /// Data of the receive ring.
    pub const INPUT: Part = Part::new(0x1_0000, 0x1_0000);
    /// Data of the transmit ring.
    pub const OUTPUT: Part = Part::new(0x4_0000, 0x4_0000);
    /// Both rings.
    pub const LINE: ByteLine = ByteLine {
        input: (INPUT_INDICES, INPUT),
        output: (OUTPUT_INDICES, OUTPUT),
    };
    const _: () = assert!(INPUT.end() <= OUTPUT.offset && OUTPUT.end() == SIZE);
}

/// Memory for tests that stands in for a shared region.
#[cfg(all(test, not(loom)))]
pub mod testing {
    use crate::shared::SharedRegion;
    use core::ptr::NonNull;
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    /// Zeroed, page-aligned memory.
    pub struct Backing(NonNull<u8>, Layout);

    impl Backing {
        /// Allocates `len` bytes.
        pub fn new(len: usize) -> Backing {
            let layout = Layout::from_size_align(len, 4096).unwrap();
            // SAFETY: the layout has a size above zero.
            Backing(NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap(), layout)
        }
        /// Returns the whole memory as a region.
        pub fn region(&self) -> SharedRegion {
            // SAFETY: valid for the layout's size until drop; the tests do not drop the backing before the region.
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
