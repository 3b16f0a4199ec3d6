//! Floods of the services above the branes: a client, a brane and an operator call and notify as fast as they
//! can. The time that a service spends on them must not come from other domains. This also holds for a flood
//! that arrives at a serial line from outside.
//!
//! One boot: the floods alternate by the clock (`test_pds_core::phases`), while two clients compute forever
//! and report their progress. Their fair share is their progress in the phases before and after a flood, in
//! which the flooding client only computes.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Boot, Guest, Net, PROMPT};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::{BRANES, until};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use test_pds_core::phases::Phase;

/// Minimum part of its fair share that a neighbor keeps beside each flood.
const KEPT: f64 = 0.8;
/// Time between two pings: 100 in a second.
const GAP: Duration = Duration::from_millis(10);
/// Number of times that each flood runs.
const ROUNDS: u64 = 3;
/// Time limit for all phases, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// The byte that a terminal sends for Ctrl-C. The console discards the line.
const CONTROL_C: u8 = 3;

/// Returns the meters' results: for each phase number its name and the sum of their counts, if both have
/// reported.
fn measured(log: &str) -> BTreeMap<u64, (String, u64)> {
    let mut all: BTreeMap<u64, (String, u64, u32)> = BTreeMap::new();
    for line in log.lines() {
        let Some((_, said)) = line.split_once("] meter: phase ") else {
            continue;
        };
        let mut words = said.split_whitespace();
        let mut next = || words.next().unwrap_or_default().trim_end_matches(':');
        if let (Ok(number), name, Ok(count)) = (next().parse(), next(), next().parse::<u64>()) {
            let entry = all.entry(number).or_insert((name.to_owned(), 0, 0));
            (entry.1, entry.2) = (entry.1 + count, entry.2 + 1);
        }
    }
    let whole = all.into_iter().filter(|(_, (.., meters))| *meters == 2);
    whole
        .map(|(number, (name, count, _))| (number, (name, count)))
        .collect()
}

/// Work of the meters in each phase, for each second of the emulator's processor time. Other work on the host
/// takes a different amount of processor time from each phase, so counts alone cannot be compared.
#[derive(Default)]
struct Rates {
    all: BTreeMap<u64, (String, f64)>,
    /// The last phase that both meters have logged, and the processor time of its end.
    last: Option<(u64, Duration)>,
}

impl Rates {
    /// Reads the log for a phase that has ended since the last call. Omits phases whose begin or end was seen
    /// too late.
    fn read_log(&mut self, guest: &Guest) -> Result<()> {
        let mut counts = measured(&guest.log());
        let (now, ended) = (guest.processor_time()?, counts.pop_last());
        let Some((number, (name, count))) = ended else {
            return Ok(());
        };
        match self.last {
            Some((last, _)) if last == number => return Ok(()),
            Some((last, begin)) if last + 1 == number => {
                let rate = count as f64 / (now - begin).as_secs_f64();
                self.all.insert(number, (name, rate));
            }
            _ => {}
        }
        self.last = Some((number, now));
        Ok(())
    }

    /// Polls until `phases` more phases have ended. Calls `between` before each poll.
    fn watch(
        &mut self,
        guest: &mut Guest,
        phases: u64,
        mut between: impl FnMut(&mut Guest) -> Result<()>,
    ) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        self.read_log(guest)?;
        let begun = self.last.map_or(0, |(last, _)| last);
        while self.last.is_none_or(|(last, _)| last < begun + phases) {
            ensure!(Instant::now() < end, "no further phases:\n{}", guest.log());
            between(guest)?;
            self.read_log(guest)?;
        }
        Ok(())
    }

    /// Returns the meters' rate beside a flood, as a part of their rate in the phases before and after it.
    fn kept(&self, flood: Phase) -> Option<f64> {
        let (mut beside, mut fair) = (0.0, 0.0);
        for (number, (_, rate)) in self.all.iter().filter(|(_, (name, _))| name == flood.name()) {
            if let (Some((_, before)), Some((_, after))) =
                (self.all.get(&(number - 1)), self.all.get(&(number + 1)))
            {
                (beside, fair) = (beside + 2.0 * rate, fair + before + after);
            }
        }
        (fair != 0.0).then(|| beside / fair)
    }

    /// Returns the mean rate of the phases in which the client computes.
    fn beside_client(&self) -> f64 {
        let rates: Vec<_> = self
            .all
            .values()
            .filter(|(name, _)| name == Phase::Spin.name())
            .map(|(_, rate)| rate)
            .collect();
        rates.iter().copied().sum::<f64>() / rates.len() as f64
    }
}

/// Types without end for seven phases. Returns the part of their fair share that the meters keep in the
/// phases in which the client computes. `fair` is their rate in those phases without typing.
///
/// The console computes for each typed byte and has its quanta like any other domain. So the fair share is a
/// quarter instead of a third of the processor.
fn kept_beside_typing(guest: &mut Guest, fair: f64) -> Result<f64> {
    let mut rates = Rates::default();
    rates.watch(guest, 7, |guest| {
        std::thread::sleep(Duration::from_millis(5));
        // Bytes in the pipe are consumed afterwards, so no more are sent than needed.
        guest.type_bytes(&[b'~'; 256])
    })?;
    // Discards the typed bytes, which are no command.
    guest.type_bytes(&[CONTROL_C])?;
    // The bytes in the pipe come first, at the pace that the console's line is allowed.
    guest.wait_for("^C", 3 * image_tests::PATIENCE)?;
    guest.wait_for(PROMPT, image_tests::PATIENCE)?;
    Ok(rates.beside_client() / (fair * 3.0 / 4.0))
}

/// The peer of the control line. It sends and receives without end.
struct Outside {
    stream: UnixStream,
    threads: [JoinHandle<u64>; 2],
}

impl Outside {
    fn start(guest: &Guest) -> Result<Outside> {
        let stream = guest.control_stream()?;
        let (mut reader, mut writer) = (stream.try_clone()?, stream.try_clone()?);
        let taken = std::thread::spawn(move || {
            let (mut buffer, mut all) = ([0; 4096], 0);
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                all += count as u64;
            }
            all
        });
        let sent = std::thread::spawn(move || {
            let mut all = 0;
            while let Ok(count @ 1..) = writer.write(&[b'~'; 4096]) {
                all += count as u64;
            }
            all
        });
        Ok(Outside {
            stream,
            threads: [taken, sent],
        })
    }

    /// Closes the line. Returns the numbers of bytes received and sent.
    fn stop(self) -> Result<[u64; 2]> {
        self.stream.shutdown(Shutdown::Both)?;
        Ok(self
            .threads
            .map(|thread| thread.join().expect("a thread of the line")))
    }
}

#[test]
fn floods_of_calls_and_notifications_leave_the_neighbours_their_share() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut guest = Guest::boot(Boot {
        config: "floods",
        net: Net::Tap(&ns),
        release: true,
        uart_line: true,
        ..Boot::default()
    })?;
    let outside = Outside::start(&guest)?;
    let [main, red, _] = &BRANES;
    let (rates, typing) = ns.enter(|| -> Result<_> {
        for brane in [main, red] {
            Pinger::new(brane.v4.into())?
                .until_answer(Duration::from_secs(60))?
                .with_context(|| format!("{} does not answer:\n{}", brane.name, guest.log()))?;
        }
        let trains = [main, red].map(|brane| Train::start(brane.v4.into(), GAP));
        let mut rates = Rates::default();
        let phases = 2 * ROUNDS * Phase::FLOODS.len() as u64;
        rates.watch(&mut guest, phases + 3, |_| {
            std::thread::sleep(Duration::from_millis(10));
            Ok(())
        })?;
        let typing = kept_beside_typing(&mut guest, rates.beside_client());
        for (brane, train) in [main, red].into_iter().zip(trains) {
            train?.stop_unharmed(brane.name)?;
        }
        Ok((rates, typing))
    })?;
    let [came, went] = outside.stop()?;
    eprintln!("the control line carried {came} bytes out and {went} in");
    ensure!(came > 1 << 16 && went > 1 << 16, "no flood of the control line");
    let log = guest.log();
    let mut least = Vec::new();
    for phase in Phase::FLOODS {
        let kept = rates
            .kept(phase)
            .with_context(|| format!("no phase {}:\n{log}", phase.name()))?;
        eprintln!("beside {}: {kept:.2} of the fair share", phase.name());
        if kept < KEPT {
            least.push(phase.name());
        }
        // The flooding program ran, and continued after it was suspended.
        let flooded = match phase {
            // The line has no room.
            Phase::Log => "flood: 0123".to_owned(),
            _ => format!(" times {}", phase.name()),
        };
        // The brane is restarted because of its reports.
        ensure!(
            phase == Phase::Reports || log.contains(&flooded),
            "no flood {}:\n{log}",
            phase.name()
        );
    }
    ensure!(
        least.is_empty(),
        "neighbours keep less than {KEPT} of their share beside {least:?}:\n{log}"
    );
    let typing = typing?;
    eprintln!("beside typing: {typing:.2} of the fair share");
    ensure!(
        typing >= KEPT,
        "neighbours keep {typing:.2} of their share beside typing"
    );
    // Other offences of the same child within ten seconds are only counted.
    for suspended in ["timer", "manager"] {
        ensure!(
            log.contains(&format!("has used up its budget at {suspended}")),
            "no domain was suspended for its load on {suspended}:\n{log}"
        );
    }
    for brane in [main, red] {
        ensure!(
            guest.restarts(brane.name)? == 0,
            "{} was restarted:\n{}",
            brane.name,
            guest.log()
        );
    }
    let failed = log
        .lines()
        .filter(|line| line.contains(" failed: ") || line.contains(" hangs: "));
    let others: Vec<_> = failed.filter(|line| !line.contains("brane `blue`")).collect();
    ensure!(
        others.is_empty(),
        "domains besides the offender failed: {others:?}\n{log}"
    );
    a_new_tenant_finds_nothing(&mut guest)
}

/// Gives red's domain to another tenant and checks that no mark is left. Red's client has computed with marks
/// in all registers and has logged.
fn a_new_tenant_finds_nothing(guest: &mut Guest) -> Result<()> {
    guest.command("delete red --now")?;
    let found = || {
        let nothing = "a new tenant finds 0 marks in registers and 0 lines";
        Ok(guest.log().contains(nothing).then_some(()))
    };
    until(found, || {
        format!("a next tenant that finds nothing:\n{}", guest.log())
    })
}
