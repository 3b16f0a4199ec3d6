//! The remote line's decisions, without a kernel in it: frames in, frames out, and calls to the manager between them.
//!
//! On one side is a program on the operator's machine, by a line that loses and garbles bytes: it is not trusted, so what is
//! kept for it is bounded ([`JOBS`] requests under way, [`KEPT`] bytes of answers that it has got). On the other is the manager,
//! which checks requests; of a request no more is looked at here than its number and its length. Neither is waited for.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use brane_abi::operator::{JOBS, MAX_REQUEST, REPLY_SIZE, Refusal};
use brane_abi::remote::{
    CHUNK, Chunk, Decoder, Frame, Hello, KNOWN, Kind, STATUS_ERROR, STATUS_GONE, VERSION, encode,
};

/// Bytes of answers that were sent and are kept, should they be asked for again.
pub const KEPT: usize = 4 * REPLY_SIZE;
/// Short frames that wait for the line at most; what comes beyond is asked for again by the host.
const SHORT: usize = 32;

/// What the manager says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An answer, with a `STATUS_*` and its text.
    Done(u8, Vec<u8>),
    /// A job has begun.
    Later(u64),
}

/// The manager.
pub trait Manager {
    /// A request, as CBOR.
    fn call(&mut self, request: &[u8]) -> Reply;
    /// Whether a job has come to an end.
    fn poll(&mut self, job: u64) -> Reply;
    /// Nobody waits for a job any more.
    fn cancel(&mut self, job: u64);
}

enum State {
    Waiting(u64),
    /// Of the text, how much was sent; `None` when all was.
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

/// The conversation with one program after the other.
pub struct Session {
    decoder: Decoder,
    /// Frames that the host was told to have been dropped.
    told_garbled: u32,
    /// 0: nobody has said hello.
    session: u64,
    /// In the order of their numbers' first coming.
    slots: Vec<Slot>,
    /// Numbers whose answers are not kept any more.
    gone: VecDeque<u32>,
    short: VecDeque<Vec<u8>>,
    /// The frame that is being sent, and how much of it was.
    out: (Vec<u8>, usize),
    /// Whose chunk is next.
    turn: usize,
}

impl Default for Session {
    fn default() -> Self {
        Session::new()
    }
}

impl Session {
    /// Nobody has said anything.
    pub fn new() -> Session {
        Session {
            decoder: Decoder::new(),
            told_garbled: 0,
            session: 0,
            slots: Vec::new(),
            gone: VecDeque::new(),
            short: VecDeque::new(),
            out: (Vec::new(), 0),
            turn: 0,
        }
    }

    /// Frames that were dropped because they were garbled.
    pub fn garbled(&self) -> u32 {
        self.decoder.garbled
    }

    /// Whether a job is under way: then the manager's notifications matter.
    pub fn waits(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| matches!(slot.state, State::Waiting(_)))
    }

    /// Takes bytes from the line, and calls the manager for each request in them that is new.
    pub fn receive(&mut self, mut bytes: &[u8], manager: &mut impl Manager) {
        while !bytes.is_empty() {
            let mut decoder = core::mem::take(&mut self.decoder);
            let taken = decoder.feed(bytes, |frame| self.frame(frame, manager));
            self.decoder = decoder;
            bytes = bytes.get(taken.max(1)..).unwrap_or_default();
        }
        if self.told_garbled != self.decoder.garbled {
            self.told_garbled = self.decoder.garbled;
            self.say(Kind::Garbled, self.told_garbled, &[]);
        }
    }

    /// The manager has notified: asks for the ends of all jobs under way.
    pub fn poll(&mut self, manager: &mut impl Manager) {
        for slot in &mut self.slots {
            if let State::Waiting(job) = slot.state {
                slot.state = State::of(manager.poll(job));
            }
        }
    }

    /// Hands bytes for the line to `sink`, which says how many it took, until it takes none or there are none.
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

    fn say(&mut self, kind: Kind, number: u32, body: &[u8]) {
        if self.short.len() < SHORT {
            self.short.push_back(encode(kind, number, body));
        }
    }

    fn hello(&mut self, session: u64) {
        let hello = Hello {
            version: VERSION,
            session,
        };
        self.say(Kind::Hello, 0, &hello.to_bytes());
    }

    fn frame(&mut self, frame: Frame<'_>, manager: &mut impl Manager) {
        match frame.kind {
            Kind::Hello => match Hello::from_bytes(frame.body) {
                Some(theirs) if theirs.version == VERSION && theirs.session != 0 => {
                    if theirs.session != self.session {
                        // What another program asked for is nobody's: questions are given up, changes go on.
                        self.session = theirs.session;
                        for slot in self.slots.drain(..) {
                            slot.give_up(manager);
                        }
                        self.gone.clear();
                        self.short.clear();
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
                    self.forget(frame.number);
                }
            }
            // A guest's own.
            Kind::Answer | Kind::Pending | Kind::Busy | Kind::Garbled => {}
        }
    }

    fn request(&mut self, number: u32, body: &[u8], manager: &mut impl Manager) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) {
            match &mut slot.state {
                State::Waiting(_) => self.say(Kind::Pending, number, &[]),
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
            return self.say(Kind::Answer, number, &gone.to_bytes());
        }
        if self.slots.iter().filter(|slot| slot.is_under_way()).count() >= JOBS {
            return self.say(Kind::Busy, number, &[]);
        }
        let state = match body.len() <= MAX_REQUEST {
            true => State::of(manager.call(body)),
            false => State::of(too_long(body.len())),
        };
        if matches!(state, State::Waiting(_)) {
            self.say(Kind::Pending, number, &[]);
        }
        self.slots.push(Slot { number, state });
        self.trim();
    }

    /// Forgets answers that were sent, the oldest first, where they are too many or too long.
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
        let count = self.slots.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let slot = &mut self.slots[at];
            let State::Ready { status, text, sent } = &mut slot.state else {
                continue;
            };
            let Some(offset) = *sent else { continue };
            let end = text.len().min(offset + CHUNK);
            *sent = (end < text.len()).then_some(end);
            let chunk = Chunk {
                status: *status,
                total: text.len() as u32,
                offset: offset as u32,
                bytes: &text[offset..end],
            };
            let frame = encode(Kind::Answer, slot.number, &chunk.to_bytes());
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
