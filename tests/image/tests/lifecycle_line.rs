//! The control line of a booted image over COM2, on a machine without the virtio-console device: bytes pass unchanged and without loss in both directions, and neither
//! side blocks the other.

use anyhow::{Context, Result, ensure};
use brane_abi::remote::{Kind, encode};
use image_tests::PATIENCE;
use image_tests::guest::{Boot, Guest};
use image_tests::line::End;
use std::io::Write;
use std::time::Instant;

fn boot() -> Result<Guest> {
    let guest = Guest::boot(Boot {
        config: "default",
        release: true,
        uart_line: true,
        ..Boot::default()
    })?;
    // Opens the session as soon as the system is up.
    drop(guest.control()?);
    Ok(guest)
}

/// Bytes of a body: more than a request may have.
const BODY: u32 = 1024;

/// Returns a body with every byte value. The manager never sees it, because it is longer than a request may
/// be.
fn body(seed: u32) -> Vec<u8> {
    (0..BODY)
        .map(|i| (i ^ seed.wrapping_mul(0x9e37_79b9) >> 24) as u8)
        .collect()
}

#[test]
fn what_is_sent_arrives_unspoilt_though_nobody_waits() -> Result<()> {
    const FRAMES: u32 = 300;
    let guest = boot()?;
    let mut end = End::open(&guest)?;
    let start = Instant::now();
    let mut garbled = 0;
    let bodies = (1..=FRAMES).map(body).collect();
    let sent = end.flood(bodies, |kind, number| {
        if kind == Kind::Garbled {
            garbled = number;
        }
    });
    let sent = sent.with_context(|| guest.log())?;
    ensure!(garbled == 0, "{garbled} frames arrived garbled\n{}", guest.log());
    ensure!(
        end.decoder.garbled == 0,
        "{} answers arrived garbled",
        end.decoder.garbled
    );
    let took = start.elapsed();
    let rate = sent as f64 / took.as_secs_f64() / 1e3;
    println!("{sent} bytes in {took:?}: {rate:.0} kB/s");
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
