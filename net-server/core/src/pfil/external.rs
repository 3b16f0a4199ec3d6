//! External hooks: the brane's end of the region that it shares with each filter, and the packets that wait for verdicts.
//!
//! A filter (`filterK`) is not trusted. It gets a copy of each packet of its heads, and returns verdicts. A packet waits in the brane's
//! own memory, in a queue with a limit of packets and bytes, until its verdict or its deadline. Packets leave the queue in their order.
//! A verdict is an allegation: it is copied, checked, and used only for a packet that waits for it. A filter that breaks the protocol,
//! lets [`MISSES`] deadlines in a row pass, or whose link is lost is detached until it restarts. Meanwhile its fail mode decides.
//!
//! Nothing here waits for a filter, and each turn reads at most [`VERDICTS`] verdicts of each.

mod replace;

use crate::headers::wire::ETHERNET;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::hook::{self, HOOK_BIT, HookConfig, HookStatus, NAME};
use brane_abi::layout;
use brane_abi::link::Side;
use brane_abi::ring::RingError;
use brane_abi::shared::SharedRegion;
use branes_pfil::chain::Verdict;
use core::cell::RefCell;

/// Packets that wait for the verdicts of one filter, at most.
pub const PACKETS: usize = 256;
/// Bytes of these packets, at most.
pub const BYTES: usize = 256 << 10;
/// Deadlines in a row after which a filter is detached.
pub const MISSES: u32 = 8;
/// Verdicts of one filter that are read in one turn, and packets that go on.
pub const VERDICTS: usize = 64;
/// Verdicts after their deadlines that a filter may send. An older token is a lie.
const LATE: u32 = 4 * PACKETS as u32;

/// Bytes of heap for one filter: its queue, and the bytes of a modified packet while it is checked.
pub const MEMORY: usize = PACKETS * size_of::<Held>() + 2 * BYTES + 2 * (64 << 10);

/// How a packet goes on behind an external hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It was received. True if its transport checksum need not be verified.
    Received(bool),
    /// The brane sends it. The device cuts it into segments of this size, or 0.
    Sent(u16),
}

/// A packet at a hook.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The head.
    pub head: hook::Head,
    /// Number of the interface.
    pub index: usize,
    /// Name of the interface.
    pub interface: &'a str,
    /// The whole frame.
    pub frame: &'a [u8],
    /// The IP packet in it.
    pub packet: &'a [u8],
    /// True if the frame has an Ethernet header.
    pub link: bool,
    /// How it goes on.
    pub way: Way,
    /// True if the transport checksum in it need not be right.
    pub offloaded: bool,
}

/// A packet that waits, or goes on.
#[derive(Debug)]
pub struct Held {
    /// The head.
    pub head: hook::Head,
    /// Rank of the hook when the packet came.
    pub rank: u16,
    /// Number of the interface.
    pub index: usize,
    /// The frame, in memory of the brane.
    pub frame: Vec<u8>,
    /// True if the frame has an Ethernet header.
    pub link: bool,
    /// How it goes on.
    pub way: Way,
    deadline: u64,
    decided: Option<Verdict>,
    /// The filter has sent its verdict.
    answered: bool,
}

/// State of a filter's link, as the brane sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The filter has not started its end yet.
    Waiting,
    Attached,
    /// The reason.
    Detached(&'static str),
}

/// The brane's end of one filter.
pub struct External {
    endpoint: Endpoint<RingPair>,
    state: State,
    config: Option<HookConfig>,
    waiting: VecDeque<Held>,
    /// Bytes of the waiting frames.
    bytes: usize,
    /// Token of the first waiting packet.
    first: u32,
    /// Deadlines that have passed since the last verdict in time.
    misses: u32,
    status: HookStatus,
    /// The state has changed since the last report.
    changed: bool,
    /// The ring may have more verdicts.
    more: bool,
}

/// The ends of all filters. Clones share them.
#[derive(Clone)]
pub struct Externals(pub Rc<[RefCell<External>]>);

impl Default for Externals {
    fn default() -> Externals {
        Externals(Rc::new([]))
    }
}

impl Externals {
    /// Forgets the packets of an interface that wait: it is gone, or has another binding.
    pub fn forget(&self, index: usize) {
        for external in self.0.iter() {
            external.borrow_mut().forget(index);
        }
    }
}

impl External {
    /// Starts the brane's side of the link with filter `number`. Returns `None` if the region is too small or not aligned.
    pub fn start(number: usize, region: SharedRegion) -> Option<External> {
        Some(External {
            endpoint: Endpoint::start(region, Side::A, layout::hook::brane_rings(region)?)?,
            state: State::Waiting,
            config: None,
            waiting: VecDeque::new(),
            bytes: 0,
            first: 0,
            misses: 0,
            status: HookStatus {
                filter: u8::try_from(number).ok()?,
                ..HookStatus::default()
            },
            changed: false,
            more: false,
        })
    }

    /// Reserves memory for the packets that wait. Returns false if there is none.
    pub fn reserve(&mut self) -> bool {
        let more = PACKETS.saturating_sub(self.waiting.len());
        self.waiting.try_reserve_exact(more).is_ok()
    }

    /// Replaces the hook of this filter, after [`Self::reserve`]. Packets that wait keep their deadlines.
    pub fn set(&mut self, config: Option<&HookConfig>) {
        self.changed |= config.is_some() != self.config.is_some();
        if let Some(config) = config {
            self.config = Some(config.clone());
        } else {
            // What waits goes on by the fail mode of the hook that it waited for.
            self.decide_all();
            if self.waiting.is_empty() {
                self.config = None;
            } else if let Some(config) = &mut self.config {
                config.heads.clear();
            }
        }
    }

    /// Returns the hook of this filter.
    pub fn config(&self) -> Option<&HookConfig> {
        self.config.as_ref().filter(|config| !config.heads.is_empty())
    }

    /// The decision without a verdict.
    fn fail_mode(&self) -> Verdict {
        match self.config.as_ref().is_some_and(|config| config.fail_open) {
            true => Verdict::Pass,
            false => Verdict::Drop,
        }
    }

    /// Copies a packet to the filter and lets it wait. Returns [`Verdict::Absorb`] if it waits, and the decision of the fail mode if it
    /// cannot.
    pub fn offer(&mut self, now: u64, offer: &Offer<'_>) -> Verdict {
        self.status.packets += 1;
        let Some(config) = &self.config else {
            return Verdict::Pass;
        };
        if self.state != State::Attached {
            self.status.unattended += 1;
            return self.fail_mode();
        }
        let size = offer.frame.len();
        if self.waiting.len() >= PACKETS || self.bytes + size > BYTES {
            self.status.full += 1;
            return self.fail_mode();
        }
        let (rank, deadline) = (config.rank, u64::from(config.deadline_ms) * 1_000_000);
        let longest = config.headers.map_or(usize::MAX, |bytes| bytes as usize);
        let shown = &offer.packet[..offer.packet.len().min(longest)];
        let mut frame = Vec::new();
        if frame.try_reserve_exact(size).is_err() {
            self.status.full += 1;
            return self.fail_mode();
        }
        let room = match self.endpoint.rings.tx.reserve(NAME + shown.len()) {
            Ok(room) => room,
            Err(RingError::Peer) => {
                self.violation("impossible index in its ring");
                self.status.unattended += 1;
                return self.fail_mode();
            }
            Err(_) => {
                self.status.full += 1;
                return self.fail_mode();
            }
        };
        let (name, bytes) = room.split_at_mut(NAME);
        name.fill(0);
        name.iter_mut()
            .zip(offer.interface.bytes())
            .for_each(|(to, from)| *to = from);
        bytes.copy_from_slice(shown);
        let mut flags = 0;
        if offer.offloaded {
            flags |= hook::FLAG_CHECKSUM_OFFLOADED;
        }
        if matches!(offer.way, Way::Sent(1..)) {
            flags |= hook::FLAG_SEGMENTED;
        }
        let token = self.first.wrapping_add(self.waiting.len() as u32);
        let words = hook::packet_words(
            offer.head,
            flags,
            offer.index as u16,
            token,
            offer.packet.len() as u32,
        );
        self.endpoint.rings.tx.commit(NAME + shown.len(), words);
        frame.extend_from_slice(offer.frame);
        self.bytes += size;
        self.waiting.push_back(Held {
            head: offer.head,
            rank,
            index: offer.index,
            frame,
            link: offer.link,
            way: offer.way,
            deadline: now.saturating_add(deadline),
            decided: None,
            answered: false,
        });
        Verdict::Absorb
    }

    /// Polls the link, and reads verdicts.
    pub fn poll(&mut self, now: u64) {
        let rung = self.endpoint.wake() != 0;
        let mut event = self.endpoint.poll();
        if event == LinkEvent::PeerRestarted {
            if self.state == State::Attached {
                self.detach("restarted");
            }
            self.endpoint.accept();
            event = self.endpoint.poll();
        }
        match event {
            LinkEvent::CameUp => {
                self.state = State::Attached;
                self.misses = 0;
                self.changed = true;
                self.more = true;
            }
            LinkEvent::Lost => self.detach("link lost"),
            LinkEvent::Incompatible => self.detach("other version"),
            LinkEvent::Unchanged | LinkEvent::PeerRestarted => {}
        }
        if self.state == State::Attached && (rung || core::mem::take(&mut self.more)) {
            self.read();
        }
        self.expire(now);
    }

    /// Reads verdicts.
    fn read(&mut self) {
        for _ in 0..VERDICTS {
            let mut bytes = Vec::new();
            let record = self.endpoint.rings.rx.take(|record| {
                let len = record.len();
                // A modified packet is the only verdict with bytes.
                let fits = len <= u16::MAX.into() && bytes.try_reserve_exact(len).is_ok();
                if fits {
                    bytes.resize(len, 0);
                    record.copy_to(&mut bytes);
                }
                (record.meta, fits)
            });
            match record {
                Ok(None) => {
                    self.endpoint.rings.rx.release();
                    return;
                }
                Ok(Some(([verdict, token, _], fits))) => {
                    if let Err(what) = self.verdict(verdict, token, bytes, fits) {
                        return self.violation(what);
                    }
                }
                Err(_) => return self.violation("impossible index in its ring"),
            }
        }
        self.endpoint.rings.rx.release();
        self.more = true;
    }

    /// Uses a verdict. An error is the rule that it breaks.
    fn verdict(&mut self, verdict: u32, token: u32, bytes: Vec<u8>, fits: bool) -> Result<(), &'static str> {
        let verdict = hook::Verdict::from_number(verdict).ok_or("unknown verdict")?;
        if !bytes.is_empty() && verdict != hook::Verdict::Modify {
            return Err("verdict with bytes");
        }
        let at = token.wrapping_sub(self.first) as usize;
        let Some(held) = self.waiting.get_mut(at) else {
            return match self.first.wrapping_sub(token) {
                1..=LATE => Ok(()),
                _ => Err("verdict for no packet"),
            };
        };
        if core::mem::replace(&mut held.answered, true) {
            return Err("two verdicts for one packet");
        }
        // The deadline has passed, or the interface is gone.
        if held.decided.is_some() {
            return Ok(());
        }
        let decided = match verdict {
            hook::Verdict::Pass => Verdict::Pass,
            hook::Verdict::Drop => Verdict::Drop,
            hook::Verdict::Reject => Verdict::Reject,
            hook::Verdict::Absorb => Verdict::Absorb,
            // The brane has no memory for it at present.
            hook::Verdict::Modify if !fits => Verdict::Drop,
            hook::Verdict::Modify => {
                let before = held.frame.len();
                if !replace::replace(held, &bytes)? {
                    held.decided = Some(Verdict::Drop);
                    return Ok(());
                }
                self.bytes = self.bytes.saturating_sub(before) + held.frame.len();
                match self.bytes <= 2 * BYTES {
                    true => Verdict::Modified,
                    // Short packets have become long ones. This one keeps its verdict and not its bytes.
                    false => {
                        self.bytes -= held.frame.len();
                        held.frame = Vec::new();
                        Verdict::Drop
                    }
                }
            }
        };
        held.decided = Some(decided);
        self.status.verdicts += 1;
        self.misses = 0;
        Ok(())
    }

    /// Lets the packets go on whose deadline has passed.
    fn expire(&mut self, now: u64) {
        let fail = self.fail_mode();
        let mut missed = 0;
        // Deadlines are in the order of the queue, but for a hook that has got a shorter one; its packets wait for those before.
        for held in &mut self.waiting {
            if held.deadline > now {
                break;
            }
            if held.decided.is_none() {
                held.decided = Some(fail);
                missed += 1;
            }
        }
        self.status.missed += u64::from(missed);
        self.misses = self.misses.saturating_add(missed);
        if self.misses >= MISSES && self.state == State::Attached {
            self.status.detached += 1;
            self.detach("late too often");
        }
    }

    /// Returns the next packet that goes on, and how. [`Verdict::Modified`] means that it has new bytes.
    pub fn release(&mut self) -> Option<(Held, Verdict)> {
        let decided = self.waiting.front()?.decided?;
        let held = self.waiting.pop_front()?;
        self.first = self.first.wrapping_add(1);
        self.bytes = self.bytes.saturating_sub(held.frame.len());
        Some((held, decided))
    }

    /// Returns true if a packet can go on, or verdicts can be read.
    pub fn has_work(&self) -> bool {
        self.more || self.waiting.front().is_some_and(|held| held.decided.is_some())
    }

    /// Returns the time of the next deadline.
    pub fn deadline(&self) -> u64 {
        self.waiting.front().map_or(u64::MAX, |held| held.deadline)
    }

    /// Drops the packets of this interface.
    fn forget(&mut self, index: usize) {
        for held in self.waiting.iter_mut().filter(|held| held.index == index) {
            held.decided = Some(Verdict::Absorb);
        }
    }

    /// Lets everything that waits go on by the fail mode.
    fn decide_all(&mut self) {
        let fail = self.fail_mode();
        for held in &mut self.waiting {
            held.decided.get_or_insert(fail);
        }
    }

    fn violation(&mut self, what: &'static str) {
        if self.endpoint.violation() {
            self.status.detached += 1;
            self.detach(what);
        } else {
            self.detach("restarted");
        }
    }

    /// Uses the filter no more until it restarts.
    fn detach(&mut self, why: &'static str) {
        self.state = State::Detached(why);
        self.changed = true;
        self.more = false;
        self.decide_all();
    }

    /// Makes packets visible to the filter. Returns true if it must be notified.
    pub fn flush(&mut self) -> bool {
        let up = self.state == State::Attached;
        let bits = match up && self.endpoint.rings.tx.publish() {
            true => HOOK_BIT,
            false => 0,
        };
        self.endpoint.flush(bits)
    }

    /// Announces sleep. Returns false if there is work.
    pub fn arm(&self) -> bool {
        // The doorbell of a filter that is not attached is ignored. A restart notifies without it.
        self.state != State::Attached || self.endpoint.arm()
    }

    /// Returns the status, if the filter has a hook.
    pub fn status(&self) -> Option<HookStatus> {
        self.config()?;
        let state = match self.state {
            State::Waiting => "not started",
            State::Attached => "attached",
            State::Detached(why) => why,
        };
        Some(HookStatus {
            state: state.to_string(),
            ..self.status.clone()
        })
    }

    /// Returns true if the state has changed since the last call.
    pub fn take_change(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }
}

impl Held {
    /// Returns the bytes before the IP packet.
    pub fn start(&self) -> usize {
        if self.link { ETHERNET } else { 0 }
    }
}
