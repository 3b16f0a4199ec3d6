//! Groups on the wire: the host is the querier and a sender. Red's client joins and leaves; the other branes have not joined.

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::wire::{self, HOST_IP, HOST_MAC, Mac, Socket, Wire};
use image_tests::wire6::HOST_IP6;
use image_tests::{BRANES, PATIENCE, SILENCE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

const CONFIG: &str = "multicast";
const RED: Mac = [2, 0x77, 0, 0, 0, 1];
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 7, 7, 7);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 7);
const PORT: u16 = 5000;
/// The querier.
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// Longest delay of an answer to the host's queries.
const DELAY: Duration = Duration::from_secs(1);

/// Types of group records (RFC 3376, 4.2.12).
const IS_EXCLUDE: u8 = 2;
const TO_INCLUDE: u8 = 3;
const TO_EXCLUDE: u8 = 4;

fn station(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(group) => {
            let o = group.octets();
            [0x33, 0x33, o[12], o[13], o[14], o[15]]
        }
    }
}

/// Adds an Internet checksum (RFC 1071) at `at` to the sum of `pseudo`.
fn summed(mut message: Vec<u8>, at: usize, pseudo: &[u8]) -> Vec<u8> {
    let words = |bytes: &[u8]| -> u32 {
        let pairs = bytes.chunks(2);
        pairs
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
            .sum()
    };
    let mut sum = words(&message) + words(pseudo);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[at..at + 2].copy_from_slice(&(!sum as u16).to_be_bytes());
    message
}

/// A query about a group or, with `None`, about all (RFC 3376, 4.1; RFC 3810, 5.1).
fn query(v6: bool, group: Option<IpAddr>) -> Vec<u8> {
    if v6 {
        let about = match group {
            Some(IpAddr::V6(group)) => group,
            _ => Ipv6Addr::UNSPECIFIED,
        };
        let to = if about.is_unspecified() {
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
        } else {
            about
        };
        let mut message = vec![130, 0, 0, 0, 3, 232, 0, 0];
        message.extend(about.octets());
        message.extend([2, 125, 0, 0]);
        let mut pseudo = [ROUTER6.octets(), to.octets()].concat();
        pseudo.extend((message.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, 58]);
        let message = summed(message, 2, &pseudo);
        let mut frame = [station(to.into()), HOST_MAC].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((8 + message.len() as u16).to_be_bytes());
        frame.extend([0, 1]);
        frame.extend(ROUTER6.octets());
        frame.extend(to.octets());
        frame.extend([58, 0, 5, 2, 0, 0, 1, 0]);
        frame.extend(message);
        return frame;
    }
    let about = match group {
        Some(IpAddr::V4(group)) => group,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let to = if about.is_unspecified() {
        Ipv4Addr::new(224, 0, 0, 1)
    } else {
        about
    };
    let mut message = vec![0x11, 10, 0, 0];
    message.extend(about.octets());
    message.extend([2, 125, 0, 0]);
    let message = summed(message, 2, &[]);
    let mut header = vec![0x46, 0xc0, 0, 24 + message.len() as u8, 0, 0, 0, 0, 1, 2, 0, 0];
    header.extend(HOST_IP.octets());
    header.extend(to.octets());
    header.extend([0x94, 4, 0, 0]);
    let mut frame = [station(to.into()), HOST_MAC].concat();
    frame.extend([8, 0]);
    frame.extend(summed(header, 10, &[]));
    frame.extend(message);
    frame
}

/// Reads the records of an IGMPv3 or MLDv2 report, with the station that has sent it.
fn records(frame: &[u8]) -> Option<(Mac, Vec<(u8, IpAddr)>)> {
    let from = wire::source(frame)?;
    let (message, len) = match (frame.get(12..14)?, frame.get(14..)?) {
        ([8, 0], packet) if packet.get(9) == Some(&2) => (packet.get(usize::from(packet[0] & 15) * 4..)?, 8),
        ([0x86, 0xdd], packet) if packet.get(6) == Some(&0) && packet.get(40) == Some(&58) => {
            (packet.get(48..)?, 20)
        }
        _ => return None,
    };
    if !matches!(message.first(), Some(0x22 | 143)) {
        return None;
    }
    let records = message.get(8..)?.chunks_exact(len).map(|record| {
        let group = &record[4..];
        let group = match len {
            8 => IpAddr::from(<[u8; 4]>::try_from(group).expect("four bytes")),
            _ => IpAddr::from(<[u8; 16]>::try_from(group).expect("sixteen bytes")),
        };
        (record[0], group)
    });
    Some((from, records.collect()))
}

/// Waits for a record of a group. Returns the station that has sent it.
fn record(wire: &mut Wire, limit: Duration, kind: u8, group: IpAddr) -> Result<Option<Mac>> {
    wire.wait_for(limit, |frame| {
        let (from, records) = records(frame)?;
        records.contains(&(kind, group)).then_some(from)
    })
}

/// A datagram of the host to a group.
fn datagram(group: IpAddr, port: u16, text: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(HOST_MAC, station(group));
    let builder = match group {
        IpAddr::V4(group) => builder.ipv4(HOST_IP.octets(), group.octets(), 1),
        IpAddr::V6(group) => builder.ipv6(HOST_IP6.octets(), group.octets(), 1),
    };
    let builder = builder.udp(4000, port);
    let mut frame = Vec::with_capacity(builder.size(text.len()));
    builder.write(&mut frame, text).expect("writing to memory");
    frame
}

/// Returns the stations that send a datagram with this text.
fn echoes(wire: &mut Wire, limit: Duration, text: &[u8]) -> Result<Vec<Mac>> {
    let frames = wire.listen(limit)?;
    let echoes = frames.iter().filter(|frame| frame.ends_with(text));
    Ok(echoes.filter_map(|frame| wire::source(frame)).collect())
}

/// Sends `text` to red's socket until the guest has logged `line`.
fn order(guest: &mut Guest, wire: &mut Wire, text: &[u8], line: &str) -> Result<()> {
    wire.send(&wire::udp(RED, BRANES[1].v4, PORT, text))?;
    guest
        .wait_for(line, PATIENCE)
        .map(|_| ())
        .with_context(|| line.to_owned())
}

#[test]
fn groups_are_reported_to_the_querier_and_their_datagrams_reach_members_alone() -> Result<()> {
    let socket = Socket::new()?;
    let mut guest = Guest::boot(Boot {
        config: CONFIG,
        net: Net::Wire(socket.address()?),
        release: true,
        ..Boot::default()
    })?;
    let mut wire = socket.accept()?;
    for brane in &BRANES {
        wire.resolve(brane.v4, PATIENCE)?;
    }
    guest.wait_for("multicast: joined", PATIENCE)?;
    let groups = [IpAddr::V4(GROUP), IpAddr::V6(GROUP6)];
    for group in groups {
        // What was reported at the start may have been read already.
        for about in [None, Some(group)] {
            let end = Instant::now() + PATIENCE;
            let answer = loop {
                wire.send(&query(group.is_ipv6(), about))?;
                let answer = record(&mut wire, DELAY + SILENCE, IS_EXCLUDE, group)?;
                if answer.is_some() || Instant::now() >= end {
                    break answer;
                }
            };
            ensure!(
                answer == Some(RED),
                "{group}: the query about {about:?} was answered by {answer:?}"
            );
        }
        let mut echoed = Vec::new();
        let end = Instant::now() + PATIENCE;
        // The echo may wait for the host's address.
        while echoed.is_empty() && Instant::now() < end {
            wire.send(&datagram(group, PORT, b"to the group"))?;
            echoed = echoes(&mut wire, SILENCE, b"to the group")?;
        }
        ensure!(
            !echoed.is_empty() && echoed.iter().all(|mac| *mac == RED),
            "{group}: {echoed:?}"
        );
        // The other branes have echo servers at port 7 and have joined nothing.
        wire.send(&datagram(group, 7, b"to servers"))?;
        ensure!(
            echoes(&mut wire, SILENCE, b"to servers")?.is_empty(),
            "{group}: a brane that has not joined"
        );
    }
    let others = [
        IpAddr::V4(Ipv4Addr::new(239, 7, 7, 8)),
        IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 8)),
    ];
    for group in others {
        wire.send(&datagram(group, PORT, b"to others"))?;
        ensure!(
            echoes(&mut wire, SILENCE, b"to others")?.is_empty(),
            "{group} was not joined"
        );
    }

    order(&mut guest, &mut wire, b"leave", "multicast: left")?;
    for group in groups {
        ensure!(
            record(&mut wire, PATIENCE, TO_INCLUDE, group)? == Some(RED),
            "{group} was left"
        );
    }
    wire.listen(2 * DELAY)?;
    for group in groups {
        wire.send(&query(group.is_ipv6(), None))?;
        let answer = record(&mut wire, DELAY + SILENCE, IS_EXCLUDE, group)?;
        ensure!(answer.is_none(), "{group} was reported after it was left");
        wire.send(&datagram(group, PORT, b"too late"))?;
        ensure!(
            echoes(&mut wire, SILENCE, b"too late")?.is_empty(),
            "{group} was left"
        );
    }
    order(&mut guest, &mut wire, b"join", "multicast: joined again")?;
    for group in groups {
        ensure!(
            record(&mut wire, PATIENCE, TO_EXCLUDE, group)? == Some(RED),
            "{group} was joined"
        );
    }
    for brane in &BRANES {
        ensure!(guest.restarts(brane.name)? == 0, "{} was restarted", brane.name);
    }
    guest.untroubled()
}
