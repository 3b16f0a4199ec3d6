//! The protocol switch of one brane: which protocols there are, at which stage, and what each has seen.
//!
//! A packet's way takes one look at a bit in here; the table beside it is for those who ask.

use crate::family::Part;
use brane_abi::control::{Family, Protocol};

/// Stage of a protocol's life, for those who look from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There, but not serving.
    Created,
    /// Serving.
    Started,
    /// Ending what there is.
    Draining,
}

impl Stage {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Created => "created",
            Stage::Started => "started",
            Stage::Draining => "draining",
        }
    }
}

/// What a protocol has seen since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets received for it.
    pub received: u64,
    /// Errors sent about packets for it, by ICMP.
    pub errors: u64,
}

/// Protocols of both families.
const PLACES: usize = 6;

/// The switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protosw {
    /// A bit for each protocol that takes packets, and for each family ([`family_bit`]).
    live: u32,
    families: [Option<Stage>; 2],
    entries: [Option<(Stage, Counts)>; PLACES],
}

const fn family_bit(family: Family) -> u32 {
    1 << (PLACES + family as usize)
}

/// Where a protocol stands in the table; for one that the family cannot have, the place of what it has instead.
#[inline]
const fn place(family: Family, protocol: Protocol) -> usize {
    let place = match protocol {
        Protocol::Icmp | Protocol::Icmp6 => 0,
        Protocol::Udp => 1,
        Protocol::Tcp => 2,
    };
    place + 3 * family as usize
}

impl Protosw {
    pub(crate) fn add(&mut self, part: &Part) {
        match *part {
            Part(family, None) => self.families[family as usize] = Some(Stage::Created),
            Part(family, Some(protocol)) => {
                self.entries[place(family, protocol)] = Some((Stage::Created, Counts::default()));
            }
        }
    }

    pub(crate) fn remove(&mut self, part: &Part) {
        self.mark(part, Stage::Created);
        match *part {
            Part(family, None) => self.families[family as usize] = None,
            Part(family, Some(protocol)) => self.entries[place(family, protocol)] = None,
        }
    }

    pub(crate) fn mark(&mut self, part: &Part, stage: Stage) {
        let bit = match *part {
            Part(family, None) => {
                self.families[family as usize] = Some(stage);
                family_bit(family)
            }
            Part(family, Some(protocol)) => {
                let place = place(family, protocol);
                if let Some((old, _)) = &mut self.entries[place] {
                    *old = stage;
                }
                1 << place
            }
        };
        match stage {
            Stage::Created => self.live &= !bit,
            Stage::Started | Stage::Draining => self.live |= bit,
        }
    }

    /// Whether packets of this family are taken.
    #[inline]
    pub fn takes_family(&self, family: Family) -> bool {
        self.live & family_bit(family) != 0
    }

    /// Whether packets of this protocol are taken.
    #[inline]
    pub fn takes(&self, family: Family, protocol: Protocol) -> bool {
        self.live & 1 << place(family, protocol) != 0
    }

    /// A packet has come for this protocol; whether it is taken.
    #[inline]
    pub fn receive(&mut self, family: Family, protocol: Protocol) -> bool {
        let place = place(family, protocol);
        if self.live & 1 << place == 0 {
            return false;
        }
        if let Some((_, counts)) = &mut self.entries[place] {
            counts.received += 1;
        }
        true
    }

    /// An error about a packet was sent by the control protocol of this family.
    pub fn erred(&mut self, family: Family) {
        if let Some((_, counts)) = &mut self.entries[place(family, crate::family::control_of(family))] {
            counts.errors += 1;
        }
    }

    /// Whether the family was created.
    pub fn has_family(&self, family: Family) -> bool {
        self.families[family as usize].is_some()
    }

    /// Whether the protocol was created, in one family or, with `None`, in any.
    pub fn has(&self, family: Option<Family>, protocol: Protocol) -> bool {
        let families = Family::ALL
            .iter()
            .filter(|f| family.is_none_or(|family| family == **f));
        families
            .filter(|f| f.protocols().contains(&protocol))
            .any(|f| self.entries[place(*f, protocol)].is_some())
    }

    /// All protocols, families in order.
    pub fn iter(&self) -> impl Iterator<Item = (Family, Protocol, Stage, Counts)> {
        let all = Family::ALL
            .iter()
            .flat_map(|f| f.protocols().iter().map(|p| (*f, *p)));
        all.filter_map(|(family, protocol)| {
            let (stage, counts) = self.entries[place(family, protocol)]?;
            Some((family, protocol, stage, counts))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_created_anew_takes_no_packets_and_all_others_go_on() {
        let parts = Family::ALL.map(|family| {
            let protocols = family.protocols().iter().map(move |p| Part(family, Some(*p)));
            core::iter::once(Part(family, None)).chain(protocols)
        });
        let parts: Vec<Part> = parts.into_iter().flatten().collect();
        let takes = |switch: &Protosw, Part(family, protocol): Part| match protocol {
            None => switch.takes_family(family),
            Some(protocol) => switch.takes(family, protocol),
        };
        let mut all = Protosw::default();
        for part in &parts {
            all.add(part);
            assert!(!takes(&all, *part), "{part:?}");
            all.mark(part, Stage::Started);
        }
        for stopped in &parts {
            let mut switch = all.clone();
            switch.mark(stopped, Stage::Draining);
            assert!(parts.iter().all(|part| takes(&switch, *part)));
            switch.mark(stopped, Stage::Created);
            for part in &parts {
                assert_eq!(
                    takes(&switch, *part),
                    part != stopped,
                    "{part:?} without {stopped:?}"
                );
            }
        }
    }
}
