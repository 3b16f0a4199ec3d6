//! A flood whose pace the guest sets: the wire always has another frame for one brane, while another brane is
//! probed.
//!
//! The wire queues frames while the device has no buffers, and far more frames than buffers are in flight. So
//! the guest never lacks frames, however fast the host is. No frame is lost on the way to the guest, so an
//! unanswered probe is the guest's loss.

use crate::patience::{ANSWER, PATIENCE};
use crate::wire::{self, Mac, Sender, Wire};
use anyhow::{Result, ensure};
use etherparse::{IcmpEchoHeader, Icmpv4Type, SlicedPacket, TransportSlice};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender as Pass, channel};
use std::time::{Duration, Instant};

/// Frames of the flood in one write.
const BATCH: usize = 64;
/// Writes between two probes. A probe is a ping and a datagram to the echo service.
const BATCHES: usize = 32;
/// Maximum of unanswered pings, after which the flood waits. This bounds the frames in flight (QEMU's own
/// queue has no bound) to still a hundred times the device's buffers.
const WINDOW: u16 = 12;
const DISCARD: u16 = 9;
const ECHO: u16 = 7;

#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub mac: Mac,
    pub ip: Ipv4Addr,
}

/// Result of a flood and of the probes beside it.
#[derive(Debug, Default)]
pub struct Heard {
    /// Frames of the flood that were sent.
    pub frames: u64,
    /// Probes of each kind that were sent.
    pub sent: usize,
    /// Sequence numbers of the answered pings.
    pub pings: HashSet<u16>,
    /// Sequence numbers of the echoed datagrams.
    pub echoes: HashSet<u16>,
}

/// State shared by the sending thread, the listening thread and the test.
#[derive(Default)]
struct Shared {
    /// Ends the flood.
    stop: AtomicBool,
    /// Set when the last ping, which follows all others, is answered.
    done: AtomicBool,
    /// The highest answered ping plus one.
    answered: AtomicU16,
    /// Frames of the flood sent so far.
    frames: AtomicU64,
}

/// Floods the discard service of `flooded` as fast as the guest receives, with probes of `probed` in between.
/// Meanwhile runs `beside` repeatedly until at least `frames` were sent. Returns the result of its last run.
///
/// # Errors
/// No probe is answered for [`PATIENCE`], or `beside` failed.
pub fn flood<R>(
    wire: &mut Wire,
    flooded: Target,
    probed: Target,
    frames: u64,
    mut beside: impl FnMut() -> Result<R>,
) -> Result<(Heard, R)> {
    let shared = Shared::default();
    let (pass, arp) = channel();
    let sender = wire.sender()?;
    std::thread::scope(|scope| -> Result<_> {
        let told = &shared;
        let sending = scope.spawn(move || {
            let sent = send(sender, probed, flooded, arp, told);
            // Ends the listener on errors too.
            told.done.store(true, Ordering::Relaxed);
            sent
        });
        let listening = scope.spawn(|| listen(wire, probed, &pass, told));
        let result = loop {
            let result = beside();
            let over = sending.is_finished() || shared.frames.load(Ordering::Relaxed) >= frames;
            if over || result.is_err() {
                break result;
            }
        };
        shared.stop.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("the sending thread")?;
        let mut heard = listening.join().expect("the listening thread")?;
        heard.sent = sent;
        heard.frames = shared.frames.load(Ordering::Relaxed);
        Ok((heard, result?))
    })
}

/// Sends flood and probes until it is stopped. Answers ARP until the listener has ended. Returns the number
/// of probes of each kind.
fn send(
    mut wire: Sender,
    probed: Target,
    flooded: Target,
    arp: Receiver<Vec<u8>>,
    shared: &Shared,
) -> Result<usize> {
    let flood = wire::udp(flooded.mac, flooded.ip, DISCARD, &[0x5a; 18]);
    let batch = [flood.as_slice(); BATCH];
    let mut probes = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        for _ in 0..BATCHES {
            wire.send_all(&batch)?;
            shared.frames.fetch_add(BATCH as u64, Ordering::Relaxed);
        }
        let ping = wire::echo_request(probed.mac, probed.ip, probes);
        let echo = wire::udp(probed.mac, probed.ip, ECHO, &probes.to_be_bytes());
        wire.send_all(&[&ping, &echo])?;
        probes += 1;
        let end = Instant::now() + PATIENCE;
        while probes - shared.answered.load(Ordering::Relaxed).min(probes) > WINDOW {
            ensure!(Instant::now() < end, "no ping is answered for {PATIENCE:?}");
            arp.try_iter().try_for_each(|reply| wire.send_all(&[&reply]))?;
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && !shared.done.load(Ordering::Relaxed) {
        // This ping marks the end of the flood. The listener ends some time after its reply.
        wire.send_all(&[&wire::echo_request(probed.mac, probed.ip, u16::MAX)])?;
        arp.try_iter().try_for_each(|reply| wire.send_all(&[&reply]))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(usize::from(probes))
}

/// Collects replies until the mark and all earlier probes are answered. Passes on ARP requests, which the
/// sender answers.
fn listen(wire: &mut Wire, probed: Target, pass: &Pass<Vec<u8>>, shared: &Shared) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut marked = None;
    loop {
        // The client behind the echo service may answer later than the stack.
        let late = heard.echoes.len() < heard.pings.len();
        match marked {
            Some(at) if !late || Instant::now() >= at + ANSWER => return Ok(heard),
            None if shared.done.load(Ordering::Relaxed) => marked = Some(Instant::now()),
            _ => {}
        }
        let Some(frame) = wire.receive(Instant::now() + Duration::from_millis(200))? else {
            continue;
        };
        if let Some(reply) = wire::arp_reply_for(&frame) {
            let _ = pass.send(reply);
        }
        let Ok(packet) = SlicedPacket::from_ethernet(&frame) else {
            continue;
        };
        if frame.get(26..30) != Some(&probed.ip.octets()[..]) {
            continue;
        }
        match packet.transport {
            Some(TransportSlice::Icmpv4(icmp)) => {
                if let Icmpv4Type::EchoReply(IcmpEchoHeader { id: 0x77, seq }) = icmp.icmp_type() {
                    if seq == u16::MAX {
                        shared.done.store(true, Ordering::Relaxed);
                    } else {
                        shared.answered.fetch_max(seq + 1, Ordering::Relaxed);
                        heard.pings.insert(seq);
                    }
                }
            }
            Some(TransportSlice::Udp(udp)) if udp.source_port() == ECHO => {
                if let Ok(number) = udp.payload().try_into() {
                    heard.echoes.insert(u16::from_be_bytes(number));
                }
            }
            _ => {}
        }
    }
}
