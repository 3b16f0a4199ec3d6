//! Initial sequence numbers of TCP connections (RFC 6528).
//!
//! The number is `clock + hash(secret, addresses, ports)`. The other side is any host: it sees the numbers of its own connections.
//! SipHash-2-4 is a pseudorandom function, so these numbers tell nothing about those of other addresses and ports. Between the
//! same addresses and ports the numbers follow the clock, so segments of an old connection are not taken for a new one's.

use crate::transport::tcp::FlowKey;
use core::hash::Hasher;
use rand_chacha::rand_core::RngCore;
use siphasher::sip::SipHasher24;
use smoltcp::wire::IpAddress;

/// Nanoseconds for each step of the clock: 4 µs (RFC 9293, 3.4.1).
const TICK: u64 = 4000;

/// A secret key, and the hash of connections under it.
#[derive(Clone)]
pub struct Keyed(u64, u64);

impl Keyed {
    /// Draws a key from `rng`, which must be unpredictable.
    pub fn new(rng: &mut impl RngCore) -> Keyed {
        Keyed(rng.next_u64(), rng.next_u64())
    }

    /// Hashes a connection's addresses and ports, and `more`. The interface does not count.
    pub fn hash(&self, key: &FlowKey, more: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        match (key.local, key.remote) {
            (IpAddress::Ipv4(local), IpAddress::Ipv4(remote)) => {
                hasher.write_u64(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits()));
            }
            (local, remote) => {
                hasher.write_u128(word(local));
                hasher.write_u128(word(remote));
            }
        }
        hasher.write_u64(u64::from(key.local_port) | u64::from(key.remote_port) << 16);
        hasher.write_u64(more);
        hasher.finish()
    }
}

fn word(address: IpAddress) -> u128 {
    match address {
        IpAddress::Ipv4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddress::Ipv6(a) => a.to_bits(),
    }
}

/// The brane's initial sequence numbers.
pub struct Isn(Keyed);

impl Isn {
    /// Draws a secret from `rng`, which must be unpredictable.
    pub fn new(rng: &mut impl RngCore) -> Isn {
        Isn(Keyed::new(rng))
    }

    /// The initial sequence number of a connection that begins at `now`, in nanoseconds.
    pub fn at(&self, now: u64, key: &FlowKey) -> u32 {
        ((now / TICK) as u32).wrapping_add(self.0.hash(key, 0) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha12Rng;
    use rand_chacha::rand_core::SeedableRng;
    use std::collections::HashSet;

    fn key(port: u16) -> FlowKey {
        FlowKey {
            netif: 1,
            local: "10.0.2.15".parse().unwrap(),
            remote: "10.0.2.2".parse().unwrap(),
            local_port: 80,
            remote_port: port,
        }
    }

    #[test]
    fn initial_sequence_numbers_follow_the_clock_for_the_same_addresses_and_ports() {
        let isn = Isn::new(&mut ChaCha12Rng::from_seed([3; 32]));
        let first = isn.at(1_000_000_000, &key(5));
        // A second is 250,000 steps, wherever the hash begins.
        assert_eq!(isn.at(2_000_000_000, &key(5)).wrapping_sub(first), 250_000);
        let other = FlowKey { netif: 7, ..key(5) };
        assert_eq!(
            isn.at(1_000_000_000, &other),
            first,
            "the interface does not count"
        );
    }

    #[test]
    fn initial_sequence_numbers_of_different_ports_have_nothing_in_common() {
        let isn = Isn::new(&mut ChaCha12Rng::from_seed([3; 32]));
        let numbers: Vec<u32> = (1..=4000).map(|port| isn.at(0, &key(port))).collect();
        assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len());
        // Neither the numbers nor their differences favour any value of the upper byte.
        let differences = numbers.windows(2).map(|w| w[1].wrapping_sub(w[0]));
        for values in [numbers.clone(), differences.collect()] {
            let mut counts = [0u32; 256];
            values.iter().for_each(|v| counts[(v >> 24) as usize] += 1);
            let most = counts.iter().max().unwrap();
            assert!(*most < 45, "one of 256 values turns up {most} times in 4000");
        }
    }

    #[test]
    fn another_secret_gives_other_initial_sequence_numbers() {
        let [a, b] = [3, 4].map(|seed| Isn::new(&mut ChaCha12Rng::from_seed([seed; 32])).at(0, &key(5)));
        assert_ne!(a, b);
        let six = |last: u16| FlowKey {
            local: IpAddress::v6(0xfec0, 0, 0, 0, 0, 0, 0, 1),
            remote: IpAddress::v6(0xfec0, 0, 0, 0, 0, 0, 0, last),
            ..key(5)
        };
        let isn = Isn::new(&mut ChaCha12Rng::from_seed([3; 32]));
        assert_ne!(isn.at(0, &six(2)), isn.at(0, &six(3)));
    }
}
