//! The pfil heads of a brane: the points at which hooks see its packets.
//!
//! Each family has a head for received and one for sent packets. A head is an ordered list of hooks. The brane's own filter is
//! the first subscriber. Its rules come from the manager (trusted) and were checked on arrival. Packets come from any host and
//! from clients; a hook sees the IP packet from its first byte on, whole, and without IPv6 extension headers.
//!
//! A family's own messages pass no head: ARP, neighbour discovery (RFC 4861), IGMP and MLD. A brane without them has no working
//! interface, and a rule for all packets would take them away by accident.
//!
//! External filters ([`external`]) are further subscribers. A packet waits for their verdict and goes on behind their hook.
//!
//! While no hook is attached, there is no [`Pfil`], and a packet pays one branch.

use crate::headers::is_ipv6;
use crate::headers::wire::{ETHERNET, number};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::Family;
use brane_abi::filter::{Direction, Rule, RuleStatus};
use brane_abi::hook::{self, HookConfig};
use branes_pfil::chain::{Head, Verdict};
use branes_pfil::filter::Filter;
use branes_pfil::state::CAPACITY;
use core::cell::{Cell, RefCell};
use external::{Externals, Held, Offer, Way};

/// Rank of the filter in each head. Lower ranks come first.
const FILTER_RANK: u16 = 500;

/// Packets that this brane rejected while it sent them, and that wait for their senders to be informed, at most.
const REFUSED: usize = 16;

/// Longest piece of a rejected packet that is kept, in bytes: an IPv6 and a TCP header.
const QUOTE: usize = 60;

/// Packets in fragments of which the verdict is remembered. An interface sends the fragments of one packet after the other.
const FRAGMENTED: usize = 8;

/// A subscriber of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    /// The brane's filter.
    Filter,
    /// The external filter with this number.
    External(usize),
}

/// The heads with their hooks. Clones share them.
#[derive(Clone)]
pub struct Pfil(Rc<Shared>);

struct Shared {
    /// Time of the present turn, in nanoseconds.
    now: Cell<u64>,
    /// The brane sends an answer to a rejected packet, which passes no head.
    exempt: Cell<bool>,
    /// The received packet comes from behind the external hook with this rank and number.
    behind: Cell<Option<(u16, usize)>>,
    externals: Externals,
    state: RefCell<State>,
}

struct State {
    /// Heads by family and direction.
    heads: [[Head<Hook>; 2]; 2],
    filter: Filter,
    /// Beginnings of rejected packets that the brane itself sent, and the interface of each.
    refused: Vec<(usize, Vec<u8>)>,
    /// Packets whose first fragment was sent and passed, the latest first.
    passed: [Option<Fragmented>; FRAGMENTED],
}

/// A packet that the brane sends in fragments: its interface, and source, destination, identification and protocol (RFC 791).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fragmented(usize, [u8; 8], [u8; 2], u8);

impl Fragmented {
    /// Reads the identity of an IPv4 packet, and the offset of this fragment in units of eight bytes. Returns `None` if the
    /// packet is no fragment.
    fn read(index: usize, packet: &[u8]) -> Option<(Fragmented, u16)> {
        let header = packet.first_chunk::<20>()?;
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        let ends = header[12..].first_chunk::<8>()?;
        let identity = Fragmented(index, *ends, [header[4], header[5]], header[9]);
        (header[0] >> 4 == 4 && fragment & 0x3fff != 0).then_some((identity, fragment & 0x1fff))
    }
}

/// A frame at a head.
struct Frame<'a> {
    /// Number of the interface.
    index: usize,
    /// Name of the interface.
    interface: &'a str,
    bytes: &'a [u8],
    /// True if it has an Ethernet header.
    link: bool,
}

/// Returns the verdict on a fragment that the brane sends and that is not the first: that on the first one.
fn follows(passed: &[Option<Fragmented>], identity: Fragmented) -> Verdict {
    match passed.contains(&Some(identity)) {
        true => Verdict::Pass,
        false => Verdict::Drop,
    }
}

/// Keeps the beginning of a rejected packet that the brane itself sends.
fn refuse(refused: &mut Vec<(usize, Vec<u8>)>, index: usize, packet: &[u8]) {
    if refused.len() >= REFUSED {
        return;
    }
    let mut quote = Vec::new();
    let quoted = &packet[..packet.len().min(QUOTE)];
    if quote.try_reserve_exact(quoted.len()).is_ok() {
        quote.extend_from_slice(quoted);
        refused.push((index, quote));
    }
}

/// Returns the heads with the filter and these external hooks. Returns `None` if two hooks cannot be in one head.
fn attached(hooks: &[HookConfig]) -> Option<[[Head<Hook>; 2]; 2]> {
    let mut heads: [[Head<Hook>; 2]; 2] = Default::default();
    for head in heads.iter_mut().flatten() {
        head.attach(FILTER_RANK, "filter", Hook::Filter).ok()?;
    }
    for config in hooks {
        for head in &config.heads {
            let (family, direction) = match head {
                hook::Head::InetIn => (Family::Inet, Direction::In),
                hook::Head::InetOut => (Family::Inet, Direction::Out),
                hook::Head::Inet6In => (Family::Inet6, Direction::In),
                hook::Head::Inet6Out => (Family::Inet6, Direction::Out),
            };
            heads[family as usize][direction as usize]
                .attach(config.rank, &config.name, Hook::External(config.filter.into()))
                .ok()?;
        }
    }
    Some(heads)
}

/// Returns the IP packet in a frame and its family, if a hook is to see it. `link` is true if the frame has an Ethernet header.
fn filtered(direction: Direction, frame: &[u8], link: bool) -> Option<(Family, &[u8])> {
    let packet = match link {
        true => match frame.get(12..ETHERNET)? {
            [0x08, 0x00] | [0x86, 0xdd] => frame.get(ETHERNET..)?,
            _ => return None,
        },
        false => frame,
    };
    if !is_ipv6(frame, link) {
        let igmp = packet.get(9) == Some(&number::IGMP);
        let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        // Of a packet that the device cuts into segments the length field may not count all.
        let packet = packet.get(..total).filter(|_| total >= 20).unwrap_or(packet);
        return (!igmp).then_some((Family::Inet, packet));
    }
    let message = match *packet.get(6)? {
        number::ICMPV6 => packet.get(40),
        // The brane sends options for each hop with MLD only (RFC 3810, 5). A received packet whose headers could not be removed is
        // no message of the family.
        0 if direction == Direction::Out => return None,
        _ => None,
    };
    // MLD and neighbour discovery: RFC 2710, 3810, 4861.
    let own = matches!(message, Some(130..=137 | 143));
    (!own).then_some((Family::Inet6, packet))
}

impl Pfil {
    /// Creates the heads with the brane's filter attached. `seed` must be unpredictable. Returns `None` if there is no memory.
    fn new(seed: u64, externals: &Externals) -> Option<Pfil> {
        let heads = attached(&[])?;
        let mut refused = Vec::new();
        refused.try_reserve_exact(REFUSED).ok()?;
        Some(Pfil(Rc::new(Shared {
            now: Cell::new(0),
            exempt: Cell::new(false),
            behind: Cell::new(None),
            externals: externals.clone(),
            state: RefCell::new(State {
                heads,
                filter: Filter::new(seed, CAPACITY)?,
                refused,
                passed: [None; FRAGMENTED],
            }),
        })))
    }

    /// Sets the time that hooks see.
    pub fn set_now(&self, now: u64) {
        self.0.now.set(now);
    }

    /// Runs the head of a packet's family and direction, or the part of it behind an external hook.
    fn run(&self, frame: &Frame<'_>, way: Way, behind: Option<(u16, usize)>) -> Verdict {
        if self.0.exempt.get() {
            return Verdict::Pass;
        }
        let direction = match way {
            Way::Received(_) => Direction::In,
            Way::Sent(_) => Direction::Out,
        };
        let Some((family, packet)) = filtered(direction, frame.bytes, frame.link) else {
            return Verdict::Pass;
        };
        // Nothing borrows the state for longer than a call, so this cannot fail. If it did, no packet would pass.
        let Ok(mut state) = self.0.state.try_borrow_mut() else {
            return Verdict::Drop;
        };
        // Received fragments are put together before they pass a head.
        let fragment = match direction {
            Direction::In => None,
            Direction::Out => Fragmented::read(frame.index, packet),
        };
        let State {
            heads,
            filter,
            refused,
            passed,
        } = &mut *state;
        let now = self.0.now.get();
        let decide = |hook| match (hook, fragment) {
            // The filter decides about the first fragment; the others follow.
            (Hook::Filter, Some((identity, 1..))) => follows(passed, identity),
            (Hook::Filter, _) => {
                let verdict = filter.decide(now, direction, frame.interface, packet);
                if let Some((identity, _)) = fragment
                    && verdict.goes_on()
                {
                    passed.rotate_right(1);
                    passed[0] = Some(identity);
                }
                verdict
            }
            (Hook::External(number), _) => self.offer(number, now, (family, direction), frame, packet, way),
        };
        let head = &heads[family as usize][direction as usize];
        let verdict = match behind {
            None => head.run(decide),
            Some((rank, number)) => head.run_behind(rank, Hook::External(number), decide),
        };
        if verdict == Verdict::Reject && direction == Direction::Out {
            refuse(refused, frame.index, packet);
        }
        verdict
    }

    /// Gives a packet to an external filter.
    fn offer(
        &self,
        number: usize,
        now: u64,
        at: (Family, Direction),
        frame: &Frame<'_>,
        packet: &[u8],
        way: Way,
    ) -> Verdict {
        let Some(mut external) = self
            .0
            .externals
            .0
            .get(number)
            .and_then(|external| external.try_borrow_mut().ok())
        else {
            return Verdict::Drop;
        };
        let head = match at {
            (Family::Inet, Direction::In) => hook::Head::InetIn,
            (Family::Inet, Direction::Out) => hook::Head::InetOut,
            (Family::Inet6, Direction::In) => hook::Head::Inet6In,
            (Family::Inet6, Direction::Out) => hook::Head::Inet6Out,
        };
        external.offer(
            now,
            &Offer {
                head,
                index: frame.index,
                interface: frame.interface,
                frame: frame.bytes,
                packet,
                link: frame.link,
                way,
                offloaded: !matches!(way, Way::Received(false)),
            },
        )
    }

    /// Runs the head for a received frame. `intact` is true if its transport checksum need not be verified.
    fn input(&self, index: usize, interface: &str, frame: &[u8], link: bool, intact: bool) -> Verdict {
        let frame = Frame {
            index,
            interface,
            bytes: frame,
            link,
        };
        self.run(&frame, Way::Received(intact), self.0.behind.take())
    }

    /// Runs the rest of the head for a packet of the brane behind the external filter `number`.
    fn output_behind(&self, number: usize, held: &Held, interface: &str) -> Verdict {
        let frame = Frame {
            index: held.index,
            interface,
            bytes: &held.frame,
            link: held.link,
        };
        self.run(&frame, held.way, Some((held.rank, number)))
    }

    /// Runs `send` without heads: what it sends answers a packet that a hook has rejected.
    pub fn exempt<R>(pfil: Option<&Pfil>, send: impl FnOnce() -> R) -> R {
        let set = |exempt| pfil.iter().for_each(|pfil| pfil.0.exempt.set(exempt));
        set(true);
        let result = send();
        set(false);
        result
    }

    /// Takes the beginnings of packets that the brane itself sent and a hook rejected, each with the number of its interface.
    pub fn take_refused(&self) -> Vec<(usize, Vec<u8>)> {
        match self.0.state.try_borrow_mut() {
            Ok(mut state) => state.refused.drain(..).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Puts these external hooks beside the filter. Returns false, and changes nothing, if two hooks cannot be in one head.
    fn set_hooks(&self, hooks: &[HookConfig]) -> bool {
        match (attached(hooks), self.0.state.try_borrow_mut()) {
            (Some(heads), Ok(mut state)) => {
                state.heads = heads;
                true
            }
            _ => false,
        }
    }

    /// Keeps the beginning of a packet of the brane that an external filter has rejected.
    fn refuse(&self, held: &Held) {
        if let Ok(mut state) = self.0.state.try_borrow_mut() {
            refuse(
                &mut state.refused,
                held.index,
                held.frame.get(held.start()..).unwrap_or_default(),
            );
        }
    }

    /// Replaces all rules at once. If a rule is refused, the old rules stay. The error names the rule and the reason.
    fn replace(&self, rules: &[Rule]) -> Result<(), String> {
        let Ok(mut state) = self.0.state.try_borrow_mut() else {
            return Err("the filter is in use".into());
        };
        state
            .filter
            .replace(rules)
            .map_err(|(index, problem)| format!("rule {}: {problem}", index + 1))
    }

    /// Returns the rules in force with their counters.
    pub fn statuses(&self) -> Vec<RuleStatus> {
        match self.0.state.try_borrow() {
            Ok(state) => state.filter.statuses().cloned().collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// The head for sent packets, as an interface's outgoing side keeps it.
pub struct Outlet {
    pfil: Pfil,
    /// Number of the interface.
    index: usize,
    /// Name of the interface.
    interface: String,
    /// True if its frames have an Ethernet header.
    link: bool,
}

impl Outlet {
    /// Runs the head for a frame. Returns `None` if it may leave, and otherwise the number of dropped frames: none if it waits for an
    /// external filter. The device cuts the frame into segments of `segment` bytes, or 0.
    pub fn stops(&self, frame: &[u8], segment: u16) -> Option<u64> {
        let frame = Frame {
            index: self.index,
            interface: &self.interface,
            bytes: frame,
            link: self.link,
        };
        match self.pfil.run(&frame, Way::Sent(segment), None) {
            Verdict::Pass | Verdict::Modified => None,
            Verdict::Drop | Verdict::Reject => Some(1),
            Verdict::Absorb => Some(0),
        }
    }
}

mod attach;
pub mod external;
mod hooks;
