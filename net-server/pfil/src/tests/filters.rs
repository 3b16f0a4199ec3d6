//! Whole filters: each clause, the order of rules, counters, rates, and random filters against a plain evaluation.

use super::compiled::matches;
use super::packets::{Fields, fields};
use super::*;
use crate::chain::Verdict;
use crate::filter::Filter;
use crate::packet::Packet;
use crate::state::{CAPACITY, Phase, States};
use crate::{Problem, parse};
use branes_bpf::Program;

const SECOND: u64 = 1_000_000_000;

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| parse(text).unwrap()).collect()
}

fn filter(texts: &[&str]) -> Filter {
    let mut filter = Filter::new(1, CAPACITY).unwrap();
    filter.replace(&rules(texts)).unwrap();
    filter
}

fn udp(from: &str, port: u16, to: &str, to_port: u16) -> Fields {
    Fields::new(17, from, port, to, to_port)
}

fn counters(filter: &Filter) -> Vec<(u64, u64)> {
    filter
        .statuses()
        .map(|status| (status.packets, status.bytes))
        .collect()
}

#[test]
fn the_first_rule_that_matches_decides() {
    let mut filter = filter(&[
        "pass in on em0 proto udp to port 53",
        "reject in proto udp",
        "drop out from 10.0.2.0/24",
        "drop proto gre bpf \"48 0 0 8; 53 0 1 32; 6 0 0 0; 6 0 0 1\"",
    ]);
    let packet = udp("10.0.2.1", 1, "10.0.2.2", 53).bytes();
    let other = udp("10.0.2.1", 1, "10.0.2.2", 54).bytes();
    let mut decide = |direction, interface, packet: &[u8]| filter.decide(0, direction, interface, packet);
    assert_eq!(decide(Direction::In, "em0", &packet), Verdict::Pass);
    assert_eq!(decide(Direction::In, "em1", &packet), Verdict::Reject);
    assert_eq!(decide(Direction::In, "em0", &other), Verdict::Reject);
    assert_eq!(decide(Direction::Out, "em0", &packet), Verdict::Drop);
    assert_eq!(
        decide(Direction::Out, "em0", &udp("10.0.3.1", 1, "10.0.2.2", 53).bytes()),
        Verdict::Pass
    );
    // The rule's own program: TTL below 32.
    let mut gre = Fields::new(47, "10.0.3.1", 0, "10.0.3.2", 0).bytes();
    assert_eq!(decide(Direction::In, "em0", &gre), Verdict::Pass);
    gre[8] = 31;
    assert_eq!(decide(Direction::In, "em0", &gre), Verdict::Drop);
    assert_eq!(counters(&filter), [(1, 28), (2, 56), (1, 28), (1, 20)]);
    assert_eq!(filter.states(0).count(), 0, "no rule has a state");
}

#[test]
fn packets_with_wrong_lengths_are_dropped_if_there_are_rules() {
    let mut filter = filter(&[]);
    assert!(filter.is_empty());
    assert_eq!(filter.decide(0, Direction::In, "em0", &[]), Verdict::Pass);
    filter.replace(&rules(&["pass"])).unwrap();
    assert!(!filter.is_empty());
    assert_eq!(filter.decide(0, Direction::In, "em0", &[0x45, 0]), Verdict::Drop);
    assert_eq!(filter.malformed(), 1);
    assert_eq!(counters(&filter), [(0, 0)]);
    // What follows the packet's end does not count.
    let mut packet = udp("10.0.2.1", 1, "10.0.2.2", 53).bytes();
    packet.extend([0; 18]);
    assert_eq!(filter.decide(0, Direction::In, "em0", &packet), Verdict::Pass);
    assert_eq!(counters(&filter), [(1, 28)]);
}

#[test]
fn a_brane_that_only_asks_gets_its_answers() {
    let mut filter = filter(&[
        "pass out state new,established",
        "pass in state established,related",
        "drop",
    ]);
    let request = udp("10.0.2.1", 1000, "10.0.2.2", 53);
    let answer = udp("10.0.2.2", 53, "10.0.2.1", 1000).bytes();
    assert_eq!(filter.decide(0, Direction::In, "em0", &answer), Verdict::Drop);
    assert_eq!(filter.states(0).count(), 0, "a dropped packet makes no entry");
    assert_eq!(
        filter.decide(0, Direction::Out, "em0", &request.bytes()),
        Verdict::Pass
    );
    assert_eq!(filter.decide(0, Direction::In, "em0", &answer), Verdict::Pass);
    let mut error = Fields::new(1, "10.0.2.200", 0, "10.0.2.1", 0);
    error.kind = 3;
    error.payload = request.bytes();
    assert_eq!(
        filter.decide(0, Direction::In, "em0", &error.bytes()),
        Verdict::Pass
    );
    error.payload = answer.clone();
    assert_eq!(
        filter.decide(0, Direction::In, "em0", &error.bytes()),
        Verdict::Drop
    );
    assert_eq!(
        filter.decide(31 * SECOND, Direction::In, "em0", &answer),
        Verdict::Drop
    );
    // Without a rule that needs them, flows are forgotten.
    assert_eq!(
        filter.decide(0, Direction::Out, "em0", &request.bytes()),
        Verdict::Pass
    );
    assert_eq!(filter.states(0).count(), 1);
    filter.replace(&rules(&["pass"])).unwrap();
    assert_eq!(filter.states(0).count(), 0);
}

#[test]
fn a_new_flow_without_room_is_dropped() {
    let mut filter = Filter::new(1, 4).unwrap();
    filter.replace(&rules(&["drop state invalid"])).unwrap();
    let pass = |filter: &mut Filter, port: u16| {
        let mut verdicts = Vec::new();
        for (back, flags, sequence, acknowledgement) in
            [(false, 2, 10, 0), (true, 18, 20, 11), (false, 16, 11, 21)]
        {
            let ends = match back {
                false => Fields::new(6, "10.0.2.9", port, "10.0.2.1", 80),
                true => Fields::new(6, "10.0.2.1", 80, "10.0.2.9", port),
            };
            let packet = Fields {
                flags,
                sequence,
                acknowledgement,
                ..ends
            };
            verdicts.push(filter.decide(0, Direction::In, "em0", &packet.bytes()));
        }
        verdicts
    };
    assert_eq!(pass(&mut filter, 1), [Verdict::Pass; 3]);
    assert_eq!(pass(&mut filter, 2), [Verdict::Pass; 3]);
    assert_eq!(pass(&mut filter, 3), [Verdict::Drop; 3]);
    assert_eq!(
        filter
            .states(0)
            .filter(|listed| listed.phase == Phase::Established)
            .count(),
        2
    );
    assert_eq!(filter.counters().refused, 1);
}

#[test]
fn a_replacement_is_whole_or_none_and_keeps_counters() {
    let mut filter = filter(&["pass in", "drop out", "drop out"]);
    let packet = udp("10.0.2.1", 1, "10.0.2.2", 53).bytes();
    for (direction, times) in [(Direction::In, 3), (Direction::Out, 2)] {
        for _ in 0..times {
            filter.decide(0, direction, "em0", &packet);
        }
    }
    assert_eq!(counters(&filter), [(3, 84), (2, 56), (0, 0)]);
    let mut bad = rules(&["reject", "pass", "pass in"]);
    bad[1].interface = Some("not a name".into());
    assert_eq!(filter.replace(&bad), Err((1, Problem::Interface)));
    assert_eq!(
        filter.replace(&vec![Rule::default(); MAX_RULES + 1]),
        Err((MAX_RULES, Problem::TooManyRules(MAX_RULES + 1)))
    );
    assert_eq!(counters(&filter), [(3, 84), (2, 56), (0, 0)]);
    assert_eq!(filter.decide(0, Direction::Out, "em0", &packet), Verdict::Drop);
    // Each old rule gives its counters once.
    filter
        .replace(&rules(&["drop out", "reject", "pass in", "pass in"]))
        .unwrap();
    assert_eq!(counters(&filter), [(3, 84), (0, 0), (3, 84), (0, 0)]);
    filter.replace(&vec![Rule::default(); MAX_RULES]).unwrap();
    assert_eq!(counters(&filter), [(0, 0); MAX_RULES]);
}

#[test]
fn packets_above_the_rate_are_left_to_the_next_rule() {
    let mut filter = filter(&["pass proto udp rate 10/s burst 3", "drop"]);
    let packet = udp("10.0.2.1", 1, "10.0.2.2", 53).bytes();
    let gre = Fields::new(47, "10.0.2.1", 0, "10.0.2.2", 0).bytes();
    let passed = |filter: &mut Filter, now: u64| {
        let decide = |_: &u32| filter.decide(now, Direction::In, "em0", &packet) == Verdict::Pass;
        (0..20).filter(decide).count()
    };
    let start = 1000 * SECOND;
    // Packets that do not match take nothing from the rate.
    assert_eq!(filter.decide(start, Direction::In, "em0", &gre), Verdict::Drop);
    assert_eq!(passed(&mut filter, start), 3);
    assert_eq!(passed(&mut filter, start + SECOND / 10 - 1), 0);
    assert_eq!(passed(&mut filter, start + SECOND / 10), 1);
    assert_eq!(passed(&mut filter, start + SECOND * 3 / 10), 2);
    // A replacement does not fill the bucket of a rule that stays.
    filter
        .replace(&rules(&["pass proto udp rate 10/s burst 3", "reject"]))
        .unwrap();
    assert_eq!(passed(&mut filter, start + SECOND * 3 / 10), 0);
    assert_eq!(passed(&mut filter, start + 3600 * SECOND), 3);
    // The extremes neither overflow nor pass more than the burst.
    let mut fast = Rule {
        rate: Some(Rate {
            per_second: u32::MAX,
            burst: u32::MAX,
        }),
        ..Rule::default()
    };
    filter
        .replace(&[fast.clone(), rules(&["drop"])[0].clone()])
        .unwrap();
    assert_eq!(passed(&mut filter, u64::MAX), 20);
    fast.rate = Some(Rate {
        per_second: 1,
        burst: u32::MAX,
    });
    filter.replace(&[fast]).unwrap();
    assert_eq!(passed(&mut filter, 0), 20);
}

/// Fields of [`rule`] with names of few interfaces and no rate.
fn plain_rule() -> impl Strategy<Value = Rule> {
    (rule(), option::of(select(vec!["em0", "em1"])), any::<[bool; 3]>()).prop_map(
        |(rule, interface, [program, states, ends])| Rule {
            interface: interface.map(Into::into),
            rate: None,
            program: if program { rule.program } else { vec![] },
            states: if states { rule.states } else { vec![] },
            from: if ends { rule.from } else { End::default() },
            ..rule
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn decides_as_the_rules_say(
        rules in vec(plain_rule(), 0..8),
        packets in vec((fields(), any::<bool>(), select(vec!["em0", "em1", "em2"])), 0..60),
    ) {
        let mut filter = Filter::new(3, 16).unwrap();
        filter.replace(&rules).unwrap();
        let mut states = States::new(4, 16).unwrap();
        let mut hits = vec![(0, 0); rules.len()];
        let tracks = rules.iter().any(|rule| !rule.states.is_empty());
        for (now, (fields, incoming, interface)) in packets.into_iter().enumerate() {
            let now = now as u64;
            let bytes = fields.bytes();
            let packet = Packet::parse(&bytes).unwrap();
            let direction = if incoming { Direction::In } else { Direction::Out };
            let classified = states.classify(now, &packet);
            let first = rules.iter().position(|rule| {
                matches(rule, &fields)
                    && rule.direction.is_none_or(|wanted| wanted == direction)
                    && rule.interface.as_deref().is_none_or(|wanted| wanted == interface)
                    && (rule.states.is_empty() || rule.states.contains(&classified.state))
                    && (rule.program.is_empty() || Program::verify(&rule.program).unwrap().run(&bytes, bytes.len() as u32) != 0)
            });
            if let Some(first) = first {
                hits[first].0 += 1;
                hits[first].1 += bytes.len() as u64;
            }
            let expected = match first.map_or(Action::Pass, |first| rules[first].action) {
                Action::Drop => Verdict::Drop,
                Action::Reject => Verdict::Reject,
                Action::Pass if tracks && states.note(&packet, classified).is_err() => Verdict::Drop,
                Action::Pass => Verdict::Pass,
            };
            prop_assert_eq!(filter.decide(now, direction, interface, &bytes), expected);
        }
        prop_assert_eq!(counters(&filter), hits);
        prop_assert_eq!(filter.states(60).count(), states.iter(60).count());
    }

    #[test]
    fn no_rules_and_no_bytes_cause_a_panic(rules in vec(rule(), 0..8), packets in vec(vec(any::<u8>(), 0..90), 0..20), now in any::<u64>()) {
        let mut filter = Filter::new(3, 16).unwrap();
        filter.replace(&rules).unwrap();
        for (n, mut packet) in packets.into_iter().enumerate() {
            if packet.len() > 20 {
                packet[0] = if n % 2 == 0 { 0x45 } else { 0x60 };
                let length = packet.len() as u8;
                packet[2..8].copy_from_slice(&[0, length, 0, length.saturating_sub(40), 17, 0]);
            }
            filter.decide(now, Direction::In, "em0", &packet);
        }
    }
}
