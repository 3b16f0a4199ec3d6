use super::*;
use crate::family::Account;
use alloc::collections::BTreeMap;
use proptest::prelude::*;
use proptest::sample::Index;
use std::vec;

fn allocated(seed: u64) -> Fragments {
    let mut fragments = Fragments::new(seed);
    fragments.create(&mut Account::default().purchase()).unwrap();
    fragments
}

/// Fragments are written with these identifications and addresses.
fn key(sender: u32, id: u16) -> Key {
    Key {
        netif: 1,
        src: Ipv4Addr::from_bits(0x0a00_0200 + sender),
        dst: Ipv4Addr::new(10, 0, 2, 15),
        id,
        protocol: 17,
    }
}

/// A packet's payload: no two are alike.
fn payload(sender: u32, id: u16, len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| (n as u32 * 31 + n as u32 / 251 + sender * 7 + u32::from(id)) as u8)
        .collect()
}

/// A fragment as a packet.
fn packet(key: Key, offset: usize, more: bool, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&((HEADER + data.len()) as u16).to_be_bytes());
    packet[4..6].copy_from_slice(&key.id.to_be_bytes());
    packet[6..8].copy_from_slice(&((offset / 8) as u16 | u16::from(more) << 13).to_be_bytes());
    (packet[8], packet[9]) = (64, key.protocol);
    packet[12..16].copy_from_slice(&key.src.octets());
    packet[16..20].copy_from_slice(&key.dst.octets());
    packet.extend_from_slice(data);
    packet
}

/// Cuts a payload at these places, which are counted in units of 8 bytes.
fn cut(key: Key, data: &[u8], places: &[usize]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = places
        .iter()
        .map(|place| place * 8)
        .filter(|place| *place < data.len())
        .collect();
    places.extend([0, data.len()]);
    places.sort_unstable();
    places.dedup();
    let last = data.len();
    places
        .windows(2)
        .map(|part| packet(key, part[0], part[1] != last, &data[part[0]..part[1]]))
        .collect()
}

fn every(data_len: usize, step: usize) -> Vec<usize> {
    (0..data_len / 8).step_by(step / 8).collect()
}

/// Hands a packet in. Returns the payload that it completes.
fn add(fragments: &mut Fragments, now: u64, packet: &[u8]) -> Option<Vec<u8>> {
    let fragment = Fragment::read(1, packet).expect("a sound fragment");
    if fragments.add(now, &fragment) != Outcome::Complete {
        return None;
    }
    let whole = fragments.take(&[7; ETHERNET]);
    assert_eq!(whole[..ETHERNET], [7; ETHERNET]);
    let header = whole[ETHERNET..].first_chunk::<HEADER>().expect("a header");
    assert!(checksum::is_ipv4(header) && header[6..8] == [0, 0]);
    assert_eq!(
        usize::from(u16::from_be_bytes([header[2], header[3]])),
        whole.len() - ETHERNET
    );
    let payload = whole[ETHERNET + HEADER..].to_vec();
    fragments.give_back(whole);
    Some(payload)
}

/// No list or count contradicts another.
fn check(fragments: &Fragments) {
    let mut used = 0;
    let mut held = vec![0; SENDERS];
    let (mut at, mut count, mut before) = (fragments.oldest, 0, NONE);
    while at != NONE {
        let packet = &fragments.packets[usize::from(at)];
        assert_eq!(packet.older, before);
        assert_eq!(fragments.table.get(&packet.key), Some(&at));
        let (mut cell, mut cells, mut end, mut have) = (packet.first, 0, 0, 0);
        while cell != NONE {
            let piece = &fragments.cells[usize::from(cell)];
            assert!(piece.offset >= end && piece.len != 0);
            end = piece.offset + piece.len;
            have += u32::from(piece.len);
            assert_eq!(piece.next == NONE, packet.last == cell);
            (cell, cells) = (piece.next, cells + 1);
        }
        assert_eq!((cells, have), (packet.cells, packet.have));
        assert!(cells > 0);
        held[usize::from(packet.sender)] += cells;
        used += usize::from(cells);
        (before, at, count) = (at, packet.newer, count + 1);
    }
    assert_eq!((fragments.newest, fragments.table.len()), (before, count));
    assert_eq!(fragments.held, held);
    assert_eq!(fragments.used, used);
    assert!(held.iter().all(|held| *held <= CELLS_OF_SENDER));
    assert!(fragments.cells.len() <= CELLS && fragments.packets.len() <= PACKETS);
}

#[test]
fn the_longest_packet_is_put_together() {
    let mut fragments = allocated(1);
    for step in [552, 1480] {
        let data = payload(1, 1, LONGEST - HEADER);
        let parts = cut(key(1, 1), &data, &every(data.len(), step));
        let (last, parts) = parts.split_last().unwrap();
        // The last one first.
        assert_eq!(add(&mut fragments, 0, last), None);
        let (first, parts) = parts.split_first().unwrap();
        for part in parts {
            assert_eq!(add(&mut fragments, 0, part), None);
        }
        assert_eq!(add(&mut fragments, 0, first), Some(data));
        check(&fragments);
    }
}

#[test]
fn unfinished_packets_of_many_senders_keep_no_packet_from_passing() {
    let mut fragments = allocated(2);
    for n in 0..2000 {
        // Long ones: they take all cells there are.
        assert_eq!(
            add(&mut fragments, 0, &packet(key(n, 9), 0, true, &[1; 1480])),
            None
        );
    }
    check(&fragments);
    let data = payload(5000, 1, 4000);
    let parts = cut(key(5000, 1), &data, &[185, 370]);
    assert_eq!(add(&mut fragments, 0, &parts[0]), None);
    assert_eq!(add(&mut fragments, 0, &parts[1]), None);
    assert_eq!(add(&mut fragments, 0, &parts[2]), Some(data));
    assert!(fragments.dropped >= 2000 - CELLS as u64);
}

#[test]
fn no_packet_gives_way_while_there_are_cells_for_all() {
    let mut fragments = allocated(4);
    // Three cells each.
    let whole = CELLS as u32 / 3;
    for n in 0..whole {
        assert_eq!(
            add(&mut fragments, 0, &packet(key(n, 9), 0, true, &[1; 1480])),
            None
        );
    }
    // One cell each: these are the last ones.
    for n in 0..CELLS as u32 % 3 {
        let short = packet(key(whole + n, 9), 0, true, &[1; 8]);
        assert_eq!(add(&mut fragments, 0, &short), None);
    }
    check(&fragments);
    assert_eq!((fragments.used, fragments.dropped), (CELLS, 0));
    assert_eq!(
        add(&mut fragments, 0, &packet(key(1000, 9), 0, true, &[1; 8])),
        None
    );
    check(&fragments);
    assert_eq!((fragments.used, fragments.dropped), (CELLS - 2, 1));
}

/// What the account of memory is made from (`memory.rs`).
#[test]
fn the_memory_of_fragments_is_what_the_account_says() {
    let fragments = allocated(1);
    let lists = fragments.cells.capacity() * size_of::<Cell>()
        + fragments.packets.capacity() * size_of::<Packet>()
        + fragments.held.capacity() * size_of::<u16>()
        + fragments.whole.capacity();
    // hashbrown repeats the control bytes of one group behind the last bucket.
    let group = 16;
    let taken = lists + fragments.table.allocation_size();
    assert!(
        (BYTES..=BYTES + group).contains(&taken),
        "{taken} bytes taken, {BYTES} in the account"
    );
}

#[test]
fn one_sender_takes_no_more_than_its_share() {
    let mut fragments = allocated(3);
    let data = payload(1, 1, 3000);
    let parts = cut(key(1, 1), &data, &[185]);
    assert_eq!(add(&mut fragments, 0, &parts[0]), None);
    for id in 0..4000 {
        assert_eq!(
            add(&mut fragments, 0, &packet(key(2, id), 0, true, &[1; 1480])),
            None
        );
    }
    check(&fragments);
    // What another one has under way is still there.
    assert_eq!(add(&mut fragments, 0, &parts[1]), Some(data));
}

#[test]
fn overlapping_fragments_drop_the_packet() {
    let mut fragments = allocated(4);
    let data = payload(1, 1, 64);
    let part = |from: usize, to: usize| packet(key(1, 1), from, to != 64, &data[from..to]);
    for (first, second) in [
        ((0, 16), (8, 24)),
        ((8, 24), (0, 16)),
        ((8, 16), (0, 24)),
        ((0, 24), (8, 32)),
        ((40, 64), (32, 48)),
    ] {
        assert_eq!(add(&mut fragments, 0, &part(first.0, first.1)), None);
        let fragment = part(second.0, second.1);
        let fragment = Fragment::read(1, &fragment).unwrap();
        assert_eq!(
            fragments.add(0, &fragment),
            Outcome::Dropped,
            "{first:?} {second:?}"
        );
        assert!(fragments.table.is_empty());
    }
    // The same place with other bytes.
    assert_eq!(add(&mut fragments, 0, &part(0, 16)), None);
    let other = packet(key(1, 1), 0, true, &[0xee; 16]);
    assert_eq!(
        fragments.add(0, &Fragment::read(1, &other).unwrap()),
        Outcome::Dropped
    );
    // Beyond the end, and a second end.
    for (from, to, more) in [(64, 72, true), (56, 72, false), (0, 8, false)] {
        assert_eq!(add(&mut fragments, 0, &part(48, 64)), None);
        let other = packet(key(1, 1), from, more, &vec![1; to - from]);
        assert_eq!(
            fragments.add(0, &Fragment::read(1, &other).unwrap()),
            Outcome::Dropped,
            "{from} to {to}"
        );
    }
    check(&fragments);
}

#[test]
fn packets_wait_thirty_seconds_and_no_longer() {
    let mut fragments = allocated(5);
    let data = payload(1, 1, 48);
    let parts = cut(key(1, 1), &data, &[3]);
    assert_eq!(add(&mut fragments, 5, &parts[0]), None);
    assert_eq!(
        add(&mut fragments, 5 + PATIENCE - 1, &parts[1]),
        Some(data.clone())
    );
    assert_eq!(add(&mut fragments, 5, &parts[0]), None);
    assert_eq!(add(&mut fragments, 5 + PATIENCE, &parts[1]), None);
    assert_eq!(fragments.dropped, 1);
    fragments.clear();
    check(&fragments);
    assert!(fragments.table.is_empty());
}

#[test]
fn fragments_of_other_packets_are_apart() {
    let mut fragments = allocated(6);
    let data = payload(1, 1, 48);
    let known = key(1, 1);
    let first = packet(known, 0, true, &data[..24]);
    assert_eq!(add(&mut fragments, 0, &first), None);
    for other in [
        Key {
            src: Ipv4Addr::new(10, 0, 2, 99),
            ..known
        },
        Key {
            dst: Ipv4Addr::new(10, 0, 2, 16),
            ..known
        },
        Key { id: 2, ..known },
        Key { protocol: 6, ..known },
    ] {
        assert_eq!(
            add(&mut fragments, 0, &packet(other, 24, false, &data[24..])),
            None
        );
    }
    let last = packet(known, 24, false, &data[24..]);
    // By another interface.
    assert_ne!(
        fragments.add(0, &Fragment::read(2, &last).unwrap()),
        Outcome::Complete
    );
    assert_eq!(add(&mut fragments, 0, &last), Some(data));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Fragments of several packets in any order, some of them twice, give just these packets.
    #[test]
    fn packets_come_together_in_any_order(
        packets in prop::collection::vec((0u32..4, 9usize..6000, prop::collection::vec(0usize..750, 0..12)), 1..8),
        order in prop::collection::vec(any::<Index>(), 100),
        twice in prop::collection::vec(any::<Index>(), 0..20),
    ) {
        let mut fragments = allocated(7);
        let mut wanted = BTreeMap::new();
        let mut parts = Vec::new();
        for (n, (sender, len, places)) in packets.into_iter().enumerate() {
            let id = n as u16;
            let data = payload(sender, id, len);
            let of_packet = cut(key(sender, id), &data, &places);
            // A packet in one piece is no fragment.
            if of_packet.len() > 1 {
                wanted.insert(id, (data, of_packet.len()));
                parts.extend(of_packet.into_iter().map(|part| (id, part)));
            }
        }
        let mut sent = Vec::new();
        for pick in order.iter().cycle() {
            if parts.is_empty() {
                break;
            }
            sent.push(parts.swap_remove(pick.index(parts.len())));
        }
        // A duplicate follows the fragment at once, so that it does not begin the packet anew.
        if !sent.is_empty() {
            let mut doubled: Vec<usize> = twice.iter().map(|pick| pick.index(sent.len())).collect();
            doubled.sort_unstable();
            for at in doubled.into_iter().rev() {
                let copy = sent[at].clone();
                sent.insert(at, copy);
            }
        }
        let mut left: BTreeMap<u16, usize> = wanted.iter().map(|(id, (_, count))| (*id, *count)).collect();
        let mut seen: BTreeMap<(u16, Vec<u8>), ()> = BTreeMap::new();
        for (id, part) in sent {
            let new = seen.insert((id, part.clone()), ()).is_none();
            let before = left[&id];
            // Once the packet is complete, its duplicates are not looked at.
            if before == 0 {
                continue;
            }
            left.insert(id, before - usize::from(new));
            let whole = add(&mut fragments, 0, &part);
            prop_assert_eq!(whole.is_some(), left[&id] == 0);
            if let Some(whole) = whole {
                prop_assert_eq!(&whole, &wanted[&id].0);
            }
            check(&fragments);
        }
        prop_assert!(left.values().all(|left| *left == 0));
        prop_assert_eq!(fragments.dropped, 0);
    }

    /// Whatever comes, the lists hold together, and what comes out is what one sender has sent.
    #[test]
    fn any_fragments_do_no_harm(
        steps in prop::collection::vec((0u32..40, 0u16..3, 0usize..400, 1usize..200, any::<bool>(), 0u64..2), 1..600),
    ) {
        let mut fragments = allocated(8);
        let mut now = 0;
        for (sender, id, unit, units, more, later) in steps {
            now += later * PATIENCE / 100;
            let data = payload(sender, id, 5000);
            let (from, to) = (unit * 8, (unit * 8 + units * 8).min(5000));
            let part = packet(key(sender, id), from, more || to < 5000, &data[from..to.max(from + 8)]);
            if let Some(whole) = add(&mut fragments, now, &part) {
                prop_assert_eq!(&whole[..], &data[..whole.len()]);
            }
            check(&fragments);
        }
        fragments.clear();
        check(&fragments);
        prop_assert_eq!(fragments.used, 0);
    }
}
