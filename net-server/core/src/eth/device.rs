//! Where frames leave, and how a received one is shown to smoltcp.
//!
//! Towards the network the other side is the NIC driver, which is trusted: received frames are read in its ring, in place, and
//! frames to send are written in ours, in place. `lo0` has a queue in the brane's own memory instead.

use super::offload::{checksums, complete, offload, segment_size};
use crate::counters::Counters;
use crate::headers;
use crate::ip::checksum;
use crate::ip::identification::Disguise;
use crate::neighbor::table;
use crate::pfil::Outlet;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use brane_abi::port::{self, FrameMeta};
use brane_abi::ring::{Producer, RingError};
use core::num::{NonZeroU16, NonZeroUsize};
use smoltcp::phy::{self, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;
use smoltcp::wire::IpAddress;

/// Longest frame handed to the device for segmentation, in bytes: 44 segments of 1460 bytes behind their headers.
pub const TSO_FRAME: usize = 54 + 44 * 1460;

/// Packets that wait in `lo0` at most; the stack stops sending there until they are taken.
const LOOP_PACKETS: usize = 64;

/// Bytes at the start of each frame that are cleared before smoltcp writes it. The ring holds what was sent before, and smoltcp
/// leaves fields alone that a message does not use. Past the headers there is only payload, of which it writes each byte: the
/// longest headers with such a field are those of Ethernet, IPv6 with options for each hop, and ICMPv6 (70 bytes).
const CLEARED: usize = 128;

/// MTU of `lo0` in bytes.
pub const LOOP_MTU: usize = 32768;

/// Memory in bytes for packets in `lo0`. A client decides how many there are and how long, so the stack stops sending there
/// when half of it is in use; answers to what comes out of the queue may take the rest.
pub const LOOP_BYTES: usize = 128 << 10;

/// The outgoing side of an interface.
pub struct Tx {
    path: Path,
    /// smoltcp's view of the device.
    pub caps: DeviceCapabilities,
    /// The device completes checksums.
    offload: bool,
    /// Longest frame that may be handed over.
    longest: usize,
    /// Frames could not be taken since this was last cleared.
    pub blocked: bool,
    /// Takes a frame that has no room, so that the stack can go on.
    scratch: Vec<u8>,
    /// Replaces identifications that others could predict.
    pub disguise: Option<Box<Disguise>>,
    /// Whose link-layer address the last frame carried.
    pub last_to: [u8; 6],
    /// The neighbour that smoltcp has last asked for.
    pub asked: Option<IpAddress>,
    /// The heads for sent packets, while hooks are attached.
    pub outlet: Option<Box<Outlet>>,
    /// Since the last [`Self::count`].
    sent: Sent,
    /// Up to then.
    pub totals: Sent,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that found no room.
    pub full: u64,
    /// Frames that a hook has dropped.
    pub filtered: u64,
}

enum Path {
    Port(Producer),
    Loop(Loop),
    /// No ring at present: frames are dropped.
    Nowhere,
}

/// Packets of `lo0`.
struct Loop {
    queue: VecDeque<Vec<u8>>,
    /// Packets whose memory is used again.
    spare: Vec<Vec<u8>>,
    /// Memory of all of these in bytes, and of the packet that is being handed in.
    bytes: usize,
}

impl Loop {
    /// An empty packet with room for `len` bytes. Returns `None` if it would take too much memory.
    fn packet(&mut self, len: usize) -> Option<Vec<u8>> {
        if self.queue.len() >= 2 * LOOP_PACKETS {
            return None;
        }
        let mut packet = self.spare.pop().unwrap_or_default();
        self.bytes -= packet.capacity();
        if packet.capacity() < len {
            while self.bytes + len > LOOP_BYTES {
                self.bytes -= self.spare.pop()?.capacity();
            }
            packet.clear();
            packet.try_reserve_exact(len).ok()?;
        }
        self.bytes += packet.capacity();
        packet.resize(len, 0);
        Some(packet)
    }

    /// Takes the memory of a packet back, to use it again.
    fn give_back(&mut self, packet: Vec<u8>) {
        if self.spare.len() < LOOP_PACKETS / 4 && self.bytes <= LOOP_BYTES / 2 {
            self.spare.push(packet);
        } else {
            self.bytes -= packet.capacity();
        }
    }
}

impl Tx {
    /// Towards a port of the driver: `features` are those of [`port`], `mtu` is the longest IP packet in bytes.
    pub fn port(ring: Producer, features: u32, mtu: usize) -> Tx {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = mtu + headers::wire::ETHERNET;
        let offload = features & port::FEATURE_TX_CSUM != 0;
        caps.checksum = checksums(!offload);
        let mut longest = caps.max_transmission_unit;
        if offload && features & port::FEATURE_TSO4 != 0 {
            // smoltcp 0.14 drops IPv6 packets above the MTU before it looks at segmentation, so IPv4 only.
            caps.segmentation.tcpv4 = NonZeroUsize::new(TSO_FRAME.min(ring.max_payload()));
            longest = caps
                .segmentation
                .tcpv4
                .map_or(longest, NonZeroUsize::get)
                .max(longest);
        }
        Tx::new(Path::Port(ring), caps, offload, longest)
    }

    /// `lo0`.
    pub fn loopback() -> Tx {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = LOOP_MTU;
        caps.checksum = checksums(false);
        let packets = Loop {
            queue: VecDeque::with_capacity(2 * LOOP_PACKETS),
            spare: Vec::with_capacity(LOOP_PACKETS / 4),
            bytes: 0,
        };
        Tx::new(Path::Loop(packets), caps, false, LOOP_MTU)
    }

    /// Nowhere yet.
    pub fn nowhere() -> Tx {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = 1500 + headers::wire::ETHERNET;
        Tx::new(Path::Nowhere, caps, false, 1500 + headers::wire::ETHERNET)
    }

    fn new(path: Path, caps: DeviceCapabilities, offload: bool, longest: usize) -> Tx {
        Tx {
            path,
            caps,
            offload,
            longest,
            blocked: false,
            scratch: vec![0; longest],
            disguise: None,
            last_to: [0; 6],
            asked: None,
            outlet: None,
            sent: Sent::default(),
            totals: Sent::default(),
        }
    }

    /// Takes the ring back; frames sent from now on are dropped.
    pub fn detach(&mut self) -> Option<Producer> {
        match core::mem::replace(&mut self.path, Path::Nowhere) {
            Path::Port(ring) => Some(ring),
            _ => None,
        }
    }

    /// Whether the next frame, however long, has room.
    pub fn has_room(&mut self) -> bool {
        let room = match &mut self.path {
            Path::Port(ring) => ring.has_room(self.longest).unwrap_or(false),
            Path::Loop(packets) => packets.queue.len() < LOOP_PACKETS && packets.bytes <= LOOP_BYTES / 2,
            Path::Nowhere => true,
        };
        if !room {
            self.blocked = true;
        }
        room
    }

    /// Lets `fill` write a frame of `len` bytes and sends it.
    pub fn send<R>(&mut self, len: usize, meta: PacketMeta, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let reserved = match &mut self.path {
            Path::Port(ring) => match ring.reserve(len) {
                Ok(room) => {
                    room[..len.min(CLEARED)].fill(0);
                    let out = fill(room);
                    if let Some(disguise) = &mut self.disguise {
                        disguise.outgoing(room);
                    }
                    if let Some(to) = room.first_chunk() {
                        self.last_to = *to;
                    }
                    // What is not committed does not leave.
                    if let Some(outlet) = &self.outlet
                        && let Some(dropped) = outlet.stops(room, segment_size(meta))
                    {
                        self.sent.filtered += dropped;
                        return out;
                    }
                    let words = if self.offload { offload(room, meta) } else { [0; 3] };
                    // After the last change to it.
                    if let Some(outlet) = &self.outlet
                        && !outlet.leaves(room)
                    {
                        self.sent.filtered += 1;
                        return out;
                    }
                    ring.commit(len, words);
                    self.sent.frames += 1;
                    self.sent.bytes += len as u64;
                    return out;
                }
                Err(RingError::Full) => {
                    self.blocked = true;
                    false
                }
                Err(_) => false,
            },
            Path::Loop(packets) => match packets.packet(len) {
                Some(mut packet) => {
                    packet[..len.min(CLEARED)].fill(0);
                    let out = fill(&mut packet);
                    if let Some(outlet) = &self.outlet
                        && let Some(dropped) = outlet.stops(&packet, 0)
                    {
                        self.sent.filtered += dropped;
                        packets.give_back(packet);
                        return out;
                    }
                    if let Some(outlet) = &self.outlet
                        && !outlet.leaves(&packet)
                    {
                        self.sent.filtered += 1;
                        packets.give_back(packet);
                        return out;
                    }
                    packets.queue.push_back(packet);
                    self.sent.frames += 1;
                    self.sent.bytes += len as u64;
                    return out;
                }
                None => false,
            },
            Path::Nowhere => true,
        };
        if !reserved {
            self.sent.full += 1;
        }
        self.discard(len, fill)
    }

    /// Lets `fill` write a frame that nobody gets.
    fn discard<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        if self.scratch.len() < len {
            // Not reached: smoltcp makes no frame longer than it was told.
            self.scratch = vec![0; len];
        }
        fill(&mut self.scratch[..len])
    }

    /// Sends a frame whose UDP header is at `start`, `len` bytes from there, that `fill` writes with a checksum field of zero;
    /// `pseudo` is the pseudo header's sum. Dropped and counted where there is no room.
    pub fn send_datagram(&mut self, start: usize, len: usize, pseudo: u16, fill: impl FnOnce(&mut [u8])) {
        let Path::Port(ring) = &mut self.path else {
            return;
        };
        let Ok(frame) = ring.reserve(start + len) else {
            self.sent.full += 1;
            return;
        };
        fill(frame);
        if let Some(outlet) = &self.outlet
            && let Some(dropped) = outlet.stops(frame, 0)
        {
            self.sent.filtered += dropped;
            return;
        }
        let (field, words) = if self.offload {
            let meta = FrameMeta {
                flags: port::FLAG_NEEDS_CSUM,
                csum_start: start as u16,
                csum_offset: 6,
                ..FrameMeta::default()
            };
            (pseudo, meta.to_words())
        } else {
            // Zero would mean that there is none (RFC 768).
            let sum = !checksum::add(pseudo, checksum::sum(&frame[start..]));
            (if sum == 0 { 0xffff } else { sum }, [0; 3])
        };
        frame[start + 6..start + 8].copy_from_slice(&field.to_be_bytes());
        if let Some(outlet) = &self.outlet
            && !outlet.leaves(frame)
        {
            self.sent.filtered += 1;
            return;
        }
        ring.commit(start + len, words);
        self.sent.frames += 1;
        self.sent.bytes += (start + len) as u64;
    }

    /// Sends a frame that has waited for an external filter. `segment` is the size of the segments into which the device cuts it, or 0.
    /// Returns false if there is no room; the frame is dropped and counted then.
    pub fn send_released(&mut self, frame: &[u8], segment: u16) -> bool {
        let sent = match &mut self.path {
            Path::Port(ring) => match ring.reserve(frame.len()) {
                Ok(room) => {
                    room.copy_from_slice(frame);
                    let mut meta = PacketMeta::default();
                    meta.segmentation_offload_size = NonZeroU16::new(segment);
                    let words = match self.offload {
                        true => offload(room, meta),
                        false => {
                            complete(room);
                            [0; 3]
                        }
                    };
                    if let Some(outlet) = &self.outlet
                        && !outlet.leaves(room)
                    {
                        self.sent.filtered += 1;
                        return true;
                    }
                    ring.commit(frame.len(), words);
                    true
                }
                Err(_) => false,
            },
            Path::Loop(packets) => match packets.packet(frame.len()) {
                Some(mut packet) => {
                    packet.copy_from_slice(frame);
                    packets.queue.push_back(packet);
                    true
                }
                None => false,
            },
            Path::Nowhere => false,
        };
        match sent {
            true => {
                self.sent.frames += 1;
                self.sent.bytes += frame.len() as u64;
            }
            false => self.sent.full += 1,
        }
        sent
    }

    /// Makes all frames sent so far visible to the driver; `true` when it must hear of them.
    pub fn publish(&mut self) -> bool {
        match &mut self.path {
            Path::Port(ring) => ring.publish(),
            _ => false,
        }
    }

    /// The oldest packet of `lo0`.
    pub fn take_looped(&mut self) -> Option<Vec<u8>> {
        match &mut self.path {
            Path::Loop(packets) => packets.queue.pop_front(),
            _ => None,
        }
    }

    /// Gives the memory of a packet back that [`Self::take_looped`] returned.
    pub fn give_back(&mut self, packet: Vec<u8>) {
        if let Path::Loop(packets) = &mut self.path {
            packets.give_back(packet);
        }
    }

    /// Whether packets wait in `lo0`.
    pub fn has_looped(&self) -> bool {
        matches!(&self.path, Path::Loop(packets) if !packets.queue.is_empty())
    }

    /// Moves the counts to where they are reported.
    pub fn count(&mut self, counters: &mut Counters) {
        let sent = core::mem::take(&mut self.sent);
        for (total, new) in [
            (&mut counters.tx_frames, sent.frames),
            (&mut counters.tx_bytes, sent.bytes),
            (&mut counters.tx_ring_full, sent.full),
            (&mut counters.filter_dropped_out, sent.filtered),
        ] {
            *total += new;
        }
        self.count_sent(sent);
    }

    /// Keeps the interface's own counts alone, for `lo0`, whose packets are no frames.
    pub fn count_looped(&mut self, counters: &mut Counters) {
        let sent = core::mem::take(&mut self.sent);
        counters.filter_dropped_out += sent.filtered;
        self.count_sent(sent);
    }

    fn count_sent(&mut self, sent: Sent) {
        self.totals.frames += sent.frames;
        self.totals.bytes += sent.bytes;
        self.totals.full += sent.full;
        self.totals.filtered += sent.filtered;
    }
}

/// What smoltcp takes for its device: at most one received frame, and the way out.
pub struct Device<'a> {
    frame: Option<&'a [u8]>,
    tx: &'a mut Tx,
    /// Answers to the frame are not sent.
    mute: bool,
}

impl<'a> Device<'a> {
    /// With nothing received.
    pub fn idle(tx: &'a mut Tx) -> Self {
        Device {
            frame: None,
            tx,
            mute: false,
        }
    }

    /// With this frame.
    pub fn with(frame: &'a [u8], tx: &'a mut Tx) -> Self {
        Device {
            frame: Some(frame),
            tx,
            mute: false,
        }
    }

    /// With this frame, which smoltcp may learn from but must not answer.
    pub fn mute(frame: &'a [u8], tx: &'a mut Tx) -> Self {
        Device {
            mute: true,
            ..Device::with(frame, tx)
        }
    }
}

impl phy::Device for Device<'_> {
    type RxToken<'b>
        = Rx<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Out<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Out<'_>)> {
        let frame = self.frame.take()?;
        let meta = PacketMeta::default();
        Some((Rx(frame), Out(self.tx, meta, self.mute)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        let meta = PacketMeta::default();
        self.tx.has_room().then_some(Out(self.tx, meta, false))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.tx.caps.clone()
    }
}

/// A received frame.
pub struct Rx<'a>(&'a [u8]);

impl phy::RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame to send, unless it is mute.
pub struct Out<'a>(&'a mut Tx, PacketMeta, bool);

impl phy::TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        if self.2 {
            return self.0.discard(len, f);
        }
        let mut asked = None;
        let out = self.0.send(len, self.1, |room| {
            let out = f(room);
            asked = table::question(room);
            out
        });
        if asked.is_some() {
            self.0.asked = asked;
        }
        out
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.1 = meta;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_on_lo0_whose_memory_is_used_again_take_no_room_from_others() {
        let mut tx = Tx::loopback();
        let send = |tx: &mut Tx| tx.send(1000, PacketMeta::default(), |room| room.fill(1));
        for _ in 0..3 * LOOP_BYTES / 1000 {
            send(&mut tx);
            let packet = tx.take_looped().expect("the packet");
            tx.give_back(packet);
        }
        let mut waiting = 0;
        while tx.has_room() {
            send(&mut tx);
            waiting += 1;
        }
        assert_eq!(waiting, LOOP_PACKETS);
    }

    #[test]
    fn memory_that_short_packets_on_lo0_have_had_goes_to_long_ones_and_no_further() {
        let mut tx = Tx::loopback();
        let send = |tx: &mut Tx, len: usize| tx.send(len, PacketMeta::default(), |room| room.fill(1));
        // Half of it is kept in pieces.
        let short = LOOP_BYTES / 2 / (LOOP_PACKETS / 4);
        (0..LOOP_PACKETS / 4).for_each(|_| send(&mut tx, short));
        while let Some(packet) = tx.take_looped() {
            tx.give_back(packet);
        }
        (0..LOOP_BYTES / LOOP_MTU + 1).for_each(|_| send(&mut tx, LOOP_MTU));
        let taken = core::iter::from_fn(|| tx.take_looped()).count();
        assert_eq!((taken, tx.sent.full), (LOOP_BYTES / LOOP_MTU, 1));
    }
}
