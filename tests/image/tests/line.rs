//! The control line over the virtio-console device: large answers arrive intact, `branectl` works over both transports, sessions move
//! between the lines, and a host that sends noise or stops reading holds nobody up.
//!
//! `lifecycle_line.rs` has the tests of COM2. `figures_of_both_lines` prints rates by the host's
//! clock and checks nothing: `cargo xtask test --figures line`.

use anyhow::{Context, Result, ensure};
use brane_abi::operator::{JOBS, Request};
use brane_abi::remote::{Kind, MAX_BODY, encode};
use branes_branectl::remote::{Error, Line};
use image_tests::guest::{Boot, Guest, tool};
use image_tests::lifecycle::{Operator, served, vnic};
use image_tests::line::{Answers, End};
use image_tests::ping::Train;
use image_tests::{BRANES, PATIENCE, probe};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

/// Bytes of answers that a test transfers.
const TRANSFER: usize = 16 << 20;
/// Devices that are added to make an answer long.
const DEVICES: usize = 40;

fn boot(control: bool, uart_line: bool) -> Result<Guest> {
    let mut guest = Guest::boot(Boot {
        config: "default",
        release: true,
        control,
        uart_line,
        ..Boot::default()
    })?;
    guest.wait_until_serving()?;
    Ok(guest)
}

/// Opens a session and fetches the longest answer that there is, all counters, under as many numbers as the guest keeps answers.
/// Devices that no brane has make it longer.
fn counters(guest: &Guest) -> Result<(End, Answers)> {
    let mut operator = Operator::new(guest)?;
    for number in 0..DEVICES {
        operator.device(vnic(&format!("more-{number}")))?;
    }
    drop(operator);
    let mut end = End::open(guest)?;
    let answers = end.fetch(1..=JOBS as u32, &Request::Stats(None))?;
    let shortest = answers.values().map(Vec::len).min();
    ensure!(
        shortest > Some(MAX_BODY),
        "an answer of {shortest:?} bytes is in one frame"
    );
    Ok((end, answers))
}

fn branectl_lists(guest: &Guest) -> Result<()> {
    let output = Command::new(tool("branectl")?)
        .arg("--socket")
        .arg(guest.control_path()?)
        .arg("list")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && BRANES.iter().all(|brane| text.contains(brane.name)),
        "{output:?}\n{}",
        guest.log()
    );
    Ok(())
}

#[test]
fn branectl_works_over_the_device_and_without_it_over_com2() -> Result<()> {
    let no_device = "there is no virtio-console device at PCI 00:19.0";
    for (control, uart_line) in [(true, false), (false, true)] {
        let guest = boot(control, uart_line)?;
        branectl_lists(&guest)?;
        branectl_lists(&guest)?;
        let log = guest.log();
        ensure!(log.contains(no_device) != control, "{log}");
        ensure!(log.contains("virtio-console at PCI 00:19.0") == control, "{log}");
        guest.untroubled()?;
    }
    Ok(())
}

#[test]
fn large_answers_arrive_intact_beside_pings_of_which_none_is_lost() -> Result<()> {
    let (ns, guest) = served("default")?;
    let (mut end, known) = counters(&guest)?;
    ns.enter(|| -> Result<()> {
        let trains = BRANES.map(|brane| Train::start(brane.v4.into(), Duration::from_millis(10)));
        let bytes = end.stream(&known, TRANSFER);
        for (brane, train) in BRANES.iter().zip(trains) {
            train?.stop_unharmed(brane.name)?;
        }
        ensure!(bytes? >= TRANSFER);
        Ok(())
    })?;
    ensure!(
        end.decoder.garbled == 0,
        "{} frames were garbled",
        end.decoder.garbled
    );
    guest.untroubled()
}

#[test]
fn a_host_that_stops_reading_stops_nobody_else_and_the_line_recovers() -> Result<()> {
    /// More than the socket, the device's buffers and the ring hold.
    const REQUESTED: usize = 4 << 20;
    /// The guest's part of that: what the device has, and the ring. It can only be filled while the host does not read.
    const HELD: usize = 2 * (256 << 10);
    let mut guest = boot(true, false)?;
    let (mut end, known) = counters(&guest)?;
    let each: usize = known.values().map(Vec::len).sum();
    for _ in 0..REQUESTED / each {
        for number in known.keys() {
            end.stream.write_all(&encode(Kind::Request, *number, b""))?;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for i in 0..BRANES.len() {
        let ports = guest.forwarded(i);
        probe::udp_echo(ports.udp_echo)?;
        probe::tcp_echo(ports.tcp_echo, 100_000)?;
    }
    guest.command("list")?;
    let mut stopped = 0;
    while end.frames(Duration::from_millis(500), |frame| {
        stopped += frame.body.len();
        true
    })? {}
    ensure!(stopped > HELD, "only {stopped} bytes were held back");
    ensure!(stopped < REQUESTED, "all of {stopped} bytes were held somewhere");
    // Frames that were begun were sent to their ends.
    ensure!(
        end.decoder.garbled == 0,
        "{} frames were garbled",
        end.decoder.garbled
    );
    ensure!(end.stream(&known, 1 << 20)? >= 1 << 20);
    ensure!(
        end.decoder.garbled == 0,
        "{} frames were garbled",
        end.decoder.garbled
    );
    drop(end);
    Operator::new(&guest)?.list(false)?;
    guest.untroubled()
}

#[test]
fn noise_from_the_host_ends_with_the_next_frame() -> Result<()> {
    let guest = boot(true, false)?;
    for round in 1..4_u8 {
        let mut end = End::open(&guest)?;
        end.stream.write_all(&vec![round; 1 << 20])?;
        end.stream.write_all(&probe::noise(round.into(), 1 << 20))?;
        end.stream.write_all(&[0])?;
        let body = minicbor::to_vec(Request::Uptime)?;
        end.stream.write_all(&encode(Kind::Request, 1, &body))?;
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

#[test]
fn the_line_that_said_hello_last_has_the_session() -> Result<()> {
    let guest = boot(true, true)?;
    let mut console = guest.control()?;
    console.call(&Request::Uptime)?;
    let mut uart = Line::over(guest.uart_stream()?)?;
    uart.call(&Request::Uptime)?;
    let ended = console.call(&Request::Uptime);
    ensure!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    uart.call(&Request::List { fresh: false })?;
    drop(console);
    let mut console = guest.control()?;
    console.call(&Request::List { fresh: false })?;
    let ended = uart.call(&Request::Uptime);
    ensure!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    guest.untroubled()
}

/// Prints the rate of answers that the guest keeps, from the guest to the host.
fn print_rate(name: &str, guest: &Guest, bytes: usize) -> Result<()> {
    let (mut end, known) = counters(guest)?;
    let start = Instant::now();
    let (before, _) = guest.processor_times()?;
    let all = end.stream(&known, bytes)? as f64;
    let took = start.elapsed().as_secs_f64();
    let (after, _) = guest.processor_times()?;
    let answer = known.values().next().context("no answer")?.len();
    println!(
        "{name}: {all} bytes in answers of {answer}: {:.1} kB/s, {:.2} us of QEMU's processor thread for each KiB",
        all / took / 1e3,
        (after - before).as_secs_f64() * 1e6 / (all / 1024.0)
    );
    Ok(())
}

#[test]
#[ignore = "a figure: it judges nothing"]
fn figures_of_both_lines() -> Result<()> {
    print_rate("virtio-console", &boot(true, false)?, 128 << 20)?;
    print_rate("COM2", &boot(false, true)?, 256 << 10)
}
