use super::*;
use alloc::vec::Vec;
use etherparse::PacketBuilder;
use proptest::prelude::*;

const A: [u8; 6] = [2, 0x77, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0x77, 0, 0, 0, 2];

fn v4() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2(A, B).ipv4([10, 0, 2, 15], [10, 0, 2, 16], 64)
}

fn v6() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let address = |last| {
        let mut bytes = [0; 16];
        (bytes[0], bytes[1], bytes[15]) = (0xfe, 0xc0, last);
        bytes
    };
    PacketBuilder::ethernet2(A, B).ipv6(address(15), address(16), 64)
}

fn shown(frame: &[u8]) -> String {
    line(Link::Ethernet, frame, frame.len() as u32)
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[test]
fn packets_are_shown_as_tcpdump_shows_them() {
    let udp = written(|out| v4().udp(4000, 7).write(out, &[0; 12]).unwrap());
    assert_eq!(shown(&udp), "IP 10.0.2.15.4000 > 10.0.2.16.7: UDP, length 12");
    assert_eq!(
        line(Link::Raw, &udp[14..], udp.len() as u32 - 14),
        "IP 10.0.2.15.4000 > 10.0.2.16.7: UDP, length 12"
    );
    let dns = written(|out| v6().udp(4000, 53).write(out, &[0; 30]).unwrap());
    assert_eq!(
        shown(&dns),
        "IP6 fec0::f.4000 > fec0::10.53: UDP (DNS), length 30"
    );
    let syn = written(|out| v4().tcp(4000, 80, 1000, 64240).syn().write(out, &[]).unwrap());
    assert_eq!(
        shown(&syn),
        "IP 10.0.2.15.4000 > 10.0.2.16.80: Flags [S], seq 1000, win 64240, length 0"
    );
    let data = written(|out| {
        v6().tcp(4000, 80, 1001, 501)
            .psh()
            .ack(77)
            .write(out, &[1; 12])
            .unwrap()
    });
    assert_eq!(
        shown(&data),
        "IP6 fec0::f.4000 > fec0::10.80: Flags [P.], seq 1001:1013, ack 77, win 501, length 12"
    );
    let echo = written(|out| v4().icmpv4_echo_request(9, 3).write(out, &[0; 56]).unwrap());
    assert_eq!(
        shown(&echo),
        "IP 10.0.2.15 > 10.0.2.16: ICMP echo request, id 9, seq 3, length 64"
    );
    let unreachable = written(|out| v4().icmpv4_raw(3, 3, [0; 4]).write(out, &[0; 28]).unwrap());
    assert_eq!(
        shown(&unreachable),
        "IP 10.0.2.15 > 10.0.2.16: ICMP port unreachable, length 36"
    );
    let mut target = [0; 16];
    target[0] = 0xfe;
    let asks = written(|out| v6().icmpv6_raw(135, 0, [0; 4]).write(out, &target).unwrap());
    assert_eq!(
        shown(&asks),
        "IP6 fec0::f > fec0::10: ICMP6, neighbor solicitation, who has fe00::, length 24"
    );
}

#[test]
fn arp_and_unknown_frames_have_their_line() {
    let mut frame = Vec::from([0xff; 6]);
    frame.extend(A);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(A);
    frame.extend([10, 0, 2, 15]);
    frame.extend([0; 6]);
    frame.extend([10, 0, 2, 2]);
    assert_eq!(
        shown(&frame),
        "ARP, Request who-has 10.0.2.2 tell 10.0.2.15, length 28"
    );
    frame[21] = 2;
    assert_eq!(
        shown(&frame),
        "ARP, Reply 10.0.2.15 is-at 02:77:00:00:00:01, length 28"
    );
    frame[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(
        shown(&frame),
        "ethertype 0x88cc 02:77:00:00:00:01 > ff:ff:ff:ff:ff:ff, length 42"
    );
}

#[test]
fn what_is_cut_off_is_said() {
    let frame = written(|out| {
        v4().tcp(4000, 80, 1000, 64240)
            .syn()
            .write(out, &[0; 100])
            .unwrap()
    });
    let length = frame.len() as u32;
    // A snaplen that cuts the payload leaves the line as it is.
    assert_eq!(line(Link::Ethernet, &frame[..60], length), shown(&frame));
    for (kept, expected) in [
        (
            40,
            "IP 10.0.2.15 > 10.0.2.16: TCP [truncated or malformed], length 120",
        ),
        (
            20,
            "IP 02:77:00:00:00:01 > 02:77:00:00:00:02 [truncated or malformed], length 154",
        ),
        (3, "[truncated], length 154"),
    ] {
        assert_eq!(line(Link::Ethernet, &frame[..kept], length), expected);
    }
    let mut fragment = frame;
    // More fragments, offset 8.
    fragment[20..22].copy_from_slice(&[0x20, 0x01]);
    assert_eq!(
        shown(&fragment),
        "IP 10.0.2.15 > 10.0.2.16: TCP fragment (id 0, offset 8+), length 120"
    );
}

/// Frames that begin like real ones, with random bytes changed and cut off.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let starts = [
        written(|out| v4().udp(4000, 53).write(out, &[0; 40]).unwrap()),
        written(|out| v6().udp(4000, 547).write(out, &[0; 40]).unwrap()),
        written(|out| v4().tcp(4000, 80, 1, 2).ack(7).write(out, &[0; 40]).unwrap()),
        written(|out| v6().icmpv6_raw(135, 0, [0; 4]).write(out, &[0; 20]).unwrap()),
        written(|out| v4().icmpv4_echo_request(1, 1).write(out, &[0; 8]).unwrap()),
        Vec::new(),
    ];
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (
        prop::sample::select(Vec::from(starts)),
        bytes,
        changes,
        any::<prop::sample::Index>(),
    )
        .prop_map(|(mut frame, bytes, changes, cut)| {
            frame.extend(bytes);
            for (at, value) in changes {
                if !frame.is_empty() {
                    let at = at.index(frame.len());
                    frame[at] = value;
                }
            }
            frame.truncate(cut.index(frame.len() + 1));
            frame
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_frame_breaks_the_line(frame in hostile(), length: u32, raw: bool) {
        let link = if raw { Link::Raw } else { Link::Ethernet };
        let shown = line(link, &frame, length);
        prop_assert!(!shown.is_empty() && shown.len() < 200, "{}", shown);
        prop_assert!(shown.bytes().all(|c| (0x20..0x7f).contains(&c)), "{:?}", shown);
    }
}
