//! The lines to the host: a session for each, of which at most one is in use.
//!
//! The machine may have a virtio-console device, COM2, or both. On each can be a program of the host, which is not trusted. The
//! program that began a session last has the system's operator; the session on the other line ends, as it would if the new program
//! had opened the same line. Each line has its own decoder and its own frames to send, so frames of two lines never mix.

use crate::captures::Captures;
use crate::{Manager, Session};

/// A line to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The virtio-console device.
    Console,
    /// The second serial line.
    Uart,
}

impl Line {
    /// All lines.
    pub const ALL: [Line; 2] = [Line::Console, Line::Uart];

    fn other(self) -> Line {
        match self {
            Line::Console => Line::Uart,
            Line::Uart => Line::Console,
        }
    }
}

/// The sessions of all lines.
#[derive(Default)]
pub struct Sessions([Session; Line::ALL.len()]);

impl Sessions {
    /// Creates the sessions before the first hello.
    pub fn new() -> Sessions {
        Sessions::default()
    }

    /// Returns the session of a line.
    pub fn of(&mut self, line: Line) -> &mut Session {
        &mut self.0[line as usize]
    }

    /// Handles bytes from a line. Calls the manager for each new request in them.
    pub fn receive(&mut self, line: Line, bytes: &[u8], manager: &mut impl Manager) {
        let before = self.of(line).number();
        self.of(line).receive(bytes, manager);
        if self.of(line).number() != before {
            let other = self.of(line.other());
            other.end(manager);
            let mut captures = core::mem::take(&mut other.captures);
            self.of(line).captures.take_over(&mut captures);
        }
    }

    /// Returns the captures of the line in use, which have the branes' regions.
    pub fn captures(&mut self) -> &mut Captures {
        let Sessions([console, uart]) = self;
        match uart.captures.is_unconnected() {
            true => &mut console.captures,
            false => &mut uart.captures,
        }
    }

    /// Returns true if a job is under way. Only then the manager's notifications matter.
    pub fn waits(&self) -> bool {
        self.0.iter().any(Session::waits)
    }

    /// Fetches the results of all jobs under way. Called when the manager has notified.
    pub fn poll(&mut self, manager: &mut impl Manager) {
        self.0.iter_mut().for_each(|session| session.poll(manager));
    }

    /// Passes bytes for a line to `sink`, which returns how many it took. Ends when it takes none or none are left.
    pub fn flush(&mut self, line: Line, sink: impl FnMut(&[u8]) -> usize) {
        self.of(line).flush(sink);
    }
}
