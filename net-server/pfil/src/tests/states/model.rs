//! The table as a list. Each question searches all of it.

use super::*;

struct Model {
    flows: Vec<Row>,
    capacity: usize,
    order: u64,
    counters: Counters,
}

#[derive(Clone, Debug)]
struct Row {
    flow: Flow,
    class: &'static str,
    touched: u64,
    order: u64,
    answer: Option<u32>,
    fins: BTreeSet<bool>,
}

fn life(class: &str) -> u64 {
    SECOND
        * match class {
            "half" | "closing" => 30,
            "tcp" => 7440,
            "icmp" => 20,
            _ => 60,
        }
}

impl Model {
    fn oldest(&self, class: &str) -> Option<usize> {
        (0..self.flows.len())
            .filter(|&i| self.flows[i].class == class)
            .min_by_key(|&i| self.flows[i].order)
    }

    fn count(&self, classes: &[&str]) -> usize {
        self.flows
            .iter()
            .filter(|row| classes.contains(&row.class))
            .count()
    }

    fn over(&self, now: u64, i: usize) -> bool {
        now - self.flows[i].touched >= life(self.flows[i].class)
    }

    fn expire(&mut self, now: u64) {
        for class in ["half", "tcp", "closing", "icmp", "other"] {
            if let Some(i) = self.oldest(class).filter(|&i| self.over(now, i)) {
                self.flows.remove(i);
            }
        }
    }

    fn victim(&self, now: u64) -> Option<usize> {
        let idle = |&i: &usize| now - self.flows[i].touched > GIVES_WAY;
        self.oldest("closing").or(self.oldest("tcp").filter(idle))
    }

    fn pass(&mut self, now: u64, packet: &Packet) -> (FlowState, bool) {
        self.order += 1;
        let place = |rows: &[Row], flow: Flow| {
            rows.iter()
                .position(|row| row.flow == flow || row.flow.reversed() == flow)
        };
        let Some(flow) = packet.flow() else {
            let Transport::Icmp(Icmp {
                purpose: Purpose::Error(quoted),
                ..
            }) = packet.transport
            else {
                return (FlowState::New, true);
            };
            let known = quoted
                .and_then(|flow| place(&self.flows, flow))
                .is_some_and(|i| !self.over(now, i));
            return (
                if known {
                    FlowState::Related
                } else {
                    FlowState::Invalid
                },
                true,
            );
        };
        let tcp = match packet.transport {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        };
        let flag = |flag| tcp.is_some_and(|tcp| tcp.flags & flag != 0);
        let begins = match packet.transport {
            Transport::Tcp(_) => flag(SYN) && !flag(ACK) && !flag(RST) && !flag(FIN),
            Transport::Icmp(icmp) => matches!(icmp.kind, 8 | 13 | 128),
            _ => true,
        };
        let found = place(&self.flows, flow);
        let dead = found.is_some_and(|i| self.over(now, i) || (self.flows[i].class == "closing" && begins));
        let Some(i) = found.filter(|_| !dead) else {
            if !begins {
                return (FlowState::Invalid, true);
            }
            if let Some(i) = found {
                self.flows.remove(i);
            }
            self.expire(now);
            let full = self.count(&["tcp", "closing"]) >= self.capacity / 2;
            if tcp.is_some() && full && self.victim(now).is_none() {
                self.counters.refused += 1;
                return (FlowState::New, false);
            }
            if self.count(&["half"]) >= self.capacity / 2 || self.flows.len() >= self.capacity {
                self.counters.evicted += 1;
                self.flows.remove(self.oldest("half").unwrap());
            }
            self.flows.push(Row {
                flow,
                class: "half",
                touched: now,
                order: self.order,
                answer: None,
                fins: BTreeSet::new(),
            });
            return (FlowState::New, true);
        };
        let back = self.flows[i].flow != flow;
        let both = back || self.flows[i].answer.is_some() || self.flows[i].class != "half";
        let state = if both {
            FlowState::Established
        } else {
            FlowState::New
        };
        if flag(FIN) {
            self.flows[i].fins.insert(back);
        }
        if self.flows[i].class == "half" {
            if back {
                match tcp {
                    Some(tcp) if flag(SYN) && !flag(RST) => self.flows[i].answer = Some(tcp.sequence),
                    Some(_) => {}
                    None => self.flows[i].answer = Some(0),
                }
                return (state, true);
            }
            let proven = tcp.is_none_or(|tcp| {
                flag(ACK)
                    && !flag(SYN)
                    && !flag(RST)
                    && self.flows[i].answer == Some(tcp.acknowledgement.wrapping_sub(1))
            });
            if self.flows[i].answer.is_none() || !proven {
                return (state, true);
            }
            self.expire(now);
            let own = |model: &Model| place(&model.flows, flow).unwrap();
            let class = match flow.protocol {
                6 => "tcp",
                1 | 58 => "icmp",
                _ => "other",
            };
            if class == "tcp" && self.count(&["tcp", "closing"]) >= self.capacity / 2 {
                let Some(victim) = self.victim(now) else {
                    return (state, true);
                };
                self.counters.evicted_established += 1;
                self.flows.remove(victim);
            }
            if class != "tcp" && self.count(&["icmp", "other"]) >= self.capacity / 4 {
                return (state, true);
            }
            let i = own(self);
            self.flows[i].class = class;
        }
        let order = self.order;
        let row = place(&self.flows, flow).map(|i| &mut self.flows[i]).unwrap();
        (row.touched, row.order) = (now, order);
        if flag(RST) || row.fins.len() == 2 {
            row.class = "closing";
        }
        (state, true)
    }
}

/// Packets of few flows, many of which answer each other.
fn traffic() -> impl Strategy<Value = Fields> {
    let flags = select(vec![
        SYN,
        SYN,
        SYN | ACK,
        SYN | ACK,
        ACK,
        ACK,
        ACK,
        FIN | ACK,
        RST,
        RST | ACK,
        SYN | FIN,
        0,
    ]);
    let protocol = select(vec![6u8, 6, 6, 17, 1, 1, 47]);
    let kind = select(vec![8u8, 0, 13, 14, 3, 3, 5]);
    (
        protocol,
        0u8..4,
        any::<bool>(),
        1u16..4,
        flags,
        0u32..2,
        1u32..3,
        kind,
    )
        .prop_map(
            |(protocol, host, back, port, flags, sequence, acknowledgement, kind)| {
                let host = format!("10.0.0.{}", 9 + host);
                let mut fields = match back {
                    false => Fields::new(protocol, &host, port, US, 80),
                    true if protocol == 1 => Fields::new(protocol, US, port, &host, 0),
                    true => Fields::new(protocol, US, 80, &host, port),
                };
                (fields.flags, fields.sequence, fields.acknowledgement) = (flags, sequence, acknowledgement);
                fields.kind = kind;
                if protocol == 1 {
                    fields.payload = Fields::new(
                        17,
                        &fields.destination.to_string(),
                        80,
                        &fields.source.to_string(),
                        port,
                    )
                    .bytes();
                }
                fields
            },
        )
}

/// A row of packets: one, or the three that establish a flow.
fn packets() -> impl Strategy<Value = Vec<Fields>> {
    let three = (select(vec![6u8, 6, 17, 1, 47]), 0u8..6, 1u16..4).prop_map(|(protocol, host, port)| {
        let host = format!("10.0.0.{}", 9 + host);
        if protocol == 6 {
            return handshake(&host, port).to_vec();
        }
        let [mut there, mut back] = match protocol {
            1 => [
                Fields::new(1, &host, port, US, 0),
                Fields::new(1, US, port, &host, 0),
            ],
            _ => [
                Fields::new(protocol, &host, port, US, 80),
                Fields::new(protocol, US, 80, &host, port),
            ],
        };
        (there.kind, back.kind) = (8, 0);
        vec![there.clone(), back, there]
    });
    prop_oneof![2 => traffic().prop_map(|fields| vec![fields]), 1 => three]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn behaves_as_a_list(
        capacity in 4usize..17,
        seed in any::<u64>(),
        steps in vec((packets(), prop_oneof![20 => 0u64..3, 3 => 8u64..40, 1 => 250u64..400, 1 => 7000u64..8000]), 0..300),
    ) {
        let mut bench = Bench { states: States::new(seed, capacity).unwrap(), now: 0 };
        let mut model = Model { flows: vec![], capacity, order: 0, counters: Counters::default() };
        for (fields, pause) in steps.into_iter().flat_map(|(row, pause)| row.into_iter().zip([pause, 0, 0])) {
            bench.now += pause * SECOND / 2;
            let bytes = fields.bytes();
            let expected = model.pass(bench.now, &Packet::parse(&bytes).unwrap());
            prop_assert_eq!(bench.pass(&fields), expected);
            prop_assert_eq!(bench.states.counters(), model.counters);
            prop_assert_eq!(bench.states.len(), model.flows.len());
            prop_assert!(model.flows.len() <= capacity);
            let key = |flow: Flow, phase: Phase, left: u64| format!("{flow:?} {phase:?} {left}");
            let listed: BTreeSet<_> = bench.states.iter(bench.now).map(|l| key(l.flow, l.phase, l.left)).collect();
            let wanted: BTreeSet<_> = (0..model.flows.len()).filter(|&i| !model.over(bench.now, i)).map(|i| {
                let row = &model.flows[i];
                let phase = match row.class {
                    "half" => Phase::HalfOpen,
                    "closing" => Phase::Closing,
                    _ => Phase::Established,
                };
                key(row.flow, phase, life(row.class) - (bench.now - row.touched))
            }).collect();
            prop_assert_eq!(listed, wanted);
        }
    }
}
