//! Malformed frames from the host: the branes drop and count them, and continue to work.

use anyhow::{Context, Result, ensure};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};
use image_tests::guest::{Boot, Guest, Net};
use image_tests::probe::noise;
use image_tests::wire::{self, HOST_IP, HOST_MAC, Mac, Socket, Wire};
use image_tests::{BRANES, PATIENCE, until};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::net::Ipv4Addr;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A brane's addresses on the wire.
type Station = (Mac, Ipv4Addr);

fn boot() -> Result<(Guest, Wire, Vec<Station>)> {
    let socket = Socket::new()?;
    let mut guest = Guest::boot(Boot {
        net: Net::Wire(socket.address()?),
        release: true,
        ..Boot::default()
    })?;
    let mut wire = socket.accept()?;
    let mut stations = Vec::new();
    for brane in &BRANES {
        stations.push((wire.resolve(brane.v4, PATIENCE)?, brane.v4));
    }
    guest.wait_until_serving()?;
    Ok((guest, wire, stations))
}

fn all_answer(wire: &mut Wire, stations: &[Station], seq: u16) -> Result<()> {
    for (mac, ip) in stations {
        // A mutated frame may have replaced the host's address in the brane's cache for a while, so the ping
        // is repeated.
        let answered = || Ok(wire.ping(*mac, *ip, seq, SECOND)?.then_some(()));
        until(answered, || format!("{ip} no longer answers (round {seq})"))?;
    }
    Ok(())
}

fn untouched(guest: &mut Guest) -> Result<()> {
    let list = guest.command("list")?;
    for brane in &BRANES {
        ensure!(
            guest.restarts(brane.name)? == 0,
            "{} was restarted:\n{list}\n{}",
            brane.name,
            guest.log()
        );
    }
    guest.untroubled()?;
    Ok(())
}

/// Returns an IPv4 packet with a modified header and a valid checksum.
fn ipv4(mac: Mac, ip: Ipv4Addr, payload: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let mut header = Ipv4Header::new(
        payload.len() as u16,
        64,
        IpNumber::UDP,
        HOST_IP.octets(),
        ip.octets(),
    )
    .expect("a payload that fits");
    change(&mut header);
    header.header_checksum = header.calc_header_checksum();
    let mut frame = [&mac[..], &HOST_MAC[..], &[0x08, 0x00]].concat();
    header.write_raw(&mut frame).expect("writing to memory");
    frame.extend(payload);
    frame
}

#[test]
fn malformed_frames_are_dropped_and_counted() -> Result<()> {
    let (mut guest, mut wire, stations) = boot()?;
    let (mac, ip) = stations[0];
    let good = wire::udp(mac, ip, 7, b"hello");

    let bad_transport = {
        let mut frame = good.clone();
        *frame.last_mut().context("a frame")? ^= 0xff;
        frame
    };
    let bad_header = {
        let mut frame = good.clone();
        frame[24] ^= 0xff;
        frame
    };
    let udp = good[34..].to_vec();
    let long_udp = {
        let mut payload = udp.clone();
        payload[4..6].copy_from_slice(&9000u16.to_be_bytes());
        ipv4(mac, ip, &payload, |_| {})
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no bytes but the addresses", good[..14].to_vec()),
        ("half an IPv4 header", good[..24].to_vec()),
        ("half a UDP header", good[..38].to_vec()),
        ("IPv4 header checksum", bad_header),
        ("UDP checksum", bad_transport),
        ("UDP length beyond the packet", long_udp),
        (
            "IPv4 total length beyond the frame",
            ipv4(mac, ip, &udp, |h| h.total_len = 1500),
        ),
        (
            "IPv4 total length below the header",
            ipv4(mac, ip, &udp, |h| h.total_len = 8),
        ),
        (
            "IPv4 time to live 0, from an unused address",
            ipv4(mac, ip, &udp, |h| (h.time_to_live, h.source) = (0, [0; 4])),
        ),
        (
            "a lone fragment",
            ipv4(mac, ip, &udp, |h| {
                h.fragment_offset = IpFragOffset::try_new(100).expect("small")
            }),
        ),
        (
            "source is broadcast",
            ipv4(mac, ip, &udp, |h| h.source = [255; 4]),
        ),
        (
            "unknown ethertype",
            [&mac[..], &HOST_MAC[..], &[0x88, 0xb5], &noise(1, 60)].concat(),
        ),
        (
            "an 802.3 length",
            [&mac[..], &HOST_MAC[..], &[0x00, 0x10], &noise(2, 60)].concat(),
        ),
        ("larger than the MTU", ipv4(mac, ip, &noise(3, 3000), |_| {})),
        (
            "to an unknown address",
            [
                &[0x02, 9, 9, 9, 9, 9][..],
                &HOST_MAC[..],
                &[0x08, 0x00],
                &noise(4, 60),
            ]
            .concat(),
        ),
    ];
    for (what, frame) in &cases {
        for _ in 0..10 {
            wire.send(frame)?;
        }
        let echoed = wire.wait_for(Duration::from_millis(100), |f| is_echo(f).then_some(()))?;
        ensure!(
            echoed.is_none(),
            "a frame with a fault ({what}) was answered by UDP echo"
        );
        all_answer(&mut wire, &stations, 1).with_context(|| format!("after frames with: {what}"))?;
    }
    ensure!(
        guest.counter("nic0", "rx_unclaimed")? >= 10,
        "frames to unknown addresses were not counted"
    );
    for name in ["bad checksum", "malformed"] {
        ensure!(
            guest.brane_counter("main", name)? > 0,
            "no frame was counted as {name}"
        );
    }

    // The brane must skip IPv4 options and reassemble fragments.
    let with_options = {
        let builder = PacketBuilder::ethernet2(HOST_MAC, mac).ip(etherparse::IpHeaders::Ipv4(
            {
                let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, HOST_IP.octets(), ip.octets())?;
                header.options = [1u8; 8].into();
                header
            },
            Default::default(),
        ));
        let mut frame = Vec::new();
        builder.udp(4000, 7).write(&mut frame, b"options")?;
        frame
    };
    wire.send(&with_options)?;
    all_answer(&mut wire, &stations, 2).context("after IPv4 options")?;
    let big = wire::udp(mac, ip, 7, &noise(5, 2000))[34..].to_vec();
    let piece = |from: usize, to: usize, more: bool| {
        ipv4(mac, ip, &big[from..to], |h| {
            (h.identification, h.more_fragments) = (77, more);
            h.fragment_offset = IpFragOffset::try_new(from as u16 / 8).expect("small");
        })
    };
    wire.send(&piece(0, 1000, true))?;
    wire.send(&piece(1000, big.len(), false))?;
    let whole = wire.wait_for(PATIENCE, |f| is_echo(f).then_some(()))?;
    ensure!(whole.is_some(), "a datagram in two fragments was not answered");
    all_answer(&mut wire, &stations, 3)?;
    untouched(&mut guest)
}

/// Returns true if a frame is a UDP datagram (or its first fragment) from port 7.
fn is_echo(frame: &[u8]) -> bool {
    frame.len() > 36
        && frame[12..14] == [8, 0]
        && frame[23] == 17
        && frame[34..36] == [0, 7]
        && frame[20] & 0x1f == 0
}

/// Number of mutated frames, and the seed.
const MUTATIONS: u32 = 100_000;
const SEED: u64 = 0x5e14;

#[test]
fn a_hundred_thousand_mutated_frames_change_nothing() -> Result<()> {
    let (mut guest, mut wire, stations) = boot()?;
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut seeds = Vec::new();
    for (mac, ip) in &stations {
        seeds.push(wire::udp(*mac, *ip, 7, &noise(6, 80)));
        seeds.push(wire::udp(*mac, *ip, 4444, &noise(7, 8)));
        seeds.push(wire::echo_request(*mac, *ip, 9));
        seeds.push(wire::tcp_syn(*mac, *ip, 5000, 80));
        seeds.push(wire::arp(
            etherparse::ArpOperation::REQUEST,
            [0xff; 6],
            HOST_MAC,
            HOST_IP,
            [0; 6],
            *ip,
        ));
        // A neighbor solicitation and an echo request over IPv6, whose bytes the mutations also use.
        let v6 = PacketBuilder::ethernet2(HOST_MAC, *mac).ipv6([0xfe; 16], [0xfe; 16], 255);
        let mut frame = Vec::new();
        v6.icmpv6_echo_request(1, 2).write(&mut frame, &noise(8, 24))?;
        seeds.push(frame);
    }
    for i in 0..MUTATIONS {
        let mut frame = seeds[rng.random_range(0..seeds.len())].clone();
        for _ in 0..rng.random_range(1..6) {
            // Mostly after the Ethernet addresses, so that the frame still reaches its brane.
            let at = if rng.random_bool(0.95) {
                rng.random_range(12..frame.len())
            } else {
                rng.random_range(0..12)
            };
            match rng.random_range(0..3) {
                0 => frame[at] = rng.random(),
                1 => frame[at] ^= 1 << rng.random_range(0..8),
                _ => frame[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
            }
        }
        match rng.random_range(0..20) {
            0 => frame.truncate(rng.random_range(14..=frame.len())),
            1 => frame.extend(noise(u64::from(i), rng.random_range(1..1400))),
            _ => {}
        }
        wire.send(&frame)?;
        if i % 500 == 499 {
            all_answer(&mut wire, &stations, (i / 500) as u16)
                .with_context(|| format!("after {} mutated frames:\n{}", i + 1, guest.log()))?;
        }
    }
    untouched(&mut guest)
}
