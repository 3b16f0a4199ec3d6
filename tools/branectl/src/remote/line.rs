//! Requests and answers: sessions, retransmission, and answers in chunks. The system's frames are not trusted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use brane_abi::operator::{Answer, Event, MAX_REQUEST, REPLY_SIZE, Refusal, Request};
use brane_abi::remote::{Chunk, Decoder, Hello, Kind, STATUS_ERROR, STATUS_GONE, STATUS_OK, VERSION, encode};

use super::{Error, Stream};

mod capture;

pub use capture::Follower;

/// Time limits of a line.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Limit for the system's Hello.
    pub hello: Duration,
    /// Limit for an answer.
    pub answer: Duration,
    /// Time without any frame for a request after which the request is sent again. The system does not execute
    /// it twice.
    pub repeat: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            hello: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            repeat: Duration::from_secs(1),
        }
    }
}

/// Time before another attempt to connect.
const RECONNECT: Duration = Duration::from_millis(50);

/// Returns true if the other end has closed the connection.
fn is_left(cause: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        cause.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

/// A received frame.
struct Received {
    kind: Kind,
    number: u32,
    body: Vec<u8>,
}

/// The chunks of an answer so far.
#[derive(Default)]
struct Parts {
    status: u8,
    bytes: Vec<u8>,
}

/// A line to a system, in a session of its own.
pub struct Line<S = Box<dyn Stream>> {
    stream: S,
    decoder: Decoder,
    received: VecDeque<Received>,
    patience: Patience,
    session: u64,
    last: u32,
    /// Number of requests that were sent again.
    repeats: u64,
}

impl Line {
    /// Opens the Unix socket to which QEMU connects the control line.
    #[cfg(unix)]
    pub fn unix(path: &Path) -> Result<Line, Error> {
        Line::open_with(Patience::default(), || {
            let open = std::os::unix::net::UnixStream::connect(path);
            let stream = open.map_err(|cause| Error::Open {
                path: path.to_owned(),
                cause,
            })?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    /// Connects by TCP. QEMU or a terminal server can offer the control line there.
    pub fn tcp(address: impl ToSocketAddrs) -> Result<Line, Error> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Line::over(Box::new(stream) as Box<dyn Stream>)
    }
}

impl<S: Stream> Line<S> {
    /// Begins a session over a stream, with the default time limits.
    pub fn over(stream: S) -> Result<Line<S>, Error> {
        Line::over_with(stream, Patience::default())
    }

    /// Connects and begins a session, with these time limits. While another program leaves the line, QEMU can accept a connection and
    /// reset it at once; then it connects again, within the limit for the system's Hello.
    pub fn open_with(
        patience: Patience,
        mut connect: impl FnMut() -> Result<S, Error>,
    ) -> Result<Line<S>, Error> {
        let end = Instant::now() + patience.hello;
        loop {
            match Line::over_with(connect()?, patience) {
                Err(Error::Broken(cause)) if is_left(&cause) && Instant::now() < end => {
                    std::thread::sleep(RECONNECT);
                }
                done => return done,
            }
        }
    }

    /// Begins a session over a stream, with these time limits.
    pub fn over_with(stream: S, patience: Patience) -> Result<Line<S>, Error> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| Error::Broken(io::Error::other(e)))?;
        let mut line = Line {
            stream,
            decoder: Decoder::new(),
            received: VecDeque::new(),
            patience,
            session: u64::from_le_bytes(random) | 1,
            last: 0,
            repeats: 0,
        };
        line.hello()?;
        Ok(line)
    }

    /// Sets the time limits of later requests.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Returns the number of garbled frames, and of requests that were sent again, so far.
    pub fn troubles(&self) -> (u32, u64) {
        (self.decoder.garbled, self.repeats)
    }

    /// Sends a request and waits for the answer for at most [`Patience::answer`].
    pub fn call(&mut self, request: &Request) -> Result<Answer, Error> {
        self.call_within(request, self.patience.answer)
    }

    /// Sends a request and waits for the answer for at most `limit`.
    pub fn call_within(&mut self, request: &Request, limit: Duration) -> Result<Answer, Error> {
        let body = encoded(request)?;
        let number = self.number();
        decode(self.exchange(number, &body, limit)?)
    }

    /// Returns the number of the next request.
    fn number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }

    /// Calls `each` with each event above the number `from`, as it happens, until `each` breaks. Returns the
    /// last event's number.
    pub fn follow_events(
        &mut self,
        mut from: u64,
        mut each: impl FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<u64, Error> {
        loop {
            let events = match self.call(&Request::Events {
                after: from,
                wait: true,
            }) {
                Ok(Answer::Events(events)) => events,
                Ok(other) => return Err(Error::Senseless(format!("no events, but {other:?}"))),
                // No event within the time limit.
                Err(Error::NoAnswer(_)) => continue,
                Err(other) => return Err(other),
            };
            for event in &events {
                from = from.max(event.number);
                if each(event).is_break() {
                    return Ok(from);
                }
            }
        }
    }

    fn send(&mut self, kind: Kind, number: u32, body: &[u8]) -> Result<(), Error> {
        self.stream.write_all(&encode(kind, number, body))?;
        Ok(self.stream.flush()?)
    }

    /// Returns the next frame before `end`.
    fn next(&mut self, end: Instant) -> Result<Option<Received>, Error> {
        let mut buffer = [0; 64 * 1024];
        loop {
            if let Some(frame) = self.received.pop_front() {
                return Ok(Some(frame));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_patience(left)?;
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Error::Broken(ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.into()),
            };
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                let received = &mut self.received;
                let taken = self.decoder.feed(rest, |frame| {
                    received.push_back(Received {
                        kind: frame.kind,
                        number: frame.number,
                        body: frame.body.to_vec(),
                    });
                });
                rest = &rest[taken..];
            }
        }
    }

    /// Sends Hello until the system answers with Hello.
    fn hello(&mut self) -> Result<(), Error> {
        let hello = Hello {
            version: VERSION,
            session: self.session,
        };
        let end = Instant::now() + self.patience.hello;
        while Instant::now() < end {
            // Ends a frame of noise that the line may have carried before.
            self.stream.write_all(&[0])?;
            self.send(Kind::Hello, 0, &hello.to_bytes())?;
            let again = (Instant::now() + self.patience.repeat).min(end);
            while let Some(frame) = self.next(again)? {
                let Some(theirs) = (frame.kind == Kind::Hello)
                    .then(|| Hello::from_bytes(&frame.body))
                    .flatten()
                else {
                    // An answer to an earlier session.
                    continue;
                };
                if theirs.version != VERSION {
                    return Err(Error::Version {
                        ours: VERSION,
                        theirs: theirs.version,
                    });
                }
                if theirs.session == self.session {
                    return Ok(());
                }
            }
        }
        Err(Error::Silent(self.patience.hello))
    }

    /// Sends a request, and repeats it if no frame about it arrives, until its answer is complete.
    fn exchange(&mut self, number: u32, body: &[u8], limit: Duration) -> Result<Parts, Error> {
        let end = Instant::now() + limit;
        let mut parts = Parts::default();
        let mut busy = false;
        self.send(Kind::Request, number, body)?;
        let mut again = Instant::now() + self.patience.repeat;
        loop {
            if Instant::now() >= end {
                self.send(Kind::Cancel, number, &[])?;
                return Err(if busy {
                    Error::Busy(limit)
                } else {
                    Error::NoAnswer(limit)
                });
            }
            let Some(frame) = self.next(again.min(end))? else {
                if Instant::now() < end {
                    // The system sends all chunks again. Only the line's time is lost.
                    parts = Parts::default();
                    self.repeats += 1;
                    self.send(Kind::Request, number, body)?;
                    again = Instant::now() + self.patience.repeat;
                }
                continue;
            };
            match frame.kind {
                Kind::Hello => {
                    let theirs = Hello::from_bytes(&frame.body);
                    if theirs.is_some_and(|theirs| theirs.session != self.session) {
                        return Err(Error::Interrupted);
                    }
                }
                // At once, because a garbled request is answered by nothing else.
                Kind::Garbled => again = Instant::now(),
                _ if frame.number != number => {}
                Kind::Pending => {
                    busy = false;
                    again = Instant::now() + 2 * self.patience.repeat;
                }
                Kind::Busy => {
                    busy = true;
                    again = Instant::now() + self.patience.repeat / 4;
                }
                Kind::Answer => {
                    busy = false;
                    if self.add(&mut parts, &frame.body)? {
                        return Ok(parts);
                    }
                    again = Instant::now() + self.patience.repeat;
                }
                // Captures are followed elsewhere. What arrives here belongs to one that has ended.
                Kind::Request | Kind::Cancel | Kind::Captured => {}
            }
        }
    }

    /// Adds a chunk. Returns true if the answer is complete.
    fn add(&self, parts: &mut Parts, body: &[u8]) -> Result<bool, Error> {
        let chunk = Chunk::from_bytes(body)
            .filter(|chunk| chunk.total as usize <= REPLY_SIZE)
            .ok_or_else(|| Error::Senseless("a part of it lies outside of it".into()))?;
        if chunk.offset == 0 {
            *parts = Parts {
                status: chunk.status,
                bytes: Vec::with_capacity(chunk.total as usize),
            };
        }
        // A chunk before this one was lost. The rest is then useless, and the whole answer is requested again.
        if chunk.offset as usize == parts.bytes.len() {
            parts.bytes.extend_from_slice(chunk.bytes);
        }
        Ok(parts.status == chunk.status && parts.bytes.len() == chunk.total as usize)
    }
}

/// Encodes a request. Fails if it is longer than the manager accepts.
fn encoded(request: &Request) -> Result<Vec<u8>, Error> {
    let body = minicbor::to_vec(request).map_err(|e| Error::Senseless(e.to_string()))?;
    if body.len() > MAX_REQUEST {
        return Err(Error::TooLong(body.len()));
    }
    Ok(body)
}

/// Decodes a complete answer.
fn decode(parts: Parts) -> Result<Answer, Error> {
    let Parts { status, bytes } = parts;
    let senseless = |e: minicbor::decode::Error| Error::Senseless(e.to_string());
    match status {
        STATUS_OK => minicbor::decode::<Answer>(&bytes).map_err(senseless),
        STATUS_ERROR => Err(Error::Refused(
            minicbor::decode::<Refusal>(&bytes).map_err(senseless)?,
        )),
        STATUS_GONE => Err(Error::Senseless(
            "it was given before, and is not kept any more".into(),
        )),
        other => Err(Error::Senseless(format!("its status is {other}"))),
    }
}
