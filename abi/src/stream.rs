//! Single-producer single-consumer ring of bytes: a TCP stream between a brane and its client, a log, a console line.
//!
//! The rules are those of [`crate::ring`]: indices in shared memory, decisions from private state, the peer's index checked at
//! every step. The peer need not be trusted. The bytes themselves may have any value, so reading them does no harm.

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

    /// Returns the longest run of at most `want` bytes from `index` that does not wrap: offset and length.
    fn run(&self, index: u32, want: u32) -> (usize, usize) {
        let offset = index & (self.capacity - 1);
        (offset as usize, want.min(self.capacity - offset) as usize)
    }
}

/// The writing end. Exactly one may exist for each ring.
pub struct StreamProducer {
    indices: &'static RingIndices,
    data: Bytes,
    tail: u32,
    head: u32,
}

// SAFETY: the pointer is to shared memory, and on this side only this handle writes there.
unsafe impl Send for StreamProducer {}

impl StreamProducer {
    /// Creates the handle of a new (zeroed) ring. Returns `None` unless the data's length is a power of two of at most 1 GiB.
    pub fn new(indices: &'static RingIndices, data: SharedRegion) -> Option<Self> {
        Some(Self {
            indices,
            data: Bytes::new(data)?,
            tail: 0,
            head: 0,
        })
    }

    /// Creates a handle that continues at the present indices. It is for a restarted writer whose reader sees no restarts.
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

    /// Empties the ring: zeroes the shared indices and this end's private ones. Only while the other end does not use the ring.
    pub fn reset(&mut self) {
        self.indices.reset();
        self.tail = 0;
        self.head = 0;
    }

    /// Returns how many bytes can be written now.
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

    /// Lets `f` fill the next free bytes in place: one run without a wrap, empty if there is no room. `f` returns how many bytes
    /// it wrote. The consumer sees them at once; ring its doorbell afterwards.
    pub fn write_with<R>(&mut self, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> Result<R, RingError> {
        let room = self.room()? as u32;
        let (offset, len) = self.data.run(self.tail, room);
        // SAFETY: offset + len <= capacity, and the consumer has given these bytes back. If the peer writes to them in spite of
        // this, it spoils only the bytes that it will read.
        let slice = unsafe { core::slice::from_raw_parts_mut(self.data.base.add(offset), len) };
        let (written, result) = f(slice);
        if written != 0 {
            self.tail = self.tail.wrapping_add(written.min(len) as u32);
            self.indices.tail().store(self.tail, Ordering::Release);
        }
        Ok(result)
    }

    /// Writes as many of `bytes` as there is room for. Returns how many were written.
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

/// The reading end. Exactly one may exist for each ring.
pub struct StreamConsumer {
    indices: &'static RingIndices,
    data: Bytes,
    head: u32,
    tail: u32,
}

// SAFETY: the pointer is to shared memory, and on this side only this handle reads there.
unsafe impl Send for StreamConsumer {}

impl StreamConsumer {
    /// Creates the handle of a new (zeroed) ring. Returns `None` unless the data's length is a power of two of at most 1 GiB.
    pub fn new(indices: &'static RingIndices, data: SharedRegion) -> Option<Self> {
        Some(Self {
            indices,
            data: Bytes::new(data)?,
            head: 0,
            tail: 0,
        })
    }

    /// Creates a handle that continues at the present indices. It is for a restarted reader whose writer sees no restarts.
    pub fn resume(indices: &'static RingIndices, data: SharedRegion) -> Option<Self> {
        let head = indices.head().load(Ordering::Acquire);
        Some(Self {
            indices,
            data: Bytes::new(data)?,
            head,
            // The first look at the writer's index checks its distance from `head`.
            tail: head,
        })
    }

    /// Empties the ring: zeroes the shared indices and this end's private ones. Only while the other end does not use the
    /// ring.
    pub fn reset(&mut self) {
        self.indices.reset();
        self.head = 0;
        self.tail = 0;
    }

    /// Returns how many bytes can be read now.
    pub fn available(&mut self) -> Result<usize, RingError> {
        let tail = self.indices.tail().load(Ordering::Acquire);
        let ahead = tail.wrapping_sub(self.head);
        if ahead > self.data.capacity || ahead < self.tail.wrapping_sub(self.head) {
            return Err(RingError::Peer);
        }
        self.tail = tail;
        Ok(ahead as usize)
    }

    /// Passes the next bytes to `f`: one run without a wrap, empty if there are none. `f` returns how many bytes it consumed. A
    /// hostile producer may change the bytes meanwhile: copy them, and do not decide twice by one byte.
    pub fn read_with<R>(&mut self, f: impl FnOnce(&[u8]) -> (usize, R)) -> Result<R, RingError> {
        let available = self.available()? as u32;
        let (offset, len) = self.data.run(self.head, available);
        // SAFETY: offset + len <= capacity. A hostile producer can change the bytes while they are copied. They are bytes of a
        // stream without meaning to this end, so any value is valid.
        let slice = unsafe { core::slice::from_raw_parts(self.data.base.add(offset), len) };
        let (taken, result) = f(slice);
        if taken != 0 {
            self.head = self.head.wrapping_add(taken.min(len) as u32);
            self.indices.head().store(self.head, Ordering::Release);
        }
        Ok(result)
    }

    /// Reads as many bytes as are available and fit. Returns how many were read.
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
