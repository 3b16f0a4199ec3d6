//! A hook in the packet path of branes, for any protection domain `filterK` that shares the region `registration-filterK` with the
//! manager and a region `hook-filterK-N` with each brane.
//!
//! It owns side B of these regions. The manager is trusted. Branes are not trusted by each other, so a record that cannot be decoded
//! is ignored, and a brane that breaks the rules of its ring is ignored until it restarts. Each brane waits at most the deadline of the
//! registration for a verdict. The manager restarts a registered filter that does not answer its heartbeats, so the filter must
//! call [`Filter::run`] after each wake.
//!
//! To filter packets:
//!
//! ```ignore
//! let regions = regions::HOOK_FILTER.map(|region| region.shared());
//! let filter = Filter::start(regions::REGISTRATION_FILTER.shared(), &regions, registration, notify).expect("regions with their sizes");
//! // in `notified`, after each wake:
//! self.filter.run(|packet| match packet.bytes.first() {
//!     Some(0x45) => Decision::Pass,
//!     _ => Decision::Drop,
//! }, |event| logln!("{event:?}"));
//! ```
//!
//! It knows nothing of seL4: the caller passes the function that notifies the manager and the branes.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{CONTROL_BIT, MAX_MESSAGE};
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::hook::{HOOK_BIT, NAME, Verdict, notice, request};
use brane_abi::layout;
use brane_abi::link::Side;
use brane_abi::shared::SharedRegion;

pub use brane_abi::hook::{FLAG_CHECKSUM_OFFLOADED, FLAG_SEGMENTED, Head, Registration};

/// Longest record of a packet in bytes.
const LONGEST: usize = 1 << 16;

/// Packets that are read from one brane before the next brane has its turn.
const TURN: usize = 32;

/// The domain to notify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The manager.
    Manager,
    /// The brane with this number.
    Brane(usize),
}

/// A packet at the hook.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of the brane.
    pub brane: usize,
    /// The head.
    pub head: Head,
    /// Name of the interface in the brane.
    pub interface: &'a str,
    /// [`FLAG_CHECKSUM_OFFLOADED`] and [`FLAG_SEGMENTED`].
    pub flags: u8,
    /// Length of the whole packet in bytes.
    pub len: usize,
    /// The packet from its first byte on, or the beginning of it.
    pub bytes: &'a [u8],
    /// Identifies the packet in [`Filter::decide`].
    pub token: Token,
}

/// Identifies a packet of a brane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    brane: usize,
    token: u32,
}

/// What is done with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Pass,
    /// It is dropped.
    Drop,
    /// It is dropped, and its sender gets a TCP reset or an ICMP error.
    Reject,
    /// It goes on with these bytes. The brane makes checksums right. Family, lengths and, of a sent packet, both addresses must fit.
    Modify(Vec<u8>),
    /// The filter keeps it.
    Absorb,
    /// The filter decides later, by [`Filter::decide`].
    Later,
}

/// Event of the registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The registration is in force.
    Registered,
    /// The registration has ended, after [`Filter::leave`].
    Left,
    /// The manager has refused the registration, for this reason.
    Refused(String),
    /// The brane with this number has attached the hook, or can attach it when it has a configuration.
    BraneUp(usize),
    /// The brane with this number has restarted or broke the rules of its ring.
    BraneLost(usize),
    /// The link to the manager is lost.
    Lost,
}

/// The filter's ends of all its regions.
pub struct Filter {
    manager: Endpoint<RingPair>,
    branes: Vec<Endpoint<RingPair>>,
    notify: Box<dyn Fn(Peer)>,
    wanted: Option<Registration>,
    /// True if the registration has been sent to the manager's present incarnation.
    sent: bool,
    buffer: Vec<u8>,
}

impl Filter {
    /// Starts the filter's side of all links. It registers when the manager's link comes up. Returns `None` if a region is too small or
    /// not aligned.
    pub fn start(
        manager: SharedRegion,
        branes: &[SharedRegion],
        registration: impl Into<Option<Registration>>,
        notify: impl Fn(Peer) + 'static,
    ) -> Option<Filter> {
        let ends = branes
            .iter()
            .map(|region| Endpoint::start(*region, Side::B, layout::hook::filter_rings(*region)?));
        let mut filter = Filter {
            manager: Endpoint::start(manager, Side::B, layout::ctl::brane_rings(manager)?)?,
            branes: ends.collect::<Option<_>>()?,
            notify: Box::new(notify),
            wanted: registration.into(),
            sent: false,
            buffer: alloc::vec![0; LONGEST],
        };
        filter.flush_manager(0);
        for brane in 0..filter.branes.len() {
            filter.flush(brane, 0);
        }
        Some(filter)
    }

    /// Handles all packets and events, and announces sleep. Call it after each wake.
    pub fn run(&mut self, mut decide: impl FnMut(&Packet<'_>) -> Decision, mut handle: impl FnMut(Event)) {
        loop {
            while let Some(event) = self.next_event() {
                handle(event);
            }
            let mut more = false;
            for brane in 0..self.branes.len() {
                more |= self.serve(brane, &mut decide, &mut handle);
            }
            if !more && self.arm() {
                return;
            }
        }
    }

    /// Registers, or replaces the registration. The answer is [`Event::Registered`] or [`Event::Refused`].
    pub fn register(&mut self, registration: Registration) {
        self.wanted = Some(registration);
        self.sent = false;
    }

    /// Ends the registration. The answer is [`Event::Left`].
    pub fn leave(&mut self) {
        if self.wanted.take().is_some() && self.sent {
            self.send_manager(request::LEAVE, 0, &[]);
        }
    }

    /// Sends the verdict on a packet. Returns false if the brane's ring has no room, or the brane is gone.
    pub fn decide(&mut self, token: Token, decision: &Decision) -> bool {
        let (verdict, bytes) = match decision {
            Decision::Pass => (Verdict::Pass, &[][..]),
            Decision::Drop => (Verdict::Drop, &[][..]),
            Decision::Reject => (Verdict::Reject, &[][..]),
            Decision::Absorb => (Verdict::Absorb, &[][..]),
            Decision::Modify(bytes) => (Verdict::Modify, &bytes[..]),
            Decision::Later => return true,
        };
        let Some(end) = self.branes.get_mut(token.brane).filter(|end| end.is_up()) else {
            return false;
        };
        let tx = &mut end.rings.tx;
        let pushed = tx.push(&[bytes], [verdict.number(), token.token, 0]).is_ok();
        if tx.publish() {
            self.flush(token.brane, HOOK_BIT);
        }
        pushed
    }

    /// Returns the filter's end of a brane's region.
    pub fn end_of(&mut self, brane: usize) -> Option<&mut Endpoint<RingPair>> {
        self.branes.get_mut(brane)
    }

    fn arm(&self) -> bool {
        self.manager.arm() && self.branes.iter().all(|end| !end.is_up() || end.arm())
    }

    /// Returns the next event of the registration.
    fn next_event(&mut self) -> Option<Event> {
        let _ = self.manager.wake();
        let mut event = self.manager.poll();
        if event == LinkEvent::PeerRestarted {
            self.manager.accept();
            self.sent = false;
            self.flush_manager(0);
            event = self.manager.poll();
        }
        if matches!(event, LinkEvent::Lost | LinkEvent::Incompatible) {
            return Some(Event::Lost);
        }
        if !self.manager.is_up() {
            return None;
        }
        if !self.sent
            && let Some(wanted) = &self.wanted
        {
            self.sent = true;
            // Writing to a vector cannot fail.
            let bytes = minicbor::to_vec(wanted).unwrap_or_default();
            self.send_manager(request::REGISTER, 0, &bytes);
        }
        loop {
            let mut text = alloc::vec![0; MAX_MESSAGE];
            let taken = self.manager.rings.rx.take(|record| {
                let len = record.copy_to(&mut text).len();
                (record.meta, len)
            });
            let ([kind, token, _], len) = match taken {
                Ok(taken) => taken?,
                // After a restart, the next poll reports it.
                Err(_) => return self.manager.violation().then_some(Event::Lost),
            };
            if self.manager.rings.rx.release() {
                self.flush_manager(CONTROL_BIT);
            }
            match kind {
                notice::HEARTBEAT => self.send_manager(request::ALIVE, token, &[]),
                notice::REGISTERED => return Some(Event::Registered),
                notice::LEFT => return Some(Event::Left),
                notice::REFUSED => return Some(Event::Refused(String::from_utf8_lossy(&text[..len]).into())),
                _ => {}
            }
        }
    }

    /// Handles packets of a brane. Returns true if there may be more.
    fn serve(
        &mut self,
        brane: usize,
        decide: &mut impl FnMut(&Packet<'_>) -> Decision,
        handle: &mut impl FnMut(Event),
    ) -> bool {
        let end = &mut self.branes[brane];
        let _ = end.wake();
        let was_up = end.is_up();
        let mut event = end.poll();
        if event == LinkEvent::PeerRestarted {
            if was_up {
                handle(Event::BraneLost(brane));
            }
            end.accept();
            event = end.poll();
            if end.flush(0) {
                (self.notify)(Peer::Brane(brane));
            }
        }
        match event {
            LinkEvent::CameUp => handle(Event::BraneUp(brane)),
            LinkEvent::Lost | LinkEvent::Incompatible => handle(Event::BraneLost(brane)),
            LinkEvent::Unchanged | LinkEvent::PeerRestarted => {}
        }
        for _ in 0..TURN {
            let Self { branes, buffer, .. } = self;
            let Some(end) = branes.get_mut(brane).filter(|end| end.is_up()) else {
                return false;
            };
            let taken = end.rings.rx.take(|record| {
                let len = record.copy_to(buffer).len();
                (record.meta, len)
            });
            let ([word, token, len], shown) = match taken {
                Ok(Some(taken)) => taken,
                Ok(None) => {
                    end.rings.rx.release();
                    return false;
                }
                Err(_) => {
                    if end.violation() {
                        handle(Event::BraneLost(brane));
                    }
                    return true;
                }
            };
            let token = Token { brane, token };
            let decision = packet(&self.buffer[..shown], word, len, token).map(|packet| decide(&packet));
            if let Some(decision) = decision {
                self.decide(token, &decision);
            }
        }
        self.branes[brane].rings.rx.release();
        true
    }

    /// Enqueues a record for the manager. It has one open question at a time, so the ring has room for the answers.
    fn send_manager(&mut self, kind: u32, token: u32, payload: &[u8]) {
        if !self.manager.is_up() {
            return;
        }
        let reports = &mut self.manager.rings.tx;
        if reports.push(&[payload], [kind, token, 0]).is_ok() && reports.publish() {
            self.flush_manager(CONTROL_BIT);
        }
    }

    fn flush_manager(&mut self, bits: u64) {
        if self.manager.flush(bits) {
            (self.notify)(Peer::Manager);
        }
    }

    fn flush(&mut self, brane: usize, bits: u64) {
        if self.branes[brane].flush(bits) {
            (self.notify)(Peer::Brane(brane));
        }
    }
}

/// Decodes a packet's record. Returns `None` if it is no packet of a known head.
fn packet(record: &[u8], word: u32, len: u32, token: Token) -> Option<Packet<'_>> {
    let (name, bytes) = record.split_at_checked(NAME)?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
    Some(Packet {
        brane: token.brane,
        head: Head::from_number(word as u8)?,
        interface: core::str::from_utf8(&name[..end]).ok()?,
        flags: (word >> 8) as u8,
        len: len as usize,
        bytes,
        token,
    })
}
