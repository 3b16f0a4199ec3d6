//! The pfil heads of a brane: the points at which hooks see its packets.
//!
//! Each interface has two heads at its link level ([`link`]), which see frames. Each family has a head for received and one for
//! sent packets, and the sockets have one (`calls.rs`). A head is an ordered list of hooks. The brane's own filter is
//! the first subscriber. Its rules come from the manager (trusted) and were checked on arrival. Packets come from any host and
//! from clients; a hook sees the IP packet from its first byte on, whole, and without IPv6 extension headers.
//!
//! A family's own messages pass no head: ARP, neighbour discovery (RFC 4861), IGMP and MLD. A brane without them has no working
//! interface, and a rule for all packets would take them away by accident.
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
use branes_pfil::chain::{Head, Verdict};
use branes_pfil::filter::Filter;
use branes_pfil::state::CAPACITY;
use core::cell::{Cell, RefCell};
use link::LinkHeads;

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
}

/// The heads with their hooks. Clones share them.
#[derive(Clone)]
pub struct Pfil(Rc<Shared>);

struct Shared {
    /// Time of the present turn, in nanoseconds.
    now: Cell<u64>,
    /// The brane sends an answer to a rejected packet, which passes no head.
    exempt: Cell<bool>,
    state: RefCell<State>,
}

struct State {
    /// Heads by family and direction.
    heads: [[Head<Hook>; 2]; 2],
    /// The head of the sockets: binds, connects and accepts.
    sockets: Head<Hook>,
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

impl State {
    /// Returns the verdict on a fragment that the brane sends and that is not the first: that on the first one.
    fn follows(&self, identity: Fragmented) -> Verdict {
        match self.passed.contains(&Some(identity)) {
            true => Verdict::Pass,
            false => Verdict::Drop,
        }
    }
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
    fn new(seed: u64) -> Option<Pfil> {
        let mut heads: [[Head<Hook>; 2]; 2] = Default::default();
        let mut sockets = Head::new();
        for head in heads.iter_mut().flatten().chain([&mut sockets]) {
            head.attach(FILTER_RANK, "filter", Hook::Filter).ok()?;
        }
        let mut refused = Vec::new();
        refused.try_reserve_exact(REFUSED).ok()?;
        Some(Pfil(Rc::new(Shared {
            now: Cell::new(0),
            exempt: Cell::new(false),
            state: RefCell::new(State {
                heads,
                sockets,
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

    /// Runs the head of a packet's family and direction. `index` and `interface` are the number and the name of its interface.
    fn run(&self, direction: Direction, index: usize, interface: &str, frame: &[u8], link: bool) -> Verdict {
        if self.0.exempt.get() {
            return Verdict::Pass;
        }
        let Some((family, packet)) = filtered(direction, frame, link) else {
            return Verdict::Pass;
        };
        // Nothing borrows the state for longer than a call, so this cannot fail. If it did, no packet would pass.
        let Ok(mut state) = self.0.state.try_borrow_mut() else {
            return Verdict::Drop;
        };
        // Received fragments are put together before they pass a head.
        let fragment = match direction {
            Direction::Out => Fragmented::read(index, packet),
            _ => None,
        };
        if let Some((identity, 1..)) = fragment {
            return state.follows(identity);
        }
        let State {
            heads,
            filter,
            refused,
            passed,
            ..
        } = &mut *state;
        let verdict =
            heads[family as usize][usize::from(direction == Direction::Out)].run(|hook| match hook {
                Hook::Filter => filter.decide(self.0.now.get(), direction, interface, packet),
            });
        if let Some((identity, _)) = fragment
            && verdict.goes_on()
        {
            passed.rotate_right(1);
            passed[0] = Some(identity);
        }
        if verdict == Verdict::Reject && direction == Direction::Out && refused.len() < REFUSED {
            let mut quote = Vec::new();
            let quoted = &packet[..packet.len().min(QUOTE)];
            if quote.try_reserve_exact(quoted.len()).is_ok() {
                quote.extend_from_slice(quoted);
                refused.push((index, quote));
            }
        }
        verdict
    }

    /// Runs the head for a received frame.
    pub fn input(&self, index: usize, interface: &str, frame: &[u8], link: bool) -> Verdict {
        self.run(Direction::In, index, interface, frame, link)
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

/// The heads for sent packets, as an interface's outgoing side keeps them. A frame pays one branch for both while no hook is
/// attached.
pub struct Outlet {
    /// The heads of families.
    pfil: Option<Pfil>,
    /// The link-level head.
    heads: Option<LinkHeads>,
    /// Number of the interface.
    index: usize,
    /// Name of the interface.
    interface: String,
    /// True if its frames have an Ethernet header.
    link: bool,
}

impl Outlet {
    /// Returns true if a frame may leave. Nothing of it changes afterwards.
    #[cold]
    pub fn passes(&self, frame: &[u8]) -> bool {
        let pass = |pfil: &Pfil| {
            let verdict = pfil.run(Direction::Out, self.index, &self.interface, frame, self.link);
            verdict.goes_on()
        };
        let leaves = |heads: &LinkHeads| heads.passes(Direction::Out, self.index, frame);
        self.pfil.as_ref().is_none_or(pass) && self.heads.as_ref().is_none_or(leaves)
    }
}

mod attach;
mod calls;
pub mod capture;
pub mod link;
