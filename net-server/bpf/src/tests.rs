//! Tests: programs by hand, each refusal, and random programs against a plain evaluator that knows the codes as numbers.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn plain(code: u16, k: u32) -> Instruction {
    instruction(code, 0, 0, k)
}

fn run(program: &[Instruction], packet: &[u8]) -> u32 {
    let program = Program::verify(program).unwrap_or_else(|fault| panic!("{fault}"));
    program.run(packet, packet.len() as u32)
}

/// All codes of `struct bpf_insn`, as numbers.
const CODES: [u16; 45] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x14, 0x15, 0x16, 0x1c, 0x1d, 0x20, 0x24, 0x25,
    0x28, 0x2c, 0x2d, 0x30, 0x34, 0x35, 0x3c, 0x3d, 0x40, 0x44, 0x45, 0x48, 0x4c, 0x4d, 0x50, 0x54, 0x5c,
    0x60, 0x61, 0x64, 0x6c, 0x74, 0x7c, 0x80, 0x81, 0x84, 0x87, 0xb1,
];
/// MOD and XOR, which came later.
const LATER: [u16; 4] = [0x94, 0x9c, 0xa4, 0xac];

/// Evaluates an instruction after the other, as the paper describes them. Wide integers, no decoding, no shared code.
fn reference(program: &[Instruction], packet: &[u8], wire_len: u32) -> u32 {
    let bytes = |at: u64, count: u64| -> Option<u64> {
        (at + count <= packet.len() as u64)
            .then(|| (at..at + count).fold(0, |sum, i| sum * 256 + u64::from(packet[i as usize])))
    };
    let (mut a, mut x, mut memory, mut pc, mut steps) = (0u64, 0u64, [0u64; 16], 0usize, 0);
    loop {
        steps += 1;
        assert!(steps <= program.len(), "the program does not end");
        let Instruction { code, jt, jf, k } = program[pc];
        let k = u64::from(k);
        let operand = if code & 8 == 0 { k } else { x };
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        pc += 1;
        let value = match code {
            0x20 => bytes(k, 4),
            0x28 => bytes(k, 2),
            0x30 => bytes(k, 1),
            0x40 => bytes(x + k, 4),
            0x48 => bytes(x + k, 2),
            0x50 => bytes(x + k, 1),
            0xb1 => bytes(k, 1).map(|byte| byte % 16 * 4),
            0x34 | 0x3c => a.checked_div(operand),
            0x94 | 0x9c => a.checked_rem(operand),
            _ => Some(0),
        };
        let Some(value) = value else { return 0 };
        match code {
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 | 0x34 | 0x3c | 0x94 | 0x9c => a = value,
            0xb1 => x = value,
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = memory[k as usize],
            0x61 => x = memory[k as usize],
            0x80 => a = u64::from(wire_len),
            0x81 => x = u64::from(wire_len),
            0x02 => memory[k as usize] = a,
            0x03 => memory[k as usize] = x,
            0x04 | 0x0c => a += operand,
            0x14 | 0x1c => a = (1 << 32) + a - operand,
            0x24 | 0x2c => a *= operand,
            0x44 | 0x4c => a |= operand,
            0x54 | 0x5c => a &= operand,
            0x64 | 0x6c => a = if operand > 31 { 0 } else { a << operand },
            0x74 | 0x7c => a = if operand > 31 { 0 } else { a >> operand },
            0x84 => a = (1 << 32) - a,
            0xa4 | 0xac => a ^= operand,
            0x05 => pc += k as usize,
            0x15 | 0x1d => pc += jump(a == operand),
            0x25 | 0x2d => pc += jump(a > operand),
            0x35 | 0x3d => pc += jump(a >= operand),
            0x45 | 0x4d => pc += jump(a & operand != 0),
            0x06 => return k as u32,
            0x16 => return a as u32,
            0x07 => x = a,
            0x87 => a = x,
            _ => panic!("code {code:#x}"),
        }
        a %= 1 << 32;
    }
}

/// Valid programs: random instructions whose jumps and operands are put in order.
fn program() -> impl Strategy<Value = Vec<Instruction>> {
    let code = prop_oneof![9 => select(&CODES[..]), 1 => select(&LATER[..])];
    let k = prop_oneof![4 => 0u32..40, 1 => any::<u32>(), 1 => Just(u32::MAX)];
    let step = (code, any::<(Index, Index)>(), k);
    (vec(step, 0..60), select(vec![0x06, 0x16]), any::<u32>()).prop_map(|(steps, last, k)| {
        let length = steps.len();
        let mut program = Vec::new();
        for (index, (code, (yes, no), k)) in steps.into_iter().enumerate() {
            let behind = length - index;
            let k = match code {
                0x02 | 0x03 | 0x60 | 0x61 => k % 16,
                0x05 => k % behind as u32,
                0x64 | 0x74 => k % 32,
                0x34 | 0x94 => k.max(1),
                _ => k,
            };
            // Few returns, so that programs run long.
            let code = if code & 7 == 6 && k % 4 > 0 { 0x87 } else { code };
            program.push(instruction(
                code,
                yes.index(behind) as u8,
                no.index(behind) as u8,
                k,
            ));
        }
        program.push(plain(last, k));
        program
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_the_reference(program in program(), packet in vec(any::<u8>(), 0..80), wire_len in any::<u32>()) {
        let verified = Program::verify(&program).unwrap();
        prop_assert_eq!(verified.length(), program.len());
        prop_assert_eq!(verified.run(&packet, wire_len), reference(&program, &packet, wire_len));
    }

    #[test]
    fn what_passes_the_check_ends_without_a_panic(
        steps in vec((prop_oneof![select(&CODES[..]), any::<u16>()], any::<(u8, u8)>(), 0u32..40), 0..20),
        packet in vec(any::<u8>(), 0..80),
    ) {
        let mut program: Vec<_> = steps.into_iter().map(|(code, (jt, jf), k)| instruction(code, jt % 8, jf % 8, k)).collect();
        program.push(plain(0x06, 1));
        match Program::verify(&program) {
            Ok(verified) => prop_assert_eq!(verified.run(&packet, 9), reference(&program, &packet, 9)),
            Err(fault) => prop_assert!(fault.index < program.len()),
        }
    }
}

#[test]
fn every_code_is_known_and_no_other() {
    let known = |code: u16| CODES.contains(&code) || LATER.contains(&code);
    for code in 0..=u16::MAX {
        let program = [plain(code, 1), plain(0x06, 0), plain(0x06, 0)];
        let verified = Program::verify(&program);
        match known(code) {
            true => assert!(verified.is_ok(), "{code:#x}: {verified:?}"),
            false => assert_eq!(
                verified,
                Err(Fault {
                    index: 0,
                    reason: Reason::UnknownCode(code)
                })
            ),
        }
    }
}

#[test]
fn refusals_name_the_instruction() {
    let refused = |program: &[Instruction]| {
        let fault = Program::verify(program).unwrap_err();
        (fault.index, fault.reason)
    };
    let end = plain(0x06, 0);
    let nothing = plain(0x07, 0);
    assert_eq!(refused(&[]), (0, Reason::Empty));
    assert_eq!(refused(&[end, nothing]), (1, Reason::NoReturn));
    assert_eq!(refused(&[end, instruction(0x15, 0, 0, 0)]), (1, Reason::Jump));
    assert_eq!(refused(&[instruction(0x15, 1, 0, 0), end]), (0, Reason::Jump));
    assert_eq!(
        refused(&[nothing, instruction(0x1d, 0, 1, 0), end]),
        (1, Reason::Jump)
    );
    assert_eq!(refused(&[plain(0x05, 1), end]), (0, Reason::Jump));
    assert_eq!(refused(&[plain(0x05, u32::MAX), end]), (0, Reason::Jump));
    assert!(Program::verify(&[plain(0x05, 0), end]).is_ok());
    for code in [0x34, 0x94] {
        assert_eq!(refused(&[plain(code, 0), end]), (0, Reason::DivisionByZero));
        assert!(Program::verify(&[plain(code | 8, 0), end]).is_ok());
    }
    for code in [0x64, 0x74] {
        assert_eq!(refused(&[plain(code, 32), end]), (0, Reason::Shift(32)));
        assert!(Program::verify(&[plain(code, 31), end]).is_ok());
    }
    for code in [0x02, 0x03, 0x60, 0x61] {
        assert_eq!(refused(&[plain(code, 16), end]), (0, Reason::Scratch(16)));
        assert_eq!(
            refused(&[plain(code, 0x1_0000), end]),
            (0, Reason::Scratch(0x1_0000))
        );
        assert!(Program::verify(&[plain(code, 15), end]).is_ok());
    }
    assert!(Program::verify(&[end; MAX_LENGTH]).is_ok());
    assert_eq!(
        refused(&[end; MAX_LENGTH + 1]),
        (MAX_LENGTH, Reason::TooLong(MAX_LENGTH + 1))
    );
    let text = Program::verify(&[plain(0x34, 0), end]).unwrap_err().to_string();
    assert_eq!(text, "instruction 0: division by 0");
}

/// `tcpdump -y RAW -ddd "ip and udp dst port 53"`, without its fragment test.
#[test]
fn a_filter_for_dns_accepts_only_that() {
    let program = [
        plain(0x30, 0),
        plain(0x54, 0xf0),
        instruction(0x15, 0, 6, 0x40),
        plain(0x30, 9),
        instruction(0x15, 0, 4, 17),
        plain(0xb1, 0),
        plain(0x48, 2),
        instruction(0x15, 0, 1, 53),
        plain(0x06, 262_144),
        plain(0x06, 0),
    ];
    let mut packet = vec![0u8; 32];
    packet[0] = 0x46; // 24 bytes of header
    packet[9] = 17;
    packet[24 + 3] = 53;
    assert_eq!(run(&program, &packet), 262_144);
    assert_eq!(run(&program, &packet[..27]), 0, "the port is cut off");
    packet[9] = 6;
    assert_eq!(run(&program, &packet), 0);
    packet[9] = 17;
    packet[0] = 0x45;
    assert_eq!(run(&program, &packet), 0);
    assert_eq!(run(&program, &[]), 0);
}

#[test]
fn loads_at_the_end_of_the_packet_and_of_the_numbers() {
    let returns_a = plain(0x16, 0);
    let packet = [1, 2, 3, 4, 5];
    assert_eq!(run(&[plain(0x20, 1), returns_a], &packet), 0x0203_0405);
    assert_eq!(run(&[plain(0x20, 2), returns_a], &packet), 0);
    assert_eq!(run(&[plain(0x28, 3), returns_a], &packet), 0x0405);
    assert_eq!(run(&[plain(0x28, 4), returns_a], &packet), 0);
    assert_eq!(run(&[plain(0x30, 4), returns_a], &packet), 5);
    assert_eq!(run(&[plain(0x30, 5), returns_a], &packet), 0);
    assert_eq!(run(&[plain(0x30, u32::MAX), returns_a], &packet), 0);
    // X + k does not wrap to the packet's start.
    assert_eq!(
        run(&[plain(0x01, 2), plain(0x50, u32::MAX), returns_a], &packet),
        0
    );
    assert_eq!(run(&[plain(0x01, 2), plain(0x50, 2), returns_a], &packet), 5);
}

#[test]
fn a_shift_by_32_or_more_gives_0() {
    for code in [0x6c, 0x7c] {
        for (by, result) in [(0, 0xf0), (32, 0), (33, 0), (u32::MAX, 0)] {
            let program = [plain(0x01, by), plain(0x00, 0xf0), plain(code, 0), plain(0x16, 0)];
            assert_eq!(run(&program, &[]), result, "{by}");
        }
    }
}

#[test]
fn the_longest_jumps_work() {
    let mut program = vec![plain(0x06, 7); MAX_LENGTH];
    program[0] = plain(0x05, MAX_LENGTH as u32 - 2);
    program[MAX_LENGTH - 1] = plain(0x06, 9);
    assert_eq!(run(&program, &[]), 9);
    program[0] = instruction(0x15, 255, 0, 0);
    program[256] = plain(0x06, 8);
    assert_eq!(run(&program, &[]), 8);
}
