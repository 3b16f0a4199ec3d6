//! A client that violates every rule of the socket protocol, one kind of violation in each round.
//!
//! Most rounds start like a well-behaved client, because a brane ignores a client that it has quarantined:
//! link, valid requests, and then the violation. On the other side: the real brane, which must not trust the
//! client.

use crate::Random;
use crate::region::{Head, indices, scribble, write, write_word};
use brane_abi::layout::sock;
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::net::SockAddr;
use brane_abi::ring::Producer;
use brane_abi::shared::SharedRegion;
use brane_abi::socket::{Accept, CONTROL_BIT, DatagramHeader, Listen, Open, Rings, request};
use zerocopy::IntoBytes;

/// Number of kinds of rounds.
pub const KINDS: u64 = 8;

/// Number of requests in one round.
const REQUESTS: usize = 100;

/// The hostile client.
pub struct HostileClient {
    region: SharedRegion,
    random: Random,
    link: Option<Link>,
    requests: Option<Producer>,
    /// The head of the brane's link before the client overwrote it.
    spoilt: Option<Head>,
    round: u64,
}

impl HostileClient {
    /// Creates a client on the region that it shares with its brane.
    pub fn new(region: SharedRegion, seed: u64) -> HostileClient {
        HostileClient {
            region,
            random: Random::new(seed),
            link: None,
            requests: None,
            spoilt: None,
            round: 0,
        }
    }

    /// Returns the number of rounds so far.
    pub fn rounds(&self) -> u64 {
        self.round
    }

    /// Resets the link, after which the brane accepts the client again. The caller must notify the brane
    /// afterwards.
    pub fn start_over(&mut self) {
        if let Some(head) = self.spoilt.take() {
            head.restore(self.region);
        }
        self.link = Link::start(self.region, Side::B);
        self.requests = None;
    }

    /// Polls the link like an honest client. Returns true if the link is up. The caller must notify the brane
    /// afterwards.
    pub fn connect(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        if link.poll() == LinkState::PeerRestarted {
            let rings = [sock::REQUEST_INDICES, sock::EVENT_INDICES].map(|at| indices(self.region, at));
            rings.into_iter().flatten().for_each(|ring| ring.reset());
            link.acknowledge();
        }
        if link.poll() != LinkState::Up {
            return false;
        }
        if self.requests.is_none() {
            let data = self.region.part(sock::REQUESTS.offset, sock::REQUESTS.len);
            self.requests = indices(self.region, sock::REQUEST_INDICES)
                .zip(data)
                .and_then(|(ring, data)| Producer::new(ring, data));
        }
        true
    }

    /// Runs one round of rubbish. Before it, [`Self::connect`] has succeeded or the caller has given up on it.
    /// Returns how often to notify the brane.
    pub fn round(&mut self) -> u32 {
        let kind = self.round % KINDS;
        self.round += 1;
        match kind {
            0 => self.bad_requests(),
            1 => self.overlapping_sockets(),
            2 => self.bad_datagrams(),
            3 => self.bad_streams(),
            4 => self.request_indices(),
            5 => self.requests_unsent_lengths(),
            6 => {
                self.spoilt = Head::save(self.region);
                scribble(self.region, &mut self.random, 0, sock::DATA.offset);
            }
            _ => return self.epochs_and_doorbells(),
        }
        self.ring(u64::MAX);
        1
    }

    fn ring(&self, bits: u64) {
        if let Some(link) = &self.link {
            // The caller notifies regardless of the brane's doorbell.
            let _ = link.peer_bell().ring(bits);
        }
    }

    fn push(&mut self, words: [u32; 3], payload: &[u8]) {
        if let Some(requests) = &mut self.requests {
            // A request without room is one piece of rubbish less.
            let _ = requests.push(&[payload], words);
        }
    }

    fn publish(&mut self) {
        if let Some(requests) = &mut self.requests {
            requests.publish();
        }
        self.ring(CONTROL_BIT);
    }

    fn address(&mut self) -> SockAddr {
        let mut address = SockAddr {
            port: self.random.word() as u16,
            ..SockAddr::default()
        };
        self.random.fill(&mut address.ip);
        address.family = self.random.pick(&[0, 4, 6, 5, 255]);
        address.reserved = self.random.word() as u8;
        address
    }

    /// Returns offsets that no ring may have, and some valid ones.
    fn rings(&mut self) -> Rings {
        let mut place = || {
            let offset = match self.random.below(5) {
                0 => self.random.awkward(),
                1 => self.random.below(sock::DATA.offset) as u32,
                2 => (sock::SIZE - self.random.below(2048)) as u32,
                3 => (sock::DATA.offset + self.random.below(sock::DATA.len)) as u32,
                _ => (sock::DATA.offset + 4096 * self.random.below(64)) as u32,
            };
            let len = match self.random.below(3) {
                0 => self.random.awkward(),
                1 => self.random.below(1 << 21) as u32,
                _ => 1024 << self.random.below(12),
            };
            (offset, len)
        };
        let ((rx_offset, rx_len), (tx_offset, tx_len)) = (place(), place());
        Rings {
            rx_offset,
            rx_len,
            tx_offset,
            tx_len,
        }
    }

    fn slot(&mut self) -> u32 {
        match self.random.below(4) {
            0 => self.random.awkward(),
            1 => (sock::SLOTS + self.random.below(4)) as u32,
            _ => self.random.below(sock::SLOTS) as u32,
        }
    }

    /// Sends requests of every kind with wrong slots, generations, offsets, addresses and lengths.
    fn bad_requests(&mut self) {
        for _ in 0..REQUESTS {
            let kind = match self.random.below(4) {
                0 => self.random.awkward(),
                _ => 1 + self.random.below(9) as u32,
            };
            let words = [kind, self.slot(), self.random.pick(&[0, 1, 2, u32::MAX])];
            let (local, remote, rings) = (self.address(), self.address(), self.rings());
            let listen = Listen {
                local,
                backlog: self.random.awkward(),
                rx_buffer: self.random.awkward(),
                tx_buffer: self.random.awkward(),
            };
            let accept = Accept {
                listener: self.slot(),
                rings,
            };
            let open = Open { local, remote, rings };
            let payload = match kind {
                request::TCP_LISTEN => listen.as_bytes(),
                request::TCP_ACCEPT => accept.as_bytes(),
                _ => open.as_bytes(),
            };
            let mut bytes = [0; 128];
            bytes[..payload.len()].copy_from_slice(payload);
            let len = if self.random.below(4) == 0 {
                self.random.below(bytes.len())
            } else {
                payload.len()
            };
            self.push(words, &bytes[..len]);
        }
        self.publish();
    }

    /// Returns a valid place in the data area for the given slot.
    fn good_rings(slot: usize) -> Rings {
        let at = (sock::DATA.offset + slot * 0x4000) as u32;
        Rings {
            rx_offset: at,
            rx_len: 0x2000,
            tx_offset: at + 0x2000,
            tx_len: 0x2000,
        }
    }

    fn open(&mut self, kind: u32, slot: usize, generation: u32, port: u16, rings: Rings) {
        let local = SockAddr::new(None, port);
        let remote = SockAddr::new(Some([10, 0, 2, 2].into()), port);
        self.push(
            [kind, slot as u32, generation],
            Open { local, remote, rings }.as_bytes(),
        );
    }

    /// Opens many sockets whose rings are the same memory, and one slot repeatedly.
    fn overlapping_sockets(&mut self) {
        let rings = Self::good_rings(0);
        for slot in 0..sock::SLOTS {
            let kind = self.random.pick(&[request::UDP_BIND, request::TCP_CONNECT]);
            self.open(kind, slot, 1, 2000 + slot as u16, rings);
        }
        for generation in 1..20 {
            self.open(request::UDP_BIND, 5, generation, 0, rings);
            let kind = self.random.pick(&[
                request::CLOSE,
                request::ABORT,
                request::SHUTDOWN,
                request::TCP_ACCEPT,
            ]);
            self.push([kind, 5, generation], &[]);
        }
        self.publish();
        scribble(self.region, &mut self.random, sock::DATA.offset, 0x4000);
        self.slot_indices(sock::SLOTS);
    }

    /// Writes random words over the indices of the first `slots` slots.
    fn slot_indices(&mut self, slots: usize) {
        for slot in 0..slots {
            let at = self
                .random
                .pick(&[sock::rx_indices(slot), sock::tx_indices(slot)]);
            let line = 64 * self.random.below(2);
            let word = self.random.awkward();
            write_word(self.region, at + line, word);
        }
    }

    /// Opens valid UDP sockets and writes invalid records.
    fn bad_datagrams(&mut self) {
        for slot in 0..8 {
            let rings = Self::good_rings(slot);
            for at in [sock::rx_indices(slot), sock::tx_indices(slot)] {
                write(self.region, at, &[0; 128]);
            }
            self.open(request::UDP_BIND, slot, 9, 3000 + slot as u16, rings);
            let header = DatagramHeader {
                remote: self.address(),
                local: self.address(),
            };
            let mut at = rings.tx_offset as usize;
            // A complete record with an impossible address, then a record with an impossible length.
            write_word(self.region, at, 48);
            write(self.region, at + 16, header.as_bytes());
            at += 16 + 48;
            let length = match self.random.below(4) {
                0 => u32::MAX,
                1 => self.random.below(40) as u32,
                _ => self.random.awkward(),
            };
            write_word(self.region, at, length);
            let tail = self
                .random
                .pick(&[64, 80, 128, 0x1000, 0x2000, 0x2010, 1, 0x8000_0000, u32::MAX]);
            write_word(self.region, sock::tx_indices(slot), tail);
            let head = self.random.awkward();
            write_word(self.region, sock::rx_indices(slot) + 64, head);
        }
        self.publish();
    }

    /// Opens valid TCP sockets and writes invalid indices.
    fn bad_streams(&mut self) {
        let listen = Listen {
            local: SockAddr::new(None, 4000),
            backlog: u32::MAX,
            rx_buffer: u32::MAX,
            tx_buffer: u32::MAX,
        };
        self.push([request::TCP_LISTEN, 0, 4], listen.as_bytes());
        for slot in 1..sock::SLOTS {
            let rings = Self::good_rings(slot);
            let listener = self.random.pick(&[0, 0, 0, slot as u32, 61, 62, u32::MAX]);
            self.push(
                [request::TCP_ACCEPT, slot as u32, 4],
                Accept { listener, rings }.as_bytes(),
            );
        }
        self.publish();
        self.slot_indices(sock::SLOTS);
    }

    /// Writes the request ring's own indices: beyond the end, backwards, unaligned.
    fn request_indices(&mut self) {
        let (tail, head) = (self.random.awkward(), self.random.awkward());
        write_word(self.region, sock::REQUEST_INDICES, tail);
        write_word(self.region, sock::EVENT_INDICES + 64, head);
    }

    /// Writes records of invalid lengths into the request ring, without a push.
    fn requests_unsent_lengths(&mut self) {
        for at in (0..0x400).step_by(16) {
            let length = self.random.awkward();
            write_word(self.region, sock::REQUESTS.offset + at, length);
        }
        write_word(self.region, sock::REQUEST_INDICES, 0x400);
    }

    /// Starts incarnations one after the other, with unknown versions and magic numbers, any bits, and a
    /// notification for each.
    fn epochs_and_doorbells(&mut self) -> u32 {
        for _ in 0..20 {
            let epoch = self.random.awkward();
            write_word(self.region, 64 + 8, epoch);
            let bits = self.random.word();
            self.ring(bits);
        }
        let (magic, version) = (self.random.awkward(), self.random.awkward());
        write_word(self.region, 64, magic);
        write_word(self.region, 64 + 4, version);
        20
    }
}
