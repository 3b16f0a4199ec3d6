//! The control line frame by frame, for tests that send frames which no operator's program sends, or send
//! faster.

use crate::guest::Guest;
use crate::patience::PATIENCE;
use anyhow::{Context, Result, ensure};
use brane_abi::operator::Request;
use brane_abi::remote::{Chunk, Decoder, Frame, Hello, Kind, STATUS_OK, VERSION, encode};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Answers by the number of their request.
pub type Answers = BTreeMap<u32, Vec<u8>>;

/// The host's end of the line, with a session of its own.
pub struct End {
    pub stream: UnixStream,
    /// Decodes the guest's frames.
    pub decoder: Decoder,
}

impl End {
    /// Opens a session.
    pub fn open(guest: &Guest) -> Result<End> {
        End::over(guest.control_stream()?)
    }

    /// Opens a session over a stream.
    pub fn over(stream: UnixStream) -> Result<End> {
        let mut end = End {
            stream,
            decoder: Decoder::new(),
        };
        end.stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        let hello = Hello {
            version: VERSION,
            session: 0x0123_4567_89ab_cdef,
        };
        end.stream.write_all(&[0])?;
        end.stream.write_all(&encode(Kind::Hello, 0, &hello.to_bytes()))?;
        let said = end.until(PATIENCE, |kind, _| kind == Kind::Hello)?;
        ensure!(said, "no hello");
        Ok(end)
    }

    /// Sends a request with each of these bodies, numbered from 1, without waiting. Then waits until each is
    /// answered. Calls `other` with kind and number of every other frame. Returns the number of bytes sent.
    pub fn flood(&mut self, bodies: Vec<Vec<u8>>, mut other: impl FnMut(Kind, u32)) -> Result<usize> {
        // The ring and the device's FIFO hold far less at once, so the rest waits outside.
        let mut writer = self.stream.try_clone()?;
        let count = bodies.len();
        let sender = std::thread::spawn(move || -> std::io::Result<usize> {
            let mut sent = 0;
            for (number, body) in (1..).zip(&bodies) {
                let frame = encode(Kind::Request, number, body);
                writer.write_all(&frame)?;
                sent += frame.len();
            }
            Ok(sent)
        });
        let mut answered = std::collections::BTreeSet::new();
        let all = self.until(5 * PATIENCE, |kind, number| {
            match kind {
                Kind::Answer => drop(answered.insert(number)),
                _ => other(kind, number),
            }
            answered.len() == count
        })?;
        let sent = sender.join().expect("the sender")?;
        ensure!(all, "{} of {count} requests were answered", answered.len());
        Ok(sent)
    }

    /// Sends a request under each of these numbers and returns the answers.
    pub fn fetch(&mut self, numbers: impl IntoIterator<Item = u32>, request: &Request) -> Result<Answers> {
        let body = minicbor::to_vec(request)?;
        let mut answers = Answers::new();
        for number in numbers {
            self.stream.write_all(&encode(Kind::Request, number, &body))?;
            let mut parts = Parts::default();
            let mut done = Ok(None);
            let all = self.frames(PATIENCE, |frame| {
                if frame.kind == Kind::Answer && frame.number == number {
                    done = parts.add(frame.body);
                }
                !matches!(done, Ok(None))
            })?;
            ensure!(all, "no answer to request {number}");
            answers.insert(number, done?.context("no answer")?);
        }
        Ok(answers)
    }

    /// Requests answers again that the guest has sent before and keeps, each as soon as it is complete, until `bytes` bytes of
    /// answers have arrived. Fails if one differs. Returns the number of bytes.
    pub fn stream(&mut self, known: &Answers, bytes: usize) -> Result<usize> {
        let again =
            |stream: &mut UnixStream, number: u32| stream.write_all(&encode(Kind::Request, number, b""));
        for number in known.keys() {
            again(&mut self.stream, *number)?;
        }
        let mut parts: BTreeMap<u32, Parts> = BTreeMap::new();
        let (mut all, end) = (0, Instant::now() + 4 * PATIENCE);
        while all < bytes {
            ensure!(Instant::now() < end, "{all} of {bytes} bytes have arrived");
            let mut complete = Vec::new();
            let mut wrong = None;
            self.frames(Duration::from_secs(1), |frame| {
                if frame.kind == Kind::Answer {
                    match parts.entry(frame.number).or_default().add(frame.body) {
                        Ok(None) => {}
                        Ok(Some(answer)) if known.get(&frame.number) == Some(&answer) => {
                            complete.push((frame.number, answer.len()));
                        }
                        Ok(Some(_)) => wrong = Some(anyhow::anyhow!("answer {} differs", frame.number)),
                        Err(why) => wrong = Some(why),
                    }
                }
                true
            })?;
            if let Some(why) = wrong {
                return Err(why);
            }
            for (number, len) in complete {
                all += len;
                again(&mut self.stream, number)?;
            }
        }
        Ok(all)
    }

    /// Reads frames until `wanted` accepts one. Returns false at the deadline.
    pub fn until(&mut self, limit: Duration, mut wanted: impl FnMut(Kind, u32) -> bool) -> Result<bool> {
        self.frames(limit, |frame| wanted(frame.kind, frame.number))
    }

    /// Passes frames to `wanted` until it accepts one. The other frames that arrived with that one are passed too. Returns false at
    /// the deadline.
    pub fn frames(&mut self, limit: Duration, mut wanted: impl FnMut(Frame<'_>) -> bool) -> Result<bool> {
        let end = Instant::now() + limit;
        let mut buffer = vec![0; 256 * 1024];
        let mut found = false;
        while !found && Instant::now() < end {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => anyhow::bail!("QEMU has hung up"),
                Ok(count) => count,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
                Err(e) => return Err(e).context("reading"),
            };
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                let taken = self.decoder.feed(rest, |frame| found |= wanted(frame));
                rest = &rest[taken..];
            }
        }
        Ok(found)
    }
}

/// The chunks of an answer so far.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Parts {
    /// Adds a chunk. Returns the answer if it is complete. Fails if a chunk is missing, or the request was refused.
    fn add(&mut self, body: &[u8]) -> Result<Option<Vec<u8>>> {
        let chunk = Chunk::from_bytes(body).context("a chunk outside of its answer")?;
        ensure!(chunk.status == STATUS_OK, "status {}", chunk.status);
        ensure!(chunk.offset as usize == self.0.len(), "a chunk is missing");
        self.0.extend_from_slice(chunk.bytes);
        let complete = self.0.len() == chunk.total as usize;
        Ok(complete.then(|| std::mem::take(&mut self.0)))
    }
}
