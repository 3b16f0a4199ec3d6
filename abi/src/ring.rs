//! Single-producer single-consumer ring of records of variable length: frames, datagrams, requests and events.
//!
//! Shared memory holds the two free-running byte indices ([`RingIndices`]) and the data. All state that decisions depend on (own
//! index, capacity) is private to the handle. Each side loads the peer's index with acquire and checks its step. Each side stores
//! its own index with release, after the bytes that the index covers.
//!
//! A record is a 16-byte header ([`RecordHeader`]: length, three words of meta) and its payload, padded to 16 bytes. A record
//! never wraps: if the rest up to the end of the data is too short, a skip mark fills it. The longest payload is therefore a
//! little less than half the capacity ([`Producer::max_payload`]).
//!
//! **Trust.** The consumer does not trust header and index. [`Record::copy_to`] copies the payload once; the copy belongs to the
//! caller. [`Record::as_slice`] reads in place. It is for consumers that trust their producer (a brane reads frames of the
//! driver).

use crate::shared::SharedRegion;
use crate::sync::{AtomicU32, Ordering};
use core::fmt;

/// Bytes of a record's header, and the alignment of every record.
pub const RECORD_ALIGN: u32 = 16;
const SKIP: u32 = u32::MAX;
/// Length that marks a record as taken ([`Consumer::spend`]). No record has this length.
const SPENT: u32 = u32::MAX - 1;

/// Indices of one ring, each on a cache line of its own. All zero if the ring is new and empty.
#[repr(C)]
#[derive(Default)]
pub struct RingIndices {
    tail: Line,
    head: Line,
}

#[repr(C, align(64))]
#[derive(Default)]
struct Line(AtomicU32);

impl RingIndices {
    /// Empties the ring. Only within the handshake of [`crate::link`], while neither side uses the ring.
    pub fn reset(&self) {
        self.tail.0.store(0, Ordering::Release);
        self.head.0.store(0, Ordering::Release);
    }
    pub(crate) fn tail(&self) -> &AtomicU32 {
        &self.tail.0
    }
    pub(crate) fn head(&self) -> &AtomicU32 {
        &self.head.0
    }
}

/// Why a ring operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// No room now. The consumer must take records first: drop and count, or try again after its doorbell.
    Full,
    /// Longer than any record of this ring can be.
    TooLong,
    /// The peer wrote an impossible value (an index that jumps, a length past the end). Check the link's epoch first, because the
    /// peer may just have restarted. If it has not, count the violation and quarantine the peer.
    Peer,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RingError::Full => "ring is full",
            RingError::TooLong => "record is longer than the ring can take",
            RingError::Peer => "the other side wrote an impossible index or length",
        })
    }
}

impl core::error::Error for RingError {}

/// Header before each payload: its length in bytes and three words that the ring's user defines.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// Payload length in bytes.
    pub len: u32,
    /// The user's words ([`crate::port::FrameMeta`], a message's kind, ...).
    pub meta: [u32; 3],
}

const fn padded(len: u32) -> u32 {
    (len + (RECORD_ALIGN - 1)) & !(RECORD_ALIGN - 1)
}

/// The data part shared by both handles: address and (private) capacity.
#[derive(Clone, Copy)]
struct Data {
    base: *mut u8,
    capacity: u32,
}

impl Data {
    fn new(region: SharedRegion) -> Option<Data> {
        let capacity = u32::try_from(region.len()).ok()?;
        let aligned = (region.base() as usize).is_multiple_of(RECORD_ALIGN as usize);
        let sane = capacity.is_power_of_two() && (4 * RECORD_ALIGN..=1 << 30).contains(&capacity);
        (sane && aligned).then_some(Data {
            base: region.base(),
            capacity,
        })
    }
    fn offset(&self, index: u32) -> u32 {
        index & (self.capacity - 1)
    }
    fn write_header(&self, offset: u32, header: RecordHeader) {
        // SAFETY: every offset passed in is a multiple of 16 below the capacity, so 16 aligned bytes lie inside the data.
        unsafe {
            self.base
                .add(offset as usize)
                .cast::<RecordHeader>()
                .write_volatile(header)
        }
    }
    fn write_length(&self, offset: u32, len: u32) {
        // SAFETY: the offset is as in `write_header`; the length is the header's first four bytes.
        unsafe { self.base.add(offset as usize).cast::<u32>().write_volatile(len) }
    }
    fn read_header(&self, offset: u32) -> RecordHeader {
        // SAFETY: the offset is as in `write_header`, and every bit pattern is a valid header. The header is read once, so a
        // later change by the peer is not seen.
        unsafe {
            self.base
                .add(offset as usize)
                .cast::<RecordHeader>()
                .read_volatile()
        }
    }
}

/// The writing end. Exactly one may exist for each ring.
pub struct Producer {
    indices: &'static RingIndices,
    data: Data,
    /// End of the committed records, published or not.
    tail: u32,
    published: u32,
    /// The consumer's index as last read and checked.
    head: u32,
    reserved: Option<(u32, u32)>,
}

// SAFETY: the pointer is to shared memory, and on the producer's side only this handle reaches it.
unsafe impl Send for Producer {}

impl Producer {
    /// Creates the handle of a new (zeroed) ring. Returns `None` unless the data's length is a power of two from 64 B to 1 GiB.
    pub fn new(indices: &'static RingIndices, data: SharedRegion) -> Option<Producer> {
        Some(Producer {
            indices,
            data: Data::new(data)?,
            tail: 0,
            published: 0,
            head: 0,
            reserved: None,
        })
    }

    /// Returns the length of the longest payload that fits at any position.
    pub fn max_payload(&self) -> usize {
        (self.data.capacity / 2 - RECORD_ALIGN) as usize
    }

    /// Empties the ring: zeroes the shared indices and this end's private ones. Only within the handshake of
    /// [`crate::endpoint`], while neither side uses the ring.
    pub fn reset(&mut self) {
        self.indices.reset();
        self.tail = 0;
        self.published = 0;
        self.head = 0;
        self.reserved = None;
    }

    /// Returns true if a payload of `len` bytes fits now.
    pub fn has_room(&mut self, len: usize) -> Result<bool, RingError> {
        match self.place(len) {
            Ok(_) => Ok(true),
            Err(RingError::Full) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn place(&mut self, len: usize) -> Result<(u32, u32), RingError> {
        if len > self.max_payload() {
            return Err(RingError::TooLong);
        }
        let need = RECORD_ALIGN + padded(len as u32);
        let to_end = self.data.capacity - self.data.offset(self.tail);
        let skip = if need > to_end { to_end } else { 0 };
        if self.data.capacity - self.tail.wrapping_sub(self.head) < skip + need {
            let head = self.indices.head().load(Ordering::Acquire);
            // The consumer may only move forward, by whole records, at most to the published index.
            let moved = head.wrapping_sub(self.head);
            if moved > self.published.wrapping_sub(self.head) || !head.is_multiple_of(RECORD_ALIGN) {
                return Err(RingError::Peer);
            }
            self.head = head;
            if self.data.capacity - self.tail.wrapping_sub(self.head) < skip + need {
                return Err(RingError::Full);
            }
        }
        Ok((skip, need))
    }

    /// Fills the rest up to the end of the data with a skip mark. Call it after [`RingError::Full`], before the producer waits
    /// for room.
    ///
    /// Does so only if the rest is free and the refused record cannot lie in it. The mark is published like a record. Afterwards
    /// at least half of the ring is in use at any position. A consumer that takes all records gives back that much, so it may
    /// notify the producer by the amount alone.
    #[cold]
    pub fn skip_to_start(&mut self) {
        self.reserved = None;
        let offset = self.data.offset(self.tail);
        let to_end = self.data.capacity - offset;
        let room = self.data.capacity - self.tail.wrapping_sub(self.head);
        // If the rest is long enough for the refused record, the record was refused because not all of the rest is free.
        if offset != 0 && to_end <= room {
            self.write_skip();
            self.tail = self.tail.wrapping_add(to_end);
        }
    }

    fn write_skip(&self) {
        self.data.write_header(
            self.data.offset(self.tail),
            RecordHeader {
                len: SKIP,
                meta: [0; 3],
            },
        );
    }

    /// Reserves room for a record of `len` bytes. Returns the room; the caller writes it in place, then [commits](Self::commit).
    /// A reservation is not published. A second call without a commit cancels the first reservation.
    pub fn reserve(&mut self, len: usize) -> Result<&mut [u8], RingError> {
        let (skip, need) = self.place(len)?;
        if skip != 0 {
            self.write_skip();
        }
        self.reserved = Some((skip, need));
        let start = self.data.offset(self.tail.wrapping_add(skip)) + RECORD_ALIGN;
        // SAFETY: `place` made sure that `need` bytes from here lie before the data's end and that the consumer is done with
        // them. If the peer reads or writes them in spite of this, it only sees or makes rubbish. The producer decides nothing by
        // reading them back.
        Ok(unsafe { core::slice::from_raw_parts_mut(self.data.base.add(start as usize), len) })
    }

    /// Completes the last reservation with its first `len` bytes (no more than were reserved) and `meta`.
    pub fn commit(&mut self, len: usize, meta: [u32; 3]) {
        let Some((skip, need)) = self.reserved.take() else {
            return;
        };
        let len = (len as u32).min(need - RECORD_ALIGN);
        self.tail = self.tail.wrapping_add(skip);
        self.data
            .write_header(self.data.offset(self.tail), RecordHeader { len, meta });
        self.tail = self.tail.wrapping_add(RECORD_ALIGN + padded(len));
    }

    /// Appends one record, the concatenation of `parts`. The consumer does not see it yet.
    #[inline]
    pub fn push(&mut self, parts: &[&[u8]], meta: [u32; 3]) -> Result<(), RingError> {
        if let [all] = parts {
            self.reserve(all.len())?.copy_from_slice(all);
            self.commit(all.len(), meta);
            return Ok(());
        }
        let len = parts.iter().map(|p| p.len()).sum();
        let mut room = self.reserve(len)?;
        for part in parts {
            let (here, rest) = room.split_at_mut(part.len());
            here.copy_from_slice(part);
            room = rest;
        }
        self.commit(len, meta);
        Ok(())
    }

    /// Discards the records that are committed and not published: the consumer never sees them.
    pub fn retract(&mut self) {
        self.tail = self.published;
        self.reserved = None;
    }

    /// Makes all committed records visible. Returns true if there were any; the caller then rings the peer's doorbell.
    pub fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
        }
        self.published = self.tail;
        self.indices.tail().store(self.tail, Ordering::Release);
        true
    }
}

/// The reading end. Exactly one may exist for each ring.
pub struct Consumer {
    indices: &'static RingIndices,
    data: Data,
    head: u32,
    released: u32,
    /// The producer's index as last read and checked.
    tail: u32,
}

// SAFETY: the pointer is to shared memory, and on the consumer's side only this handle reaches it.
unsafe impl Send for Consumer {}

/// One record, still in the ring. Read it, then call [`Consumer::pop`].
pub struct Record<'a> {
    base: *const u8,
    len: usize,
    /// The producer's three words.
    pub meta: [u32; 3],
    size: u32,
    _ring: core::marker::PhantomData<&'a ()>,
}

impl<'a> Record<'a> {
    /// Returns the payload's length in bytes. It was checked to lie inside the ring.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies as much of the payload as fits. Returns the part of `out` that was written.
    pub fn copy_to<'b>(&self, out: &'b mut [u8]) -> &'b mut [u8] {
        let n = self.len.min(out.len());
        // SAFETY: `len` bytes from `base` lie inside the ring's data (checked when the record was made). `out` belongs to this
        // side and cannot overlap them.
        unsafe { core::ptr::copy_nonoverlapping(self.base, out.as_mut_ptr(), n) };
        &mut out[..n]
    }

    /// Copies `out.len()` bytes of the payload from `offset`. Returns false, and copies nothing, if the payload ends before.
    pub fn copy_at(&self, offset: usize, out: &mut [u8]) -> bool {
        if offset.checked_add(out.len()).is_none_or(|end| end > self.len) {
            return false;
        }
        // SAFETY: the range was just checked against `len`, which lies inside the ring's data.
        unsafe { core::ptr::copy_nonoverlapping(self.base.add(offset), out.as_mut_ptr(), out.len()) };
        true
    }

    /// Returns the payload in place.
    ///
    /// # Safety
    /// The producer must be trusted not to write to a record it has published.
    pub unsafe fn as_slice(&self) -> &'a [u8] {
        // SAFETY: in bounds as in `copy_to`; the caller guarantees that the producer does not write to it meanwhile.
        unsafe { core::slice::from_raw_parts(self.base, self.len) }
    }
}

impl Consumer {
    /// Creates the handle of a new (zeroed) ring. Returns `None` unless the data's length is a power of two from 64 B to 1 GiB.
    pub fn new(indices: &'static RingIndices, data: SharedRegion) -> Option<Consumer> {
        Some(Consumer {
            indices,
            data: Data::new(data)?,
            head: 0,
            released: 0,
            tail: 0,
        })
    }

    /// Empties the ring: zeroes the shared indices and this end's private ones. Only within the handshake of
    /// [`crate::endpoint`], while neither side uses the ring.
    pub fn reset(&mut self) {
        self.indices.reset();
        self.head = 0;
        self.released = 0;
        self.tail = 0;
    }

    /// Returns how many bytes of the ring the known records use, without the released ones. The producer may have added records
    /// since the last [`Self::peek`] that found none.
    pub fn backlog(&self) -> u32 {
        self.tail.wrapping_sub(self.released)
    }

    /// Returns how many bytes the next [`Self::release`] gives back: popped records, and skipped bytes before and between them.
    pub fn unreleased(&self) -> u32 {
        self.head.wrapping_sub(self.released)
    }

    /// Returns the length of the ring's data in bytes.
    pub fn capacity(&self) -> u32 {
        self.data.capacity
    }

    /// Returns the oldest record that is not popped yet, or `None`.
    pub fn peek(&mut self) -> Result<Option<Record<'_>>, RingError> {
        // At most one skip mark precedes a record, so two turns are enough.
        for _ in 0..2 {
            if self.head == self.tail {
                let tail = self.indices.tail().load(Ordering::Acquire);
                // The producer may only move forward, by whole records, and at most one capacity past the released index.
                if tail.wrapping_sub(self.released) > self.data.capacity
                    || tail.wrapping_sub(self.released) < self.head.wrapping_sub(self.released)
                    || !tail.is_multiple_of(RECORD_ALIGN)
                {
                    return Err(RingError::Peer);
                }
                if tail == self.head {
                    return Ok(None);
                }
                self.tail = tail;
            }
            let available = self.tail.wrapping_sub(self.head);
            let offset = self.data.offset(self.head);
            let to_end = self.data.capacity - offset;
            let header = self.data.read_header(offset);
            if header.len == SKIP {
                if offset == 0 || to_end > available {
                    return Err(RingError::Peer);
                }
                self.head = self.head.wrapping_add(to_end);
                continue;
            }
            if header.len > self.data.capacity / 2 {
                return Err(RingError::Peer);
            }
            let size = RECORD_ALIGN + padded(header.len);
            if size > available || size > to_end {
                return Err(RingError::Peer);
            }
            // SAFETY: offset + size <= capacity was just checked.
            let base = unsafe { self.data.base.add((offset + RECORD_ALIGN) as usize) };
            return Ok(Some(Record {
                base,
                len: header.len as usize,
                meta: header.meta,
                size,
                _ring: core::marker::PhantomData,
            }));
        }
        // A skip mark must be followed by a record in the publication of the mark.
        if self.head == self.tail {
            Ok(None)
        } else {
            Err(RingError::Peer)
        }
    }

    /// Returns the record's size in the ring, for [`Self::pop`].
    pub fn size_of(record: &Record<'_>) -> u32 {
        record.size
    }

    /// Steps over the record that [`Self::peek`] returned. `size` is its [`Self::size_of`]. [`Self::release`] gives the room back
    /// to the producer.
    pub fn pop(&mut self, size: u32) {
        self.head = self
            .head
            .wrapping_add(size.min(self.tail.wrapping_sub(self.head)));
    }

    /// Pops a record of a producer that is not trusted: steps over it like [`Self::pop`] and marks it as taken. If the producer
    /// moves its index on without new records, [`Self::peek`] finds the mark and returns [`RingError::Peer`].
    #[inline]
    pub fn spend(&mut self, size: u32) {
        self.data.write_length(self.data.offset(self.head), SPENT);
        self.pop(size);
    }

    /// Gives the room of all popped records back. Returns true if there were any.
    pub fn release(&mut self) -> bool {
        if self.released == self.head {
            return false;
        }
        self.released = self.head;
        self.indices.head().store(self.head, Ordering::Release);
        true
    }

    /// Passes the oldest record to `f`, then pops it. Returns `Ok(None)` if there is no record.
    pub fn take<R>(&mut self, f: impl FnOnce(&Record<'_>) -> R) -> Result<Option<R>, RingError> {
        let Some(record) = self.peek()? else {
            return Ok(None);
        };
        let out = f(&record);
        let size = record.size;
        self.pop(size);
        Ok(Some(out))
    }
}
