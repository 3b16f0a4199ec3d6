//! Kinds and limits of interfaces: a pair, a VLAN, private mode, limits at run time.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::net::MacAddr;
use brane_abi::operator::{DeviceConfig, Kind, Mode, Request};
use brane_abi::query::{self, Query};
use image_tests::guest::{Guest, Net};
use image_tests::lifecycle::{Operator, boot, cidr, vnic};
use image_tests::wire::{self, Mac, Socket, Wire};
use image_tests::{BRANES, PATIENCE, until};
use operator_cli::refusals::Words;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const CONFIG: &str = "two-nics";
const SECOND: Duration = Duration::from_secs(1);

fn on_wire() -> Result<(Wire, Guest, Operator)> {
    let socket = Socket::new()?;
    let guest = boot(CONFIG, Net::Wire(socket.address()?), None)?;
    let wire = socket.accept()?;
    let operator = Operator::when_started(&guest)?;
    Ok((wire, guest, operator))
}

/// Pings from inside. The first ping may be lost during neighbor resolution.
fn reaches(operator: &mut Operator, brane: &str, to: &str) -> Result<bool> {
    let to: IpAddr = to.parse()?;
    Ok(operator.ping_from(brane, to)? || operator.ping_from(brane, to)?)
}

#[test]
fn a_pair_is_a_wire_between_two_branes_and_nothing_leaks() -> Result<()> {
    let (mut wire, guest, mut operator) = on_wire()?;
    let MacAddr(one) = operator.device(DeviceConfig {
        kind: Kind::Pair("p1".to_owned()),
        ..vnic("p0")
    })?;
    let other = operator.devices()?.into_iter().find(|d| d.config.name == "p1");
    let MacAddr(other) = other.and_then(|d| d.config.mac).context("no other end")?;
    operator.assign("p0", "red", &["10.9.0.1/24", "fd09::1/64"])?;
    operator.assign("p1", "blue", &["10.9.0.2/24", "fd09::2/64"])?;
    for (from, to) in [
        ("red", "10.9.0.2"),
        ("blue", "10.9.0.1"),
        ("red", "fd09::2"),
        ("blue", "fd09::1"),
    ] {
        ensure!(reaches(&mut operator, from, to)?, "{from} does not reach {to}");
    }
    // UDP arrives too: blue has no socket at the port of DNS, and reports that.
    let before = operator.counter("p1", "rx_frames")?;
    let asked = operator.inside(
        "red",
        query::Query::Host {
            name: "www.example.org".to_owned(),
            server: Some("10.9.0.2".parse()?),
            timeout_ms: 500,
        },
    )?;
    ensure!(matches!(asked, query::Answer::Refused(_)), "{asked:?}");
    ensure!(
        operator.counter("p1", "rx_frames")? > before,
        "the datagram did not come out at the other end"
    );
    // None of its frames is on the wire, and no host on the wire reaches it.
    for mac in [one, other] {
        wire.send(&wire::echo_request(mac, Ipv4Addr::new(10, 9, 0, 2), 1))?;
        wire.send(&wire::echo_request(mac, Ipv4Addr::new(10, 9, 0, 1), 1))?;
    }
    ensure!(
        wire.resolve(Ipv4Addr::new(10, 9, 0, 1), SECOND).is_err(),
        "an end of a pair answers on the wire"
    );
    let mut leaked = wire.listen(SECOND)?;
    leaked.retain(|frame| wire::source(frame).is_some_and(|mac| mac == one || mac == other));
    ensure!(leaked.is_empty(), "on the wire: {leaked:02x?}");
    // Main has neither end.
    ensure!(
        !operator.ping_from("main", "10.9.0.2".parse()?)?,
        "main reaches the pair"
    );
    // One end has no brane: frames of the other end are dropped.
    operator.done(&Request::Remove("p1".to_owned()))?;
    ensure!(
        !operator.ping_from("red", "10.9.0.2".parse()?)?,
        "an end without a brane answers"
    );
    let refusal = operator.refused(&Request::DeleteDevice("p1".to_owned()))?;
    ensure!(
        refusal.words().what == "\"p0\" is in brane \"red\"",
        "{refusal:?}"
    );
    operator.done(&Request::Remove("p0".to_owned()))?;
    operator.call(&Request::DeleteDevice("p1".to_owned()))?;
    let devices = operator.devices()?;
    ensure!(
        !devices
            .iter()
            .any(|d| ["p0", "p1"].contains(&d.config.name.as_str())),
        "{devices:?}"
    );
    operator.clean()?;
    guest.untroubled()
}

/// Returns the frame with an IEEE 802.1Q tag inserted.
fn tagged(frame: &[u8], tag: u16) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    out.extend([0x81, 0]);
    out.extend(tag.to_be_bytes());
    out.extend(&frame[12..]);
    out
}

/// Returns the tag of a frame, and the frame without it.
fn untagged(frame: &[u8]) -> (Option<u16>, Vec<u8>) {
    if frame.len() > 16 && frame[12..14] == [0x81, 0] {
        let tag = u16::from_be_bytes([frame[14], frame[15]]) & 0xfff;
        return (Some(tag), [&frame[..12], &frame[16..]].concat());
    }
    (None, frame.to_vec())
}

const OFFICE: Ipv4Addr = Ipv4Addr::new(10, 12, 0, 1);

/// Resolves and pings the office's address with this tag, or without one. Returns the frames from that MAC
/// address.
fn ask_office(wire: &mut Wire, tag: Option<u16>, mac: Mac) -> Result<Vec<(Option<u16>, Vec<u8>)>> {
    let arp = wire::arp(
        etherparse::ArpOperation::REQUEST,
        [0xff; 6],
        wire::HOST_MAC,
        wire::host_near(OFFICE),
        [0; 6],
        OFFICE,
    );
    for frame in [arp, wire::echo_request(mac, OFFICE, 1)] {
        match tag {
            Some(tag) => wire.send(&tagged(&frame, tag))?,
            None => wire.send(&frame)?,
        }
    }
    let heard = wire.listen(SECOND)?;
    let from = heard.iter().filter(|f| wire::source(f) == Some(mac));
    Ok(from.map(|frame| untagged(frame)).collect())
}

#[test]
fn a_vlan_is_tagged_on_the_wire_and_not_inside() -> Result<()> {
    let (mut wire, guest, mut operator) = on_wire()?;
    let MacAddr(mac) = operator.device(DeviceConfig {
        kind: Kind::Vlan(12),
        ..vnic("office0")
    })?;
    operator.assign("office0", "red", &["10.12.0.1/24"])?;
    let own = wire.listen(SECOND / 2)?;
    let announced: Vec<_> = own.iter().filter(|f| wire::source(f) == Some(mac)).collect();
    ensure!(
        !announced.is_empty() && announced.iter().all(|f| untagged(f).0 == Some(12)),
        "{announced:02x?}"
    );
    let heard = ask_office(&mut wire, Some(12), mac)?;
    ensure!(
        heard.iter().all(|(tag, _)| *tag == Some(12)),
        "another tag: {heard:02x?}"
    );
    ensure!(
        heard
            .iter()
            .any(|(_, frame)| wire::parse_arp(frame)
                .is_some_and(|(_, sender, ip)| (sender, ip) == (mac, OFFICE))),
        "no ARP reply: {heard:02x?}"
    );
    ensure!(
        heard
            .iter()
            .any(|(_, frame)| frame.get(12..14) == Some(&[8, 0]) && frame.get(34) == Some(&0)),
        "no echo reply: {heard:02x?}"
    );
    for tag in [None, Some(13), Some(0), Some(4094)] {
        let heard = ask_office(&mut wire, tag, mac)?;
        ensure!(heard.is_empty(), "answered with tag {tag:?}: {heard:02x?}");
    }
    // Red still answers without a tag, and none of its frames is tagged.
    let red = wire.resolve(BRANES[1].v4, PATIENCE)?;
    ensure!(
        wire.ping(red, BRANES[1].v4, 3, PATIENCE)?,
        "red does not answer without a tag"
    );
    // Another brane on the same VLAN is reached. A brane outside it is not.
    operator.device(DeviceConfig {
        kind: Kind::Vlan(12),
        ..vnic("office1")
    })?;
    operator.device(DeviceConfig {
        kind: Kind::Vlan(13),
        ..vnic("lab0")
    })?;
    operator.assign("office1", "blue", &["10.12.0.2/24"])?;
    ensure!(
        reaches(&mut operator, "blue", "10.12.0.1")?,
        "not reached on the same VLAN"
    );
    operator.done(&Request::Remove("office1".to_owned()))?;
    operator.assign("lab0", "blue", &["10.12.0.3/24"])?;
    ensure!(
        !reaches(&mut operator, "blue", "10.12.0.1")?,
        "reached from another VLAN"
    );
    operator.clean()?;
    guest.untroubled()
}

fn limit(device: &str) -> Request {
    Request::Limit {
        device: device.to_owned(),
        mode: None,
        allow: None,
        rate_up: None,
        rate_down: None,
    }
}

fn mode(device: &str, to: Mode) -> Request {
    let mut request = limit(device);
    if let Request::Limit { mode, .. } = &mut request {
        *mode = Some(to);
    }
    request
}

#[test]
fn a_private_interface_reaches_the_outside_and_no_neighbour_and_that_can_change() -> Result<()> {
    let (mut wire, guest, mut operator) = on_wire()?;
    let [_, red, blue] = &BRANES;
    let to = blue.v4.to_string();
    let back = red.v4.to_string();
    ensure!(
        reaches(&mut operator, "red", &to)?,
        "bridge mode, and not reached"
    );
    operator.done(&mode("vnic1", Mode::Private))?;
    ensure!(
        !reaches(&mut operator, "red", &to)? && !reaches(&mut operator, "blue", &back)?,
        "private, and reached by its neighbour"
    );
    let mac = wire.resolve(red.v4, PATIENCE)?;
    ensure!(
        wire.ping(mac, red.v4, 1, PATIENCE)?,
        "private, and the outside is not answered"
    );
    let outside = std::thread::scope(|scope| {
        let heard = scope.spawn(|| wire.wait_for(PATIENCE, |frame| echo_of(frame, mac)));
        let _ = operator.ping_from("red", wire::HOST_IP.into());
        heard.join().expect("the listening thread")
    })?;
    ensure!(outside.is_some(), "private, and does not reach the outside");
    operator.done(&mode("vnic1", Mode::Bridge))?;
    ensure!(
        reaches(&mut operator, "red", &to)? && reaches(&mut operator, "blue", &back)?,
        "bridge mode again, and not reached"
    );
    operator.clean()?;
    guest.untroubled()
}

/// Returns `Some` if a frame is an ICMP echo request from this MAC address.
fn echo_of(frame: &[u8], mac: Mac) -> Option<()> {
    (wire::source(frame) == Some(mac)
        && frame.get(12..14)? == [8, 0]
        && frame.get(23) == Some(&1)
        && frame.get(34) == Some(&8))
    .then_some(())
}

/// Limit in bytes per second, length of an echoed frame, and burst size (`bucket.rs` of the driver).
const LIMIT: f64 = 100_000.0;
const FRAME: f64 = 1042.0;
const BURST: f64 = 65_536.0;

/// Returns the factor by which the guest's clock is faster than the host's. The kernel calibrates its clock
/// by a short measurement at its start. On a busy host the result was wrong by several percent.
fn clock_rate(operator: &mut Operator) -> Result<f64> {
    let mut shortest = f64::MAX;
    for sequence in 0..3 {
        let silent = Query::Ping {
            to: Ipv4Addr::new(10, 0, 2, 77).into(),
            sequence,
            size: 56,
            timeout_ms: 1000,
        };
        let start = Instant::now();
        let _ = operator.call(&Request::Query {
            brane: "main".to_owned(),
            query: silent,
        })?;
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    ensure!(shortest > 0.5, "a silent host was given up after {shortest} s");
    // The call itself takes time, which makes the clock look slower than it is.
    Ok((1.0 / shortest).max(1.0))
}

/// Sends a thousand datagrams of 1000 bytes to an echo service, a millisecond apart on average. Returns the
/// number of echoes, and the seconds it took.
fn echoes(wire: &mut Wire, mac: Mac, ip: Ipv4Addr) -> Result<(usize, f64)> {
    let datagram = wire::udp(mac, ip, 7, &[0x5a; 1000]);
    let start = Instant::now();
    let mut back = 0;
    let (mut last, mut next) = (start, start);
    for n in 1.. {
        // A late datagram is sent later, because the guest has no buffers for all of them at once. The host's
        // kernel wakes a receiver some milliseconds late, so a few follow each other.
        next = (next + Duration::from_millis(1)).max(Instant::now() - Duration::from_millis(20));
        let echoed = wire.listen(next.saturating_duration_since(Instant::now()))?;
        let echoed = echoed
            .iter()
            .filter(|frame| frame.len() > 1000 && wire::source(frame) == Some(mac));
        let echoed = echoed.count();
        back += echoed;
        if n <= 1000 {
            wire.send(&datagram)?;
        }
        if n <= 1000 || echoed > 0 {
            last = Instant::now();
        } else if back == 1000 || last.elapsed() > SECOND {
            break;
        }
    }
    Ok((back, last.duration_since(start).as_secs_f64()))
}

#[test]
fn limits_change_at_run_time_and_what_they_stop_is_counted() -> Result<()> {
    let (mut wire, guest, mut operator) = on_wire()?;
    let red = BRANES[1].v4;
    let mac = wire.resolve(red, PATIENCE)?;
    // The service may open after the first datagrams.
    until(
        || Ok((echoes(&mut wire, mac, red)?.0 >= 900).then_some(())),
        || "red does not echo without a limit".to_owned(),
    )?;
    let rate = clock_rate(&mut operator)?;
    // A tenth of the sent rate, first as a limit up, then down.
    for (up, counter) in [(true, "tx_limited"), (false, "rx_limited")] {
        let mut request = limit("vnic1");
        if let Request::Limit {
            rate_up, rate_down, ..
        } = &mut request
        {
            *(if up { &mut *rate_up } else { &mut *rate_down }) = Some(100_000);
        }
        operator.done(&request)?;
        echoes(&mut wire, mac, red)?;
        let (back, time) = echoes(&mut wire, mac, red)?;
        let allowed = ((LIMIT * time * rate + BURST) / FRAME) as usize + 1;
        println!("{back} of 1000 with a limit that allows {allowed}; the guest's clock goes at {rate:.3}");
        ensure!(
            (20..=allowed).contains(&back),
            "{back} of 1000 with a limit that allows {allowed}"
        );
        let counted = operator.counter("vnic1", counter)?;
        ensure!(counted > 500, "{counter}: {counted}");
        if let Request::Limit {
            rate_up, rate_down, ..
        } = &mut request
        {
            (*rate_up, *rate_down) = (Some(0), Some(0));
        }
        operator.done(&request)?;
        let (back, _) = echoes(&mut wire, mac, red)?;
        ensure!(back > 900, "{back} of 1000 without a limit again");
    }
    // Only another source address is allowed: no reply arrives, and ARP is not answered.
    let mut request = limit("vnic1");
    if let Request::Limit { allow, .. } = &mut request {
        *allow = Some(vec![cidr("10.0.2.99/32")?]);
    }
    operator.done(&request)?;
    ensure!(
        !wire.ping(mac, red, 5, SECOND)?,
        "answered from what it may not use"
    );
    ensure!(wire.resolve(red, SECOND).is_err(), "claims what it may not use");
    for counter in ["tx_bad_ip", "tx_bad_arp"] {
        ensure!(
            operator.counter("vnic1", counter)? > 0,
            "nothing counted as {counter}"
        );
    }
    let Request::Limit { allow, .. } = &mut request else {
        bail!("no limit")
    };
    *allow = Some(vec![cidr("10.0.2.16/32")?]);
    operator.done(&request)?;
    ensure!(
        wire.ping(mac, red, 6, PATIENCE)?,
        "not answered from what it may use"
    );
    operator.clean()?;
    guest.untroubled()
}
