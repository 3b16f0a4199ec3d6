//! The header of received frames, as a device that lies may write it.

use brane_abi::port::{FLAG_DATA_VALID, FLAG_NEEDS_CSUM, FrameMeta, GSO_NONE, GSO_TCPV4, GSO_TCPV6};
use proptest::prelude::*;
use virtio_net::header::{self, Header, Receive};

proptest! {
    #[test]
    fn what_the_device_says_stays_inside_the_frame(
        bytes in any::<[u8; 12]>(), flags in 0u8..4, gso in prop_oneof![Just(0u8), Just(1), Just(4), any::<u8>()],
        len in 0usize..70_000, csum: bool, tso4: bool, tso6: bool,
    ) {
        let mut bytes = bytes;
        (bytes[0], bytes[1]) = (flags, gso);
        let header: Header = zerocopy::FromBytes::read_from_bytes(&bytes).unwrap();
        let receive = Receive { csum, tso4, tso6 };
        if let Some(meta) = header::parse(&header, len, receive) {
            prop_assert!(len >= 14 && meta.kind == 0);
            prop_assert!(csum || (meta.flags == 0 && meta.gso_type == GSO_NONE));
            if meta.flags & FLAG_NEEDS_CSUM != 0 {
                prop_assert!(usize::from(meta.csum_start) + usize::from(meta.csum_offset) + 2 <= len);
            }
            prop_assert!(usize::from(meta.header_len) <= len);
            let allowed = match meta.gso_type {
                GSO_NONE => true,
                GSO_TCPV4 => tso4 && meta.gso_size > 0,
                GSO_TCPV6 => tso6 && meta.gso_size > 0,
                _ => false,
            };
            prop_assert!(allowed);
        }
    }
}

const ALL: Receive = Receive {
    csum: true,
    tso4: true,
    tso6: true,
};

#[test]
fn what_a_device_says_of_a_received_frame_is_passed_on() {
    let plain = Header::default();
    assert_eq!(header::parse(&plain, 14, ALL), Some(FrameMeta::default()));
    assert_eq!(header::parse(&plain, 13, ALL), None, "no Ethernet header");
    let verified = Header {
        flags: FLAG_DATA_VALID,
        ..plain
    };
    let meta = header::parse(&verified, 60, ALL).unwrap();
    assert_eq!((meta.flags, meta.gso_type), (FLAG_DATA_VALID, GSO_NONE));
    let large = Header {
        flags: FLAG_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1400,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 1,
    };
    let meta = header::parse(&large, 9000, ALL).unwrap();
    assert_eq!((meta.flags, meta.gso_type), (FLAG_NEEDS_CSUM, GSO_TCPV4));
    assert_eq!((meta.header_len, meta.gso_size), (54, 1400));
    assert_eq!((meta.csum_start, meta.csum_offset), (34, 16));
}
