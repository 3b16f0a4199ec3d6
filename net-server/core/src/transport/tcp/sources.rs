//! How many connections each source holds: who has to give way when there are too many, and to whom.
//!
//! Sources are hosts on the network, which can have many addresses. An IPv4 address is one source; of IPv6 the /64, since a host
//! can have all addresses in one (RFC 4291, 2.5.4). Memory for the table is taken once.

use hashbrown::HashMap;
use slab::Slab;
use smoltcp::wire::IpAddress;

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// Returns what connections of one source have in common of their remote address.
pub fn source_of(remote: IpAddress) -> u128 {
    match remote {
        IpAddress::Ipv4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddress::Ipv6(a) => a.to_bits() >> 64 << 64,
    }
}

/// A source that holds connections, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceId(usize);

/// The sources that hold connections.
pub struct Sources {
    numbers: Map<u128, usize>,
    held: Slab<(u128, u32)>,
}

impl Sources {
    /// Bytes of heap that a table for at most `connections` takes.
    pub const fn bytes(connections: usize) -> usize {
        (2 * connections * 8 / 7).next_power_of_two() * (size_of::<(u128, usize)>() + 1)
            + connections * size_of::<(usize, (u128, u32))>()
    }

    /// Makes a table for at most `connections`.
    pub fn new(connections: usize, hash: foldhash::fast::FixedState) -> Sources {
        Sources {
            // Twice the number, so that the table clears deleted entries in place and never grows.
            numbers: Map::with_capacity_and_hasher(2 * connections, hash),
            held: Slab::with_capacity(connections),
        }
    }

    /// How many connections the source of `remote` holds.
    pub fn held(&self, remote: IpAddress) -> u32 {
        let number = self.numbers.get(&source_of(remote));
        number
            .and_then(|number| self.held.get(*number))
            .map_or(0, |(_, held)| *held)
    }

    /// How many connections a source holds.
    pub fn held_by(&self, id: SourceId) -> u32 {
        self.held.get(id.0).map_or(0, |(_, held)| *held)
    }

    /// The source of `remote` has one connection more. Each is given back by [`Self::release`].
    pub fn take(&mut self, remote: IpAddress) -> SourceId {
        let source = source_of(remote);
        let held = &mut self.held;
        let number = *self
            .numbers
            .entry(source)
            .or_insert_with(|| held.insert((source, 0)));
        self.held[number].1 += 1;
        SourceId(number)
    }

    /// The source has one connection less.
    pub fn release(&mut self, id: SourceId) {
        let Some((source, held)) = self.held.get_mut(id.0) else {
            return;
        };
        *held -= 1;
        if *held == 0 {
            self.numbers.remove(source);
            self.held.remove(id.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foldhash::fast::FixedState;
    use proptest::prelude::*;

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_prefix_of_64_bits() {
        let source = |text: &str| source_of(text.parse().unwrap());
        assert_ne!(source("10.0.2.2"), source("10.0.2.3"));
        assert_eq!(source("fec0::1"), source("fec0::ffff:0:0:2"));
        assert_ne!(source("fec0::1"), source("fec0:0:0:1::1"));
        assert_ne!(source("10.0.2.2"), source("::ffff:0:0:0:1"));
    }

    proptest! {
        #[test]
        fn counts_as_a_list_does(steps in prop::collection::vec((0u8..5, any::<bool>()), 0..200)) {
            let mut sources = Sources::new(200, FixedState::default());
            let address = |n: u8| IpAddress::v4(10, 0, 2, n);
            let mut model: Vec<(u8, SourceId)> = Vec::new();
            for (n, opens) in steps {
                if opens {
                    model.push((n, sources.take(address(n))));
                } else if let Some(at) = model.iter().position(|(m, _)| *m == n) {
                    sources.release(model.remove(at).1);
                }
                for n in 0..5 {
                    let held = model.iter().filter(|(m, _)| *m == n).count() as u32;
                    prop_assert_eq!(sources.held(address(n)), held);
                    for (_, id) in model.iter().filter(|(m, _)| *m == n) {
                        prop_assert_eq!(sources.held_by(*id), held);
                    }
                }
            }
            prop_assert_eq!(sources.held.len(), sources.numbers.len());
        }
    }
}
