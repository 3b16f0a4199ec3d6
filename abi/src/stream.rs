//! Single-producer single-consumer ring of bytes: a TCP stream between a brane and its client, a log, a console line.
//!
//! The same rules as in [`crate::ring`]: indices in shared memory, decisions from private state, the peer's index
//! checked at every step. The bytes themselves may be anything, so no reading of them can harm.

use crate::ring::{RingError, RingIndices};
use crate::shared::SharedRegion;
use crate::sync::Ordering;

#[derive(Clone, Copy)]
struct Bytes {
    base: *mut u8,
    capacity: u32,
}

impl Bytes {
    fn new(region: SharedRegion) -> Option<Bytes> {
        let capacity = u32::try_from(region.len()).ok()?;
        (capacity.is_power_of_two() && capacity <= 1 << 30).then_some(Bytes {
            base: region.base(),
            capacity,
        })
    }

    /// The longest run of at most `want` bytes from `index` that does not wrap: offset and length.
    fn run(&self, index: u32, want: u32) -> (usize, usize) {
        let offset = index & (self.capacity - 1);
        (offset as usize, want.min(self.capacity - offset) as usize)
    }
}

/// The end that writes bytes. Exactly one may exist for a ring.
pub struct StreamProducer {
    indices: &'static RingIndices,
    data: Bytes,
    tail: u32,
    head: u32,
}

// SAFETY: the pointer is to shared memory that only this handle writes on our side.
unsafe impl Send for StreamProducer {}

impl StreamProducer {
    /// A handle of a new (zeroed) ring. `None` unless the data's length is a power of two of at most 1 GiB.
    pub fn new(indices: &'static RingIndices, data: SharedRegion) -> Option<Self> {
        Some(Self {
            indices,
            data: Bytes::new(data)?,
            tail: 0,
            head: 0,
        })
    }

    /// A handle that goes on where the indices stand: for a restarted writer whose reader knows of no restarts.
    pub fn resume(indices: &'static RingIndices, data: SharedRegion) -> Option<Self> {
        let tail = indices.tail().load(Ordering::Acquire);
        let head = indices.head().load(Ordering::Acquire);
        Some(Self {
            indices,
            data: Bytes::new(data)?,
            tail,
            head,
        })
    }

    /// Empties the ring: zeroes the shared indices and this end's private ones. Only while the other end does not use the
    /// ring.
    pub fn reset(&mut self) {
        self.indices.reset();
        self.tail = 0;
        self.head = 0;
    }

    /// Bytes that can be written now.
    pub fn room(&mut self) -> Result<usize, RingError> {
        let head = self.indices.head().load(Ordering::Acquire);
        if head.wrapping_sub(self.head) > self.tail.wrapping_sub(self.head) {
            return Err(RingError::Peer);
        }
        self.head = head;
        self.data
            .capacity
            .checked_sub(self.tail.wrapping_sub(self.head))
            .map(|n| n as usize)
            .ok_or(RingError::Peer)
    }

    /// Lets `f` fill the next free bytes in place (one run, no wrap; empty when there is no room): it returns how many
    /// it wrote. Visible to the consumer at once; ring its doorbell afterwards.
    pub fn write_with<R>(&mut self, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> Result<R, RingError> {
        let room = self.room()? as u32;
        let (offset, len) = self.data.run(self.tail, room);
        // SAFETY: offset + len <= capacity; the consumer has given these bytes back. Should the peer touch them all
        // the same it spoils only what it will read.
        let slice = unsafe { core::slice::from_raw_parts_mut(self.data.base.add(offset), len) };
        let (written, result) = f(slice);
        if written != 0 {
            self.tail = self.tail.wrapping_add(written.min(len) as u32);
            self.indices.tail().store(self.tail, Ordering::Release);
        }
        Ok(result)
    }

    /// Writes as much of `bytes` as there is room for and says how much that was.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, RingError> {
        let mut done = 0;
        for _ in 0..2 {
            done += self.write_with(|room| {
                let n = room.len().min(bytes.len() - done);
                room[..n].copy_from_slice(&bytes[done..done + n]);
                (n, n)
            })?;
        }
        Ok(done)
    }
}

/// The end that reads bytes. Exactly one may exist for a ring.
pub struct StreamConsumer {
    indices: &'static RingIndices,
    data: Bytes,
    head: u32,
    tail: u32,
}

// SAFETY: as for the producer.
unsafe impl Send for StreamConsumer {}

impl StreamConsumer {
    /// A handle of a new (zeroed) ring; same condition as [`StreamProducer::new`].
    pub fn new(indices: &'static RingIndices, data: SharedRegion) -> Option<Self> {
        Some(Self {
            indices,
            data: Bytes::new(data)?,
            head: 0,
            tail: 0,
        })
    }

    /// Empties the ring: zeroes the shared indices and this end's private ones. Only while the other end does not use the
    /// ring.
    pub fn reset(&mut self) {
        self.indices.reset();
        self.head = 0;
        self.tail = 0;
    }

    /// Bytes that can be read now.
    pub fn available(&mut self) -> Result<usize, RingError> {
        let tail = self.indices.tail().load(Ordering::Acquire);
        let ahead = tail.wrapping_sub(self.head);
        if ahead > self.data.capacity || ahead < self.tail.wrapping_sub(self.head) {
            return Err(RingError::Peer);
        }
        self.tail = tail;
        Ok(ahead as usize)
    }

    /// Hands the next bytes (one run, no wrap; empty when there are none) to `f`, which says how many it took. The
    /// bytes may change under it if the producer is hostile: copy, do not decide twice by the same byte.
    pub fn read_with<R>(&mut self, f: impl FnOnce(&[u8]) -> (usize, R)) -> Result<R, RingError> {
        let available = self.available()? as u32;
        let (offset, len) = self.data.run(self.head, available);
        // SAFETY: offset + len <= capacity. A hostile producer can change the bytes while they are copied; they are
        // bytes of a stream without meaning to us, so any value is as good as another.
        let slice = unsafe { core::slice::from_raw_parts(self.data.base.add(offset), len) };
        let (taken, result) = f(slice);
        if taken != 0 {
            self.head = self.head.wrapping_add(taken.min(len) as u32);
            self.indices.head().store(self.head, Ordering::Release);
        }
        Ok(result)
    }

    /// Reads as many bytes as there are and fit, and says how many that was.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, RingError> {
        let mut done = 0;
        for _ in 0..2 {
            done += self.read_with(|bytes| {
                let n = bytes.len().min(out.len() - done);
                out[done..done + n].copy_from_slice(&bytes[..n]);
                (n, n)
            })?;
        }
        Ok(done)
    }
}
