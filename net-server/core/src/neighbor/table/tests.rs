use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn ip(n: u32) -> IpAddress {
    IpAddress::Ipv4(Ipv4Addr::from_bits(0x0a00_0000 + n))
}

fn mac(n: u32) -> [u8; 6] {
    let [a, b, c, d] = n.to_be_bytes();
    [2, 0, a, b, c, d]
}

const ANSWER: Claim = Claim::Reply { overrides: true };

/// Asks for a neighbour that answers.
fn know(table: &mut Neighbours, now: u64, n: u32) {
    assert_eq!(table.want(now, ip(n)), Way::Ask);
    assert_eq!(table.update(now, ip(n), mac(n), ANSWER), Update::Resolved);
    assert_eq!(table.want(now, ip(n)), Way::Ready);
}

#[test]
fn a_neighbour_is_asked_once_a_second_until_it_answers() {
    let mut table = Neighbours::default();
    assert_eq!(table.want(SECOND, ip(1)), Way::Ask);
    assert_eq!(table.want(2 * SECOND - 1, ip(1)), Way::Wait);
    assert_eq!(table.want(2 * SECOND, ip(1)), Way::Ask);
    assert_eq!(table.iter(2 * SECOND).count(), 0);
    assert_eq!(table.update(3 * SECOND, ip(1), mac(1), ANSWER), Update::Resolved);
    assert_eq!(table.want(3 * SECOND, ip(1)), Way::Ready);
    let known: Vec<_> = table.iter(3 * SECOND).collect();
    assert_eq!(
        (known.len(), known[0].mac, known[0].until),
        (1, mac(1), 63 * SECOND)
    );
    // It is asked anew before its address is forgotten, and once a second at most.
    assert_eq!(table.want(43 * SECOND - 1, ip(1)), Way::Ready);
    assert_eq!(table.want(43 * SECOND, ip(1)), Way::Refresh);
    assert_eq!(table.want(43 * SECOND + 1, ip(1)), Way::Ready);
    assert_eq!(table.want(44 * SECOND, ip(1)), Way::Refresh);
    assert_eq!(table.want(63 * SECOND, ip(1)), Way::Ask);
    assert_eq!(table.iter(63 * SECOND).count(), 0);
}

#[test]
fn what_nobody_has_asked_for_makes_no_entry() {
    let mut table = Neighbours::default();
    for overrides in [true, false] {
        assert_eq!(
            table.update(0, ip(1), mac(1), Claim::Reply { overrides }),
            Update::None
        );
    }
    assert_eq!(table.want(0, ip(1)), Way::Ask);
    // Stations that cannot be.
    for bad in [[0; 6], [1, 0, 0, 0, 0, 1]] {
        assert_eq!(table.update(0, ip(1), bad, ANSWER), Update::None);
    }
    assert_eq!(table.want(0, ip(1)), Way::Wait);
}

#[test]
fn an_address_that_is_known_changes_only_if_the_message_overrides_it() {
    let mut table = Neighbours::default();
    know(&mut table, 0, 1);
    assert_eq!(
        table.update(1, ip(1), mac(2), Claim::Reply { overrides: false }),
        Update::None
    );
    assert_eq!(table.iter(1).next().unwrap().mac, mac(1));
    assert_eq!(table.update(1, ip(1), mac(2), ANSWER), Update::Changed);
    assert_eq!(table.update(2, ip(1), mac(3), Claim::Request), Update::Changed);
    assert_eq!(table.iter(2).next().unwrap().mac, mac(3));
}

#[test]
fn who_asks_for_us_is_shown_when_the_brane_sends_there() {
    let mut table = Neighbours::default();
    assert_eq!(table.update(0, ip(1), mac(1), Claim::Request), Update::None);
    assert_eq!(table.want(1, ip(1)), Way::Show(mac(1)));
    assert_eq!(table.want(1, ip(1)), Way::Ready);
    table.lost(ip(1));
    assert_eq!(table.want(1, ip(1)), Way::Show(mac(1)));
    table.unshown();
    assert_eq!(table.want(1, ip(1)), Way::Show(mac(1)));
}

#[test]
fn strangers_take_no_place_that_is_needed() {
    let mut table = Neighbours::default();
    for n in 0..100 {
        know(&mut table, SECOND, n);
    }
    for n in 1000..3000 {
        table.update(2 * SECOND, ip(n), mac(n), Claim::Request);
        table.want_for_stranger(2 * SECOND, ip(n + 10_000));
    }
    for n in 0..100 {
        assert_eq!(table.want(2 * SECOND, ip(n)), Way::Ready, "{n}");
    }
    assert!(table.0.len() <= LIMIT);
    let unanswered = table.0.iter().filter(|entry| entry.until == 0).count();
    assert_eq!(unanswered, FOR_STRANGERS);
}

#[test]
fn neighbours_that_do_not_answer_take_no_place_of_those_that_have() {
    let mut table = Neighbours::default();
    for n in 0..64 {
        know(&mut table, SECOND, n);
    }
    for n in 1000..3000 {
        assert_eq!(table.want(2 * SECOND, ip(n)), Way::Ask);
    }
    for n in 0..64 {
        assert_eq!(table.want(2 * SECOND, ip(n)), Way::Ready, "{n}");
    }
    // The last ones can still answer.
    assert_eq!(
        table.update(2 * SECOND, ip(2999), mac(7), ANSWER),
        Update::Resolved
    );
    assert!(table.0.len() <= LIMIT);
}

#[test]
fn the_one_that_was_not_used_for_longest_gives_way_to_new_peers() {
    let mut table = Neighbours::default();
    for n in 0..128 {
        know(&mut table, u64::from(n) * 1000, n);
    }
    know(&mut table, SECOND, 500);
    assert_eq!(table.want(SECOND, ip(0)), Way::Ask);
    assert_eq!(table.want(SECOND, ip(127)), Way::Ready);
}

#[test]
fn what_smoltcp_asks_for_itself_is_answered() {
    let mut table = Neighbours::default();
    table.asked(0, ip(1));
    table.asked(0, ip(1));
    assert_eq!(table.update(1, ip(1), mac(1), ANSWER), Update::Resolved);
    // An answer that comes when nobody waits any more is kept, and shown on the next use.
    table.asked(0, ip(2));
    assert_eq!(table.update(4 * SECOND, ip(2), mac(2), ANSWER), Update::None);
    assert_eq!(table.want(4 * SECOND, ip(2)), Way::Show(mac(2)));
}

proptest! {
    /// Whatever is said and wanted, the table stays within its bounds, has no neighbour twice, and is right about one that
    /// answered last.
    #[test]
    fn the_table_is_bounded(steps in prop::collection::vec((0u8..6, 0u32..400, 0u64..SECOND), 1..1000)) {
        let mut table = Neighbours::default();
        let mut now = 0;
        for (what, n, later) in steps {
            now += later / 10;
            match what {
                0 => drop(table.want(now, ip(n))),
                1 => drop(table.want_for_stranger(now, ip(n))),
                2 => drop(table.update(now, ip(n), mac(n), Claim::Request)),
                3 => table.asked(now, ip(n)),
                4 => drop(table.update(now, ip(n), mac(n), Claim::Reply { overrides: false })),
                _ => {
                    if table.update(now, ip(n), mac(n), ANSWER) == Update::Resolved {
                        prop_assert_eq!(table.want(now, ip(n)), Way::Ready);
                    }
                }
            }
            prop_assert!(table.0.len() <= LIMIT && table.0.capacity() == LIMIT);
            let mut all: Vec<_> = table.0.iter().map(|entry| entry.ip).collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), table.0.len());
            prop_assert!(table.iter(now).all(|known| IpAddress::from(known.ip) == ip(u32::from_be_bytes([known.mac[2], known.mac[3], known.mac[4], known.mac[5]]))));
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(frame in prop::collection::vec(any::<u8>(), 14..120), kind in 0usize..4) {
        let mut frame = frame;
        let head = [ARP, IPV6, IPV6, [8, 0]][kind];
        frame[12..14].copy_from_slice(&head);
        if kind == 2 && frame.len() > 60 {
            frame[20] = ICMPV6;
            frame[54] = 135 + frame[54] % 3;
        }
        let _ = (read(&frame), question(&frame));
    }
}

#[test]
fn messages_of_our_making_are_read_back() {
    let (us, neighbour) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let (frame, len) = shown(us.into(), mac(1), neighbour.into(), mac(2)).unwrap();
    let wanted = Message::Arp {
        request: false,
        sender: neighbour,
        mac: mac(2),
        target: us,
    };
    assert_eq!(read(&frame[..len]), Some(wanted));
    let (us6, neighbour6) = (Ipv6Addr::LOCALHOST, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9));
    let (frame, len) = shown(us6.into(), mac(1), neighbour6.into(), mac(2)).unwrap();
    let wanted = Message::Advertisement {
        target: neighbour6,
        mac: Some(mac(2)),
        overrides: true,
    };
    assert_eq!(read(&frame[..len]), Some(wanted));
    assert_eq!(shown(us.into(), mac(1), neighbour6.into(), mac(2)), None);
}
