//! TCP with requests on one or many connections: an echo of a byte or a web page, each on a new connection or
//! on one that stays.
//!
//! On the other side: the guest, whose answers are checked.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::streams::{echo, open};
use super::{ECHO, HTTP, Outcome};

/// Number of failed requests after which a measurement ends.
const MOST_LOST: u64 = 50;
/// Size of the page in bytes.
const PAGE: usize = 1024;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: brane\r\n\r\n";

/// Kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One byte, which the guest sends back.
    Echo,
    /// The web page.
    Page,
}

impl Kind {
    fn port(self) -> u16 {
        match self {
            Kind::Echo => ECHO,
            Kind::Page => HTTP,
        }
    }

    fn request(self) -> &'static [u8] {
        match self {
            Kind::Echo => b"x",
            Kind::Page => GET,
        }
    }

    /// Returns true if the answer is complete.
    ///
    /// # Errors
    /// The answer is wrong.
    fn is_whole(self, answer: &[u8]) -> Result<bool> {
        if self == Kind::Echo {
            return Ok(answer == b"x");
        }
        let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return Ok(false);
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "the status is another: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.and_then(|text| text.trim().parse::<usize>().ok());
        ensure!(length == Some(PAGE), "the page has not {PAGE} bytes: {head}");
        Ok(answer.len() >= end + 4 + PAGE)
    }
}

/// Measures new connections, one at a time for `duration`: connects, sends one byte, receives it back, closes.
pub fn connections(to: IpAddr, duration: Duration) -> Result<Outcome> {
    Outcome::of_each(40_000, duration, |_| connection(to).map(|()| true))
}

/// Connects, sends one byte, reads it back, and closes.
pub fn connection(to: IpAddr) -> Result<()> {
    echo(&mut open(to, ECHO)?)
}

/// A connection of [`requests`].
struct Connection {
    socket: Socket,
    /// True if the connection is established.
    open: bool,
    answer: Vec<u8>,
    begun: Instant,
}

impl Connection {
    fn begin(to: SocketAddr) -> Result<Connection> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let begun = Instant::now();
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
            Err(e) => return Err(e).context("beginning a connection"),
        }
        Ok(Connection {
            socket,
            open: false,
            answer: Vec::new(),
            begun,
        })
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn waits_for(&self) -> PollFlags {
        match self.open {
            true => PollFlags::POLLIN,
            false => PollFlags::POLLOUT,
        }
    }

    /// Continues after the socket became ready. Returns true if an answer is complete.
    fn advance(&mut self, kind: Kind) -> Result<bool> {
        if !self.open {
            if let Some(error) = self.socket.take_error()? {
                return Err(error).context("connecting");
            }
            self.open = true;
            self.socket.write_all(kind.request())?;
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(0) => anyhow::bail!("the guest closed early"),
            Ok(len) => self.answer.extend_from_slice(&buffer[..len]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
        kind.is_whole(&self.answer)
    }
}

/// Measures requests on `count` connections at once for `duration`. They stay on these connections if `keep`.
/// Otherwise each request has a new connection.
pub fn requests(to: IpAddr, kind: Kind, count: usize, keep: bool, duration: Duration) -> Result<Outcome> {
    let to = SocketAddr::new(to, kind.port());
    let mut all = (0..count)
        .map(|_| Connection::begin(to))
        .collect::<Result<Vec<_>>>()?;
    let mut outcome = Outcome::default();
    let start = Instant::now();
    while start.elapsed() < duration {
        ensure!(
            outcome.lost < MOST_LOST,
            "{} requests to {to} failed",
            outcome.lost
        );
        let ready: Vec<bool> = {
            let mut polled: Vec<PollFd> = all
                .iter()
                .map(|connection| PollFd::new(connection.descriptor(), connection.waits_for()))
                .collect();
            poll(&mut polled, PollTimeout::from(200u8))?;
            polled.iter().map(|one| one.any().unwrap_or(true)).collect()
        };
        for (connection, _) in all.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            match connection.advance(kind) {
                Ok(false) => {}
                Ok(true) => {
                    outcome.times.push(connection.begun.elapsed());
                    if keep {
                        connection.answer.clear();
                        connection.begun = Instant::now();
                        connection.socket.write_all(kind.request())?;
                    } else {
                        *connection = Connection::begin(to)?;
                    }
                }
                Err(_) => {
                    outcome.lost += 1;
                    *connection = Connection::begin(to)?;
                }
            }
        }
    }
    outcome.units = outcome.times.len() as f64;
    outcome.rate = outcome.units / start.elapsed().as_secs_f64();
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let mut page = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n".to_vec();
        assert!(!Kind::Page.is_whole(&page[..20]).unwrap());
        page.extend([b'x'; PAGE - 1]);
        assert!(!Kind::Page.is_whole(&page).unwrap());
        page.push(b'x');
        assert!(Kind::Page.is_whole(&page).unwrap());
        assert!(
            Kind::Page
                .is_whole(b"HTTP/1.1 404 No\r\nContent-Length: 1024\r\n\r\n")
                .is_err()
        );
        assert!(
            Kind::Page
                .is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
                .is_err()
        );
        assert!(Kind::Echo.is_whole(b"x").unwrap() && !Kind::Echo.is_whole(b"").unwrap());
    }
}
