//! What a line can run over.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Bytes both ways, with a bound on how long a reader waits.
pub trait Stream: Read + Write {
    /// From now on a read waits this long at most (more than zero), then it fails with [`io::ErrorKind::WouldBlock`] or
    /// [`io::ErrorKind::TimedOut`].
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
