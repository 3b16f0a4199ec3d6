//! A brane that faults, hangs or is killed restarts with its configuration, run-time changes included, and
//! without effects on others.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::net::MacAddr;
use brane_abi::operator::{Event, Mode, Request};
use brane_abi::query;
use image_tests::guest::{Guest, Net};
use image_tests::lifecycle::{Operator, boot, cidr, fixed, vnic};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::probe;
use image_tests::wire::{self, Mac, Socket, Wire};
use image_tests::wire6;
use image_tests::{BRANES, PATIENCE, until, until_well};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

const CONFIG: &str = "two-nics";
const SECOND: Duration = Duration::from_secs(1);
/// The longest delay of a restart in milliseconds (`brane-manager/core/src/backoff.rs`).
const LONGEST_MS: u64 = 200;
const GREEN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 30);
const GREEN6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x30);
const ADDRESSES: [&str; 2] = ["10.0.2.30/24", "fec0::30/64"];

fn answers(to: IpAddr, limit: Duration) -> Result<()> {
    let answer = Pinger::new(to)?.until_answer(limit)?;
    answer.map(drop).with_context(|| format!("{to} does not answer"))
}

/// Makes a brane that the boot configuration does not describe: created, renamed, assigned, readdressed and
/// limited at run time.
fn changed(operator: &mut Operator) -> Result<()> {
    operator.create("gray", true)?;
    operator.device(vnic("g0"))?;
    operator.assign("g0", "red", &["10.0.2.29/24"])?;
    operator.move_to("g0", "gray")?;
    operator.done(&Request::RenameBrane {
        from: "gray".to_owned(),
        to: "green".to_owned(),
    })?;
    operator.done(&Request::RenameInterface {
        brane: "green".to_owned(),
        from: "net0".to_owned(),
        to: "lan0".to_owned(),
    })?;
    operator.done(&Request::Adjust {
        brane: "green".to_owned(),
        interface: "lan0".to_owned(),
        addressing: fixed(&ADDRESSES)?,
    })?;
    operator.done(&Request::Limit {
        device: "g0".to_owned(),
        mode: Some(Mode::Private),
        allow: Some(vec![cidr("10.0.2.30/32")?, cidr("fec0::30/128")?]),
        rate_up: Some(5_000_000),
        rate_down: None,
    })?;
    Ok(())
}

/// Checks all effects of [`changed`], as seen by the brane, the manager and the driver.
fn as_changed(operator: &mut Operator, restarts: u32) -> Result<()> {
    let green = operator.show("green")?;
    ensure!(
        green.state == "started" && green.restarts == restarts,
        "{green:?}"
    );
    let query::Answer::Interfaces(interfaces) = operator.inside("green", query::Query::Interfaces(None))?
    else {
        bail!("no interfaces")
    };
    let names: Vec<_> = interfaces.iter().map(|i| i.name.as_str()).collect();
    ensure!(names == ["lo0", "lan0"], "{names:?}");
    for address in ADDRESSES {
        let address = cidr(address)?;
        let has = interfaces[1].addresses.iter().any(|a| a.cidr == address);
        ensure!(has, "{address} is missing: {:?}", interfaces[1]);
    }
    let old = cidr("10.0.2.29/24")?;
    ensure!(
        !interfaces[1].addresses.iter().any(|a| a.cidr == old),
        "it has an address of before"
    );
    let devices = operator.devices()?;
    let g0 = devices.iter().find(|d| d.config.name == "g0").context("no g0")?;
    ensure!(
        g0.config.mode == Mode::Private && g0.config.allow.len() == 2 && g0.config.rate_up == Some(5_000_000),
        "{g0:?}"
    );
    // Private mode must be in force: its neighbor cannot reach it.
    ensure!(
        !operator.ping_from("red", GREEN.into())?,
        "its neighbor reaches it although it is private"
    );
    operator.clean().map(drop)
}

#[derive(Clone, Copy, Debug)]
enum End {
    Faults,
    Hangs,
}

impl End {
    fn request(self, brane: &str) -> Request {
        match self {
            End::Faults => Request::Crash(brane.to_owned()),
            End::Hangs => Request::Hang(brane.to_owned()),
        }
    }
}

fn connection() -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(GREEN.into(), 7), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])?;
    Ok(stream)
}

#[test]
fn it_gets_its_configuration_back_and_only_its_traffic_is_touched() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let guest = boot(CONFIG, Net::Tap(&ns), None)?;
    let mut operator = Operator::when_started(&guest)?;
    changed(&mut operator)?;
    as_changed(&mut operator, 0)?;
    ns.enter(|| -> Result<()> {
        let mut trains = Vec::new();
        for brane in &BRANES {
            answers(brane.v4.into(), PATIENCE)?;
            trains.push((
                brane.name,
                Train::start(brane.v4.into(), Duration::from_millis(10))?,
            ));
        }
        for (n, end) in [End::Faults, End::Hangs, End::Faults].into_iter().enumerate() {
            let n = n as u32;
            let page = SocketAddr::new(GREEN.into(), 80);
            answers(GREEN.into(), PATIENCE)?;
            probe::page(page, &["<h1>brane green</h1>", &format!("generation {n}")])?;
            let mut stream = connection()?;
            operator.done(&end.request("green"))?;
            operator.until_restarted("green", n + 1, PATIENCE)?;
            answers(GREEN.into(), PATIENCE)?;
            // It resolves one neighbor in a second, and the host's IPv4 address comes first.
            answers(GREEN6.into(), PATIENCE)?;
            let old = stream
                .write_all(b"anybody?")
                .and_then(|()| stream.read(&mut [0; 16]));
            ensure!(
                old.as_ref()
                    .is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
                "{end:?}: the old connection: {old:?}"
            );
            let generation = format!("generation {}", n + 1);
            until_well(|| probe::page(page, &["<h1>brane green</h1>", &generation]))
                .with_context(|| format!("{end:?}"))?;
            as_changed(&mut operator, n + 1).with_context(|| format!("{end:?}"))?;
        }
        for (name, train) in trains {
            train.stop_unharmed(name)?;
        }
        Ok(())
    })?;
    for brane in &BRANES {
        let restarts = operator.show(brane.name)?.restarts;
        ensure!(restarts == 0, "{} was restarted", brane.name);
    }
    let log = guest.log();
    for generation in 0..=3 {
        let said = format!("[services-3] in brane green (generation {generation})");
        ensure!(
            generation == 0 || log.contains(&said),
            "its client has not seen generation {generation}:\n{log}"
        );
    }
    Ok(())
}

fn on_wire() -> Result<(Wire, Guest, Operator, Mac)> {
    let socket = Socket::new()?;
    let guest = boot(CONFIG, Net::Wire(socket.address()?), None)?;
    let wire = socket.accept()?;
    let mut operator = Operator::when_started(&guest)?;
    operator.create("green", true)?;
    let MacAddr(mac) = operator.device(vnic("g0"))?;
    operator.assign("g0", "green", &ADDRESSES)?;
    Ok((wire, guest, operator, mac))
}

#[test]
fn neighbours_get_fresh_announcements() -> Result<()> {
    let (mut wire, guest, mut operator, mac) = on_wire()?;
    for end in [End::Faults, End::Hangs] {
        // The announcements of its start are over.
        let gratuitous = |frame: &[u8]| {
            frame[..6] == [0xff; 6]
                && wire::parse_arp(frame).is_some_and(|(_, sender, ip)| sender == mac && ip == GREEN)
        };
        let advertised = |frame: &[u8]| wire6::unsolicited(frame) == Some((GREEN6, mac));
        wire.listen(3 * SECOND)?;
        operator.done(&end.request("green"))?;
        let (mut heard, mut arp, mut nd) = (Vec::new(), false, false);
        wire.wait_for(PATIENCE, |frame| {
            arp |= gratuitous(frame);
            nd |= advertised(frame);
            heard.push(frame.to_vec());
            (arp && nd).then_some(())
        })?;
        ensure!(
            arp && nd,
            "{end:?}: gratuitous ARP {arp}, unsolicited advertisement {nd}\n{}",
            guest.log()
        );
        heard.extend(wire.listen(SECOND)?);
        let others = heard
            .iter()
            .filter(|frame| wire::source(frame).is_some_and(|from| from != mac && from[..2] == [0x02, 0x77]));
        ensure!(
            others.filter(|frame| wire::parse_arp(frame).is_some()).count() == 0,
            "others announced themselves too"
        );
    }
    Ok(())
}

/// Returns the delays in milliseconds of green's restarts, from the log.
fn put_off(guest: &Guest) -> Vec<u64> {
    let log = guest.log();
    let said = log.lines().filter(|line| line.contains("brane `green`"));
    said.filter_map(|line| {
        line.split_once("restarting it in ")?
            .1
            .split_once('.')?
            .0
            .parse()
            .ok()
    })
    .collect()
}

#[test]
fn a_storm_of_restarts_backs_off() -> Result<()> {
    let (mut wire, guest, mut operator, mac) = on_wire()?;
    let after = operator.last_event()?;
    // It faults again as soon as it is started. Many requests are refused, because it is not started yet.
    let longest = || {
        let _ = operator.0.call(&Request::Crash("green".to_owned()));
        Ok(put_off(&guest).contains(&LONGEST_MS).then_some(()))
    };
    until(longest, || {
        format!(
            "no restart was put off by {LONGEST_MS} ms: {:?}\n{}",
            put_off(&guest),
            guest.log()
        )
    })?;
    let restarts = operator.show("green")?.restarts;
    operator.until_restarted("green", restarts, PATIENCE)?;
    let delays = put_off(&guest);
    println!("{restarts} restarts, delays in ms: {delays:?}");
    // Each delay is twice the previous one, up to the longest, if the brane ran for less than the time that
    // resets the delay.
    ensure!(
        delays
            .windows(2)
            .any(|pair| pair[0] > 0 && pair[1] == 2 * pair[0])
            && delays.contains(&LONGEST_MS),
        "restarts were not put off longer and longer: {delays:?}\n{}",
        guest.log()
    );
    // The guest's clock shows that the delays were kept.
    let events = operator.events(after)?;
    let of_green = |what: &str| -> Vec<u64> {
        let of_green = |event: &&Event| event.what == what && event.brane.as_deref() == Some("green");
        events.iter().filter(of_green).map(|event| event.at_us).collect()
    };
    let (failed, restarted) = (of_green("failed"), of_green("restarted"));
    let waited: u64 = failed
        .iter()
        .filter_map(|at| Some(restarted.iter().find(|again| *again > at)? - at))
        .sum();
    let due: u64 = delays.iter().sum();
    ensure!(
        waited >= due * 1000,
        "restarts were put off by {due} ms, and came {waited} us after the failures: {events:?}"
    );
    until(
        || Ok(wire.ping(mac, GREEN, 1, SECOND)?.then_some(())),
        || "it does not answer after the crashes".to_owned(),
    )?;
    // A later single failure has no delay.
    let restarts = operator.show("green")?.restarts;
    operator.done(&Request::Crash("green".to_owned()))?;
    operator.until_restarted("green", restarts + 1, PATIENCE)?;
    ensure!(
        put_off(&guest).len() == delays.len(),
        "a single failure was put off:\n{}",
        guest.log()
    );
    for brane in &BRANES {
        let restarts = operator.show(brane.name)?.restarts;
        ensure!(restarts == 0, "{} was restarted", brane.name);
    }
    operator.clean().map(drop)
}
