//! Packet filter rules of a brane, and classic BPF instructions.
//!
//! The text form of a rule is made and parsed at the operator's end. The manager keeps rules and passes them to the brane, which
//! compiles them. Rules come from operators and are checked where they are used.

use crate::control::Family;
use crate::net::Cidr;
use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};

/// Rules of one brane, at most.
pub const MAX_RULES: usize = 64;
/// CBOR text of all rules of one brane in bytes, at most.
pub const MAX_FILTER: usize = 6144;
/// Ranges of ports in one end of a rule, at most.
pub const MAX_PORTS: usize = 8;
/// Instructions of a rule's BPF program, at most.
pub const MAX_PROGRAM: usize = 64;

/// Result of a rule for a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Action {
    /// The packet goes on. A packet of a flow that is not known yet makes an entry in the state table.
    #[default]
    #[n(0)]
    Pass,
    /// The packet is dropped.
    #[n(1)]
    Drop,
    /// The packet is dropped, and its sender gets a TCP reset (RFC 9293, 3.10.7.1) or an ICMP error (RFC 792, RFC 4443).
    #[n(2)]
    Reject,
}

/// Direction of a packet, seen from the brane, or a call of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Direction {
    /// Received.
    #[n(0)]
    In,
    /// Sent.
    #[n(1)]
    Out,
    /// A client binds a UDP socket, or listens. The destination is the local address.
    #[n(2)]
    Bind,
    /// A client opens a TCP connection. The source is the local address.
    #[n(3)]
    Connect,
    /// Another host opens a TCP connection that a listener wants. The destination is the local address.
    #[n(4)]
    Accept,
}

impl Direction {
    /// Returns true for a call of a client.
    pub const fn is_call(self) -> bool {
        matches!(self, Direction::Bind | Direction::Connect | Direction::Accept)
    }
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PortRange {
    /// Lowest port.
    #[n(0)]
    pub first: u16,
    /// Highest port, not below `first`.
    #[n(1)]
    pub last: u16,
}

/// What a rule demands of one end of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct End {
    /// The address lies in this prefix.
    #[n(0)]
    pub prefix: Option<Cidr>,
    /// The port lies in one of these ranges, up to [`MAX_PORTS`]. Empty: any port.
    #[n(1)]
    #[cbor(default)]
    pub ports: Vec<PortRange>,
}

/// TCP flags that a rule demands: of the flags in `mask`, exactly those in `set` are set (RFC 9293, 3.1: FIN is bit 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TcpFlags {
    /// Flags that must be set.
    #[n(0)]
    pub set: u8,
    /// Flags that are compared.
    #[n(1)]
    pub mask: u8,
}

/// An ICMP message that a rule demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct IcmpMatch {
    /// Its type.
    #[n(0)]
    pub kind: u8,
    /// Its code; `None` for any.
    #[n(1)]
    pub code: Option<u8>,
}

/// State of the flow that a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum FlowState {
    /// The packet begins a flow, or belongs to a flow that has had packets in one direction only. ICMP messages without replies, such
    /// as neighbor discovery, are new too.
    #[n(0)]
    New,
    /// The packet belongs to a flow with packets in both directions, itself included.
    #[n(1)]
    Established,
    /// The packet is an ICMP error about a flow that is known.
    #[n(2)]
    Related,
    /// The packet can neither begin a flow nor belong to one that is known.
    #[n(3)]
    Invalid,
}

/// Packets that a rule matches at most. Packets above the rate do not match, and the next rule is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Rate {
    /// Packets per second, not 0.
    #[n(0)]
    pub per_second: u32,
    /// Packets at once, not 0.
    #[n(1)]
    pub burst: u32,
}

/// An instruction of classic BPF ("The BSD Packet Filter", McCanne and Jacobson, 1993), as in `struct bpf_insn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Instruction {
    /// Operation.
    #[n(0)]
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    #[n(1)]
    pub jt: u8,
    /// Instructions to skip if the comparison does not hold.
    #[n(2)]
    pub jf: u8,
    /// Operand.
    #[n(3)]
    pub k: u32,
}

/// A rule. A packet matches if it has everything that the rule demands. The first rule that matches decides. A packet that
/// matches no rule passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Rule {
    /// Result for a packet that matches.
    #[n(0)]
    pub action: Action,
    /// Its direction. `None`: received and sent packets, and no calls.
    #[n(1)]
    pub direction: Option<Direction>,
    /// Name of its interface in the brane.
    #[n(2)]
    pub interface: Option<String>,
    /// Its family.
    #[n(3)]
    pub family: Option<Family>,
    /// Its protocol (IANA's number). A rule with ports and without a protocol is for TCP and UDP.
    #[n(4)]
    pub protocol: Option<u8>,
    /// Its source.
    #[n(5)]
    #[cbor(default)]
    pub from: End,
    /// Its destination.
    #[n(6)]
    #[cbor(default)]
    pub to: End,
    /// Its TCP flags.
    #[n(7)]
    pub flags: Option<TcpFlags>,
    /// Its ICMP type.
    #[n(8)]
    pub icmp: Option<IcmpMatch>,
    /// One of these states. Empty: any state.
    #[n(9)]
    #[cbor(default)]
    pub states: Vec<FlowState>,
    /// The rule's limit.
    #[n(10)]
    pub rate: Option<Rate>,
    /// A BPF program that sees the IP packet and returns a number other than 0, up to [`MAX_PROGRAM`] instructions. Empty: none.
    #[n(11)]
    #[cbor(default)]
    pub program: Vec<Instruction>,
}

/// A change of a brane's filter.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Edit {
    /// Adds a rule.
    #[n(0)]
    Add {
        /// The number that the rule gets, from 1 on; the rules from there on move up. `None`: behind the last rule.
        #[n(0)]
        at: Option<u16>,
        /// The rule.
        #[n(1)]
        rule: Rule,
    },
    /// Deletes the rule of this number, from 1 on.
    #[n(1)]
    Delete(#[n(0)] u16),
    /// Deletes all rules.
    #[n(2)]
    Flush,
    /// Collects rules for [`Edit::Replace`], because a request cannot hold a whole filter. The filter does not change.
    #[n(3)]
    Stage {
        /// Forgets the rules that this operator has collected before.
        #[n(0)]
        first: bool,
        /// The rules.
        #[n(1)]
        rules: Vec<Rule>,
    },
    /// Replaces all rules by those that this operator has collected, at once.
    #[n(4)]
    Replace,
}

/// A rule in force, and what it has matched since it was added.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RuleStatus {
    /// The rule.
    #[n(0)]
    pub rule: Rule,
    /// Packets that matched.
    #[n(1)]
    pub packets: u64,
    /// Their bytes, from the IP header on.
    #[n(2)]
    pub bytes: u64,
}
