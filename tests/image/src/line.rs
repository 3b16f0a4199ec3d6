//! The control line frame by frame, for tests that send frames which no operator's program sends, or send
//! faster.

use crate::guest::Guest;
use crate::patience::PATIENCE;
use anyhow::{Context, Result, ensure};
use brane_abi::remote::{Decoder, Hello, Kind, VERSION, encode};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The host's end of the line, with a session of its own.
pub struct End {
    pub stream: UnixStream,
    /// Decodes the guest's frames.
    pub decoder: Decoder,
}

impl End {
    /// Opens a session.
    pub fn open(guest: &Guest) -> Result<End> {
        let mut end = End {
            stream: guest.control_stream()?,
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

    /// Reads frames until `wanted` accepts one. Returns false at the deadline.
    pub fn until(&mut self, limit: Duration, mut wanted: impl FnMut(Kind, u32) -> bool) -> Result<bool> {
        let end = Instant::now() + limit;
        let mut buffer = [0; 4096];
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
                let taken = self
                    .decoder
                    .feed(rest, |frame| found |= wanted(frame.kind, frame.number));
                rest = &rest[taken..];
            }
        }
        Ok(found)
    }
}
