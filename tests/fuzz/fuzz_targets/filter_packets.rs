//! Fuzz target: the filter of a brane. BPF programs and packets are not trusted. Checks that no program and no packet causes a panic,
//! that a refused replacement changes nothing, and that each packet counts at one rule at most.
#![no_main]

use arbitrary::Arbitrary;
use brane_abi::filter::{Direction, Instruction, Rule};
use branes_bpf::Program;
use branes_pfil::chain::Verdict;
use branes_pfil::filter::Filter;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    program: Vec<(u16, u8, u8, u32)>,
    seed: u64,
    packets: Vec<(bool, u32, Vec<u8>)>,
}

fuzz_target!(|input: Input| {
    let program: Vec<Instruction> = input
        .program
        .iter()
        .map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k })
        .collect();
    let mut filter = Filter::new(input.seed, 16).expect("memory for 16 flows");
    let rules = [
        "pass in state established,related",
        "drop state invalid",
        "pass in proto tcp to port 80 flags S/SA state new rate 100/s burst 3",
        "reject in proto udp from any port 1-1023 to 10.0.0.0/8",
        "drop out inet6 proto icmp6 icmp-type 128/0",
    ];
    let mut rules: Vec<Rule> = rules
        .iter()
        .map(|text| branes_pfil::parse(text).expect("a rule"))
        .collect();
    filter.replace(&rules).expect("rules that are right");
    let before: Vec<_> = filter.statuses().cloned().collect();
    rules.insert(
        0,
        Rule {
            program: program.clone(),
            ..Rule::default()
        },
    );
    match filter.replace(&rules) {
        Ok(()) => assert!(program.is_empty() || Program::verify(&program).is_ok()),
        Err((index, _)) => {
            assert_eq!(index, 0);
            assert!(filter.statuses().eq(before.iter()));
        }
    }
    let (mut now, mut passed) = (0u64, 0u64);
    for (out, later, packet) in &input.packets {
        now += u64::from(*later);
        let direction = if *out { Direction::Out } else { Direction::In };
        let verdict = filter.decide(now, direction, "net0", packet);
        assert!(matches!(verdict, Verdict::Pass | Verdict::Drop | Verdict::Reject));
        passed += u64::from(verdict == Verdict::Pass);
    }
    let counted: u64 = filter.statuses().map(|status| status.packets).sum();
    assert!(counted <= input.packets.len() as u64);
    assert!(passed <= input.packets.len() as u64);
    assert!(filter.states(now).count() <= 16);
});
