//! The command `capture`: expression, target, the records of the system, and the output.
//!
//! On the other side are the user, who is trusted with this machine, and the system, whose records are not trusted
//! ([`records`] checks them). Owns the clock that maps the system's time to the time of the day, and the counts of the interfaces.

pub mod expression;
pub mod output;
pub mod records;

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use brane_abi::capture::{Capture, End, Interface, MAX_SNAPLEN, Reader as Kind};
use brane_abi::operator::{Answer, Names, Request};
use operator_cli::capture::{CONSOLE_TAG, Options, Place, ended, summary};
use operator_cli::error::{self, Error};
use operator_cli::json;
use operator_cli::table_layout::printable;

use crate::operator::{Failure, Operator, System};
use crate::remote::Follower;
use crate::{REFUSED, print, print_error};
use output::{Counts, Lines, Output, Pcapng, name};
use records::{Event, Frame, Records};

/// Runs `capture`. Returns the exit status.
pub fn run(options: &Options, as_json: bool, system: &mut System) -> u8 {
    let programs = match options.words.is_empty() {
        true => None,
        false => match expression::compile(&options.expression()) {
            Ok(programs) => Some(programs),
            Err(e) => return print_error(&e),
        },
    };
    if options.write.as_deref() == Some("-") && io::stdout().is_terminal() {
        return print_error(&Error::new(
            "standard output is a terminal, which cannot show a file of frames",
            "name a file, or write | wireshark -k -i - behind it",
        ));
    }
    let began = begin(options, programs.as_ref(), system);
    let capture = match began {
        Ok(capture) => capture,
        Err(e) => return refused(&e, as_json),
    };
    let output = match open(options, as_json, capture.snaplen) {
        Ok(output) => output,
        Err(e) if e.kind() == ErrorKind::BrokenPipe => return 0,
        Err(e) => return refused(&file_error(options, &e), as_json),
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let _ = signal_hook::flag::register(signal, stop.clone());
    }
    let mut reader = Reader::new(output, options.count, stop);
    let result = system.capture(&capture, &mut reader);
    reader.finish();
    eprint!("{}", printable(&reader.report()));
    match (result, reader.failure) {
        (_, Some(e)) if e.kind() == ErrorKind::BrokenPipe => 0,
        (_, Some(e)) => refused(&file_error(options, &e), as_json),
        (Ok(Answer::Captured(end)), None) => {
            if end != End::Stopped {
                eprintln!("{}", ended(end));
            }
            0
        }
        (Ok(_), None) => 0,
        (Err(failure), None) => refused(&failed(failure), as_json),
    }
}

fn failed(failure: Failure) -> Error {
    match failure {
        Failure::Refused(refusal) => refusal.into(),
        Failure::Line(why) => Error::coded(error::NO_SYSTEM, why, ""),
    }
}

fn refused(e: &Error, as_json: bool) -> u8 {
    if as_json {
        print(&format!("{}\n", json::error(e)));
    }
    eprintln!("{}", printable(&e.to_string()));
    REFUSED
}

fn file_error(options: &Options, e: &io::Error) -> Error {
    let file = match options.write.as_deref() {
        None | Some("-") => "standard output",
        Some(file) => file,
    };
    Error::coded(
        error::BAD_FILE,
        format!("{file}: {e}"),
        "name a file that can be written",
    )
}

/// Resolves the target and stages the programs. Returns the capture to request.
fn begin(
    options: &Options,
    programs: Option<&operator_cli::capture::Programs>,
    system: &mut dyn Operator,
) -> Result<Capture, Error> {
    let names = match options.target {
        Place::Name(_) => match system.call(&Request::Names).map_err(failed)? {
            Answer::Names(names) => names,
            _ => Names::default(),
        },
        _ => Names::default(),
    };
    let target = options.target.resolve(&names)?;
    for request in programs.iter().flat_map(|programs| programs.stages()) {
        system.call(&request).map_err(failed)?;
    }
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|e| Error::new(format!("this machine gives no random numbers: {e}"), ""))?;
    Ok(Capture {
        // The console has the tags up to its own.
        tag: u32::from_le_bytes(random).max(CONSOLE_TAG + 1),
        target,
        reader: Kind::Line,
        snaplen: options.snaplen.unwrap_or(MAX_SNAPLEN),
        staged: programs.is_some(),
    })
}

fn open(options: &Options, as_json: bool, snaplen: u32) -> io::Result<Box<dyn Output>> {
    Ok(match options.write.as_deref() {
        None => Box::new(Lines::new(BufWriter::new(io::stdout()), as_json)),
        Some("-") => Box::new(Pcapng::new(BufWriter::new(io::stdout()), snaplen)?),
        Some(file) => Box::new(Pcapng::new(BufWriter::new(File::create(file)?), snaplen)?),
    })
}

/// A moment in the system's time and in the time of the day.
#[derive(Clone, Copy, Debug)]
struct Clock {
    guest_ns: u64,
    time: Duration,
}

impl Clock {
    fn now(guest_ns: u64) -> Clock {
        Clock {
            guest_ns,
            time: now(),
        }
    }

    /// Maps a moment of the system. A moment before 1970 becomes 0, and one behind the range of nanoseconds the last in it.
    fn map(self, guest_ns: u64) -> Duration {
        let since = i128::from(guest_ns) - i128::from(self.guest_ns);
        let at = i128::try_from(self.time.as_nanos()).unwrap_or(0) + since;
        Duration::from_nanos(u64::try_from(at.clamp(0, i64::MAX.into())).unwrap_or(0))
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// An interface of the capture.
struct Seen {
    interface: Interface,
    counts: Counts,
}

/// Follows a capture: passes its frames to the output and counts them.
pub struct Reader {
    records: Records,
    output: Box<dyn Output>,
    interfaces: Vec<Seen>,
    clock: Option<Clock>,
    /// Frames that may still be written; `None` for no limit.
    left: Option<u64>,
    stop: Arc<AtomicBool>,
    /// The output has failed, so the capture ends.
    pub failure: Option<io::Error>,
    /// Messages that were not printed yet.
    messages: String,
}

impl Reader {
    /// Creates a reader. `count` is the number of frames after which it stops, and `stop` a signal to stop.
    pub fn new(output: Box<dyn Output>, count: Option<u64>, stop: Arc<AtomicBool>) -> Reader {
        Reader {
            records: Records::default(),
            output,
            interfaces: Vec::new(),
            clock: None,
            left: count,
            stop,
            failure: None,
            messages: String::new(),
        }
    }

    fn event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Time(ns) => {
                self.clock.get_or_insert_with(|| Clock::now(ns));
            }
            Event::Interface(interface) => {
                self.output.interface(&interface)?;
                self.interfaces.push(Seen {
                    interface,
                    counts: Counts::default(),
                });
            }
            Event::Frame(frame) => self.frame(&frame)?,
            Event::Gone {
                interface,
                dropped,
                matched,
                end,
            } => {
                let Some(seen) = self.interfaces.get_mut(interface) else {
                    return Ok(());
                };
                seen.counts.dropped = dropped;
                seen.counts.matched = matched;
                if end != Some(End::Stopped) {
                    let reason = end.map_or("capture ended", ended);
                    self.messages += &format!("{}: {reason}\n", name(&seen.interface));
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        let Some(seen) = self.interfaces.get_mut(frame.interface) else {
            return Ok(());
        };
        if self.left == Some(0) {
            return Ok(());
        }
        self.left = self.left.map(|left| left - 1);
        // Without a record of the time, the first frame is the one of this moment.
        let clock = *self.clock.get_or_insert_with(|| Clock::now(frame.time_ns));
        let lost = frame.dropped.saturating_sub(seen.counts.dropped);
        seen.counts.captured += 1;
        seen.counts.dropped = frame.dropped;
        seen.counts.matched = seen.counts.captured.saturating_add(frame.dropped);
        self.output
            .frame(frame, &seen.interface, clock.map(frame.time_ns), lost)
    }

    fn attempt(&mut self, result: io::Result<()>) {
        if let Err(e) = result {
            self.failure.get_or_insert(e);
        }
    }

    /// Writes the statistics of all interfaces and what is left.
    pub fn finish(&mut self) {
        for number in 0..self.interfaces.len() {
            if self.failure.is_none() {
                let result = self
                    .output
                    .statistics(number, self.interfaces[number].counts, now());
                self.attempt(result);
            }
        }
        if self.failure.is_none() {
            let result = self.output.flush();
            self.attempt(result);
        }
    }

    /// Returns the counts for the user.
    pub fn report(&self) -> String {
        let mut out = self.messages.clone();
        for seen in &self.interfaces {
            out += &summary(&name(&seen.interface), seen.counts.captured, seen.counts.dropped);
        }
        let faults = self.records.faults();
        if faults.lost > 0 {
            out += &format!("{} parts of frames lost on the control line\n", faults.lost);
        }
        if faults.malformed > 0 {
            out += &format!(
                "{} records without sense or interface ignored\n",
                faults.malformed
            );
        }
        out
    }
}

impl Follower for Reader {
    fn fragment(&mut self, body: &[u8]) {
        if let Some(event) = self.records.fragment(body)
            && self.failure.is_none()
        {
            let result = self.event(event);
            self.attempt(result);
        }
    }

    fn idle(&mut self) -> bool {
        if self.failure.is_none() {
            let result = self.output.flush();
            self.attempt(result);
        }
        let messages = std::mem::take(&mut self.messages);
        // A closed standard error must not end the capture.
        let _ = io::stderr().write_all(printable(&messages).as_bytes());
        self.failure.is_some() || self.left == Some(0) || self.stop.load(Ordering::Relaxed)
    }

    fn expects_more(&self) -> bool {
        self.records.sees() && self.failure.is_none()
    }
}

#[cfg(test)]
mod tests;
