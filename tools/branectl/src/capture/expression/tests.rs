use super::*;
use brane_abi::capture::MAX_PROGRAM;
use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, TsResolution};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use std::borrow::Cow;
use std::time::Duration;

#[test]
fn a_dump_is_parsed() {
    let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
    assert_eq!(
        parse("2\n40 0 0 12\n6 0 0 4294967295\n"),
        Some(vec![instruction(40, 0, 0, 12), instruction(6, 0, 0, u32::MAX)])
    );
    for wrong in [
        "",
        "x",
        "1",
        "2\n6 0 0 0",
        "1\n6 0 0",
        "1\n6 0 0 0 0",
        "1\n6 256 0 0",
        "0\n6 0 0 0",
    ] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_wrong_expression_has_the_words_of_libpcap() {
    let error = |text| compile(text).unwrap_err().to_string();
    let fix = "the manual page pcap-filter(7) explains the language, as in udp port 53";
    assert_eq!(
        error("udp prt 53"),
        format!("expression \"udp prt 53\": can't parse filter expression: syntax error: {fix}")
    );
    assert!(error("ip and arp").contains("expression rejects all packets"));
    // It is no option of the compiler.
    assert!(error("-w /dev/null").contains("syntax error"));
    let long: Vec<String> = (0..160).map(|n| format!("port {}", 2 * n + 1)).collect();
    let said = error(&long.join(" or "));
    assert!(
        said.contains(&MAX_PROGRAM.to_string()) && said.contains("shorter"),
        "{said}"
    );
}

#[test]
fn what_lo0_cannot_have_selects_nothing_there() {
    for text in ["arp", "ether host 02:00:00:00:00:01", "vlan 3"] {
        let programs = compile(text).unwrap();
        assert!(programs.ethernet.len() > 1);
        assert_eq!(Program::verify(&programs.raw).unwrap().run(&[0x45; 60], 60), 0);
    }
}

/// Expressions that use the parts of the language.
const EXPRESSIONS: &[&str] = &[
    "ip",
    "ip6",
    "tcp",
    "udp port 53",
    "not udp",
    "host 10.0.2.15",
    "src net 10.0.0.0/8 and dst portrange 1-1024",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "icmp[icmptype] == icmp-echo or icmp6",
    "len > 100",
    "less 80",
    "ip[8] < 10",
    "ip6 host fec0::10",
    "ip[6:2] & 0x1fff != 0",
    "udp and ip[2:2] - ((ip[0] & 0xf) * 4) > 60",
    "ip proto 17 or ip6 proto 58",
    "ip broadcast or ip multicast",
];

/// Frames, most of which are like real ones, with bytes changed.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let built = (0u8..4, 0u16..1100, 0u8..32, 0usize..100).prop_map(|(kind, port, host, length)| {
        let mut six = [0; 16];
        (six[0], six[1], six[15]) = (0xfe, 0xc0, host);
        let four = PacketBuilder::ethernet2([2; 6], [3; 6]).ipv4([10, 0, 2, host], [10, 0, 2, 15], host);
        let v6 = PacketBuilder::ethernet2([2; 6], [3; 6]).ipv6(six, six, 64);
        let payload = vec![0x5a; length];
        let mut out = Vec::new();
        match kind {
            0 => four.udp(port, 53).write(&mut out, &payload).unwrap(),
            1 => four
                .tcp(4000, port, 1, 2)
                .syn()
                .write(&mut out, &payload)
                .unwrap(),
            2 => four
                .icmpv4_raw(host, 0, [0; 4])
                .write(&mut out, &payload)
                .unwrap(),
            _ => v6.udp(53, port).write(&mut out, &payload).unwrap(),
        }
        out
    });
    let changes = proptest::collection::vec((0usize..80, any::<u8>()), 0..3);
    (built, changes, proptest::option::of(0usize..90)).prop_map(|(mut frame, changes, cut)| {
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut.unwrap_or(usize::MAX).max(1));
        frame
    })
}

/// Returns the indices of the frames that libpcap selects.
fn selected_by_libpcap(expression: &str, link: DataLink, frames: &[Vec<u8>]) -> Vec<u32> {
    let folder = tempfile::tempdir().unwrap();
    let (all, some) = (folder.path().join("all"), folder.path().join("some"));
    let header = PcapHeader {
        datalink: link,
        ts_resolution: TsResolution::MicroSecond,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(std::fs::File::create(&all).unwrap(), header).unwrap();
    for (frame, n) in frames.iter().zip(0u32..) {
        // The time is the index.
        let packet = PcapPacket {
            timestamp: Duration::from_secs(n.into()),
            orig_len: frame.len() as u32,
            data: Cow::Borrowed(frame),
        };
        writer.write_packet(&packet).unwrap();
    }
    drop(writer);
    let output = Command::new(COMPILER)
        .env("PATH", path())
        .arg("-r")
        .arg(&all)
        .arg("-w")
        .arg(&some)
        .args(["--", expression])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{expression}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut reader = PcapReader::new(std::fs::File::open(&some).unwrap()).unwrap();
    let mut found = Vec::new();
    while let Some(packet) = reader.next_packet() {
        found.push(packet.unwrap().timestamp.as_secs() as u32);
    }
    found
}

/// The interpreter of branes and libpcap's own agree on each frame, for both link types.
#[test]
fn programs_decide_as_libpcap_does() {
    let mut runner = TestRunner::new(Config::default());
    let strategy = proptest::collection::vec(frame(), 600);
    let frames = strategy.new_tree(&mut runner).unwrap().current();
    let joined = EXPRESSIONS
        .windows(2)
        .map(|pair| format!("({}) or not ({})", pair[0], pair[1]));
    let expressions = EXPRESSIONS
        .iter()
        .map(|text| text.to_string())
        .chain(joined.step_by(3));
    let mut counts = (0, 0);
    for expression in expressions {
        let programs = compile(&expression).unwrap();
        let packets: Vec<Vec<u8>> = frames
            .iter()
            .map(|frame| frame[frame.len().min(14)..].to_vec())
            .collect();
        for (link, program, all) in [
            (DataLink::ETHERNET, &programs.ethernet, &frames),
            (DataLink::RAW, &programs.raw, &packets),
        ] {
            let program = Program::verify(program).unwrap();
            let selected: Vec<u32> = (0u32..)
                .zip(all)
                .filter(|(_, frame)| program.run(frame, frame.len() as u32) != 0)
                .map(|(n, _)| n)
                .collect();
            assert_eq!(
                selected,
                selected_by_libpcap(&expression, link, all),
                "{expression} {link:?}"
            );
            counts.0 += selected.len();
            counts.1 += all.len() - selected.len();
        }
    }
    // Expressions that select all or nothing would compare nothing.
    assert!(counts.0 > 1000 && counts.1 > 1000, "{counts:?}");
}

proptest! {
    #[test]
    fn any_dump_is_an_error_or_a_program(text in "[0-9]{1,3}(\n[0-9]{1,3} [0-9]{1,3} [0-9]{1,3} [0-9]{1,10}){0,6}\n?|\\PC{0,60}") {
        if let Some(program) = parse(&text) {
            prop_assert!(program.len() <= text.len());
            let _ = checked("x", &text);
        }
    }
}
