//! A running QEMU: its console as text with deadlines, and its end. Dropping the value ends QEMU.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, Machine, Serial};

/// Time limit for QEMU to end when asked to. It is killed afterwards.
const GRACE: Duration = Duration::from_secs(3);
/// Interval for checking whether a process has ended.
const POLL: Duration = Duration::from_millis(10);
/// Lines of the console shown with an error.
const TAIL_LINES: usize = 25;
/// Maximum of bytes kept of one stream. The oldest bytes are dropped first.
const KEPT: usize = 16 << 20;

/// A filter for the console's output. Receives each piece as it arrives, and returns the bytes to show instead.
pub type Filter = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send>;

/// A QEMU process that this process started.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    input: Option<ChildStdin>,
    console: Arc<Stream>,
    messages: Arc<Stream>,
    /// The thread that forwards the console to this process's standard output.
    passing: Option<JoinHandle<()>>,
    /// Bytes of the console that `wait_for` has consumed.
    seen: u64,
}

/// Output of a stream so far.
#[derive(Debug, Default)]
struct Stream {
    state: Mutex<Text>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// Bytes dropped before the first of `bytes`.
    forgotten: u64,
    closed: bool,
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, Text> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows `source` to its end in a thread of its own.
    fn follow(source: impl Read + Send + 'static, filter: Option<Filter>) -> Arc<Stream> {
        let stream = Arc::new(Stream::default());
        let writer = stream.clone();
        thread::spawn(move || {
            pieces(source, filter, |piece| {
                let mut text = writer.lock();
                text.bytes.extend_from_slice(piece);
                if text.bytes.len() > KEPT {
                    let excess = text.bytes.len() - KEPT / 2;
                    text.bytes.drain(..excess);
                    text.forgotten += excess as u64;
                }
                writer.changed.notify_all();
            });
            writer.lock().closed = true;
            writer.changed.notify_all();
        });
        stream
    }

    fn closed() -> Arc<Stream> {
        let text = Text {
            closed: true,
            ..Text::default()
        };
        Arc::new(Stream {
            state: Mutex::new(text),
            changed: Condvar::new(),
        })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }
}

/// Reads `source` to its end and forwards each piece through `filter` to `sink`.
fn pieces(mut source: impl Read, mut filter: Option<Filter>, mut sink: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    loop {
        let count = match source.read(&mut buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Ok(count) if count > 0 => count,
            _ => break,
        };
        match &mut filter {
            Some(filter) => sink(&filter(&buffer[..count])),
            None => sink(&buffer[..count]),
        }
    }
}

/// Writes to this process's standard output. QEMU makes a terminal non-blocking for every process that has it open,
/// so a write to a full one is repeated. If the reading end is closed, the output is dropped.
fn show(mut bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return,
            Ok(count) => bytes = &bytes[count..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
            Err(_) => return,
        }
    }
    while out.flush().is_err_and(|e| e.kind() == ErrorKind::WouldBlock) {
        thread::sleep(POLL);
    }
}

impl Machine {
    /// Starts QEMU with this machine, after [`Machine::check`].
    ///
    /// With the console at [`Serial::Harness`] QEMU's own messages are kept for errors; otherwise they go to
    /// this process's standard error.
    pub fn start(&self) -> Result<Qemu, Error> {
        self.start_through(None)
    }

    /// Starts QEMU as [`Machine::start`] does. A filter applies if the console is at the harness or at this
    /// process's standard output.
    pub fn start_through(&self, filter: Option<Filter>) -> Result<Qemu, Error> {
        self.check()?;
        let mut command = self.command();
        let passes =
            filter.is_some() && matches!(self.console, Serial::Terminal | Serial::Stdio | Serial::Stdout);
        if passes {
            command.stdout(Stdio::piped());
        }
        match self.console {
            Serial::Terminal | Serial::Stdio => {}
            Serial::Harness => {
                command
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped());
            }
            Serial::Stdout | Serial::File(_) | Serial::Unix(_) | Serial::Pty => {
                command.stdin(Stdio::null());
            }
        }
        if self.gdb.is_some() && self.console != Serial::Terminal {
            // Ctrl-C at the terminal belongs to the debugger, which then interrupts the guest.
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|cause| {
            let program = crate::host::QEMU.to_owned();
            Error::Start { program, cause }
        })?;
        let mut passing = None;
        let console = match child.stdout.take() {
            Some(output) if passes => {
                passing = Some(thread::spawn(move || pieces(output, filter, show)));
                Stream::closed()
            }
            Some(output) => Stream::follow(output, filter),
            None => Stream::closed(),
        };
        let messages = child
            .stderr
            .take()
            .map_or_else(Stream::closed, |stream| Stream::follow(stream, None));
        let input = child.stdin.take();
        Ok(Qemu {
            child,
            input,
            console,
            messages,
            passing,
            seen: 0,
        })
    }
}

impl Qemu {
    /// Returns QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the console's output so far.
    pub fn log(&self) -> String {
        self.console.text()
    }

    /// Waits until the console shows `text` after the end of the previous match. Returns the output up to the
    /// end of `text`.
    ///
    /// # Errors
    /// The time is over, or QEMU has ended. The error has the console's last lines.
    pub fn wait_for(&mut self, text: &str, within: Duration) -> Result<String, Error> {
        let deadline = Instant::now() + within;
        let console = self.console.clone();
        let mut state = console.lock();
        // Searched bytes are not searched again.
        let mut searched = self.seen;
        loop {
            let from = searched.saturating_sub(state.forgotten) as usize;
            let unsearched = state.bytes.get(from..).unwrap_or_default();
            if let Some(at) = find(unsearched, text.as_bytes()) {
                let start = self.seen.saturating_sub(state.forgotten) as usize;
                let end = from + at + text.len();
                self.seen = state.forgotten + end as u64;
                return Ok(String::from_utf8_lossy(&state.bytes[start..end]).into_owned());
            }
            let end = state.forgotten + state.bytes.len() as u64;
            searched = searched.max(end.saturating_sub(text.len() as u64));
            if state.closed {
                drop(state);
                return Err(self.ended());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Silent {
                    text: text.to_owned(),
                    within,
                    tail: tail(&String::from_utf8_lossy(&state.bytes)),
                });
            }
            state = console
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Skips all output so far: [`Self::wait_for`] only finds later output.
    pub fn skip_shown(&mut self) {
        let state = self.console.lock();
        self.seen = state.forgotten + state.bytes.len() as u64;
    }

    /// Sends bytes to the console.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let input = self.input.as_mut().ok_or(Error::NoConsole)?;
        input
            .write_all(bytes)
            .and_then(|()| input.flush())
            .map_err(Error::io("write to the console"))
    }

    /// Sends a line to the console, followed by the Enter key.
    pub fn send_line(&mut self, line: &str) -> Result<(), Error> {
        self.send(format!("{line}\r").as_bytes())
    }

    /// Returns QEMU's exit status if it has ended. All output of its console has then been shown.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        let status = self.child.try_wait().map_err(Error::io("ask for QEMU's state"))?;
        if status.is_some() {
            self.finish_passing();
        }
        Ok(status)
    }

    /// Waits until QEMU ends by itself.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        let status = self.child.wait().map_err(Error::io("wait for QEMU"))?;
        self.finish_passing();
        Ok(status)
    }

    fn finish_passing(&mut self) {
        if let Some(passing) = self.passing.take() {
            // A panic of that thread has already been printed.
            let _ = passing.join();
        }
    }

    /// Ends QEMU: asks it to end, and kills it if it does not end soon. Does nothing if it has ended already.
    pub fn end(&mut self) -> Result<ExitStatus, Error> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // An error means that the process is gone, which the loop below detects.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        self.child.kill().map_err(Error::io("kill QEMU"))?;
        self.wait()
    }

    /// Returns the error for a QEMU whose console has closed.
    fn ended(&mut self) -> Error {
        let status = match self.end() {
            Ok(status) => status,
            Err(error) => return error,
        };
        let messages = [self.messages.text(), tail(&self.console.text())].join("\n");
        Error::Ended { status, messages }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_across_reads() {
        assert_eq!(find(b"abcabd", b"abd"), Some(3));
        assert_eq!(find(b"ab", b"abc"), None);
        assert_eq!(find(b"ab", b""), Some(0));
    }
}
