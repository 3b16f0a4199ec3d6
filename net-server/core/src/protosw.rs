//! The protocol switch of one brane: it finds the protocol that a packet is for.
//!
//! Each family has an array of its protocols ([`crate::family`]). A protocol adds itself to the switch when it is created. From
//! its start on, packets with its number reach its [`Protocol::input`]. Packets come from any host, checked by [`crate::headers`].

use crate::family::{Account, Shortage, array};
use crate::headers::{Packet, Reason};
use crate::ip::icmp_error::Cause;
use crate::net::Net;
use crate::query::SocketRows;
use crate::transport::icmp::ErrorReport;
use crate::transport::udp::rx_flow_cache::Delivery;
use alloc::boxed::Box;
use brane_abi::control::{self, Family};
use core::ops::Range;
use smoltcp::wire::IpAddress;

/// A protocol above IP. One object serves all families that have the protocol, and is created once for each of them.
pub trait Protocol {
    /// Buys the tables that the protocol needs in a family. Leaves nothing behind if that fails.
    fn create(&mut self, family: Family, account: &mut Account) -> Result<(), Shortage>;

    /// Serves from now on. Cannot fail.
    fn start(&mut self, _: Family) {}

    /// Accepts nothing new from now on. What there is goes on.
    fn shutdown(&mut self, _: Family) {}

    /// Frees what [`Self::create`] bought. Cannot fail.
    fn destroy(&mut self, family: Family, account: &mut Account);

    /// Handles a received packet with one of the protocol's numbers.
    fn input(&mut self, now: u64, net: &mut Net, packet: &Packet<'_>) -> Outcome;

    /// Handles another host's ICMP error about a packet of the protocol. The quoted packet has an address of the brane as its
    /// source.
    fn error_input(&mut self, net: &mut Net, _: &ErrorReport) {
        net.counters.icmp_errors_stray += 1;
    }

    /// A neighbour's link-layer address is known now: what waits for the neighbour `hop` at an interface goes on.
    fn resolved(&mut self, _: &Net, _netif: usize, _hop: IpAddress) {}

    /// Drops what was learnt of routes and flows: addresses, routes or links have changed.
    fn invalidate_caches(&mut self) {}

    /// Returns the time at which [`Self::poll`] must be called.
    fn deadline(&self) -> u64 {
        u64::MAX
    }

    /// Does the work that is due.
    fn poll(&mut self, _now: u64, _: &mut Net) {}

    /// Adds the protocol's sockets to a page of `netstat`.
    fn sockets(&mut self, _: &mut SocketRows) {}
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was handled, or dropped and counted.
    Done,
    /// A datagram for a client's UDP socket: the caller delivers these bytes of the frame.
    Datagram(Delivery, Range<usize>),
    /// A datagram for a group: the caller delivers these bytes of the frame to each of [`crate::transport::udp::Udp::take_receivers`].
    Group(Delivery, Range<usize>),
    /// It is malformed. The caller counts it.
    Malformed(Reason),
    /// Its sender gets this error, if that is allowed.
    Rejected(Cause),
    /// It says where this neighbour is, which the brane has waited for.
    Resolved(IpAddress),
    /// It is an error about a packet of the brane, for that packet's protocol.
    Error(ErrorReport),
}

/// The object that serves a protocol.
#[derive(Clone, Copy)]
pub enum State {
    /// [`crate::transport::icmp::Icmp`].
    Icmp,
    /// [`crate::transport::tcp::Tcp`].
    Tcp,
    /// [`crate::transport::udp::Udp`].
    Udp,
    /// [`crate::transport::igmp::Igmp`].
    Igmp,
    /// [`crate::transport::mld::Mld`].
    Mld,
    /// An object of its own in each family, made when the brane starts.
    Own(fn() -> Box<dyn Protocol>),
}

/// A protocol in the array of its family.
pub struct Entry {
    /// Its number ([`crate::headers::wire::number`]).
    pub number: u8,
    /// Its name.
    pub name: &'static str,
    /// What the manager calls it. `None` if it is part of its family: then it is there whenever the family is.
    pub protocol: Option<control::Protocol>,
    /// Selects the packets with its number that are for it; `None` for all. The first protocol in the array that wants a packet
    /// gets it.
    pub wants: Option<fn(&Net, &Packet<'_>) -> bool>,
    /// The object that serves it.
    pub state: State,
}

impl Entry {
    /// Makes the entry of a protocol that the manager can leave out.
    pub const fn new(number: u8, name: &'static str, protocol: control::Protocol, state: State) -> Entry {
        Entry {
            number,
            name,
            protocol: Some(protocol),
            wants: None,
            state,
        }
    }

    /// Makes the entry of a protocol that is part of its family and has its own object.
    pub const fn built_in(number: u8, name: &'static str, make: fn() -> Box<dyn Protocol>) -> Entry {
        Entry::part_of_family(number, name, State::Own(make))
    }

    /// Makes the entry of a protocol that is part of its family and that the stack uses by its type.
    pub const fn part_of_family(number: u8, name: &'static str, state: State) -> Entry {
        Entry {
            number,
            name,
            protocol: None,
            wants: None,
            state,
        }
    }

    /// Selects packets of its number.
    pub const fn wants(self, wants: fn(&Net, &Packet<'_>) -> bool) -> Entry {
        Entry {
            wants: Some(wants),
            ..self
        }
    }
}

/// Stage of a protocol's life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It exists and does not serve.
    Created,
    /// It serves.
    Started,
    /// It ends what there is.
    Draining,
}

impl Stage {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Created => "created",
            Stage::Started => "started",
            Stage::Draining => "draining",
        }
    }

    const fn takes_packets(self) -> bool {
        matches!(self, Stage::Started | Stage::Draining)
    }
}

/// Counts of a protocol since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets received for it.
    pub received: u64,
    /// Errors sent about packets for it, by ICMP.
    pub errors: u64,
}

/// Protocols that the array of a family can have.
pub const PLACES: usize = 8;
/// Protocols that the manager can name, with room for more.
const NAMES: usize = 16;

/// The place of a protocol in the array of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(Family, u8);

/// Places of the protocols that the manager can name, by family and protocol; `PLACES` for one that the family cannot have.
const NAMED: [[u8; NAMES]; 2] = [named(array(Family::Inet)), named(array(Family::Inet6))];

const fn named(array: &[Entry]) -> [u8; NAMES] {
    let mut places = [PLACES as u8; NAMES];
    let mut at = 0;
    assert!(array.len() <= PLACES);
    while at < array.len() {
        if let Some(protocol) = array[at].protocol {
            places[protocol as usize] = at as u8;
        }
        at += 1;
    }
    places
}

impl Place {
    /// Returns the place of a protocol that the manager names. Returns `None` if the family cannot have it.
    #[inline]
    pub fn of(family: Family, protocol: control::Protocol) -> Option<Place> {
        let place = NAMED[family as usize][protocol as usize];
        (usize::from(place) < PLACES).then_some(Place(family, place))
    }

    /// Returns the places of a family's array.
    pub fn all(family: Family) -> impl DoubleEndedIterator<Item = Place> {
        (0..array(family).len() as u8).map(move |at| Place(family, at))
    }

    /// Returns the places of the protocols that are part of a family.
    pub fn built_in(family: Family) -> impl DoubleEndedIterator<Item = Place> {
        Place::all(family).filter(|place| place.entry().protocol.is_none())
    }

    /// Returns the family.
    pub fn family(self) -> Family {
        self.0
    }

    /// Returns the position in the family's array.
    #[inline]
    pub fn position(self) -> usize {
        usize::from(self.1) % PLACES
    }

    /// Returns the protocol.
    pub fn entry(self) -> &'static Entry {
        &array(self.0)[self.position()]
    }
}

/// The protocols of one family in a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    /// Stage of the family; `None` before it is created.
    stage: Option<Stage>,
    /// The family takes packets.
    serves: bool,
    /// Protocols by number: a bit for each place in the family's array.
    numbers: [u8; 256],
    /// Places whose protocols take packets.
    live: u8,
    stages: [Option<Stage>; PLACES],
    counts: [Counts; PLACES],
}

impl Default for Row {
    fn default() -> Row {
        Row {
            stage: None,
            serves: false,
            numbers: [0; 256],
            live: 0,
            stages: [None; PLACES],
            counts: [Counts::default(); PLACES],
        }
    }
}

/// The switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protosw {
    rows: [Row; 2],
}

impl Protosw {
    /// Sets the stage of a family. `None`: it does not exist.
    pub(crate) fn mark_family(&mut self, family: Family, stage: Option<Stage>) {
        let row = &mut self.rows[family as usize];
        row.stage = stage;
        row.serves = stage.is_some_and(Stage::takes_packets);
    }

    /// Adds a protocol. It takes no packets yet.
    pub(crate) fn add(&mut self, place: Place) {
        let row = &mut self.rows[place.0 as usize];
        row.numbers[usize::from(place.entry().number)] |= 1 << place.1;
        row.stages[place.position()] = Some(Stage::Created);
    }

    /// Removes a protocol.
    pub(crate) fn remove(&mut self, place: Place) {
        self.mark(place, Stage::Created);
        let row = &mut self.rows[place.0 as usize];
        row.numbers[usize::from(place.entry().number)] &= !(1 << place.1);
        row.stages[place.position()] = None;
        row.counts[place.position()] = Counts::default();
    }

    /// Sets the stage of a protocol.
    pub(crate) fn mark(&mut self, place: Place, stage: Stage) {
        let row = &mut self.rows[place.0 as usize];
        row.stages[place.position()] = Some(stage);
        if stage.takes_packets() {
            row.live |= 1 << place.1;
        } else {
            row.live &= !(1 << place.1);
        }
    }

    /// Returns true if packets of this family are taken.
    #[inline]
    pub fn takes_family(&self, family: Family) -> bool {
        self.rows[family as usize].serves
    }

    /// Returns true if packets of this protocol are taken.
    #[inline]
    pub fn takes(&self, family: Family, protocol: control::Protocol) -> bool {
        Place::of(family, protocol).is_some_and(|place| self.rows[family as usize].live & 1 << place.1 != 0)
    }

    /// Returns true if packets of this number are taken.
    pub fn has_number(&self, family: Family, number: u8) -> bool {
        self.numbered(family, number).next().is_some()
    }

    /// Returns true if packets of this number are taken, by a protocol that is no part of its family.
    pub fn takes_number(&self, family: Family, number: u8) -> bool {
        self.numbered(family, number)
            .any(|place| place.entry().protocol.is_some())
    }

    /// Returns the protocols of a number that take packets.
    fn numbered(&self, family: Family, number: u8) -> impl Iterator<Item = Place> + use<> {
        let row = &self.rows[family as usize];
        let mut left = row.numbers[usize::from(number)] & row.live;
        core::iter::from_fn(move || {
            let at = left.trailing_zeros() as u8;
            (left != 0).then(|| {
                left &= left - 1;
                Place(family, at)
            })
        })
    }

    /// Counts a packet for a protocol. Returns false if the protocol does not take it.
    #[inline]
    pub fn receive(&mut self, family: Family, protocol: control::Protocol) -> bool {
        let Some(place) = Place::of(family, protocol) else {
            return false;
        };
        let row = &mut self.rows[family as usize];
        let takes = row.live & 1 << place.1 != 0;
        row.counts[place.position()].received += u64::from(takes);
        takes
    }

    /// Finds the protocol that gets a packet, and counts the packet.
    pub fn find(&mut self, net: &Net, packet: &Packet<'_>) -> Option<Place> {
        let mut places = self.numbered(packet.family, packet.number);
        let place = places.find(|place| place.entry().wants.is_none_or(|wants| wants(net, packet)))?;
        self.rows[packet.family as usize].counts[place.position()].received += 1;
        Some(place)
    }

    /// Finds the protocol that gets an error about a packet of this number.
    pub fn find_reported(&self, family: Family, number: u8) -> Option<Place> {
        self.numbered(family, number).last()
    }

    /// Counts an error that the control protocol of a family has sent.
    pub fn erred(&mut self, family: Family) {
        if let Some(place) = Place::of(family, crate::family::control_of(family)) {
            self.rows[family as usize].counts[place.position()].errors += 1;
        }
    }

    /// Returns true if the family was created.
    pub fn has_family(&self, family: Family) -> bool {
        self.rows[family as usize].stage.is_some()
    }

    /// Returns true if the protocol was created, in one family or, with `None`, in any.
    pub fn has(&self, family: Option<Family>, protocol: control::Protocol) -> bool {
        let families = Family::ALL
            .into_iter()
            .filter(|f| family.is_none_or(|family| family == *f));
        families
            .filter_map(|family| Place::of(family, protocol))
            .any(|place| self.rows[place.0 as usize].stages[place.position()].is_some())
    }

    /// Returns the protocols that the manager can leave out, families in order.
    pub fn iter(&self) -> impl Iterator<Item = (Family, control::Protocol, Stage, Counts)> {
        let families = Family::ALL.into_iter().zip(&self.rows);
        families.flat_map(|(family, row)| {
            let entries = array(family).iter().zip(row.stages).zip(row.counts);
            entries
                .filter_map(move |((entry, stage), counts)| Some((family, entry.protocol?, stage?, counts)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Vec<Place> {
        Family::ALL.into_iter().flat_map(Place::all).collect()
    }

    #[test]
    fn the_arrays_have_the_protocols_that_the_manager_can_name_in_its_order() {
        for family in Family::ALL {
            let named: Vec<_> = array(family).iter().filter_map(|entry| entry.protocol).collect();
            assert_eq!(named, family.protocols());
            for entry in array(family) {
                assert!(
                    entry
                        .protocol
                        .is_none_or(|protocol| protocol.name() == entry.name)
                );
            }
        }
    }

    #[test]
    fn what_is_created_anew_takes_no_packets_and_all_others_go_on() {
        let takes = |switch: &Protosw, place: Place| {
            switch
                .numbered(place.family(), place.entry().number)
                .any(|found| found == place)
        };
        let mut all = Protosw::default();
        for place in places() {
            all.add(place);
            assert!(!takes(&all, place), "{place:?}");
            all.mark(place, Stage::Started);
        }
        for stopped in places() {
            let mut switch = all.clone();
            switch.mark(stopped, Stage::Draining);
            assert!(places().into_iter().all(|place| takes(&switch, place)));
            switch.mark(stopped, Stage::Created);
            for place in places() {
                assert_eq!(
                    takes(&switch, place),
                    place != stopped,
                    "{place:?} without {stopped:?}"
                );
            }
        }
        for place in places() {
            all.remove(place);
        }
        assert_eq!(all, Protosw::default());
    }
}
