//! Captures on a line: a request that lasts as long as the capture, and the fragments that arrive meanwhile.

use std::time::{Duration, Instant};

use brane_abi::capture::Capture;
use brane_abi::operator::{Answer, Request};
use brane_abi::remote::{Hello, Kind};

use super::{Line, Parts, Received, decode, encoded};
use crate::remote::{Error, Stream};

/// Time after which the follower is asked whether to stop.
const TICK: Duration = Duration::from_millis(100);
/// Time limit of the end after the request to stop.
const STOPPING: Duration = Duration::from_secs(10);
/// Time for the last records after the answer.
const LAST_RECORDS: Duration = Duration::from_millis(500);

/// Receives a capture.
pub trait Follower {
    /// Handles the body of a frame of [`Kind::Captured`]. It is not trusted.
    fn fragment(&mut self, body: &[u8]);
    /// Called when all that has arrived was handled, and several times in a second. Returns true if the capture shall end.
    fn idle(&mut self) -> bool;
    /// Returns true if records are missing at the end.
    fn expects_more(&self) -> bool;
}

/// A request without a whole answer yet.
struct Open {
    number: u32,
    body: Vec<u8>,
    parts: Parts,
    again: Instant,
}

impl<S: Stream> Line<S> {
    /// Begins a capture and passes its fragments to the follower until the follower stops it or the system ends it. Returns the answer,
    /// which has the reason of the end.
    pub fn capture(&mut self, capture: &Capture, follower: &mut dyn Follower) -> Result<Answer, Error> {
        let mut begun = self.open(&Request::Capture(capture.clone()))?;
        let mut stop: Option<(Open, Instant)> = None;
        let answer = loop {
            if self.received.is_empty() && follower.idle() && stop.is_none() {
                let request = self.open(&Request::StopCapture(capture.tag))?;
                stop = Some((request, Instant::now() + STOPPING));
            }
            let now = Instant::now();
            if stop.as_ref().is_some_and(|(_, end)| now >= *end) {
                return Err(Error::NoAnswer(STOPPING));
            }
            self.repeat(&mut begun)?;
            if let Some((request, _)) = &mut stop {
                self.repeat(request)?;
            }
            let Some(frame) = self.next(now + TICK)? else {
                continue;
            };
            if frame.kind == Kind::Captured {
                if frame.number == capture.tag {
                    follower.fragment(&frame.body);
                }
                continue;
            }
            if let Some((request, _)) = &mut stop {
                // Its answer says nothing more: the answer to the first request is the end.
                if self.progress(request, &frame)?.is_some() {
                    request.again = Instant::now() + STOPPING;
                }
            }
            if let Some(parts) = self.progress(&mut begun, &frame)? {
                break decode(parts);
            }
        };
        let end = Instant::now() + LAST_RECORDS;
        while answer.is_ok() && follower.expects_more() {
            let Some(frame) = self.next(end)? else { break };
            if frame.kind == Kind::Captured && frame.number == capture.tag {
                follower.fragment(&frame.body);
            }
        }
        follower.idle();
        answer
    }

    fn open(&mut self, request: &Request) -> Result<Open, Error> {
        let body = encoded(request)?;
        let number = self.number();
        self.send(Kind::Request, number, &body)?;
        Ok(Open {
            number,
            body,
            parts: Parts::default(),
            again: Instant::now() + self.patience.repeat,
        })
    }

    /// Sends the request again if nothing about it has arrived in time.
    fn repeat(&mut self, open: &mut Open) -> Result<(), Error> {
        if Instant::now() >= open.again {
            open.parts = Parts::default();
            open.again = Instant::now() + self.patience.repeat;
            self.repeats += 1;
            self.send(Kind::Request, open.number, &open.body)?;
        }
        Ok(())
    }

    /// Handles a frame about the request. Returns the answer if it is complete.
    fn progress(&mut self, open: &mut Open, frame: &Received) -> Result<Option<Parts>, Error> {
        let repeat = self.patience.repeat;
        match frame.kind {
            Kind::Hello => {
                let theirs = Hello::from_bytes(&frame.body);
                if theirs.is_some_and(|theirs| theirs.session != self.session) {
                    return Err(Error::Interrupted);
                }
            }
            Kind::Garbled => open.again = Instant::now(),
            _ if frame.number != open.number => {}
            Kind::Pending => open.again = Instant::now() + 2 * repeat,
            Kind::Busy => open.again = Instant::now() + repeat / 4,
            Kind::Answer => {
                open.again = Instant::now() + repeat;
                if self.add(&mut open.parts, &frame.body)? {
                    return Ok(Some(std::mem::take(&mut open.parts)));
                }
            }
            Kind::Request | Kind::Cancel | Kind::Captured => {}
        }
        Ok(None)
    }
}
