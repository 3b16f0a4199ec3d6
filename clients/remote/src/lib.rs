//! The remote line's logic, without a kernel: it decodes frames, calls the manager, and encodes frames.
//!
//! On one side is a program on the operator's machine, over a line that loses and garbles bytes. The program is not trusted, so
//! its state is bounded: [`JOBS`] requests under way, and [`KEPT`] bytes of answers that were sent already. On the other side is
//! the manager, which checks requests. This crate reads only a request's number and length. It waits for neither side.
//!
//! [`Session`] is the session on one line, [`lines::Sessions`] those of all lines.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod captures;
pub mod lines;

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use brane_abi::operator::{JOBS, MAX_REQUEST, REPLY_SIZE, Refusal};
use brane_abi::remote::{
    CHUNK, Chunk, Decoder, Frame, Hello, KNOWN, Kind, STATUS_ERROR, STATUS_GONE, VERSION, encode,
    encode_parts,
};
use captures::Captures;

/// Bytes of sent answers that are kept in case the host repeats the request.
pub const KEPT: usize = 4 * REPLY_SIZE;
/// Most short frames that wait for the line. Further ones are dropped, and the host repeats its requests.
const SHORT: usize = 32;

/// Reply of the manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An answer, with a `STATUS_*` and its text.
    Done(u8, Vec<u8>),
    /// A job has begun.
    Later(u64),
}

/// The manager, as the session calls it.
pub trait Manager {
    /// Sends a request, as CBOR. Returns the reply.
    fn call(&mut self, request: &[u8]) -> Reply;
    /// Fetches the result of a job. Returns [`Reply::Later`] if the job has not ended.
    fn poll(&mut self, job: u64) -> Reply;
    /// Cancels a job.
    fn cancel(&mut self, job: u64);
}

enum State {
    Waiting(u64),
    /// `sent` is the number of sent bytes of the text; `None` if all are sent.
    Ready {
        status: u8,
        text: Vec<u8>,
        sent: Option<usize>,
    },
}

struct Slot {
    number: u32,
    state: State,
}

impl Slot {
    fn give_up(self, manager: &mut impl Manager) {
        if let State::Waiting(job) = self.state {
            manager.cancel(job);
        }
    }

    fn is_under_way(&self) -> bool {
        !matches!(self.state, State::Ready { sent: None, .. })
    }
}

/// The session with the present program on the host. A new program replaces the earlier one.
pub struct Session {
    decoder: Decoder,
    /// Number of dropped frames that the host was notified of.
    reported_garbled: u32,
    /// Number of the session; 0 before the first hello.
    session: u64,
    /// Requests in the order of their first arrival.
    slots: Vec<Slot>,
    /// Numbers of requests whose answers are no longer kept.
    gone: VecDeque<u32>,
    short: VecDeque<Vec<u8>>,
    /// The frame that is being sent, and the number of its bytes that are sent.
    out: (Vec<u8>, usize),
    /// Index of the slot that sends the next chunk.
    turn: usize,
    /// Captured frames, which are sent when no answer waits.
    pub captures: Captures,
}

impl Default for Session {
    fn default() -> Self {
        Session::new()
    }
}

impl Session {
    /// Creates a session before the first hello.
    pub fn new() -> Session {
        Session {
            decoder: Decoder::new(),
            reported_garbled: 0,
            session: 0,
            slots: Vec::new(),
            gone: VecDeque::new(),
            short: VecDeque::new(),
            out: (Vec::new(), 0),
            turn: 0,
            captures: Captures::default(),
        }
    }

    /// Returns the number of frames that were dropped because they were garbled.
    pub fn garbled(&self) -> u32 {
        self.decoder.garbled
    }

    /// Returns true if a job is under way. Only then the manager's notifications matter.
    pub fn waits(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| matches!(slot.state, State::Waiting(_)))
    }

    /// Returns the number of the session; 0 before the first hello.
    pub fn number(&self) -> u64 {
        self.session
    }

    /// Ends the session: a program on another line has begun one. A frame that is being sent is still sent to its end.
    pub fn end(&mut self, manager: &mut impl Manager) {
        self.renew(0, manager);
    }

    /// Drops the requests of the earlier program: its queries are cancelled, and its changes go on.
    fn renew(&mut self, session: u64, manager: &mut impl Manager) {
        self.session = session;
        for slot in self.slots.drain(..) {
            slot.give_up(manager);
        }
        self.gone.clear();
        self.short.clear();
        self.captures.clear();
    }

    /// Handles bytes from the line. Calls the manager for each new request in them.
    pub fn receive(&mut self, mut bytes: &[u8], manager: &mut impl Manager) {
        while !bytes.is_empty() {
            let mut decoder = core::mem::take(&mut self.decoder);
            let taken = decoder.feed(bytes, |frame| self.frame(frame, manager));
            self.decoder = decoder;
            bytes = bytes.get(taken.max(1)..).unwrap_or_default();
        }
        if self.reported_garbled != self.decoder.garbled {
            self.reported_garbled = self.decoder.garbled;
            self.send(Kind::Garbled, self.reported_garbled, &[]);
        }
    }

    /// Fetches the results of all jobs under way. Called when the manager has notified.
    pub fn poll(&mut self, manager: &mut impl Manager) {
        for slot in &mut self.slots {
            if let State::Waiting(job) = slot.state {
                slot.state = State::of(manager.poll(job));
                if !matches!(slot.state, State::Waiting(_)) {
                    self.captures.end(slot.number);
                }
            }
        }
    }

    /// Passes bytes for the line to `sink`, which returns how many it took. Ends when it takes none or none are left.
    pub fn flush(&mut self, mut sink: impl FnMut(&[u8]) -> usize) {
        loop {
            if self.out.1 >= self.out.0.len() {
                match self.next_frame() {
                    Some(frame) => self.out = (frame, 0),
                    None => return,
                }
            }
            let rest = &self.out.0[self.out.1..];
            match sink(rest).min(rest.len()) {
                0 => return,
                taken => self.out.1 += taken,
            }
        }
    }

    fn send(&mut self, kind: Kind, number: u32, body: &[u8]) {
        if self.short.len() < SHORT {
            self.short.push_back(encode(kind, number, body));
        }
    }

    fn hello(&mut self, session: u64) {
        let hello = Hello {
            version: VERSION,
            session,
        };
        self.send(Kind::Hello, 0, &hello.to_bytes());
    }

    fn frame(&mut self, frame: Frame<'_>, manager: &mut impl Manager) {
        match frame.kind {
            Kind::Hello => match Hello::from_bytes(frame.body) {
                Some(theirs) if theirs.version == VERSION && theirs.session != 0 => {
                    if theirs.session != self.session {
                        self.renew(theirs.session, manager);
                    }
                    self.hello(theirs.session);
                }
                _ => self.hello(0),
            },
            _ if self.session == 0 => self.hello(0),
            Kind::Request => self.request(frame.number, frame.body, manager),
            Kind::Cancel => {
                let at = self.slots.iter().position(|slot| slot.number == frame.number);
                if let Some(at) = at {
                    self.slots.remove(at).give_up(manager);
                    self.captures.forget(frame.number);
                    self.forget(frame.number);
                }
            }
            // Only the guest sends these kinds.
            Kind::Answer | Kind::Pending | Kind::Busy | Kind::Garbled | Kind::Captured => {}
        }
    }

    fn request(&mut self, number: u32, body: &[u8], manager: &mut impl Manager) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) {
            match &mut slot.state {
                State::Waiting(_) => self.send(Kind::Pending, number, &[]),
                State::Ready { sent, .. } => *sent = Some(0),
            }
            return;
        }
        if self.gone.contains(&number) {
            let gone = Chunk {
                status: STATUS_GONE,
                total: 0,
                offset: 0,
                bytes: &[],
            };
            return self.send(Kind::Answer, number, &gone.to_bytes());
        }
        if self.slots.iter().filter(|slot| slot.is_under_way()).count() >= JOBS {
            return self.send(Kind::Busy, number, &[]);
        }
        let state = match body.len() <= MAX_REQUEST {
            true => State::of(manager.call(body)),
            false => State::of(too_long(body.len())),
        };
        if matches!(state, State::Waiting(_)) {
            self.send(Kind::Pending, number, &[]);
            self.captures.begin(number, body);
        }
        self.slots.push(Slot { number, state });
        self.trim();
    }

    /// Drops the oldest sent answers if there are more than [`JOBS`] or they are longer than [`KEPT`].
    fn trim(&mut self) {
        let mut bytes = 0;
        let mut count = 0;
        for at in (0..self.slots.len()).rev() {
            let State::Ready { text, sent: None, .. } = &self.slots[at].state else {
                continue;
            };
            bytes += text.len();
            count += 1;
            if bytes > KEPT || count > JOBS {
                let slot = self.slots.remove(at);
                self.forget(slot.number);
            }
        }
    }

    fn forget(&mut self, number: u32) {
        if self.gone.len() >= KNOWN {
            self.gone.pop_front();
        }
        self.gone.push_back(number);
    }

    fn next_frame(&mut self) -> Option<Vec<u8>> {
        if let Some(frame) = self.short.pop_front() {
            return Some(frame);
        }
        if let Some(frame) = self.next_chunk() {
            return Some(frame);
        }
        match self.captures.next_frame() {
            Some((tag, body)) => Some(encode(Kind::Captured, tag, &body)),
            // The last record of a capture was taken, so its answer follows.
            None => self.next_chunk(),
        }
    }

    /// Returns the next part of an answer. The answer to a capture comes behind its records.
    fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let count = self.slots.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let slot = &mut self.slots[at];
            let State::Ready { status, text, sent } = &mut slot.state else {
                continue;
            };
            let Some(offset) = *sent else { continue };
            if self.captures.holds(slot.number) {
                continue;
            }
            let end = text.len().min(offset + CHUNK);
            *sent = (end < text.len()).then_some(end);
            let chunk = Chunk {
                status: *status,
                total: text.len() as u32,
                offset: offset as u32,
                bytes: &text[offset..end],
            };
            let frame = encode_parts(Kind::Answer, slot.number, &[&chunk.header(), chunk.bytes]);
            self.turn = at + 1;
            if sent.is_none() {
                self.trim();
            }
            return Some(frame);
        }
        None
    }
}

impl State {
    fn of(reply: Reply) -> State {
        match reply {
            Reply::Later(job) => State::Waiting(job),
            Reply::Done(status, mut text) => {
                text.truncate(REPLY_SIZE);
                State::Ready {
                    status,
                    text,
                    sent: Some(0),
                }
            }
        }
    }
}

fn too_long(len: usize) -> Reply {
    let refusal = Refusal::RequestTooLong(len as u32);
    Reply::Done(
        STATUS_ERROR,
        minicbor::to_vec(&refusal).unwrap_or_else(|_| b"".as_slice().to_owned()),
    )
}
