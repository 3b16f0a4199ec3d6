//! Floods must not close listeners: SYNs from unused addresses, and connections that are opened and held.
//!
//! All floods go to the four TCP ports of main, on a tap device in a namespace of the test's own. The tests
//! check the share of other clients' connections that succeed meanwhile, and that the other branes are not
//! affected. Durations are printed, not checked.

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::{NetNs, TAP};
use image_tests::probe;
use image_tests::{BRANES, Brane};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, socket};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Ports of the echo, discard, source and HTTP services.
const PORTS: [u16; 4] = [7, 9, 19, 80];
const HOST: &str = "10.0.2.2/24";
/// Duration of a flood.
const FLOOD: Duration = Duration::from_secs(8);
/// SYNs in a second, if the machine is fast enough.
const RATE: u64 = 20_000;
/// Time limit for a connection of another client. Some of its segments are lost while the flood fills the
/// device's buffers.
const PATIENCE: Duration = Duration::from_secs(20);
/// Minimum share of other clients' connections that must succeed.
const SHARE: f64 = 0.95;

/// Makes one connection from `from`, and returns after the service has answered.
fn visit(from: Ipv4Addr, ip: Ipv4Addr, port: u16) -> Result<()> {
    let mut stream = connect(from, ip, port)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answer = [0; 12];
    match port {
        7 => {
            stream.write_all(b"are you here")?;
            stream.read_exact(&mut answer)?;
            ensure!(&answer == b"are you here", "another echo");
        }
        9 => {
            stream.write_all(b"take this")?;
            stream.shutdown(Shutdown::Write)?;
            ensure!(stream.read(&mut answer)? == 0, "an answer from discard");
        }
        19 => stream.read_exact(&mut answer)?,
        _ => {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
            stream.read_exact(&mut answer)?;
            ensure!(&answer == b"HTTP/1.1 200", "no page");
        }
    }
    Ok(())
}

fn connect(from: Ipv4Addr, ip: Ipv4Addr, port: u16) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(from.into(), 0).into())?;
    socket.connect_timeout(&SocketAddr::new(ip.into(), port).into(), PATIENCE)?;
    // Closes by a reset, so that thousands of connections leave no state on the host.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(socket.into())
}

/// Results of the connections of other clients.
struct Others {
    tried: usize,
    times: Vec<Duration>,
    failures: Vec<String>,
}

/// Connects to all ports of main in turn until `stop` is set.
fn others(from: Ipv4Addr, stop: &AtomicBool) -> Others {
    let mut others = Others {
        tried: 0,
        times: Vec::new(),
        failures: Vec::new(),
    };
    for port in PORTS.into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        others.tried += 1;
        let begun = Instant::now();
        match visit(from, BRANES[0].v4, port) {
            Ok(()) => others.times.push(begun.elapsed()),
            Err(error) => others.failures.push(format!("port {port}: {error:#}")),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    others
}

/// Runs `flood` beside connections of other clients from `from`, and page requests to the other branes.
fn beside(ns: &NetNs, from: &[Ipv4Addr], flood: impl Fn(&AtomicBool) -> Result<()> + Sync) -> Result<()> {
    let stop = AtomicBool::new(false);
    let (others, pages) = ns.enter(|| {
        std::thread::scope(|scope| -> Result<_> {
            let flood = scope.spawn(|| ns.enter(|| flood(&stop)));
            std::thread::sleep(Duration::from_millis(500));
            let others: Vec<_> = from
                .iter()
                .map(|from| scope.spawn(|| ns.enter(|| others(*from, &stop))))
                .collect();
            let end = Instant::now() + FLOOD;
            let mut pages = 0;
            let mut failed = Ok(());
            while Instant::now() < end && failed.is_ok() {
                for brane in &BRANES[1..] {
                    failed = failed.and_then(|()| page(brane));
                    pages += 1;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            stop.store(true, Ordering::Relaxed);
            flood.join().expect("the flooding thread")?;
            let others: Vec<_> = others
                .into_iter()
                .map(|run| run.join().expect("a thread"))
                .collect();
            failed?;
            Ok((others, pages))
        })
    })?;
    let tried: usize = others.iter().map(|o| o.tried).sum();
    let mut times: Vec<_> = others.iter().flat_map(|o| o.times.iter().copied()).collect();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!(
        "{} of {tried} connections of other clients succeeded, median {median:?}; {pages} pages of the other branes",
        times.len()
    );
    let failures: Vec<_> = others.iter().flat_map(|o| &o.failures).collect();
    ensure!(tried >= 20, "few connections of other clients: {tried}");
    ensure!(
        times.len() as f64 >= SHARE * tried as f64,
        "{} of {tried} connections of other clients succeeded: {failures:?}",
        times.len()
    );
    Ok(())
}

fn page(brane: &Brane) -> Result<()> {
    let v4 = brane.v4.to_string();
    probe::page(SocketAddr::new(brane.v4.into(), 80), &[brane.name, &v4])
        .with_context(|| format!("{} beside a flood of main", brane.name))
}

fn boot(ns: &NetNs) -> Result<Guest> {
    let mut guest = Guest::boot(Boot {
        net: Net::Tap(ns),
        release: true,
        ..Boot::default()
    })?;
    guest.wait_until_serving()?;
    ns.enter(|| {
        PORTS
            .into_iter()
            .try_for_each(|port| visit(Ipv4Addr::new(10, 0, 2, 2), BRANES[0].v4, port))
    })?;
    Ok(guest)
}

/// Checks after a flood that no brane was restarted and that no state of the flood is left.
fn unharmed(guest: &mut Guest) -> Result<()> {
    for brane in &BRANES {
        let restarts = guest.restarts(brane.name)?;
        ensure!(restarts == 0, "{} was restarted:\n{}", brane.name, guest.log());
    }
    guest.untroubled()
}

/// Sends SYNs to all ports of main until `stop` is set. Each comes from a random address of its network, with
/// a MAC address of its own.
fn flood_syns(sent: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let device = nix::ifaddrs::getifaddrs()?
        .filter(|entry| entry.interface_name == TAP)
        .find_map(|entry| entry.address.as_ref().and_then(|a| a.as_link_addr()).copied());
    let device: LinkAddr = device.context("the tap device has no address")?;
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None)?;
    bind(fd.as_raw_fd(), &device)?;
    let to = BRANES[0].mac.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let to: Vec<u8> = to.collect::<Result<_, _>>()?;
    let to: [u8; 6] = to.as_slice().try_into()?;
    let mut rng = SmallRng::seed_from_u64(1);
    let begun = Instant::now();
    let mut count = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let due = begun.elapsed().as_micros() as u64 * RATE / 1_000_000;
        if count >= due {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let host = rng.random_range(64..=250);
        let station = [6, 0x66, 0, 0, 0, host];
        let builder = PacketBuilder::ethernet2(station, to)
            .ipv4([10, 0, 2, host], BRANES[0].v4.octets(), 64)
            .tcp(rng.random(), PORTS[rng.random_range(0..4)], rng.random(), 64000)
            .syn();
        let mut frame = Vec::with_capacity(64);
        builder.write(&mut frame, &[])?;
        // If the tap device's queue is full, frames are lost, as on a wire.
        let _ = send(fd.as_raw_fd(), &frame, MsgFlags::empty());
        count += 1;
        sent.store(count, Ordering::Relaxed);
    }
    Ok(())
}

#[test]
fn a_flood_of_syns_does_not_close_the_ports_of_a_brane() -> Result<()> {
    let ns = NetNs::new(&[HOST])?;
    let mut guest = boot(&ns)?;
    let before = guest.brane_counter("main", "tcp syn cookies")?;
    ensure!(before == 0, "cookies without a flood: {before}");
    let sent = AtomicU64::new(0);
    beside(&ns, &[Ipv4Addr::new(10, 0, 2, 2)], |stop| flood_syns(&sent, stop))?;
    let cookies = guest.brane_counter("main", "tcp syn cookies")?;
    println!(
        "{} SYNs sent, {cookies} answered with a cookie",
        sent.load(Ordering::Relaxed)
    );
    ensure!(cookies > 5_000, "that was no flood: {cookies} cookies");
    unharmed(&mut guest)
}

/// Connects from many addresses to all ports of main and holds the connections until `stop` is set.
fn hold(from: Ipv4Addr, opened: &AtomicU64, stop: &AtomicBool) {
    let mut held = VecDeque::new();
    for port in PORTS.into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let limit = Duration::from_millis(300);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
        let Ok(socket) = socket else { continue };
        let to = SocketAddr::new(BRANES[0].v4.into(), port);
        if socket.bind(&SocketAddr::new(from.into(), 0).into()).is_ok()
            && socket.connect_timeout(&to.into(), limit).is_ok()
        {
            opened.fetch_add(1, Ordering::Relaxed);
            held.push_back(socket);
        }
        if held.len() > 200 {
            held.pop_front();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn connections_that_are_held_do_not_close_the_ports_of_a_brane() -> Result<()> {
    let ns = NetNs::new(&[HOST])?;
    let flooders: Vec<Ipv4Addr> = (100..132).map(|host| Ipv4Addr::new(10, 0, 2, host)).collect();
    let addresses: Vec<Ipv4Addr> = (3..5).map(|host| Ipv4Addr::new(10, 0, 2, host)).collect();
    for address in flooders.iter().chain(&addresses) {
        ns.ip(&["addr", "add", &format!("{address}/24"), "dev", TAP])?;
    }
    let mut guest = boot(&ns)?;
    let opened = AtomicU64::new(0);
    beside(&ns, &addresses, |stop| {
        std::thread::scope(|scope| {
            for from in &flooders {
                scope.spawn(|| ns.enter(|| hold(*from, &opened, stop)));
            }
        });
        Ok(())
    })?;
    let opened = opened.load(Ordering::Relaxed);
    let evicted = guest.brane_counter("main", "tcp evicted")?;
    println!("{opened} connections opened to be held, {evicted} gave way");
    ensure!(
        opened > 200 && evicted > 0,
        "that was no flood: {opened} opened, {evicted} gave way"
    );
    unharmed(&mut guest)
}
