//! A brane that faults, hangs or is killed comes back as it was configured, run-time changes included, and alone.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::inside;
use brane_abi::net::MacAddr;
use brane_abi::operator::{Mode, Request};
use image_tests::BRANES;
use image_tests::guest::{Guest, Net};
use image_tests::life::{Operator, boot, cidr, fixed, vnic};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::probe;
use image_tests::wire::{self, Mac, Socket, Wire};
use image_tests::wire6;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const CONFIG: &str = "life";
const SECOND: Duration = Duration::from_secs(1);
const GREEN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 30);
const GREEN6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x30);
const ADDRESSES: [&str; 2] = ["10.0.2.30/24", "fec0::30/64"];

fn answers(to: IpAddr, limit: Duration) -> Result<()> {
    let answer = Pinger::new(to)?.until_answer(limit)?;
    answer.map(drop).with_context(|| format!("{to} does not answer"))
}

/// A brane that nothing of the boot configuration describes: made, renamed, moved to, adjusted and limited at run time.
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

/// Everything that [`changed`] has made of it, as the brane, the manager and the driver see it.
fn as_changed(operator: &mut Operator, restarts: u32) -> Result<()> {
    let green = operator.show("green")?;
    ensure!(
        green.state == "started" && green.restarts == restarts,
        "{green:?}"
    );
    let inside::Answer::Interfaces(interfaces) = operator.inside("green", inside::Query::Interfaces(None))?
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
    // Private in force: its neighbour does not reach it.
    ensure!(
        !operator.ping_from("red", GREEN.into())?,
        "reached by a neighbour though it is private"
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

    fn limit(self) -> Duration {
        match self {
            End::Faults => SECOND,
            End::Hangs => 6 * SECOND,
        }
    }
}

fn connection() -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(GREEN.into(), 7), 5 * SECOND)?;
    stream.set_read_timeout(Some(5 * SECOND))?;
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
            answers(brane.v4.into(), 5 * SECOND)?;
            trains.push((
                brane.name,
                Train::start(brane.v4.into(), Duration::from_millis(10))?,
            ));
        }
        for (n, end) in [End::Faults, End::Hangs, End::Faults].into_iter().enumerate() {
            let n = n as u32;
            let page = SocketAddr::new(GREEN.into(), 80);
            answers(GREEN.into(), 5 * SECOND)?;
            probe::page(page, &["<h1>brane green</h1>", &format!("generation {n}")])?;
            let mut stream = connection()?;
            operator.done(&end.request("green"))?;
            operator.until_restarted("green", n + 1, end.limit())?;
            answers(GREEN.into(), SECOND)?;
            // It asks for one neighbour in a second: the host's IPv4 address comes first.
            answers(GREEN6.into(), 2 * SECOND)?;
            let old = stream
                .write_all(b"anybody?")
                .and_then(|()| stream.read(&mut [0; 16]));
            ensure!(
                old.as_ref()
                    .is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
                "{end:?}: the old connection: {old:?}"
            );
            let generation = format!("generation {}", n + 1);
            let end_of = Instant::now() + 5 * SECOND;
            while let Err(e) = probe::page(page, &["<h1>brane green</h1>", &generation]) {
                ensure!(Instant::now() < end_of, "{end:?}: {e:#}");
            }
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
        // Those of its start are over.
        wire.listen(3 * SECOND)?;
        operator.done(&end.request("green"))?;
        let heard = wire.listen(end.limit())?;
        let arp = heard.iter().filter(|frame| {
            frame[..6] == [0xff; 6]
                && wire::parse_arp(frame).is_some_and(|(_, sender, ip)| sender == mac && ip == GREEN)
        });
        let nd = heard
            .iter()
            .filter(|frame| wire6::unsolicited(frame) == Some((GREEN6, mac)));
        let (arp, nd) = (arp.count(), nd.count());
        ensure!(
            arp >= 1 && nd >= 1,
            "{end:?}: {arp} gratuitous ARP, {nd} unsolicited advertisements\n{}",
            guest.log()
        );
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

#[test]
fn a_storm_of_restarts_backs_off() -> Result<()> {
    let (mut wire, guest, mut operator, mac) = on_wire()?;
    let start = Instant::now();
    let mut crashes = 0;
    while start.elapsed() < 5 * SECOND {
        // As soon as it is started, it faults again.
        if operator.0.call(&Request::Crash("green".to_owned())).is_ok() {
            crashes += 1;
        }
    }
    operator.until_restarted("green", 5, 6 * SECOND)?;
    let green = operator.show("green")?;
    println!("{crashes} crashes in 5 s, {} restarts", green.restarts);
    // Delays grow to 200 ms: without them there would be hundreds.
    ensure!(
        (10..120).contains(&green.restarts),
        "{} restarts in 5 s",
        green.restarts
    );
    ensure!(
        guest.log().contains("restarting it in "),
        "no restart was put off:\n{}",
        guest.log()
    );
    let end = Instant::now() + 5 * SECOND;
    while !wire.ping(mac, GREEN, 1, SECOND)? {
        ensure!(Instant::now() < end, "it does not answer after the storm");
    }
    // A single failure later is forgiven at once.
    std::thread::sleep(SECOND);
    let restarts = operator.show("green")?.restarts;
    operator.done(&Request::Crash("green".to_owned()))?;
    operator.until_restarted("green", restarts + 1, SECOND / 5)?;
    for brane in &BRANES {
        let restarts = operator.show(brane.name)?.restarts;
        ensure!(restarts == 0, "{} was restarted", brane.name);
    }
    operator.clean().map(drop)
}
