//! Receive livelock: a wire that always has one more frame for one brane leaves the others, the console and that brane itself
//! the processor.
//!
//! The wire holds frames back while the device has no buffers, and the test keeps many more than those under way, so there is
//! always another one: the driver could receive for ever. Nothing is lost on the way to it, so each probe of main that is not
//! answered is the guest's loss.
//!
//! The debug flavour is tested, whose driver is slow against the wire. What blue has had the time for shows who had the processor:
//! of a slow flood its share, of a fast one its rate, since a drop costs the driver next to nothing and there are the more of them
//! the faster the host is. On a machine that did nothing else a driver that receives whenever there is something leaves blue 8,000
//! datagrams in a second and a fiftieth of the flood; one that rests, 14,000 to 67,000.

use anyhow::{Context, Result, ensure};
use etherparse::{IcmpEchoHeader, Icmpv4Type, SlicedPacket, TransportSlice};
use image_tests::BRANES;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::wire::{self, Mac, Sender, Socket, Wire};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender as Pass, channel};
use std::time::{Duration, Instant};

const FLOOD: Duration = Duration::from_secs(6);
/// Frames of the flood in one write.
const BATCH: usize = 64;
/// Writes between two probes of main: a ping and a datagram to its echo service.
const BATCHES: usize = 32;
/// Pings that may be unanswered before the flood waits for them. What is under way is bounded by that (QEMU's own queue is
/// not), and still a hundred times what the device has buffers for.
const WINDOW: u16 = 12;
/// How long an answer may take, behind all that is under way.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the console may take; it waits a second for branes that do not report.
const CONSOLE_LIMIT: Duration = Duration::from_secs(3);
/// Of the frames that the driver takes for blue, how many blue has to have had the time for.
const LEAST_SHARE: f64 = 0.2;
/// Or so many in a second.
const LEAST_RATE: f64 = 11_000.0;
const DISCARD: u16 = 9;
const ECHO: u16 = 7;

/// A brane's addresses.
#[derive(Clone, Copy)]
struct Target {
    mac: Mac,
    ip: Ipv4Addr,
}

#[test]
fn a_flood_for_one_brane_starves_nobody() -> Result<()> {
    let socket = Socket::new()?;
    let mut guest = Guest::boot(Boot {
        net: Net::Wire(socket.address()?),
        ..Boot::default()
    })?;
    let mut wire = socket.accept()?;
    let [main, _, blue] = &BRANES;
    let mut find = |ip| -> Result<Target> {
        let mac = wire.resolve(ip, Duration::from_secs(20))?;
        Ok(Target { mac, ip })
    };
    let (main, blue) = (find(main.v4)?, find(blue.v4)?);
    guest.wait_until_serving()?;
    ensure!(
        wire.ping(main.mac, main.ip, 0xffff, PATIENCE)?,
        "main does not answer"
    );

    let before = [
        guest.counter("vnic2", "rx_frames")?,
        guest.counter("vnic2", "rx_dropped")?,
    ];
    let quiet = command(&mut guest)?;
    let shared = Shared::default();
    let (pass, arp) = channel();
    let sender = wire.sender()?;
    let start = Instant::now();
    let (sent, flood, heard, asked) = std::thread::scope(|scope| -> Result<_> {
        let told = &shared;
        let flood = scope.spawn(move || send(sender, main, blue, arp, told));
        let heard = scope.spawn(|| listen(&mut wire, main, &pass, told));
        let mut asked = Vec::new();
        while start.elapsed() < FLOOD {
            asked.push(command(&mut guest));
            std::thread::sleep(Duration::from_millis(200));
        }
        shared.stop.store(true, Ordering::Relaxed);
        let (sent, flood) = flood.join().expect("the sending thread")?;
        Ok((sent, flood, heard.join().expect("the listening thread")?, asked))
    })?;
    let time = start.elapsed().as_secs_f64();
    let slowest = asked.into_iter().collect::<Result<Vec<_>>>()?.into_iter().max();
    let slowest = slowest.context("the console was not asked")?;
    let after = [
        guest.counter("vnic2", "rx_frames")?,
        guest.counter("vnic2", "rx_dropped")?,
    ];
    let [given, dropped] = [0, 1].map(|i| after[i] - before[i]);
    println!(
        "{sent} probes of main of each kind, answered {} and {}; flood of {flood} frames in {time:.1} s, to blue {given}, \
         dropped at its ring {dropped}; `list` took {slowest:?} at most, {quiet:?} before",
        heard.pings.len(),
        heard.echoes.len()
    );
    ensure!(given + dropped > 50_000, "that was no flood");
    let share = given as f64 / (given + dropped) as f64;
    let rate = given as f64 / FLOOD.as_secs_f64();
    ensure!(
        share > LEAST_SHARE || rate > LEAST_RATE,
        "blue got {share:.2} of what the driver took for it, {rate:.0} in a second"
    );
    ensure!(sent > 20, "there were hardly any probes");
    for (what, answered) in [("pings", heard.pings.len()), ("datagrams", heard.echoes.len())] {
        ensure!(
            answered == sent,
            "main answered {answered} of {sent} {what}:\n{}",
            guest.log()
        );
    }
    ensure!(slowest < CONSOLE_LIMIT, "`list` took {slowest:?}");
    ensure!(
        wire.ping(blue.mac, blue.ip, 0xfffe, PATIENCE)?,
        "blue does not answer any more"
    );
    for brane in &BRANES {
        let restarts = guest.restarts(brane.name)?;
        ensure!(restarts == 0, "{} was restarted:\n{}", brane.name, guest.log());
    }
    guest.untroubled()
}

fn command(guest: &mut Guest) -> Result<Duration> {
    let asked = Instant::now();
    let list = guest.command("list")?;
    ensure!(list.contains("blue"), "no list of the branes:\n{list}");
    Ok(asked.elapsed())
}

/// What the sending and the listening thread tell each other, and the test both.
#[derive(Default)]
struct Shared {
    /// No more flood.
    stop: AtomicBool,
    /// Main has answered a ping that came behind all others.
    done: AtomicBool,
    /// The highest ping that main has answered, and one.
    answered: AtomicU16,
}

/// Floods blue as fast as the guest takes it and probes main in between; the probes of each kind and the frames of the flood.
/// Goes on answering ARP until all is done.
fn send(
    mut wire: Sender,
    main: Target,
    blue: Target,
    arp: Receiver<Vec<u8>>,
    shared: &Shared,
) -> Result<(usize, u64)> {
    let flood = wire::udp(blue.mac, blue.ip, DISCARD, &[0x5a; 18]);
    let batch = [flood.as_slice(); BATCH];
    let (mut probes, mut frames) = (0, 0);
    while !shared.stop.load(Ordering::Relaxed) {
        for _ in 0..BATCHES {
            wire.send_all(&batch)?;
            frames += BATCH as u64;
        }
        let ping = wire::echo_request(main.mac, main.ip, probes);
        let echo = wire::udp(main.mac, main.ip, ECHO, &probes.to_be_bytes());
        wire.send_all(&[&ping, &echo])?;
        probes += 1;
        let end = Instant::now() + PATIENCE;
        while probes - shared.answered.load(Ordering::Relaxed).min(probes) > WINDOW {
            ensure!(
                Instant::now() < end,
                "main has not answered any ping for {PATIENCE:?}"
            );
            arp.try_iter().try_for_each(|reply| wire.send_all(&[&reply]))?;
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && !shared.done.load(Ordering::Relaxed) {
        // A mark that the flood is over: the listener ends when it is answered.
        wire.send_all(&[&wire::echo_request(main.mac, main.ip, u16::MAX)])?;
        arp.try_iter().try_for_each(|reply| wire.send_all(&[&reply]))?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok((usize::from(probes), frames))
}

#[derive(Default)]
struct Heard {
    pings: HashSet<u16>,
    echoes: HashSet<u16>,
}

/// Collects main's answers until the mark comes back; passes on what is to be answered by ARP.
fn listen(wire: &mut Wire, main: Target, pass: &Pass<Vec<u8>>, shared: &Shared) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut end = Instant::now() + FLOOD + 2 * PATIENCE;
    while let Some(frame) = wire.receive(end)? {
        if let Some(reply) = wire::arp_reply_for(&frame) {
            let _ = pass.send(reply);
        }
        let Ok(packet) = SlicedPacket::from_ethernet(&frame) else {
            continue;
        };
        if frame.get(26..30) != Some(&main.ip.octets()[..]) {
            continue;
        }
        match packet.transport {
            Some(TransportSlice::Icmpv4(icmp)) => {
                if let Icmpv4Type::EchoReply(IcmpEchoHeader { id: 0x77, seq }) = icmp.icmp_type() {
                    if seq != u16::MAX {
                        shared.answered.fetch_max(seq + 1, Ordering::Relaxed);
                        heard.pings.insert(seq);
                    } else if !shared.done.swap(true, Ordering::Relaxed) {
                        // The client behind the echo service may be later than the stack.
                        end = Instant::now() + Duration::from_secs(1);
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
    Ok(heard)
}
