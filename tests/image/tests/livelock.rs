//! Receive livelock: a wire with an endless flood for one brane leaves processor time to the others, to the
//! console and to that brane.
//!
//! The guest's clock follows its instructions, so the results do not depend on the host's speed: blue's rate
//! in a second of the guest, and the time of a ping between two other branes beside the flood. The debug
//! flavour is tested, whose driver is slow compared with the wire. A driver that receives whenever frames are
//! pending would leave almost nothing to the branes.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::operator::{Answer, Request};
use brane_abi::query::{Answer as Inside, Query};
use branes_qemu::Clock;
use image_tests::flood::{Target, flood};
use image_tests::guest::{Boot, Guest, Net};
use image_tests::lifecycle::Operator;
use image_tests::wire::Socket;
use image_tests::{BRANES, PATIENCE};
use std::time::Duration;

/// Frames of the flood.
const FRAMES: u64 = 300_000;
/// Minimum share of the frames received for blue that blue must process.
const LEAST_SHARE: f64 = 0.2;
/// Alternatively, minimum number of datagrams for blue in a second of the guest, which is a thousand million
/// instructions.
const LEAST_RATE: f64 = 11_000.0;
/// Number of pings from main to red, without a flood and in one run beside it.
const PINGS: u16 = 15;
/// The longest quantum of a domain while others wait (`tools/kernel/src/config.rs`).
const TURN: Duration = Duration::from_millis(5);
/// Quanta that a ping between main and red may take beside the flood: the driver's pause and blue's quantum,
/// in both directions.
const MOST_TURNS: u32 = 4;

/// Pings red from inside main. Returns the median round-trip time by the guest's clock.
fn round_trip(operator: &mut Operator) -> Result<Duration> {
    let mut times = Vec::new();
    for sequence in 0..PINGS {
        let request = Request::Query {
            brane: BRANES[0].name.to_owned(),
            query: Query::Ping {
                to: BRANES[1].v4.into(),
                sequence,
                size: 56,
                timeout_ms: 10_000,
            },
        };
        let Answer::Query(Inside::Echo { rtt_us, .. }) = operator.call(&request)? else {
            bail!("red does not answer main's ping {sequence}")
        };
        times.push(Duration::from_micros(rtt_us.into()));
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

#[test]
fn a_flood_for_one_brane_starves_nobody() -> Result<()> {
    let socket = Socket::new()?;
    let mut guest = Guest::boot(Boot {
        net: Net::Wire(socket.address()?),
        control: true,
        clock: Clock::Instructions,
        ..Boot::default()
    })?;
    let mut wire = socket.accept()?;
    let [main, _, blue] = &BRANES;
    let mut find = |ip| -> Result<Target> {
        let mac = wire.resolve(ip, PATIENCE)?;
        Ok(Target { mac, ip })
    };
    let (main, blue) = (find(main.v4)?, find(blue.v4)?);
    guest.wait_until_serving()?;
    ensure!(
        wire.ping(main.mac, main.ip, 0xffff, PATIENCE)?,
        "main does not answer"
    );
    let mut operator = Operator::new(&guest)?;
    let counted = |operator: &mut Operator| -> Result<[u64; 2]> {
        Ok([
            operator.counter("vnic2", "rx_frames")?,
            operator.counter("vnic2", "rx_dropped")?,
        ])
    };
    let quiet = round_trip(&mut operator)?;
    let mut seconds = 0.0;
    let mut got = [0; 2];
    let (heard, slowest) = flood(&mut wire, blue, main, FRAMES, || {
        let (before, start) = (counted(&mut operator)?, operator.clock("vnic1")?);
        let ping = round_trip(&mut operator)?;
        let list = guest.command("list")?;
        ensure!(list.contains("blue"), "no list of the branes:\n{list}");
        let (after, end) = (counted(&mut operator)?, operator.clock("vnic1")?);
        seconds += (end - start).as_secs_f64();
        for i in 0..2 {
            got[i] += after[i] - before[i];
        }
        Ok(ping)
    })?;
    let [given, dropped] = got;
    println!(
        "{} probes of main of each kind, answered {} and {}; flood of {} frames; to blue {given}, dropped at its ring {dropped} \
         in {seconds:.2} s of the guest; main pings red in {quiet:?} at rest, in {slowest:?} beside the flood",
        heard.sent,
        heard.pings.len(),
        heard.echoes.len(),
        heard.frames
    );
    ensure!(given + dropped > FRAMES / 20, "that was no flood");
    let rate = given as f64 / seconds;
    let share = given as f64 / (given + dropped) as f64;
    ensure!(
        share > LEAST_SHARE || rate > LEAST_RATE,
        "blue got {share:.2} of what the driver took for it, {rate:.0} datagrams in a second of the guest"
    );
    ensure!(
        slowest < MOST_TURNS * TURN,
        "main pings red in {slowest:?} beside the flood, in {quiet:?} at rest"
    );
    ensure!(heard.sent > 20, "there were hardly any probes");
    for (what, answered) in [("pings", heard.pings.len()), ("datagrams", heard.echoes.len())] {
        ensure!(
            answered == heard.sent,
            "main answered {answered} of {} {what}:\n{}",
            heard.sent,
            guest.log()
        );
    }
    ensure!(
        wire.ping(blue.mac, blue.ip, 0xfffe, PATIENCE)?,
        "blue does not answer any more"
    );
    for brane in &BRANES {
        let restarts = guest.restarts(brane.name)?;
        ensure!(restarts == 0, "{} was restarted:\n{}", brane.name, guest.log());
    }
    guest.untroubled().context("in the end")
}
