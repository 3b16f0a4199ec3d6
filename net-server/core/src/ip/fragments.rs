//! Reassembly of IPv4 packets from fragments (RFC 791, 3.2; RFC 1122, 3.3.2).
//!
//! Fragments come from any host, and anybody can send first fragments without end and never the rest. So memory is allocated
//! once, when the family is created, and shared by all interfaces of the brane. If it runs short, the oldest unfinished packet gives way, first
//! one of the same sender if that one holds more than its share. A packet with overlapping fragments is dropped whole, as
//! RFC 5722 wants it for IPv6; exact duplicates are ignored. Time and the key of the hash are arguments.

use crate::family::{Purchase, Shortage};
use crate::headers::wire::{ETHERNET, IPV4_HEADER as HEADER};
use crate::ip::checksum;
use alloc::vec::Vec;
use core::hash::BuildHasher;
use core::net::Ipv4Addr;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// How long an unfinished packet is kept, in nanoseconds: 30 s (RFC 791 3.2 starts with 15, RFC 1122 3.3.2 wants 60 to 120
/// at most; Linux keeps it 30).
const PATIENCE: u64 = 30_000_000_000;

/// Bytes of payload in one cell.
const CELL: usize = 504;
/// Cells of all packets.
const CELLS: usize = 512;
/// Cells of one packet at most: the longest packet in fragments of 576 bytes takes 238 of them.
const CELLS_OF_PACKET: u16 = 248;
/// Cells of one sender at most.
const CELLS_OF_SENDER: u16 = CELLS as u16 / 2;
/// Unfinished packets at most: each has a cell.
const PACKETS: usize = CELLS;
/// Classes of senders; those of one class share what one sender may hold. A power of two.
const SENDERS: usize = 1024;

/// Longest packet in bytes, with such a header.
const LONGEST: usize = u16::MAX as usize;

/// Memory in bytes: cells, packets, their table (in buckets of the next power of two, with a byte of control each), the classes
/// of senders, and the finished packet.
pub const BYTES: usize = CELLS * size_of::<Cell>()
    + PACKETS * size_of::<Packet>()
    + 2 * PACKETS * (size_of::<(Key, u16)>() + 1)
    + SENDERS * 2
    + ETHERNET
    + LONGEST;

/// No packet, no cell.
const NONE: u16 = u16::MAX;

/// What fragments of one packet have in common (RFC 791, 3.2), and the interface that they came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Index of the interface.
    pub netif: u32,
    /// Sender.
    pub src: Ipv4Addr,
    /// Receiver.
    pub dst: Ipv4Addr,
    /// Identification field.
    pub id: u16,
    /// Protocol (IANA's number).
    pub protocol: u8,
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept, or was there already.
    Kept,
    /// Its packet is complete: see [`Fragments::take`].
    Complete,
    /// It contradicts the others of its packet, or there are too many: the packet is dropped.
    Dropped,
}

/// A piece of a packet's payload.
struct Cell {
    /// The next piece of the packet by place, or the next free cell.
    next: u16,
    /// Its place in the payload.
    offset: u16,
    /// Its length in bytes.
    len: u16,
    data: [u8; CELL],
}

/// An unfinished packet.
struct Packet {
    key: Key,
    /// Its first piece, and the last one.
    first: u16,
    last: u16,
    cells: u16,
    /// Class of its sender.
    sender: u16,
    /// Bytes of payload that are here.
    have: u32,
    /// Length of its payload, once the last fragment is here.
    total: Option<u16>,
    /// Header of the fragment that begins the packet, without options.
    header: Option<[u8; HEADER]>,
    since: u64,
    /// Unfinished packets before and after it by age.
    older: u16,
    newer: u16,
}

/// A fragment, checked by [`crate::headers`].
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    /// Which packet it is of.
    pub key: Key,
    /// Its header without options.
    pub header: &'a [u8; HEADER],
    /// Place of its payload in that of the packet.
    pub offset: u16,
    /// It is not the last one.
    pub more: bool,
    /// Its payload, of one byte at least. It ends at 65,515 at most.
    pub payload: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The fragment in an IPv4 packet that came in by an interface. Returns `None` if lengths contradict each other.
    pub fn read(netif: usize, packet: &'a [u8]) -> Option<Fragment<'a>> {
        let header = packet.first_chunk::<HEADER>()?;
        let header_len = usize::from(header[0] & 15) * 4;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let payload = packet.get(header_len..usize::from(word(2)))?;
        let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
        let offset = (word(6) & 0x1fff) * 8;
        let fits = !payload.is_empty() && usize::from(offset) + payload.len() <= LONGEST - HEADER;
        fits.then_some(Fragment {
            key: Key {
                netif: netif as u32,
                src: address(12),
                dst: address(16),
                id: word(4),
                protocol: header[9],
            },
            header,
            offset,
            more: word(6) & 0x2000 != 0,
            payload,
        })
    }
}

/// All unfinished packets of a brane.
pub struct Fragments {
    cells: Vec<Cell>,
    free_cell: u16,
    packets: Vec<Packet>,
    free_packet: u16,
    table: HashMap<Key, u16, FixedState>,
    oldest: u16,
    newest: u16,
    /// Cells in use.
    used: usize,
    /// Cells that each class of senders holds.
    held: Vec<u16>,
    hash: FixedState,
    /// The finished packet.
    whole: Vec<u8>,
    /// Packets dropped since the start: too old, or given up for others.
    pub dropped: u64,
}

impl Fragments {
    /// Makes tables without memory. `seed` must be unpredictable.
    pub fn new(seed: u64) -> Fragments {
        let hash = FixedState::with_seed(seed);
        Fragments {
            cells: Vec::new(),
            free_cell: NONE,
            packets: Vec::new(),
            free_packet: NONE,
            table: HashMap::with_hasher(hash.clone()),
            oldest: NONE,
            newest: NONE,
            used: 0,
            held: Vec::new(),
            hash,
            whole: Vec::new(),
            dropped: 0,
        }
    }

    /// Buys the tables.
    pub fn create(&mut self, purchase: &mut Purchase<'_>) -> Result<(), Shortage> {
        self.cells = purchase.vec(CELLS)?;
        self.packets = purchase.vec(PACKETS)?;
        self.table = purchase.map(PACKETS, &self.hash)?;
        self.held = purchase.zeroed(SENDERS)?;
        self.whole = purchase.vec(ETHERNET + LONGEST)?;
        Ok(())
    }

    /// Frees the tables.
    pub fn destroy(&mut self) {
        *self = Fragments {
            dropped: self.dropped,
            hash: self.hash.clone(),
            table: HashMap::with_hasher(self.hash.clone()),
            ..Fragments::new(0)
        };
    }

    /// Drops all unfinished packets.
    pub fn clear(&mut self) {
        while self.oldest != NONE {
            self.drop_packet(self.oldest);
        }
    }

    /// Takes a fragment.
    pub fn add(&mut self, now: u64, fragment: &Fragment<'_>) -> Outcome {
        if self.held.is_empty() {
            return Outcome::Dropped;
        }
        while self.oldest != NONE
            && now.saturating_sub(self.packets[usize::from(self.oldest)].since) >= PATIENCE
        {
            self.dropped += 1;
            self.drop_packet(self.oldest);
        }
        let Some(at) = self.find_or_begin(now, fragment.key) else {
            return Outcome::Dropped;
        };
        let outcome = self.put(at, fragment);
        match outcome {
            Outcome::Kept => {}
            Outcome::Complete => {
                self.assemble(at);
                self.drop_packet(at);
            }
            Outcome::Dropped => {
                self.dropped += 1;
                self.drop_packet(at);
            }
        }
        outcome
    }

    /// The packet that [`Self::add`] has completed, behind this link-layer header. [`Self::give_back`] takes the memory back.
    pub fn take(&mut self, link: &[u8]) -> Vec<u8> {
        let mut whole = core::mem::take(&mut self.whole);
        let start = ETHERNET - link.len().min(ETHERNET);
        whole[start..ETHERNET].copy_from_slice(&link[..ETHERNET - start]);
        whole.drain(..start);
        whole
    }

    /// Takes the memory back that [`Self::take`] has lent.
    pub fn give_back(&mut self, whole: Vec<u8>) {
        self.whole = whole;
    }

    fn find_or_begin(&mut self, now: u64, key: Key) -> Option<u16> {
        if let Some(at) = self.table.get(&key) {
            return Some(*at);
        }
        let sender = (self.hash.hash_one(key.src) % SENDERS as u64) as u16;
        let packet = Packet {
            key,
            first: NONE,
            last: NONE,
            cells: 0,
            sender,
            have: 0,
            total: None,
            header: None,
            since: now,
            older: self.newest,
            newer: NONE,
        };
        if self.free_packet == NONE && self.packets.len() == PACKETS {
            self.evict(self.oldest);
        }
        // The table has room for all packets; entries that were removed can make it want to grow.
        self.table.try_reserve(1).ok()?;
        let at = match self.free_packet {
            NONE => {
                self.packets.push(packet);
                self.packets.len() as u16 - 1
            }
            at => {
                self.free_packet = self.packets[usize::from(at)].newer;
                self.packets[usize::from(at)] = packet;
                at
            }
        };
        // An eviction may have changed it.
        self.packets[usize::from(at)].older = self.newest;
        match self.newest {
            NONE => self.oldest = at,
            newest => self.packets[usize::from(newest)].newer = at,
        }
        self.newest = at;
        self.table.insert(key, at);
        Some(at)
    }

    /// Puts a fragment into its packet.
    fn put(&mut self, at: u16, fragment: &Fragment<'_>) -> Outcome {
        let (start, len) = (fragment.offset, fragment.payload.len() as u16);
        let end = start + len;
        let packet = &self.packets[usize::from(at)];
        let fits = match packet.total {
            Some(total) => end <= total && (fragment.more || end == total),
            // Nothing is known that could lie beyond the end.
            None => fragment.more || packet.last == NONE || self.end(packet.last) <= end,
        };
        if !fits {
            return Outcome::Dropped;
        }
        // The pieces before and after it.
        let (mut before, mut after) = (NONE, packet.first);
        if packet.last != NONE && self.end(packet.last) <= start {
            (before, after) = (packet.last, NONE);
        }
        while after != NONE && self.end(after) <= start {
            (before, after) = (after, self.cells[usize::from(after)].next);
        }
        if after != NONE && self.cells[usize::from(after)].offset < end {
            return match self.is_duplicate(after, fragment) {
                true => Outcome::Kept,
                false => Outcome::Dropped,
            };
        }
        let wanted = len.div_ceil(CELL as u16);
        if packet.cells + wanted > CELLS_OF_PACKET || !self.make_room(at, wanted) {
            return Outcome::Dropped;
        }
        for (n, data) in fragment.payload.chunks(CELL).enumerate() {
            let cell = self.take_cell();
            let place = &mut self.cells[usize::from(cell)];
            place.offset = start + (n * CELL) as u16;
            place.len = data.len() as u16;
            place.data[..data.len()].copy_from_slice(data);
            place.next = after;
            match before {
                NONE => self.packets[usize::from(at)].first = cell,
                before => self.cells[usize::from(before)].next = cell,
            }
            before = cell;
        }
        let packet = &mut self.packets[usize::from(at)];
        if after == NONE {
            packet.last = before;
        }
        packet.cells += wanted;
        self.held[usize::from(packet.sender)] += wanted;
        self.used += usize::from(wanted);
        packet.have += u32::from(len);
        if start == 0 {
            packet.header = Some(*fragment.header);
        }
        if !fragment.more {
            packet.total = Some(end);
        }
        match packet.total == Some(packet.have as u16) {
            true => Outcome::Complete,
            false => Outcome::Kept,
        }
    }

    /// Whether a fragment that begins in or before this piece says nothing but what is there: the same bytes at the same place.
    fn is_duplicate(&self, from: u16, fragment: &Fragment<'_>) -> bool {
        let (mut at, mut place, mut rest) = (from, fragment.offset, fragment.payload);
        while let Some(cell) = self.cells.get(usize::from(at)) {
            let data = &cell.data[..usize::from(cell.len)];
            // It may begin in the middle of a fragment that is kept in several pieces, but not before it.
            let Some(inside) = place.checked_sub(cell.offset).map(usize::from) else {
                return false;
            };
            let Some(known) = data.get(inside..).filter(|known| !known.is_empty()) else {
                return false;
            };
            let len = known.len().min(rest.len());
            if known[..len] != rest[..len] {
                return false;
            }
            rest = &rest[len..];
            place += len as u16;
            if rest.is_empty() {
                return true;
            }
            at = cell.next;
        }
        false
    }

    /// Makes room for so many cells of a packet. Returns false if the packet's sender has no more.
    fn make_room(&mut self, at: u16, wanted: u16) -> bool {
        let sender = self.packets[usize::from(at)].sender;
        while self.held[usize::from(sender)] + wanted > CELLS_OF_SENDER {
            let mut oldest = self.oldest;
            while oldest != NONE && (oldest == at || self.packets[usize::from(oldest)].sender != sender) {
                oldest = self.packets[usize::from(oldest)].newer;
            }
            if oldest == NONE {
                return false;
            }
            self.evict(oldest);
        }
        while self.used + usize::from(wanted) > CELLS {
            let oldest = match self.oldest == at {
                true => self.packets[usize::from(at)].newer,
                false => self.oldest,
            };
            if oldest == NONE {
                return false;
            }
            self.evict(oldest);
        }
        true
    }

    fn evict(&mut self, at: u16) {
        self.dropped += 1;
        self.drop_packet(at);
    }

    fn take_cell(&mut self) -> u16 {
        match self.free_cell {
            NONE => {
                self.cells.push(Cell {
                    next: NONE,
                    offset: 0,
                    len: 0,
                    data: [0; CELL],
                });
                self.cells.len() as u16 - 1
            }
            cell => {
                self.free_cell = self.cells[usize::from(cell)].next;
                cell
            }
        }
    }

    fn end(&self, cell: u16) -> u16 {
        let cell = &self.cells[usize::from(cell)];
        cell.offset + cell.len
    }

    /// Writes the packet behind room for a link-layer header.
    fn assemble(&mut self, at: u16) {
        let packet = &self.packets[usize::from(at)];
        self.whole.clear();
        self.whole.resize(ETHERNET, 0);
        let mut header = packet.header.unwrap_or_default();
        let total = HEADER as u16 + packet.have as u16;
        // No options, the whole length, no fragment.
        header[0] = 0x45;
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header[6..8].copy_from_slice(&[0; 2]);
        header[10..12].copy_from_slice(&[0; 2]);
        let sum = !checksum::sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        self.whole.extend_from_slice(&header);
        let mut cell = packet.first;
        while cell != NONE {
            let piece = &self.cells[usize::from(cell)];
            self.whole
                .extend_from_slice(&piece.data[..usize::from(piece.len)]);
            cell = piece.next;
        }
    }

    /// Frees a packet and its cells.
    fn drop_packet(&mut self, at: u16) {
        let packet = &mut self.packets[usize::from(at)];
        let (older, newer) = (packet.older, packet.newer);
        self.held[usize::from(packet.sender)] -= packet.cells;
        self.used -= usize::from(packet.cells);
        self.table.remove(&packet.key);
        if packet.first != NONE {
            self.cells[usize::from(packet.last)].next = self.free_cell;
            self.free_cell = packet.first;
        }
        packet.newer = self.free_packet;
        self.free_packet = at;
        match older {
            NONE => self.oldest = newer,
            older => self.packets[usize::from(older)].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.packets[usize::from(newer)].older = older,
        }
    }
}

#[cfg(test)]
mod tests;
