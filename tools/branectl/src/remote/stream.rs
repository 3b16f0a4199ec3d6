//! Byte streams that a line can use.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A byte stream in both directions, with a time limit for reads.
pub trait Stream: Read + Write {
    /// Sets the time limit of later reads, which must be more than zero. After it a read fails with
    /// [`io::ErrorKind::WouldBlock`] or [`io::ErrorKind::TimedOut`].
    fn set_patience(&mut self, limit: Duration) -> io::Result<()>;
}

#[cfg(unix)]
impl Stream for std::os::unix::net::UnixStream {
    fn set_patience(&mut self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

impl Stream for TcpStream {
    fn set_patience(&mut self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

impl<S: Stream + ?Sized> Stream for Box<S> {
    fn set_patience(&mut self, limit: Duration) -> io::Result<()> {
        (**self).set_patience(limit)
    }
}
