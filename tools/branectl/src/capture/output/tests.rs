use super::*;
use pcap_file::pcapng::{Block, PcapNgReader};
use std::process::{Command, Stdio};

const START: Duration = Duration::new(1_700_000_000, 123_456_789);

fn net0() -> Interface {
    Interface {
        brane: "red".into(),
        brane_generation: 2,
        name: "net0".into(),
        device: "vnic1".into(),
        generation: 7,
        link: Link::Ethernet,
    }
}

fn lo0() -> Interface {
    Interface {
        name: "lo0".into(),
        device: String::new(),
        generation: 0,
        link: Link::Raw,
        ..net0()
    }
}

/// A datagram in an Ethernet frame.
fn datagram() -> Vec<u8> {
    let mut out = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [3; 6])
        .ipv4([10, 0, 2, 15], [10, 0, 2, 16], 64)
        .udp(4000, 7)
        .write(&mut out, &[1; 13])
        .unwrap();
    out
}

fn frame(interface: usize, sent: bool, bytes: &[u8], length: usize) -> Frame {
    Frame {
        interface,
        sent,
        time_ns: 5_000_000_001,
        dropped: 0,
        length: length as u32,
        bytes: bytes.to_vec(),
    }
}

/// Writes a capture with two interfaces and three frames. The second one is cut off, and four were lost before it.
fn file() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut output = Pcapng::new(&mut bytes, 65_535).unwrap();
    let packet = datagram();
    output.interface(&net0()).unwrap();
    output
        .frame(&frame(0, false, &packet, packet.len()), &net0(), START, 0)
        .unwrap();
    output.interface(&lo0()).unwrap();
    let later = START + Duration::from_nanos(1001);
    output
        .frame(&frame(0, true, &packet[..50], packet.len()), &net0(), later, 4)
        .unwrap();
    output
        .frame(
            &frame(1, true, &packet[14..], packet.len() - 14),
            &lo0(),
            later,
            0,
        )
        .unwrap();
    let counts = Counts {
        captured: 2,
        dropped: 4,
        matched: 6,
    };
    output.statistics(0, counts, later).unwrap();
    output.flush().unwrap();
    drop(output);
    bytes
}

#[test]
fn a_file_has_what_was_written() {
    let bytes = file();
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block() {
        blocks.push(block.unwrap().into_owned());
    }
    let [
        Block::InterfaceDescription(first),
        Block::EnhancedPacket(received),
        Block::InterfaceDescription(second),
        Block::EnhancedPacket(cut),
        Block::EnhancedPacket(local),
        Block::InterfaceStatistics(statistics),
    ] = &blocks[..]
    else {
        panic!("{blocks:?}")
    };
    assert_eq!(
        (first.linktype, second.linktype),
        (DataLink::from(1), DataLink::from(101))
    );
    let name = InterfaceDescriptionOption::IfName("red/net0".into());
    let text = "brane red (restart 2), device vnic1 (generation 7)";
    let description = InterfaceDescriptionOption::IfDescription(text.into());
    let resolution = InterfaceDescriptionOption::IfTsResol(9);
    assert_eq!(first.options, [name, description, resolution]);
    let packet = datagram();
    assert_eq!(received.data, packet);
    assert_eq!((received.timestamp, received.interface_id), (START, 0));
    assert_eq!(received.options, [EnhancedPacketOption::Flags(1)]);
    assert_eq!(
        (cut.original_len as usize, cut.data.len(), &cut.options[..]),
        (
            packet.len(),
            50,
            &[EnhancedPacketOption::Flags(2), EnhancedPacketOption::DropCount(4)][..]
        )
    );
    assert_eq!(cut.timestamp, START + Duration::from_nanos(1001));
    assert_eq!((local.interface_id, &local.data[..]), (1, &packet[14..]));
    let expected = [
        InterfaceStatisticsOption::IsbIfRecv(6),
        InterfaceStatisticsOption::IsbIfDrop(4),
        InterfaceStatisticsOption::IsbUsrDeliv(2),
    ];
    assert_eq!(statistics.options, expected);
    // The format has the upper half of the time first (pcapng 4.5), which the reader does not know.
    let nanoseconds = 1_700_000_000_123_457_790_u64;
    let [upper, lower] = [(nanoseconds >> 32) as u32, nanoseconds as u32].map(u32::to_le_bytes);
    let wanted = [&5u32.to_le_bytes()[..], &[64, 0, 0, 0], &[0; 4], &upper, &lower].concat();
    assert!(bytes.windows(wanted.len()).any(|part| part == wanted));
}

#[test]
fn tshark_reads_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pcapng");
    std::fs::write(&path, file()).unwrap();
    let fields = [
        "frame.interface_name",
        "frame.time_epoch",
        "frame.len",
        "frame.cap_len",
        "frame.packet_flags_direction",
        "frame.drop_count",
        "udp.dstport",
    ];
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(&path)
        .args(["-T", "fields"])
        .stdin(Stdio::null());
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command
        .output()
        .expect("tshark, which `cargo xtask test` installs");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let expected = [
        ["red/net0", "1700000000.123456789", "55", "55", "1", "", "7"],
        ["red/net0", "1700000000.123457790", "55", "50", "2", "4", "7"],
        ["red/lo0", "1700000000.123457790", "41", "41", "2", "", "7"],
    ];
    let shown = lines.iter().map(|line| {
        line.iter()
            .map(|field| field.trim_start_matches("0x0000000"))
            .collect::<Vec<_>>()
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        expected,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn lines_have_the_time_of_the_day_and_json_the_bytes() {
    let mut bytes = Vec::new();
    let packet = datagram();
    let mut lines = Lines {
        writer: &mut bytes,
        json: false,
        zone: TimeZone::UTC,
    };
    lines
        .frame(&frame(0, false, &packet, packet.len()), &net0(), START, 0)
        .unwrap();
    lines.flush().unwrap();
    assert_eq!(
        String::from_utf8(std::mem::take(&mut bytes)).unwrap(),
        "22:13:20.123456 red/net0 In  IP 10.0.2.15.4000 > 10.0.2.16.7: UDP, length 13\n"
    );
    let mut lines = Lines::new(&mut bytes, true);
    lines
        .frame(&frame(0, true, &packet[..3], packet.len()), &net0(), START, 0)
        .unwrap();
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        (
            &value["time"],
            &value["at_ns"],
            &value["direction"],
            &value["bytes"]
        ),
        (
            &"2023-11-14T22:13:20.123456789Z".into(),
            &5_000_000_001u64.into(),
            &"out".into(),
            &"030303".into()
        )
    );
}

#[test]
fn no_time_breaks_the_output() {
    let mut lines = Lines::new(Vec::new(), false);
    for time in [Duration::ZERO, Duration::from_nanos(i64::MAX as u64)] {
        lines.frame(&frame(0, true, &[], 0), &net0(), time, 0).unwrap();
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut output = Pcapng::new(std::io::BufWriter::new(full), 100);
    // The section's header is written at once, so that a reader of a pipe sees the format.
    let error = match &mut output {
        Ok(output) => output.flush().unwrap_err(),
        Err(error) => std::mem::replace(error, io::Error::other("")),
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}
