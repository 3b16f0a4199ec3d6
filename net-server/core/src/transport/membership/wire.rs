//! What IGMP and MLD have in common on the wire: versions, types of records, queries, and the messages that a host sends.
//!
//! The other side are routers and hosts on the link, which are not trusted. The protocols check what they receive.

use crate::netif::NetIf;
use smoltcp::wire::IpAddress;

/// The version of the protocol that an interface uses, by the oldest querier that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// IGMPv1. MLD has no such version.
    Oldest,
    /// IGMPv2 or MLDv1.
    Older,
    /// IGMPv3 or MLDv2.
    Current,
}

/// Type of a group record (RFC 3376, 4.2.12; RFC 3810, 5.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The state is: all sources.
    IsExclude = 2,
    /// The state has changed to: no source. The brane has left.
    ToInclude = 3,
    /// The state has changed to: all sources. The brane has joined.
    ToExclude = 4,
}

/// A checked query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Version of the querier.
    pub mode: Mode,
    /// The group; `None` for all.
    pub group: Option<IpAddress>,
    /// Longest delay of the answer in nanoseconds.
    pub delay: u64,
    /// Robustness of the querier, 0 for none.
    pub robustness: u8,
    /// Distance of its queries in nanoseconds, 0 for none.
    pub interval: u64,
}

/// Messages of one protocol.
pub trait Wire {
    /// Returns the address that messages of an interface come from; `None` if there is none yet.
    fn source(netif: &NetIf) -> Option<IpAddress>;
    /// Returns true if membership in a group is reported.
    fn is_reported(group: IpAddress) -> bool;
    /// Returns the groups that an interface joins for its own addresses.
    fn own(netif: &NetIf, add: impl FnMut(IpAddress));
    /// Sends a report in the current version.
    fn report(netif: &mut NetIf, source: IpAddress, records: &[(Kind, IpAddress)]);
    /// Sends a report in an older version.
    fn old_report(netif: &mut NetIf, source: IpAddress, mode: Mode, group: IpAddress);
    /// Announces in the version before the current one that the brane has left a group.
    fn old_leave(netif: &mut NetIf, source: IpAddress, group: IpAddress);
}
