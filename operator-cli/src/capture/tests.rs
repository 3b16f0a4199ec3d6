use super::*;
use alloc::vec;
use brane_abi::operator::MAX_REQUEST;
use branes_bpf::Program;
use proptest::prelude::*;

fn names() -> Names {
    Names {
        branes: vec!["main".into(), "red".into()],
        devices: vec!["vnic1".into(), "red".into()],
        ..Names::default()
    }
}

#[test]
fn a_target_is_all_a_brane_an_interface_or_a_device() {
    let target = |word: &str| Place::parse(word).and_then(|place| place.resolve(&names()));
    assert_eq!(target("all"), Ok(Target::All));
    assert_eq!(target("main"), Ok(Target::Brane("main".into())));
    assert_eq!(target("vnic1"), Ok(Target::Device("vnic1".into())));
    // A brane and a device.
    assert_eq!(target("red"), Ok(Target::Brane("red".into())));
    assert_eq!(
        target("red/net0"),
        Ok(Target::Interface("red".into(), "net0".into()))
    );
    assert_eq!(
        target("vnic2").unwrap_err().to_string(),
        "no brane or device named \"vnic2\": did you mean vnic1?"
    );
    assert!(target("").is_err() && target("/net0").is_err());
}

/// Runs the program for Ethernet on a datagram from 10.0.2.15 to a port of 10.0.2.16.
fn selects(words: &str, port: u16) -> bool {
    let mut frame = Vec::new();
    let builder =
        etherparse::PacketBuilder::ethernet2([2; 6], [2; 6]).ipv4([10, 0, 2, 15], [10, 0, 2, 16], 64);
    builder.udp(4000, port).write(&mut frame, &[0; 4]).unwrap();
    let programs = Programs::of_matches(words).unwrap();
    let run = |code: &[Instruction], bytes: &[u8]| {
        Program::verify(code).unwrap().run(bytes, bytes.len() as u32) != 0
    };
    let ethernet = run(&programs.ethernet, &frame);
    assert_eq!(ethernet, run(&programs.raw, &frame[14..]));
    ethernet
}

#[test]
fn matches_of_a_rule_select_frames() {
    assert!(selects("proto udp to any port 53", 53));
    assert!(!selects("proto udp to any port 53", 54));
    assert!(selects("from 10.0.2.0/24", 1) && !selects("from 10.0.3.0/24", 1));
    assert!(!selects("inet6", 1) && !selects("proto tcp", 1));
    let error = |words| Programs::of_matches(words).unwrap_err().to_string();
    assert!(
        error("proto udq").starts_with("column 7: "),
        "{}",
        error("proto udq")
    );
    assert!(error("in proto udp").starts_with("in or out is no match of a capture: "));
    assert!(error("proto udp rate 1/s").starts_with("rate is no match"));
    assert!(error("udp port 53").contains("on the host"));
}

#[test]
fn an_expression_is_bounded() {
    let words = vec!["x".repeat(100); 60];
    let options = Options::new("all", None, None, None, &words);
    assert!(
        options
            .unwrap_err()
            .to_string()
            .starts_with("an expression of 6060 bytes")
    );
    let options = Options::new("all", None, Some(0), None, &[]).unwrap();
    assert_eq!(options.snaplen, None);
}

proptest! {
    /// What is staged is the programs, in requests that the manager accepts.
    #[test]
    fn stages_carry_the_programs(ethernet in 1..=MAX_PROGRAM, raw in 0..=MAX_PROGRAM, k: u32) {
        let program = |length| vec![Instruction { code: 0xffff, jt: 255, jf: 255, k }; length];
        let programs = Programs { ethernet: program(ethernet), raw: program(raw) }.checked().unwrap();
        let mut found = Programs::default();
        for (index, request) in programs.stages().into_iter().enumerate() {
            prop_assert!(minicbor::to_vec(&request).unwrap().len() <= MAX_REQUEST);
            let Request::StageCapture(stage) = request else { panic!() };
            prop_assert_eq!(stage.first, index == 0);
            prop_assert!(stage.program.len() <= MAX_STAGED);
            match stage.link {
                Link::Ethernet => found.ethernet.extend(stage.program),
                Link::Raw => found.raw.extend(stage.program),
            }
        }
        prop_assert_eq!(found, programs);
    }
}

#[test]
fn a_name_cannot_forge_a_line() {
    let frame = Frame {
        at_ns: 1_000_001_999,
        time: None,
        brane: "red",
        interface: "net0\n1.0 blue/net0 \x1b[2J",
        link: Link::Raw,
        sent: false,
        length: 3,
        bytes: &[],
    };
    assert_eq!(
        frame.text(),
        "1.000001 red/net0?1.0?blue/net0??[2J In  [truncated], length 3\n"
    );
}

#[test]
fn a_long_program_is_refused() {
    let programs = Programs {
        ethernet: vec![Instruction::default(); MAX_PROGRAM + 1],
        raw: vec![],
    };
    assert_eq!(
        programs.checked().unwrap_err().to_string(),
        "the expression has 513 instructions, 512 are allowed: write a shorter expression"
    );
}
