//! The control line of a booted image: bytes both ways as they are, none lost, nobody waits for anybody.

use anyhow::{Context, Result, ensure};
use brane_abi::remote::{Decoder, Hello, Kind, MAX_BODY, VERSION, encode};
use image_tests::guest::{Boot, Guest};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn boot() -> Result<Guest> {
    let guest = Guest::boot(Boot {
        config: "default",
        release: true,
        control: true,
        ..Boot::default()
    })?;
    // Opens the session, as soon as the system is up.
    drop(guest.control()?);
    Ok(guest)
}

/// The host's end, frame by frame.
struct End {
    stream: UnixStream,
    decoder: Decoder,
}

impl End {
    fn open(guest: &Guest) -> Result<End> {
        let mut end = End {
            stream: guest.control_stream()?,
            decoder: Decoder::new(),
        };
        end.stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let hello = Hello {
            version: VERSION,
            session: 0x0123_4567_89ab_cdef,
        };
        end.stream.write_all(&[0])?;
        end.stream.write_all(&encode(Kind::Hello, 0, &hello.to_bytes()))?;
        let said = end.until(PATIENCE, |kind, _| kind == Kind::Hello)?;
        ensure!(said, "no hello");
        Ok(end)
    }

    /// Reads frames until one is `wanted`; whether it came in time.
    fn until(&mut self, limit: Duration, mut wanted: impl FnMut(Kind, u32) -> bool) -> Result<bool> {
        let end = Instant::now() + limit;
        let mut buffer = [0; 4096];
        let mut found = false;
        while !found && Instant::now() < end {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => anyhow::bail!("QEMU has hung up"),
                Ok(count) => count,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
                Err(e) => return Err(e).context("reading"),
            };
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                let taken = self
                    .decoder
                    .feed(rest, |frame| found |= wanted(frame.kind, frame.number));
                rest = &rest[taken..];
            }
        }
        Ok(found)
    }
}

/// A body with every byte value in it. The manager never sees it: it is longer than requests are.
fn body(seed: u32) -> Vec<u8> {
    (0..MAX_BODY as u32)
        .map(|i| (i ^ seed.wrapping_mul(0x9e37_79b9) >> 24) as u8)
        .collect()
}

#[test]
fn what_is_sent_arrives_unspoilt_though_nobody_waits() -> Result<()> {
    const FRAMES: u32 = 300;
    let guest = boot()?;
    let mut end = End::open(&guest)?;
    // Far more at once than the ring and the device's FIFO hold: what finds no room has to wait outside.
    let mut writer = end.stream.try_clone()?;
    let start = Instant::now();
    let sender = std::thread::spawn(move || -> std::io::Result<usize> {
        let mut sent = 0;
        for number in 1..=FRAMES {
            let frame = encode(Kind::Request, number, &body(number));
            writer.write_all(&frame)?;
            sent += frame.len();
        }
        Ok(sent)
    });
    let mut answered = BTreeSet::new();
    let mut garbled = 0;
    let all = end.until(2 * PATIENCE, |kind, number| {
        match kind {
            Kind::Answer => drop(answered.insert(number)),
            Kind::Garbled => garbled = number,
            _ => {}
        }
        answered.len() == FRAMES as usize
    })?;
    let took = start.elapsed();
    let sent = sender.join().expect("the sender")?;
    ensure!(garbled == 0, "{garbled} frames arrived garbled\n{}", guest.log());
    ensure!(all, "{} of {FRAMES} answered\n{}", answered.len(), guest.log());
    ensure!(
        end.decoder.garbled == 0,
        "{} answers arrived garbled",
        end.decoder.garbled
    );
    let rate = sent as f64 / took.as_secs_f64() / 1e3;
    println!("{sent} bytes in {took:?}: {rate:.0} kB/s");
    ensure!(rate > 20.0, "{rate:.0} kB/s");
    guest.untroubled()
}

#[test]
fn noise_ends_with_the_next_frame_and_sessions_follow_each_other() -> Result<()> {
    let guest = boot()?;
    for round in 0..3_u8 {
        let mut end = End::open(&guest)?;
        end.stream.write_all(&[0x5a ^ round; 3000])?;
        let frame = encode(Kind::Request, 1, &body(u32::from(round)));
        end.stream.write_all(&[0])?;
        end.stream.write_all(&frame)?;
        let mut garbled = false;
        let answered = end.until(PATIENCE, |kind, number| {
            garbled |= kind == Kind::Garbled;
            kind == Kind::Answer && number == 1
        })?;
        ensure!(
            answered && garbled,
            "round {round}: answered {answered}, told of noise {garbled}"
        );
    }
    guest.untroubled()
}
