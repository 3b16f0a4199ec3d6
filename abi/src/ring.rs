//! Single-producer single-consumer ring of records of variable length: frames, datagrams, requests and events.
//!
//! In shared memory lie the two free-running byte indices ([`RingIndices`]) and the data. Everything that decides
//! anything (own index, capacity) is private to the handle. An index of the peer is read with acquire, its step is
//! checked, and ours is stored with release after the bytes it covers.
//!
//! A record is a 16-byte header ([`RecordHeader`]: length, three words of meta) and its payload, padded to 16 bytes. It
//! never wraps: where the rest up to the end of the data is too short, a skip mark fills it. The longest payload is
//! therefore a little less than half the capacity ([`Producer::max_payload`]).
//!
//! **Trust.** The consumer takes header and index for claims. [`Record::copy_to`] copies the payload once; what was
//! copied is the caller's own. [`Record::as_slice`] looks in place and is for consumers that trust their producer
//! (a brane reading what the driver gave it).

use crate::shared::SharedRegion;
use crate::sync::{AtomicU32, Ordering};
use core::fmt;

/// Bytes of a record's header, and the alignment of every record.
pub const RECORD_ALIGN: u32 = 16;
const SKIP: u32 = u32::MAX;
/// The length of a record that was taken ([`Consumer::spend`]): none that a record can have.
const SPENT: u32 = u32::MAX - 1;

/// Indices of one ring, each on a cache line of its own. All zero when the ring is empty and new.
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
    /// Back to the empty ring. Only within the handshake of [`crate::link`], while neither side uses the ring.
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

/// Why a ring operation gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// No room now; the consumer has to take something first. Drop and count, or try again after its doorbell.
    Full,
    /// Longer than this ring can ever take.
    TooLong,
    /// The other side wrote what it never may (an index that jumps, a length past the end). Check the link's epoch
    /// first (it may just have restarted), then count it and cut the peer off.
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

/// What precedes each payload: its length in bytes and three words whose meaning the ring's user defines.
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
        // SAFETY: offsets handed in are multiples of 16 below the capacity, so 16 aligned bytes lie inside the data.
        unsafe {
            self.base
                .add(offset as usize)
                .cast::<RecordHeader>()
                .write_volatile(header)
        }
    }
    fn write_length(&self, offset: u32, len: u32) {
        // SAFETY: as in `write_header`; the length is the header's first four bytes.
        unsafe { self.base.add(offset as usize).cast::<u32>().write_volatile(len) }
    }
    fn read_header(&self, offset: u32) -> RecordHeader {
        // SAFETY: as in `write_header`; every bit pattern is a valid header; read once, so a later change by the
        // peer is not seen.
        unsafe {
            self.base
                .add(offset as usize)
                .cast::<RecordHeader>()
                .read_volatile()
        }
    }
}

/// The end that writes. Exactly one may exist for a ring.
pub struct Producer {
    indices: &'static RingIndices,
    data: Data,
    /// Up to here records are committed (published or not).
    tail: u32,
    published: u32,
    /// The consumer's index as last read and checked.
    head: u32,
    reserved: Option<(u32, u32)>,
}

// SAFETY: the raw pointer is to shared memory reached only through this handle on the producer's behalf.
unsafe impl Send for Producer {}

impl Producer {
    /// A handle of a new (zeroed) ring. `None` unless the data's length is a power of two from 64 B to 1 GiB.
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

    /// The longest payload that fits whatever the position.
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

    /// Whether `len` bytes would fit now.
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
            // The consumer may only move forward, at most to what is published, by whole records.
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

    /// To be called after [`RingError::Full`], before the producer waits for room. Where the record that was refused cannot
    /// lie in the rest up to the end of the data, fills that rest with the skip mark at once, as far as it is free; it is
    /// published like a record. Afterwards at least half of the ring is in use, whatever the position: a consumer that
    /// takes everything gives back that much, and may tell of it by the amount alone.
    #[cold]
    pub fn skip_to_start(&mut self) {
        self.reserved = None;
        let offset = self.data.offset(self.tail);
        let to_end = self.data.capacity - offset;
        let room = self.data.capacity - self.tail.wrapping_sub(self.head);
        // A record that the rest is long enough for was refused because not all of the rest is free.
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

    /// Room for a record of `len` bytes, to be written in place and then [committed](Self::commit). Not published by
    /// itself; a second call without a commit forgets the first.
    pub fn reserve(&mut self, len: usize) -> Result<&mut [u8], RingError> {
        let (skip, need) = self.place(len)?;
        if skip != 0 {
            self.write_skip();
        }
        self.reserved = Some((skip, need));
        let start = self.data.offset(self.tail.wrapping_add(skip)) + RECORD_ALIGN;
        // SAFETY: `place` made sure that need bytes from here lie before the data's end and that the consumer is done
        // with them. A peer that reads or writes them all the same sees or gets rubbish of its own making; nothing
        // is decided by reading them back.
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

    /// Appends one record that is the concatenation of `parts`. Not yet visible to the consumer.
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

    /// Takes back what is committed and not published: the consumer never sees it.
    pub fn retract(&mut self) {
        self.tail = self.published;
        self.reserved = None;
    }

    /// Makes all committed records visible. Returns whether there were any: then ring the peer's doorbell.
    pub fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
        }
        self.published = self.tail;
        self.indices.tail().store(self.tail, Ordering::Release);
        true
    }
}

/// The end that reads. Exactly one may exist for a ring.
pub struct Consumer {
    indices: &'static RingIndices,
    data: Data,
    head: u32,
    released: u32,
    /// The producer's index as last read and checked.
    tail: u32,
}

// SAFETY: as for the producer.
unsafe impl Send for Consumer {}

/// One record, still in the ring. Take what you need of it, then [`Consumer::pop`].
pub struct Record<'a> {
    base: *const u8,
    len: usize,
    /// The producer's three words.
    pub meta: [u32; 3],
    size: u32,
    _ring: core::marker::PhantomData<&'a ()>,
}

impl<'a> Record<'a> {
    /// Payload length in bytes: checked to lie inside the ring.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies as much of the payload as fits and returns that much of `out`.
    pub fn copy_to<'b>(&self, out: &'b mut [u8]) -> &'b mut [u8] {
        let n = self.len.min(out.len());
        // SAFETY: `len` bytes from `base` lie inside the ring's data (checked when the record was made); `out` is
        // ours and cannot overlap it.
        unsafe { core::ptr::copy_nonoverlapping(self.base, out.as_mut_ptr(), n) };
        &mut out[..n]
    }

    /// Copies `out.len()` bytes of the payload from `offset`; `false` (and nothing copied) where they are not all there.
    pub fn copy_at(&self, offset: usize, out: &mut [u8]) -> bool {
        if offset.checked_add(out.len()).is_none_or(|end| end > self.len) {
            return false;
        }
        // SAFETY: the range was just checked against `len`, which lies inside the ring's data.
        unsafe { core::ptr::copy_nonoverlapping(self.base.add(offset), out.as_mut_ptr(), out.len()) };
        true
    }

    /// The payload in place.
    ///
    /// # Safety
    /// The producer must be trusted not to write to a record it has published.
    pub unsafe fn as_slice(&self) -> &'a [u8] {
        // SAFETY: in bounds as above; the caller vouches that nobody writes to it meanwhile.
        unsafe { core::slice::from_raw_parts(self.base, self.len) }
    }
}

impl Consumer {
    /// A handle of a new (zeroed) ring; same condition as [`Producer::new`].
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

    /// Bytes of the ring that records known to this end take up, given back ones excepted. The producer may have added
    /// more since the last [`Self::peek`] that found none.
    pub fn backlog(&self) -> u32 {
        self.tail.wrapping_sub(self.released)
    }

    /// Bytes that the next [`Self::release`] gives back: popped records and what was skipped before and between them.
    pub fn unreleased(&self) -> u32 {
        self.head.wrapping_sub(self.released)
    }

    /// Bytes that the ring's data has.
    pub fn capacity(&self) -> u32 {
        self.data.capacity
    }

    /// The oldest record not yet popped, or `None`.
    pub fn peek(&mut self) -> Result<Option<Record<'_>>, RingError> {
        // At most one skip mark can precede a record, so two turns decide.
        for _ in 0..2 {
            if self.head == self.tail {
                let tail = self.indices.tail().load(Ordering::Acquire);
                // The producer may only move forward, by whole records, and never past what we have given back.
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
        // A skip mark must be followed by a record within the same publication.
        if self.head == self.tail {
            Ok(None)
        } else {
            Err(RingError::Peer)
        }
    }

    /// Size in the ring of the record that `peek` returned, for [`Self::pop`].
    pub fn size_of(record: &Record<'_>) -> u32 {
        record.size
    }

    /// Steps over a record, by what [`Self::size_of`] gave for it. The producer gets the room back with
    /// [`Self::release`].
    pub fn pop(&mut self, size: u32) {
        self.head = self
            .head
            .wrapping_add(size.min(self.tail.wrapping_sub(self.head)));
    }

    /// Like [`Self::pop`], for a producer that is not trusted: marks the record as taken. A producer that moves its index on
    /// without writing new records is then found by [`Self::peek`] ([`RingError::Peer`]).
    #[inline]
    pub fn spend(&mut self, size: u32) {
        self.data.write_length(self.data.offset(self.head), SPENT);
        self.pop(size);
    }

    /// Gives the room of all popped records back. Returns whether there was any.
    pub fn release(&mut self) -> bool {
        if self.released == self.head {
            return false;
        }
        self.released = self.head;
        self.indices.head().store(self.head, Ordering::Release);
        true
    }

    /// Takes the oldest record: hands it to `f`, pops it. `Ok(None)` when there is none.
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
