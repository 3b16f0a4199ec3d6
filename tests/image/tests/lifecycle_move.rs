//! Moving an interface between branes: one brane has it at a time, and no frame of one brane reaches the
//! other.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::net::MacAddr;
use brane_abi::operator::{Answer, Request};
use brane_abi::query;
use etherparse::{ArpOperation, IcmpEchoHeader, Icmpv4Type, NetSlice, SlicedPacket, TransportSlice};
use image_tests::guest::Net;
use image_tests::lifecycle::{Operator, assign, boot, fixed, vnic};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::probe;
use image_tests::wire::{self, Mac, Socket, Wire};
use image_tests::wire6;
use image_tests::{BRANES, PATIENCE, until, until_well};
use operator_cli::refusals::Words;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const CONFIG: &str = "two-nics";
const SECOND: Duration = Duration::from_secs(1);
/// The address of the interface in green.
const GREEN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 30);
/// Number of times that an interface moves there and back under traffic.
const MOVES: usize = 10;
/// Replies of the old and of the new owner to wait for.
const ANSWERS: usize = 100;

fn mac_of(operator: &mut Operator, device: &str) -> Result<Mac> {
    let devices = operator.devices()?;
    let found = devices.iter().find(|d| d.config.name == device);
    let MacAddr(mac) = found.and_then(|d| d.config.mac).context("no such device")?;
    Ok(mac)
}

/// Returns sequence number and sender of an echo reply.
fn echo_reply(frame: &[u8]) -> Option<(u16, Ipv4Addr)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) = (&packet.net, &packet.transport)
    else {
        return None;
    };
    match icmp.icmp_type() {
        Icmpv4Type::EchoReply(IcmpEchoHeader { id: 0x77, seq }) => Some((seq, ip.header().source_addr())),
        _ => None,
    }
}

/// State shared by the pinging thread and the test.
#[derive(Default)]
struct Asking {
    stop: AtomicBool,
    /// Replies of red and of green so far.
    answers: [AtomicUsize; 2],
}

impl Asking {
    /// Waits until red (0) or green (1) has replied this often.
    fn until(&self, who: usize, wanted: usize) -> Result<()> {
        let of = || self.answers[who].load(Ordering::Relaxed);
        until(
            || Ok((of() >= wanted).then_some(())),
            || format!("{wanted} answers of {}, not {}", ["red", "green"][who], of()),
        )
    }
}

/// Pings both addresses in turn, each time with the next sequence number, until `asking` stops it. Returns all
/// received frames.
fn ask_both(wire: &mut Wire, mac: Mac, seq: &mut u16, asking: &Asking) -> Result<Vec<Vec<u8>>> {
    let mut heard = Vec::new();
    while !asking.stop.load(Ordering::Relaxed) {
        for ip in [BRANES[1].v4, GREEN] {
            wire.send(&wire::echo_request(mac, ip, *seq))?;
            *seq = seq.checked_add(1).context("out of numbers")?;
        }
        let new = wire.listen(Duration::from_micros(300))?;
        for (_, ip) in new.iter().filter_map(|frame| echo_reply(frame)) {
            asking.answers[usize::from(ip == GREEN)].fetch_add(1, Ordering::Relaxed);
        }
        heard.extend(new);
    }
    heard.extend(wire.listen(SECOND)?);
    Ok(heard)
}

/// Checks the replies around a move from one address to the other. `began` is the first sequence number that
/// was sent.
fn judge(heard: &[Vec<u8>], began: u16, from: Ipv4Addr, to: Ipv4Addr) -> Result<()> {
    let mut answers: BTreeMap<u16, Vec<Ipv4Addr>> = BTreeMap::new();
    for (seq, ip) in heard.iter().filter_map(|frame| echo_reply(frame)) {
        answers.entry(seq).or_default().push(ip);
    }
    let stale: Vec<_> = answers.range(..began).collect();
    ensure!(
        stale.is_empty(),
        "answers to what was asked before: {stale:?}, from {began} on is new"
    );
    let twice: Vec<_> = answers.iter().filter(|(_, by)| by.len() > 1).collect();
    ensure!(twice.is_empty(), "answered twice: {twice:?}");
    let of = |ip| {
        answers
            .iter()
            .filter(move |(_, by)| **by == [ip])
            .map(|(&seq, _)| seq)
    };
    let last = of(from).next_back().context("the old owner never answered")?;
    let first = of(to).next().context("the new owner never answered")?;
    ensure!(
        of(from).count() >= ANSWERS / 2 && of(to).count() >= ANSWERS / 2,
        "{} and {} answers",
        of(from).count(),
        of(to).count()
    );
    ensure!(
        last < first,
        "the old owner answered number {last}, the new one number {first} before it"
    );
    Ok(())
}

#[test]
fn moving_it_is_atomic_and_no_frame_reaches_both() -> Result<()> {
    let socket = Socket::new()?;
    let guest = boot(CONFIG, Net::Wire(socket.address()?), None)?;
    let mut wire = socket.accept()?;
    let mut operator = Operator::when_started(&guest)?;
    let red = BRANES[1];
    let mac = mac_of(&mut operator, "vnic1")?;
    operator.create("green", true)?;
    wire.resolve(red.v4, PATIENCE)?;
    let mut seq = 0;
    for round in 0..MOVES {
        let began = seq;
        let (brane, to, from) = match round % 2 {
            0 => ("green", GREEN, red.v4),
            _ => ("red", red.v4, GREEN),
        };
        let with = format!("{to}/24");
        let with6 = format!("fec0::{}/64", round + 0x100);
        let asking = Asking::default();
        let (old, new) = (round % 2, 1 - round % 2);
        let heard = std::thread::scope(|scope| -> Result<_> {
            let thread = scope.spawn(|| ask_both(&mut wire, mac, &mut seq, &asking));
            let mut moved = || -> Result<()> {
                asking.until(old, ANSWERS)?;
                operator.assign("vnic1", brane, &[&with, &with6])?;
                asking.until(new, ANSWERS)
            };
            let moved = moved();
            asking.stop.store(true, Ordering::Relaxed);
            let heard = thread.join().expect("the asking thread")?;
            moved.map(|()| heard)
        })?;
        judge(&heard, began, from, to)
            .with_context(|| format!("move {round}, asked {began} to {seq}:\n{}", guest.log()))?;
        // Neighbors learn of the move by a gratuitous ARP and an unsolicited advertisement of the new owner
        // only.
        let gratuitous = heard.iter().any(|frame| {
            wire::parse_arp(frame).is_some_and(|(_, sender, ip)| sender == mac && ip == to)
                && frame[..6] == [0xff; 6]
        });
        ensure!(gratuitous, "move {round}: no gratuitous ARP");
        let announced: Vec<_> = heard
            .iter()
            .filter_map(|frame| wire6::unsolicited(frame))
            .collect();
        let want = format!("fec0::{}", round + 0x100).parse()?;
        ensure!(
            announced.contains(&(want, mac)),
            "move {round}: no unsolicited advertisement of {want}: {announced:?}"
        );
        operator.clean().with_context(|| format!("move {round}"))?;
    }
    guest.untroubled()
}

fn page_names(brane: &str) -> Result<()> {
    let to = SocketAddr::new(BRANES[1].v4.into(), 80);
    until_well(|| probe::page(to, &[&format!("<h1>brane {brane}</h1>")]))
}

fn connection() -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(BRANES[1].v4.into(), 7), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])?;
    Ok(stream)
}

/// Checks that the connection is reset and not merely silent.
fn is_reset(mut stream: TcpStream) -> Result<()> {
    let asked = stream
        .write_all(b"anybody?")
        .and_then(|()| stream.read(&mut [0; 16]));
    match asked {
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(()),
        other => bail!("the old connection: {other:?}"),
    }
}

fn connections(operator: &mut Operator, brane: &str, from: SocketAddr) -> Result<usize> {
    let query::Answer::Sockets(sockets, _) = operator.inside(brane, query::Query::Sockets { skip: 0 })?
    else {
        bail!("no table of sockets")
    };
    Ok(sockets
        .iter()
        .filter(|socket| socket.remote == Some(from))
        .count())
}

#[test]
fn connections_die_with_the_move_and_the_new_owner_answers_in_its_place() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let guest = boot(CONFIG, Net::Tap(&ns), None)?;
    let mut operator = Operator::when_started(&guest)?;
    operator.create("green", true)?;
    let [main, red, blue] = &BRANES;
    ns.enter(|| -> Result<()> {
        let mut trains = Vec::new();
        for brane in [main, blue] {
            answers(brane.v4.into())?;
            trains.push((
                brane.name,
                Train::start(brane.v4.into(), Duration::from_millis(10))?,
            ));
        }
        page_names("red")?;
        for (old, new) in [("red", "green"), ("green", "red"), ("red", "green")] {
            let stream = connection()?;
            let local = stream.local_addr()?;
            ensure!(
                connections(&mut operator, old, local)? == 1,
                "{old} does not show the connection"
            );
            let said = operator.move_to("vnic1", new)?;
            ensure!(said.contains(new), "{said}");
            is_reset(stream).with_context(|| format!("from {old} to {new}"))?;
            ensure!(
                connections(&mut operator, old, local)? == 0,
                "{old} has its connection still"
            );
            page_names(new)?;
            answers(red.v6.into())?;
            ensure!(operator.owner("vnic1")?.as_deref() == Some(new), "not {new}'s");
            operator.clean()?;
        }
        for (name, train) in trains {
            train.stop_unharmed(name)?;
        }
        Ok(())
    })?;
    guest.untroubled()
}

fn answers(to: IpAddr) -> Result<()> {
    let answer = Pinger::new(to)?.until_answer(PATIENCE)?;
    answer.map(drop).with_context(|| format!("{to} does not answer"))
}

#[test]
fn after_a_crash_it_is_there_again_and_after_a_delete_it_is_at_home() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let guest = boot(CONFIG, Net::Tap(&ns), None)?;
    let mut operator = Operator::when_started(&guest)?;
    operator.create("green", true)?;
    operator.move_to("vnic1", "green")?;
    let (v4, v6) = (BRANES[1].v4, BRANES[1].v6);
    ns.enter(|| -> Result<()> {
        page_names("green")?;
        let stream = connection()?;
        operator.done(&Request::Crash("green".to_owned()))?;
        operator.until_restarted("green", 1, PATIENCE)?;
        answers(v4.into())?;
        answers(v6.into())?;
        is_reset(stream)?;
        page_names("green")?;
        ensure!(
            operator.owner("vnic1")?.as_deref() == Some("green"),
            "vnic1 is not green's"
        );
        operator.clean()?;

        let receipt = operator.delete("green")?;
        ensure!(receipt.released == ["vnic1"], "{receipt:?}");
        ensure!(operator.owner("vnic1")?.is_none(), "vnic1 is still assigned");
        let silent = Pinger::new(v4.into())?.until_answer(SECOND)?;
        ensure!(silent.is_none(), "a brane answers for an unassigned device");
        operator.clean()?;

        // The next owner uses the configuration that it is given.
        operator.done(&assign(
            "vnic1",
            "red",
            Some(fixed(&[&format!("{v4}/24"), &format!("{v6}/64")])?),
        ))?;
        answers(v4.into())?;
        page_names("red")
    })?;
    operator.clean()?;
    Ok(())
}

#[test]
fn an_interface_is_in_one_brane_at_most() -> Result<()> {
    let socket = Socket::new()?;
    let guest = boot(CONFIG, Net::Wire(socket.address()?), None)?;
    let mut wire = socket.accept()?;
    let mut operator = Operator::when_started(&guest)?;
    let refusal = operator.refused(&assign("vnic1", "red", None))?;
    ensure!(
        refusal.words().what == "\"vnic1\" is in brane \"red\" already, as \"net0\"",
        "{refusal:?}"
    );
    operator.device(vnic("g0"))?;
    for brane in ["main", "red", "blue", "red", "main"] {
        // Main has its maximum of interfaces.
        let request = assign("g0", brane, Some(fixed(&["10.0.2.30/24"])?));
        if brane == "main" {
            let refusal = operator.refused(&request)?;
            ensure!(
                refusal.words().what == "brane \"main\" has no free port at nic0: 2 are in use",
                "{refusal:?}"
            );
            continue;
        }
        operator.done(&request)?;
        let Answer::Branes(branes) = operator.call(&Request::List { fresh: true })? else {
            bail!("no branes")
        };
        let have: Vec<_> = branes
            .iter()
            .filter(|b| b.status.interfaces.iter().any(|i| i.device == "g0"))
            .map(|b| b.name.as_str())
            .collect();
        ensure!(have == [brane], "{have:?} say that they have it, not {brane}");
        // Exactly one reply to one request, although it is a broadcast.
        wire.send(&wire::arp(
            ArpOperation::REQUEST,
            [0xff; 6],
            wire::HOST_MAC,
            wire::HOST_IP,
            [0; 6],
            GREEN,
        ))?;
        let heard = wire.listen(SECOND)?;
        let replies = heard
            .iter()
            .filter_map(|frame| wire::parse_arp(frame))
            .filter(|(operation, _, ip)| *operation == ArpOperation::REPLY && *ip == GREEN);
        ensure!(replies.count() == 1, "not one answer while {brane} has it");
        operator.clean()?;
    }
    guest.untroubled()
}
