//! A flood that the guest sets the pace of: the wire always has one more frame for one brane, and another brane is probed.
//!
//! The wire holds frames back while the device has no buffers, and many more than those are under way, so the guest never
//! lacks frames, however fast or slow the host is. Nothing is lost on the way to it, so a probe that is not answered is the
//! guest's loss.

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
/// Writes between two probes: a ping and a datagram to the echo service.
const BATCHES: usize = 32;
/// Pings that may be unanswered before the flood waits for them. What is under way is bounded by that (QEMU's own queue is
/// not), and still a hundred times what the device has buffers for.
const WINDOW: u16 = 12;
const DISCARD: u16 = 9;
const ECHO: u16 = 7;

/// A brane's addresses.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its MAC address.
    pub mac: Mac,
    /// Its IPv4 address.
    pub ip: Ipv4Addr,
}

/// What became of a flood and of the probes beside it.
#[derive(Debug, Default)]
pub struct Heard {
    /// Frames of the flood that were sent.
    pub frames: u64,
    /// Probes of each kind that were sent.
    pub sent: usize,
    /// Pings that were answered, by number.
    pub pings: HashSet<u16>,
    /// Datagrams that came back, by number.
    pub echoes: HashSet<u16>,
}

/// What the sending and the listening thread tell each other, and the test both.
#[derive(Default)]
struct Shared {
    /// No more flood.
    stop: AtomicBool,
    /// A ping was answered that came behind all others.
    done: AtomicBool,
    /// The highest ping that was answered, and one.
    answered: AtomicU16,
    /// Frames of the flood.
    frames: AtomicU64,
}

/// Floods the discard service of `flooded` as fast as the guest takes it, probes `probed` in between, and runs `beside`
/// meanwhile, again and again until at least `frames` were sent. Returns what the last run of `beside` returned.
///
/// # Errors
/// Nothing is answered for [`PATIENCE`], or `beside` failed.
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
            // The listener ends, whatever happened.
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

/// Sends flood and probes until it is stopped. Returns the probes of each kind. Goes on answering ARP until all is done.
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
        // A mark that the flood is over: the listener ends some time after it is answered.
        wire.send_all(&[&wire::echo_request(probed.mac, probed.ip, u16::MAX)])?;
        arp.try_iter().try_for_each(|reply| wire.send_all(&[&reply]))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(usize::from(probes))
}

/// Collects answers until the mark comes back and each probe before it is answered; passes on what is to be answered by ARP.
fn listen(wire: &mut Wire, probed: Target, pass: &Pass<Vec<u8>>, shared: &Shared) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut marked = None;
    loop {
        // The client behind the echo service may be later than the stack.
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
