//! A running QEMU: its console as text with deadlines, and its end. Dropping the value ends QEMU.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
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

/// A QEMU process that this process started.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    input: Option<ChildStdin>,
    console: Arc<Stream>,
    messages: Arc<Stream>,
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
    fn follow(mut source: impl Read + Send + 'static) -> Arc<Stream> {
        let stream = Arc::new(Stream::default());
        let writer = stream.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = match source.read(&mut buffer) {
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                    Ok(count) if count > 0 => count,
                    _ => break,
                };
                let mut text = writer.lock();
                text.bytes.extend_from_slice(&buffer[..count]);
                if text.bytes.len() > KEPT {
                    let excess = text.bytes.len() - KEPT / 2;
                    text.bytes.drain(..excess);
                    text.forgotten += excess as u64;
                }
                writer.changed.notify_all();
            }
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

impl Machine {
    /// Starts QEMU with this machine, after [`Machine::check`].
    ///
    /// With the console at [`Serial::Harness`] QEMU's own messages are kept for errors; otherwise they go to
    /// this process's standard error.
    pub fn start(&self) -> Result<Qemu, Error> {
        self.check()?;
        let mut command = self.command();
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
        let mut child = command.spawn().map_err(|cause| {
            let program = crate::host::QEMU.to_owned();
            Error::Start { program, cause }
        })?;
        let console = child.stdout.take().map_or_else(Stream::closed, Stream::follow);
        let messages = child.stderr.take().map_or_else(Stream::closed, Stream::follow);
        let input = child.stdin.take();
        Ok(Qemu {
            child,
            input,
            console,
            messages,
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

    /// Whether QEMU has ended, and how.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::io("ask for QEMU's state"))
    }

    /// Waits until QEMU ends by itself.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.child.wait().map_err(Error::io("wait for QEMU"))
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
