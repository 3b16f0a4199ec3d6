//! Values that both sides of a region compute for themselves: places, names, packed words. The tests compare them with fixed
//! figures, because a side from another build must compute equal values.
#![cfg(not(loom))]

mod common;

use brane_abi::control::{Family, Protocol, all_families};
use brane_abi::doorbell::Doorbell;
use brane_abi::layout::{self, Part, ctl, line_remote, ports, remote_line, sock, tty};
use brane_abi::link::{Link, LinkHeader, LinkState, Side};
use brane_abi::net::{Cidr, MacAddr, SockAddr, UnknownFamily};
use brane_abi::operator::{Kind as Device, Request};
use brane_abi::port::{self, FrameMeta};
use brane_abi::shared::SharedRegion;
use brane_abi::subscription::Transition;
use brane_abi::vif::Prefix;
use brane_abi::{log, remote, socket};
use common::{region, word, write};

/// Asserts that the parts of a region are inside it and do not overlap, and that indices begin on a cache line.
fn apart(size: usize, indices: &[usize], data: &[Part]) {
    let mut parts: Vec<(usize, usize)> = indices.iter().map(|at| (*at, layout::INDICES)).collect();
    assert!(parts.iter().all(|(at, _)| at.is_multiple_of(64)), "{indices:?}");
    for part in data {
        assert!(
            part.len.is_power_of_two() || part.offset + part.len == size,
            "{part:?}"
        );
        assert!(part.offset.is_multiple_of(64), "{part:?}");
    }
    parts.extend(data.iter().map(|part| (part.offset, part.len)));
    parts.sort();
    let mut end = 0;
    for (at, len) in parts {
        assert!(at >= end && len > 0, "{at:#x} begins before {end:#x}");
        end = at + len;
    }
    assert!(end <= size, "{end:#x}");
}

#[test]
fn no_two_parts_of_a_region_meet() {
    let header = Part {
        offset: 0,
        len: size_of::<LinkHeader>(),
    };
    assert_eq!(header.len, 256);

    let places: Vec<usize> = (0..ports::count(ports::SIZE))
        .flat_map(|p| [ports::rx_indices(p), ports::tx_indices(p)])
        .collect();
    apart(
        ports::SIZE,
        &places,
        &[&[header][..], &ports::RX, &ports::TX].concat(),
    );
    assert_eq!(places, [0x1000, 0x1080, 0x1100, 0x1180]);

    let mut places: Vec<usize> = (0..sock::SLOTS)
        .flat_map(|s| [sock::rx_indices(s), sock::tx_indices(s)])
        .collect();
    assert_eq!(places[..4], [0x2000, 0x2080, 0x2100, 0x2180]);
    places.extend([sock::REQUEST_INDICES, sock::EVENT_INDICES]);
    apart(
        sock::SIZE,
        &places,
        &[header, sock::REQUESTS, sock::EVENTS, sock::DATA],
    );
    assert_eq!(sock::DATA.offset + sock::DATA.len, sock::SIZE);
    assert_eq!((sock::RING_MIN, sock::RING_MAX), (1024, 1024 * 1024));

    let places = [ctl::COMMAND_INDICES, ctl::REPORT_INDICES];
    apart(ctl::SIZE, &places, &[header, ctl::COMMANDS, ctl::REPORTS]);
    apart(layout::log::SIZE, &[layout::log::INDICES], &[layout::log::DATA]);
    let places = [tty::INPUT_INDICES, tty::OUTPUT_INDICES];
    apart(tty::SIZE, &places, &[tty::INPUT, tty::OUTPUT]);
    let places = [remote_line::INPUT_INDICES, remote_line::OUTPUT_INDICES];
    apart(
        remote_line::SIZE,
        &places,
        &[remote_line::INPUT, remote_line::OUTPUT],
    );
    let places = [line_remote::INPUT_INDICES, line_remote::OUTPUT_INDICES];
    apart(
        line_remote::SIZE,
        &places,
        &[line_remote::INPUT, line_remote::OUTPUT],
    );
}

#[test]
fn the_longest_frames_and_the_bits_are_what_they_are() {
    assert_eq!(port::MAX_FRAME, 65549);
    assert_eq!([0, 1, 5, 63].map(port::port_bit), [1, 2, 32, 1 << 63]);
    assert_eq!(socket::CONTROL_BIT, 0x8000_0000_0000_0000);
    // Five bytes of header, 8192 of body, four of checksum. COBS adds one for each started block of 254. Then the zero byte.
    assert_eq!(remote::MAX_ENCODED, 8201 + 33 + 1);
    assert_eq!(remote::CHUNK, 8183);
}

#[test]
fn the_words_of_a_frame_are_packed_bit_by_bit() {
    let meta = FrameMeta {
        kind: 0x81,
        flags: 0xa2,
        gso_type: 0xc4,
        csum_start: 0x8122,
        csum_offset: 0xa344,
        gso_size: 0xc566,
        header_len: 0xe788,
    };
    assert_eq!(meta.to_words(), [0x00c4_a281, 0xa344_8122, 0xe788_c566]);
    assert_eq!(
        FrameMeta::from_words([0xffc4_a281, 0xa344_8122, 0xe788_c566]),
        meta
    );
}

#[test]
fn names_are_those_of_the_commands_and_reports() {
    assert_eq!(Family::ALL.map(Family::name), ["inet", "inet6"]);
    let names = |family: Family| family.protocols().iter().map(|p| p.name()).collect::<Vec<_>>();
    assert_eq!(names(Family::Inet), ["icmp", "udp", "tcp"]);
    assert_eq!(names(Family::Inet6), ["icmp6", "udp", "tcp"]);
    let all = all_families();
    assert_eq!(all.iter().map(|f| f.family).collect::<Vec<_>>(), Family::ALL);
    assert!(all.iter().all(|f| f.protocols == f.family.protocols()));
    assert!(!Family::Inet.protocols().contains(&Protocol::Icmp6));
    assert_eq!(
        Transition::ALL.map(Transition::name),
        [
            "after-create",
            "after-start",
            "before-shutdown",
            "before-destroy",
            "failed",
            "renamed"
        ]
    );
    let kinds = [
        Device::Vnic,
        Device::Phys,
        Device::Pair("b".into()),
        Device::Vlan(7),
        Device::Lo,
    ];
    assert_eq!(
        kinds.map(|kind| kind.word()),
        ["vnic", "phys", "pair", "vlan", "lo"]
    );
}

#[test]
fn a_batch_is_read_as_it_was_written_and_rubbish_in_it_is_none() {
    let requests = [Request::Start("red".into()), Request::Devices];
    let batch = Request::batch(&requests);
    let text = minicbor::to_vec(&batch).unwrap();
    let Ok(Request::Batch(entries)) = minicbor::decode(&text) else {
        panic!("{text:x?}")
    };
    let read: Vec<_> = entries.iter().map(|entry| entry.read()).collect();
    assert_eq!(read, requests.map(Some));
    // In a batch of one request, the entry's text is at the end.
    let entry = minicbor::to_vec(Request::Devices).unwrap();
    let mut text = minicbor::to_vec(Request::batch(&[Request::Devices])).unwrap();
    let begin = text.len() - entry.len();
    assert_eq!(text[begin..], entry);
    text[begin] = 0xff;
    let Ok(Request::Batch(entries)) = minicbor::decode(&text) else {
        panic!("{text:x?}")
    };
    assert_eq!(entries[0].read(), None);
}

#[test]
fn a_request_that_only_asks_changes_nothing() {
    let name = || "red".to_owned();
    let ask = [
        Request::Show(name()),
        Request::Stats(None),
        Request::Devices,
        Request::Subscribers,
        Request::Filters,
        Request::Events { after: 0, wait: true },
        Request::Uptime,
        Request::Audit,
        Request::Save,
        Request::Names,
        Request::batch(&[Request::Start(name())]),
    ];
    assert!(ask.iter().all(|request| !request.changes()));
    let change = [
        Request::Start(name()),
        Request::Remove(name()),
        Request::DeleteDevice(name()),
        Request::Crash(name()),
        Request::Hang(name()),
    ];
    assert!(change.iter().all(Request::changes));
}

#[test]
fn a_station_has_neither_a_group_address_nor_none() {
    let station = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x0f]);
    assert_eq!(station.to_string(), "52:54:00:12:34:0f");
    assert!(station.is_station() && !station.is_group());
    for group in [
        MacAddr::BROADCAST,
        MacAddr([1, 0, 0x5e, 0, 0, 1]),
        MacAddr([0x33, 0x33, 0, 0, 0, 1]),
    ] {
        assert!(group.is_group() && !group.is_station(), "{group}");
    }
    assert!(!MacAddr::default().is_group() && !MacAddr::default().is_station());
}

#[test]
fn addresses_come_out_as_they_went_in() {
    let v4 = "10.0.2.15".parse().unwrap();
    let v6 = "fec0::102:304".parse().unwrap();
    assert_eq!(Cidr { ip: v4, prefix: 24 }.to_string(), "10.0.2.15/24");
    for ip in [None, Some(v4), Some(v6)] {
        let at = SockAddr::new(ip, 80);
        assert_eq!((at.address(), at.port), (Ok(ip), 80));
    }
    for family in [1, 2, 3, 5, 7, 255] {
        let at = SockAddr {
            family,
            ..SockAddr::new(Some(v4), 80)
        };
        assert_eq!(at.address(), Err(UnknownFamily));
    }
    let prefix = Prefix::from(Cidr { ip: v6, prefix: 64 });
    assert_eq!((prefix.family, prefix.length, prefix.reserved), (6, 64, [0; 2]));
    assert_eq!(prefix.ip[..2], [0xfe, 0xc0]);
    assert_eq!(prefix.ip[12..], [1, 2, 3, 4]);
    let prefix = Prefix::from(Cidr { ip: v4, prefix: 8 });
    assert_eq!(
        (prefix.family, prefix.length, &prefix.ip[..4]),
        (4, 8, &[10, 0, 2, 15][..])
    );
}

#[test]
fn a_part_lies_inside_its_region_or_is_none() {
    let whole = region(4096);
    assert_eq!((whole.len(), whole.is_empty()), (4096, false));
    let at = |part: Option<SharedRegion>| part.map(|p| (p.base() as usize - whole.base() as usize, p.len()));
    assert_eq!(at(whole.part(0, 4096)), Some((0, 4096)));
    assert_eq!(at(whole.part(4000, 96)), Some((4000, 96)));
    assert_eq!(at(whole.part(4096, 0)), Some((4096, 0)));
    assert!(whole.part(4096, 0).unwrap().is_empty());
    assert_eq!(at(whole.part(4000, 97)), None);
    assert_eq!(at(whole.part(4097, 0)), None);
    let part = whole.part(64, 128).unwrap();
    assert_eq!(at(part.part(64, 64)), Some((128, 64)));
    assert!(part.part(65, 64).is_none(), "a part knows its own end");
    // SAFETY: a doorbell is made of atomics only.
    let bell =
        |offset| unsafe { whole.object::<Doorbell>(offset) }.map(|bell| bell as *const Doorbell as usize);
    assert_eq!(bell(4032), Some(whole.base() as usize + 4032));
    assert_eq!((bell(4064), bell(4096), bell(32)), (None, None, None));
}

#[test]
fn a_log_goes_from_its_writer_to_serial_and_needs_its_whole_region() {
    let whole = region(layout::log::SIZE);
    let (mut writer, mut serial) = (log::producer(whole).unwrap(), log::consumer(whole).unwrap());
    assert_eq!(writer.write(b"one\n"), Ok(4));
    let mut text = [0; 16];
    assert_eq!(serial.read(&mut text), Ok(4));
    // A restarted writer continues at the present indices.
    let mut writer = log::producer(whole).unwrap();
    assert_eq!(writer.write(b"two\n"), Ok(4));
    assert_eq!(serial.read(&mut text), Ok(4));
    assert_eq!(&text[..4], b"two\n");
    let short = whole.part(0, layout::log::SIZE - 1).unwrap();
    assert!(log::producer(short).is_none() && log::consumer(short).is_none());
}

#[test]
fn each_side_of_a_link_wakes_the_other_and_not_itself() {
    let whole = region(4096);
    let a = Link::start(whole, Side::A).unwrap();
    let b = Link::start(whole, Side::B).unwrap();
    let at = |bell: &'static Doorbell| bell as *const Doorbell as usize - whole.base() as usize;
    assert_eq!((at(a.own_bell()), at(a.peer_bell())), (128, 192));
    assert_eq!((at(b.own_bell()), at(b.peer_bell())), (192, 128));
    assert!(b.own_bell().arm());
    assert!(a.peer_bell().ring(4));
    assert_eq!((a.own_bell().take(), b.own_bell().take()), (0, 4));
}

#[test]
fn an_epoch_is_never_zero_and_counts_the_starts() {
    let whole = region(4096);
    let epochs: Vec<u32> = (0..3)
        .map(|_| Link::start(whole, Side::A).unwrap().epoch())
        .collect();
    assert_eq!(epochs, [1, 2, 3]);
    let mut b = Link::start(whole, Side::B).unwrap();
    assert_eq!((b.epoch(), b.peer_epoch()), (1, 0));
    assert_eq!(b.poll(), LinkState::PeerRestarted);
    b.acknowledge();
    assert_eq!(b.peer_epoch(), 3);
    // The words of side A: magic, version, epoch, acknowledgement.
    write(whole, 8, &u32::MAX.to_le_bytes());
    assert_eq!(Link::start(whole, Side::A).unwrap().epoch(), 1);
    assert_eq!((word(whole, 8), word(whole, 12)), (1, 0));
}

#[test]
fn a_peer_of_another_magic_or_version_is_incompatible() {
    for (offset, value) in [(0, 0), (0, u32::MAX), (4, 0), (4, 2)] {
        let whole = region(4096);
        Link::start(whole, Side::A).unwrap();
        let mut b = Link::start(whole, Side::B).unwrap();
        let right = word(whole, offset);
        write(whole, offset, &u32::to_le_bytes(value));
        assert_eq!(b.poll(), LinkState::Incompatible, "{offset} {value}");
        write(whole, offset, &right.to_le_bytes());
        assert_eq!(b.poll(), LinkState::PeerRestarted);
    }
    let whole = region(4096);
    let mut b = Link::start(whole, Side::B).unwrap();
    assert_eq!(b.poll(), LinkState::Down, "the peer has not started");
    assert!(Link::start(whole.part(0, 255).unwrap(), Side::A).is_none());
}
