//! The Internet checksum (RFC 1071). Pure arithmetic over bytes that belong to the caller.

use smoltcp::wire::IpAddress;

/// One's complement sum of big-endian 16-bit words (an odd last byte is padded with zero), folded to 16 bits, not inverted.
pub fn sum(bytes: &[u8]) -> u16 {
    // Native order all along and one swap at the end (RFC 1071, 2.B); 32-bit words into 64 bits, so no carry is lost.
    let mut total = 0u64;
    let mut chunks = bytes.chunks_exact(32);
    for chunk in &mut chunks {
        for word in chunk.as_chunks::<4>().0 {
            total += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, rest) = chunks.remainder().as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_ne_bytes(last));
    fold(total).to_be()
}

/// Whether the checksum of an IPv4 header without options is right.
#[inline]
pub fn is_ipv4(header: &[u8; 20]) -> bool {
    let words = header.as_chunks::<4>().0.iter();
    let total = words.map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    fold(total) == 0xffff
}

const fn fold(mut total: u64) -> u16 {
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff) + ((total >> 16) & 0xffff) + (total >> 32);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total as u16
}

/// Sum of two sums.
pub const fn add(a: u16, b: u16) -> u16 {
    fold(a as u64 + b as u64)
}

/// Sum of the pseudo header of TCP and UDP (RFC 9293 3.1, RFC 768, RFC 8200 8.1). `None` for mixed families.
pub fn pseudo_header(src: IpAddress, dst: IpAddress, protocol: u8, len: usize) -> Option<u16> {
    let addresses = match (src, dst) {
        (IpAddress::Ipv4(s), IpAddress::Ipv4(d)) => add(sum(&s.octets()), sum(&d.octets())),
        (IpAddress::Ipv6(s), IpAddress::Ipv6(d)) => add(sum(&s.octets()), sum(&d.octets())),
        _ => return None,
    };
    let len = len as u64;
    Some(fold(
        u64::from(addresses) + u64::from(protocol) + (len >> 16) + (len & 0xffff),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the definition, byte pair by byte pair.
        #[test]
        fn sums_as_defined(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut expected = 0u32;
            for pair in bytes.chunks(2) {
                expected += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
                expected = (expected & 0xffff) + (expected >> 16);
            }
            prop_assert_eq!(sum(&bytes), expected as u16);
            if let Some(header) = bytes.first_chunk() {
                prop_assert_eq!(is_ipv4(header), sum(header) == 0xffff);
            }
        }
    }
}
