//! External hooks: registrations of filters with the manager, and the packets and verdicts between a brane and a filter.
//!
//! A filter is a protection domain `filterK`. It shares the region `registration-filterK` with the manager (side A; layout
//! [`crate::layout::ctl`]), and a region `hook-filterK-N` with each brane N (side A; layout [`crate::layout::hook`]). Neither the
//! manager nor a brane trusts a filter. A filter trusts the manager. It sees the packets of the branes that the manager attaches
//! it to, and decides about them.
//!
//! **Registration.** Records carry their kind in meta word 0 and a token in word 1. A filter has one registration at a time; another
//! one replaces it. The registration outlasts a restart of the filter until the filter leaves or replaces it.
//!
//! **Packets.** A record from the brane has [`packet_words`] as its meta words. Its payload is the name of the interface in
//! [`NAME`] bytes, padded with zeros, and then the beginning of the IP packet.
//!
//! **Verdicts.** A record from the filter has the [`Verdict`] in meta word 0 and the packet's token in word 1. The payload is empty,
//! except for [`Verdict::Modify`]: the whole new IP packet. The brane makes its checksums right. Packets of one head go on in the
//! order in which they arrived, whatever the order of the verdicts.

use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};

/// Filters of a system, at most.
pub const MAX_FILTERS: usize = 4;

/// Names of the filters' protection domains, by number.
pub const FILTER_NAMES: [&str; MAX_FILTERS] = ["filter0", "filter1", "filter2", "filter3"];

/// Doorbell bit of the packets (towards the filter) and the verdicts (towards the brane).
pub const HOOK_BIT: u64 = 1;

/// Bytes of an interface's name in a packet's record.
pub const NAME: usize = 32;

/// Longest part of a packet that a filter gets if it asks for headers, in bytes.
pub const MAX_HEADERS: u32 = 256;

/// Shortest time that a filter can have for a verdict, in milliseconds.
pub const MIN_DEADLINE_MS: u32 = 1;
/// Longest time that a filter can have for a verdict, in milliseconds.
pub const MAX_DEADLINE_MS: u32 = 1000;

/// Branes that a registration can name, at most.
pub const MAX_BRANES: usize = 16;

/// The transport checksum in the packet need not be right. A sent packet gets its checksum behind the hooks. That of a received
/// packet was verified by the device, or the packet comes from another brane and never had one.
pub const FLAG_CHECKSUM_OFFLOADED: u8 = 1;
/// The packet is longer than the MTU: the device cuts it into TCP segments.
pub const FLAG_SEGMENTED: u8 = 2;

/// Kinds of records from the filter to the manager.
pub mod request {
    /// CBOR [`super::Registration`]. Answer: `REGISTERED` or `REFUSED`.
    pub const REGISTER: u32 = 1;
    /// No payload: ends the registration. Answer: `LEFT`.
    pub const LEAVE: u32 = 2;
    /// No payload: the answer to `HEARTBEAT`, with its token.
    pub const ALIVE: u32 = 3;
}

/// Kinds of records from the manager to the filter.
pub mod notice {
    /// No payload: the registration is in force. Branes are told at once.
    pub const REGISTERED: u32 = 1;
    /// No payload: the registration has ended.
    pub const LEFT: u32 = 2;
    /// UTF-8: the reason for which the registration is refused. An earlier one stays in force.
    pub const REFUSED: u32 = 3;
    /// No payload: answer `ALIVE` with the token. A filter that does not answer in time is restarted.
    pub const HEARTBEAT: u32 = 4;
}

/// A point in a brane at which packets are seen. Numbers from 4 on are for points at other layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Head {
    /// Received IPv4 packets.
    #[n(0)]
    InetIn,
    /// Sent IPv4 packets.
    #[n(1)]
    InetOut,
    /// Received IPv6 packets.
    #[n(2)]
    Inet6In,
    /// Sent IPv6 packets.
    #[n(3)]
    Inet6Out,
}

impl Head {
    /// All heads.
    pub const ALL: [Head; 4] = [Head::InetIn, Head::InetOut, Head::Inet6In, Head::Inet6Out];

    /// Returns the head's name, such as `inet-in`.
    pub const fn name(self) -> &'static str {
        match self {
            Head::InetIn => "inet-in",
            Head::InetOut => "inet-out",
            Head::Inet6In => "inet6-in",
            Head::Inet6Out => "inet6-out",
        }
    }

    /// Returns true if the head sees sent packets.
    pub const fn is_out(self) -> bool {
        matches!(self, Head::InetOut | Head::Inet6Out)
    }

    /// Returns the head with this number.
    pub fn from_number(number: u8) -> Option<Head> {
        Head::ALL.get(usize::from(number)).copied()
    }
}

/// What a filter asks for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Registration {
    /// Name of the hook, unique in the system, up to 31 bytes.
    #[n(0)]
    pub name: String,
    /// Hooks with a lower rank run first. The brane's own filter has 500.
    #[n(1)]
    pub rank: u16,
    /// Names of the branes; `None` for all, also those that are created later.
    #[n(2)]
    pub branes: Option<Vec<String>>,
    /// The heads, each at most once, one at least.
    #[n(3)]
    pub heads: Vec<Head>,
    /// The filter gets this many bytes of a packet, up to [`MAX_HEADERS`]; `None`: the whole packet.
    #[n(4)]
    pub headers: Option<u32>,
    /// Time for a verdict in milliseconds, [`MIN_DEADLINE_MS`] to [`MAX_DEADLINE_MS`].
    #[n(5)]
    pub deadline_ms: u32,
    /// Without a verdict in time, and while the filter is not attached: true if packets pass, false if they are dropped.
    #[n(6)]
    pub fail_open: bool,
}

/// A hook as the manager gives it to a brane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct HookConfig {
    /// Number of the filter's protection domain.
    #[n(0)]
    pub filter: u8,
    /// Name of the hook.
    #[n(1)]
    pub name: String,
    /// See [`Registration::rank`].
    #[n(2)]
    pub rank: u16,
    /// See [`Registration::heads`].
    #[n(3)]
    pub heads: Vec<Head>,
    /// See [`Registration::headers`].
    #[n(4)]
    pub headers: Option<u32>,
    /// See [`Registration::deadline_ms`].
    #[n(5)]
    pub deadline_ms: u32,
    /// See [`Registration::fail_open`].
    #[n(6)]
    pub fail_open: bool,
}

/// State of a hook in a brane, as the brane reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct HookStatus {
    /// Number of the filter's protection domain.
    #[n(0)]
    pub filter: u8,
    /// `attached`, or the reason for which the filter is not attached.
    #[n(1)]
    pub state: String,
    /// Packets that have reached the hook.
    #[n(2)]
    pub packets: u64,
    /// Verdicts in time.
    #[n(3)]
    pub verdicts: u64,
    /// Packets without a verdict in time.
    #[n(4)]
    pub missed: u64,
    /// Packets for which there was no room.
    #[n(5)]
    pub full: u64,
    /// Packets that came while the filter was not attached.
    #[n(6)]
    pub unattended: u64,
    /// Times that the filter was detached because it was dead, late or broke the protocol.
    #[n(7)]
    pub detached: u64,
}

/// A filter's decision about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet goes on to the next hook.
    Pass,
    /// The packet is dropped.
    Drop,
    /// The packet is dropped, and its sender gets a TCP reset or an ICMP error.
    Reject,
    /// The packet goes on with new bytes.
    Modify,
    /// The filter keeps the packet.
    Absorb,
}

impl Verdict {
    /// Returns the number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Verdict::Pass => 1,
            Verdict::Drop => 2,
            Verdict::Reject => 3,
            Verdict::Modify => 4,
            Verdict::Absorb => 5,
        }
    }

    /// Returns the verdict with this number.
    pub const fn from_number(number: u32) -> Option<Verdict> {
        Some(match number {
            1 => Verdict::Pass,
            2 => Verdict::Drop,
            3 => Verdict::Reject,
            4 => Verdict::Modify,
            5 => Verdict::Absorb,
            _ => return None,
        })
    }
}

/// Returns the meta words of a packet's record. `len` is the length of the whole packet in bytes.
pub const fn packet_words(head: Head, flags: u8, interface: u16, token: u32, len: u32) -> [u32; 3] {
    [
        head as u32 | (flags as u32) << 8 | (interface as u32) << 16,
        token,
        len,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_names_one_verdict_and_one_head() {
        for number in 0..100 {
            if let Some(verdict) = Verdict::from_number(number) {
                assert_eq!(verdict.number(), number);
            }
        }
        for head in Head::ALL {
            assert_eq!(Head::from_number(head as u8), Some(head));
        }
        assert_eq!(Head::from_number(4), None);
    }
}
