//! SYN cookies (RFC 4987, 3.6): what the brane must remember of a SYN, in the sequence number of its answer.
//!
//! The peer is any host. It returns the cookie in its acknowledgement; a secret key shows that the brane has made it, for these
//! addresses and ports, for this SYN, not long ago. A forger finds a cookie by trying 2^23 numbers on average, and only while
//! cookies are in use.
//!
//! The upper 24 bits are a keyed hash of the connection, the peer's initial sequence number, the period, and the options. The
//! lower 8 bits are the options, masked by bits of the hash so that they spread: 3 for the segment size, 4 for the window
//! scale, 1 for selective acknowledgements.

use crate::transport::tcp::FlowKey;
use crate::transport::tcp::isn::Keyed;
use crate::transport::tcp::segment::Options;

/// Segment sizes that a cookie can carry; the largest that is not above the peer's is taken.
const SIZES: [u16; 8] = [216, 536, 1220, 1360, 1440, 1460, 4312, 8960];

/// No window scale.
const UNSCALED: u8 = 15;

/// Length of a period in nanoseconds. A cookie holds in its period and in the next one.
pub const PERIOD: u64 = 16_000_000_000;

/// The options as a cookie can carry them.
pub fn round(options: Options) -> Options {
    unpack(pack(options))
}

fn pack(options: Options) -> u8 {
    let size = SIZES.iter().rposition(|size| *size <= options.mss).unwrap_or(0);
    let scale = options.scale.map_or(UNSCALED, |scale| scale.min(14));
    (size as u8) << 5 | scale << 1 | u8::from(options.sack)
}

fn unpack(bits: u8) -> Options {
    let scale = bits >> 1 & 15;
    Options {
        mss: SIZES[usize::from(bits >> 5)],
        scale: (scale != UNSCALED).then_some(scale),
        sack: bits & 1 != 0,
    }
}

fn hash(secret: &Keyed, period: u64, key: &FlowKey, irs: u32, bits: u8) -> u32 {
    let more = u64::from(irs) << 32 | (period & 0xff_ffff) << 8 | u64::from(bits);
    (secret.hash(key, more) >> 40) as u32
}

/// Makes the cookie for a SYN with initial sequence number `irs` that comes at `now`.
pub fn make(secret: &Keyed, now: u64, key: &FlowKey, irs: u32, options: Options) -> u32 {
    let bits = pack(options);
    let hash = hash(secret, now / PERIOD, key, irs, bits);
    hash << 8 | u32::from(bits ^ hash as u8)
}

/// Returns the options in a cookie that [`make`] made for this connection in this period or the one before, else `None`.
pub fn check(secret: &Keyed, now: u64, key: &FlowKey, irs: u32, cookie: u32) -> Option<Options> {
    let (upper, bits) = (cookie >> 8, cookie as u8 ^ (cookie >> 8) as u8);
    let period = now / PERIOD;
    [Some(period), period.checked_sub(1)]
        .into_iter()
        .flatten()
        .any(|period| hash(secret, period, key, irs, bits) == upper)
        .then(|| unpack(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_chacha::rand_core::SeedableRng;
    use smoltcp::wire::IpAddress;

    fn secret(seed: u8) -> Keyed {
        Keyed::new(&mut ChaCha12Rng::from_seed([seed; 32]))
    }

    fn flow(v6: bool, remote: u32, local_port: u16, remote_port: u16) -> FlowKey {
        let address = |last: u32| match v6 {
            true => IpAddress::v6(0xfec0, 0, 0, 0, 0, 0, (last >> 16) as u16, last as u16),
            false => IpAddress::Ipv4(last.into()),
        };
        FlowKey {
            netif: 1,
            local: address(0x0a00_020f),
            remote: address(remote),
            local_port,
            remote_port,
        }
    }

    proptest! {
        /// What was put in comes out, in time; nothing does for another connection, SYN, secret, or too late.
        #[test]
        fn a_cookie_brings_back_its_options_and_nothing_else_does(
            v6: bool, remote: u32, local_port: u16, remote_port: u16, irs: u32, mss: u16, scale in prop::option::of(0u8..=14), sack: bool,
            now in 0..1u64 << 60, later in 0..PERIOD, change in 0usize..7, bit in 0u32..16,
        ) {
            let secret = secret(1);
            let (key, options) = (flow(v6, remote, local_port, remote_port), Options { mss, scale, sack });
            let cookie = make(&secret, now, &key, irs, options);
            let read = check(&secret, now + later, &key, irs, cookie);
            prop_assert_eq!(read, Some(round(options)));
            let read = read.unwrap();
            prop_assert_eq!((read.scale, read.sack), (scale, sack));
            prop_assert!(read.mss <= mss.max(216) && SIZES.iter().all(|size| *size <= read.mss || *size > mss));
            prop_assert_eq!(check(&secret, now + 2 * PERIOD, &key, irs, cookie), None);
            let (mut key, mut irs, mut secret, mut cookie) = (key, irs, secret, cookie);
            match change {
                0 => key.remote_port ^= 1 << bit,
                1 => key.local_port ^= 1 << bit,
                2 => key = flow(v6, remote ^ 1 << bit, local_port, remote_port),
                3 => irs ^= 1 << bit,
                4 => secret = self::secret(2),
                5 => cookie ^= 1 << bit,
                _ => cookie ^= 1 << (bit + 16),
            }
            prop_assert_eq!(check(&secret, now, &key, irs, cookie), None);
        }
    }

    #[test]
    fn the_cookie_before_the_first_period_is_no_cookie() {
        let key = flow(false, 7, 1, 2);
        let cookie = make(&secret(1), 0, &key, 9, Options::default());
        assert_eq!(
            check(&secret(1), PERIOD, &key, 9, cookie),
            Some(Options::default())
        );
    }
}
