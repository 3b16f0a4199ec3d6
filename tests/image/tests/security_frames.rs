//! Single frames from the wire that once crashed branes or made them disclose memory.

use anyhow::{Result, ensure};
use image_tests::BRANES;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::wire::{self, Mac, Socket, Wire};
use image_tests::wire6::{self, icmp6, router_advertisement};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn boot() -> Result<(Guest, Wire, Vec<Mac>)> {
    let socket = Socket::new()?;
    let mut guest = Guest::boot(Boot {
        net: Net::Wire(socket.address()?),
        release: true,
        ..Boot::default()
    })?;
    let mut wire = socket.accept()?;
    let mut stations = Vec::new();
    for brane in &BRANES {
        stations.push(wire.resolve(brane.v4, 30 * SECOND)?);
    }
    guest.wait_until_serving()?;
    Ok((guest, wire, stations))
}

/// Fails if a brane was restarted or any domain has faulted.
fn untouched(guest: &mut Guest) -> Result<()> {
    for brane in &BRANES {
        let restarts = guest.restarts(brane.name)?;
        ensure!(restarts == 0, "{} was restarted:\n{}", brane.name, guest.log());
    }
    guest.untroubled()
}

#[test]
fn router_advertisements_with_impossible_prefixes_restart_no_brane() -> Result<()> {
    let (mut guest, mut wire, stations) = boot()?;
    let mut seq = 0;
    for (prefix, len) in [
        ("ff02::1", 64),
        ("ff05::", 64),
        ("ffff::", 64),
        ("fe80::", 64),
        ("fd12::", 255),
    ] {
        let advertisement = router_advertisement(prefix.parse()?, len);
        // 20 in a second, with a ping of each brane in between.
        for round in 0..20 {
            let next = Instant::now() + SECOND / 20;
            wire.send(&advertisement)?;
            let which = round % BRANES.len();
            // The first echo may be lost, because the brane resolves its neighbor before it can answer.
            let mut answered = false;
            for _ in 0..10 {
                seq += 1;
                answered = answered || wire.ping(stations[which], BRANES[which].v4, seq, SECOND)?;
            }
            ensure!(
                answered,
                "{} does not answer after {prefix}/{len}:\n{}",
                BRANES[which].name,
                guest.log()
            );
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    untouched(&mut guest)?;
    // After a valid prefix each brane has an address, at which it answers.
    wire.send(&router_advertisement("fd12::".parse()?, 64))?;
    for brane in &BRANES {
        let mac: Vec<u16> = brane
            .mac
            .split(':')
            .map(|part| u16::from_str_radix(part, 16))
            .collect::<Result<_, _>>()?;
        let word = |high: u16, low: u16| high << 8 | low;
        let address = Ipv6Addr::new(
            0xfd12,
            0,
            0,
            0,
            word(mac[0] ^ 2, mac[1]),
            word(mac[2], 0xff),
            word(0xfe, mac[3]),
            word(mac[4], mac[5]),
        );
        wire6::resolve6(&mut wire, address, 10 * SECOND)?;
    }
    untouched(&mut guest)
}

#[test]
fn no_icmp_error_holds_a_piece_of_an_earlier_datagram() -> Result<()> {
    const SECRET: &[u8] = b"correct horse battery staple ";
    let (mut guest, mut wire, stations) = boot()?;
    let secret = SECRET.repeat(30);
    let (brane, mac) = (&BRANES[0], stations[0]);
    wire6::resolve6(&mut wire, brane.v6, 10 * SECOND)?;
    let mut errors = Vec::new();
    for round in 0..40 {
        // The echo fills the ring with the secret. Varying lengths leave different parts of it behind the
        // error.
        wire.send(&wire::udp(mac, brane.v4, 7, &secret[..100 + 20 * round % 700]))?;
        let echoed = wire.wait_for(10 * SECOND, |f| {
            (f.get(34..36) == Some(&[0, 7]) && f[23] == 17).then_some(())
        })?;
        ensure!(echoed.is_some(), "no echo");
        // Stays below the limit of errors in a second, however fast the guest runs.
        std::thread::sleep(SECOND / 4);
        let (probe, error) = match round % 2 {
            0 => (wire::udp(mac, brane.v4, 9999, b"?"), (1, 3)),
            _ => (wire6::udp6(mac, brane.v6, 9999, b"?"), (58, 1)),
        };
        wire.send(&probe)?;
        let answer = wire.wait_for(3 * SECOND, |frame| {
            let kind = match frame.get(12..14)? {
                [0x08, 0x00] => (*frame.get(23)?, *frame.get(34)?),
                [0x86, 0xdd] => (58, icmp6(frame)?.kind),
                _ => return None,
            };
            (kind == error).then(|| frame.to_vec())
        })?;
        errors.extend(answer);
    }
    ensure!(errors.len() >= 30, "only {} errors", errors.len());
    for frame in &errors {
        // The four bytes that the message does not use (RFC 792, RFC 4443 3.1).
        let unused = if frame[12] == 0x08 {
            &frame[38..42]
        } else {
            &frame[58..62]
        };
        ensure!(unused == [0; 4], "bytes that are not used: {unused:x?}");
        let told = SECRET
            .windows(3)
            .any(|piece| frame.windows(3).any(|bytes| bytes == piece));
        ensure!(!told, "an error with a piece of the secret: {frame:x?}");
    }
    untouched(&mut guest)
}
