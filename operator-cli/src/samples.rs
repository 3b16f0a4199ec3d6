//! Answers for the tests: one of each kind, with a value in every field.

use crate::reach::{Explanation, Matrix, Outcome, Pair, STEPS, Step, Traffic, Verdict};
use alloc::vec;
use alloc::vec::Vec;
use brane_abi::control::{
    AddressStatus, BraneStatus, Counter, Family, InterfaceConfig, InterfaceStatus, Origin, Protocol,
    all_families,
};
use brane_abi::filter::RuleStatus;
use brane_abi::log::Level;
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::*;
use brane_abi::query;

pub fn cidr(text: &str) -> Cidr {
    crate::value_parsers::cidr(text).unwrap()
}

pub fn counter(name: &str, value: u64) -> Counter {
    Counter {
        name: name.into(),
        value,
    }
}

pub fn interfaces() -> Vec<InterfaceStatus> {
    let address = |text, origin| AddressStatus {
        cidr: cidr(text),
        origin,
    };
    let lo0 = InterfaceStatus {
        name: "lo0".into(),
        mtu: 65535,
        up: true,
        addresses: vec![address("127.0.0.1/8", Origin::Link)],
        ..InterfaceStatus::default()
    };
    let net0 = InterfaceStatus {
        name: "net0".into(),
        device: "vnic1".into(),
        mac: MacAddr([2, 0x77, 0, 0, 0, 1]),
        mtu: 1500,
        up: true,
        addresses: vec![
            address("10.0.2.16/24", Origin::Static),
            address("fec0::16/64", Origin::Slaac),
            address("10.0.9.51/24", Origin::Dhcp),
        ],
        gateway4: Some([10, 0, 2, 2].into()),
        gateway6: Some("fe80::2".parse().unwrap()),
        ..InterfaceStatus::default()
    };
    vec![lo0, net0]
}

pub fn brane() -> Brane {
    Brane {
        id: 1,
        name: "red".into(),
        state: "started".into(),
        restarts: 2,
        last_fault: "invalid instruction (panic) at 0x201000".into(),
        recovery_us: 4100,
        status_age_ms: 12,
        status: BraneStatus {
            interfaces: interfaces(),
            counters: vec![counter("client protocol errors", 0)],
            hooks: Vec::new(),
        },
        vifs: vec![group("vnic1")],
        primary: false,
        families: all_families(),
        interfaces: vec![InterfaceConfig {
            name: "net0".into(),
            device: "vnic1".into(),
            port: 0,
            mac: MacAddr([2, 0x77, 0, 0, 0, 1]),
            addresses: vec![cidr("10.0.2.16/24"), cidr("fec0::16/64")],
            gateway4: Some([10, 0, 2, 2].into()),
            gateway6: None,
            dhcp4: false,
            slaac: false,
        }],
    }
}

pub fn group(name: &str) -> CounterGroup {
    CounterGroup {
        name: name.into(),
        counters: vec![counter("tx_frames", 10), counter("tx_spoofed", 0)],
    }
}

pub fn devices() -> Vec<DevNet> {
    let device = |name: &str, kind| DevNet {
        config: DeviceConfig {
            name: name.into(),
            kind,
            ..DeviceConfig::default()
        },
        ifnet: IfNet::Unattached,
    };
    let mut vnic1 = device("vnic1", Kind::Vnic);
    vnic1.config.mac = Some(MacAddr([2, 0x77, 0, 0, 0, 1]));
    vnic1.config.mode = Mode::Private;
    vnic1.config.allow = vec![cidr("10.0.2.16/32")];
    vnic1.config.rate_up = Some(10_000_000);
    vnic1.ifnet = IfNet::Attached(Owner {
        brane: "red".into(),
        interface: "net0".into(),
    });
    vec![
        device("nic0", Kind::Phys),
        device("office0", Kind::Vlan(12)),
        device("pa", Kind::Pair("pb".into())),
        vnic1,
    ]
}

fn free(slots: u32) -> Free {
    Free {
        slots,
        ports: 4,
        names: 9,
        macs: 4,
        vifs: 4,
        bytes: 12_345,
    }
}

pub fn log_line(number: u64) -> LogLine {
    LogLine {
        number,
        at_us: 1_234_567,
        pd: "brane-1".into(),
        level: Level::Error,
        text: "panicked at x".into(),
    }
}

pub fn event(number: u64) -> Event {
    Event {
        number,
        at_us: 1_234_567,
        what: "assigned".into(),
        brane: Some("red".into()),
        device: Some("vnic1".into()),
        detail: "as net0".into(),
    }
}

/// Returns an answer of each kind with the name of its schema.
pub fn answers() -> Vec<(&'static str, Answer)> {
    use query::Answer as In;
    let query = Answer::Query;
    vec![
        (
            "done",
            Answer::Done(Done::Assigned {
                device: "vnic1".into(),
                interface: "net0".into(),
                brane: "red".into(),
                from: None,
            }),
        ),
        (
            "branes",
            Answer::Branes(vec![
                brane(),
                Brane {
                    state: "created".into(),
                    ..Brane::default()
                },
            ]),
        ),
        ("brane", Answer::Brane(brane())),
        ("stats", Answer::Stats(vec![group("nic0"), group("vnic1")])),
        (
            "receipt",
            Answer::Receipt(Receipt {
                name: "red".into(),
                before: free(0),
                after: free(1),
                took_us: 1999,
                aborted: 3,
                released: vec!["vnic1".into()],
            }),
        ),
        ("devices", Answer::Devices(devices())),
        (
            "subscribers",
            Answer::Subscribers(vec![
                SubscriberInfo {
                    subscriber: "subscriber".into(),
                    brane: None,
                    family: Some(Family::Inet6),
                    transitions: vec!["after-create".into()],
                    notified: 7,
                    quarantined: "no answer within 500 ms".into(),
                    protocols: vec!["tcp".into()],
                },
                SubscriberInfo::default(),
            ]),
        ),
        (
            "audit",
            Answer::Audit(Audit {
                devices: 4,
                branes: 2,
                silent: vec!["blue".into()],
                findings: vec!["vnic1: the manager says red, the driver nobody".into()],
                free: free(0),
            }),
        ),
        ("interfaces", query(In::Interfaces(interfaces()))),
        (
            "routes",
            query(In::Routes(vec![
                query::Route {
                    to: cidr("10.0.2.0/24"),
                    via: None,
                    interface: "net0".into(),
                },
                query::Route {
                    to: cidr("0.0.0.0/0"),
                    via: Some([10, 0, 2, 2].into()),
                    interface: "net0".into(),
                },
            ])),
        ),
        (
            "log-levels",
            Answer::LogLevels(vec![LogLevel {
                pd: "brane-1".into(),
                level: Level::Debug,
            }]),
        ),
        ("neighbours", query(In::Neighbours(vec![neighbour(2)], false))),
        ("sockets", query(In::Sockets(sockets(), false))),
        (
            "protocols",
            query(In::Protocols(vec![query::ProtocolStatus {
                family: Family::Inet,
                protocol: Protocol::Tcp,
                state: "started".into(),
                counters: vec![counter("segments received", 5)],
            }])),
        ),
        (
            "host",
            query(In::Host(vec![
                [93, 184, 215, 14].into(),
                "2001:db8::1".parse().unwrap(),
            ])),
        ),
        (
            "rules",
            query(In::Filter(
                vec![
                    rule("drop in proto tcp to any port 22,8000-8080", 17),
                    rule("pass out on net0 state new rate 10/s", 0),
                ],
                false,
            )),
        ),
        ("rules", query(In::Filter(vec![], false))),
        (
            "report",
            Answer::Report(Report {
                facts: vec![("up_us".into(), Cell::Micros(62_000_000))],
                columns: ["brane", "restarts", "started_us", "restarted_us"]
                    .map(Into::into)
                    .into(),
                rows: vec![vec![
                    Cell::Text("red".into()),
                    Cell::Number(2),
                    Cell::Micros(1_250_000),
                    Cell::None,
                ]],
            }),
        ),
        (
            "error",
            query(In::Refused(query::Refusal::NoSuchInterface("net9".into()))),
        ),
    ]
}

pub fn rule(text: &str, packets: u64) -> RuleStatus {
    RuleStatus {
        rule: branes_pfil::parse(text).unwrap(),
        packets,
        bytes: 60 * packets,
    }
}

pub fn neighbour(last: u8) -> query::Neighbour {
    query::Neighbour {
        ip: [10, 0, 2, last].into(),
        mac: MacAddr([0x52, 0x55, 10, 0, 2, last]),
        interface: "net0".into(),
        expires_ms: 59_000,
    }
}

pub fn sockets() -> Vec<query::Socket> {
    vec![
        query::Socket {
            protocol: Protocol::Tcp,
            local: "0.0.0.0:80".parse().unwrap(),
            remote: None,
            state: "LISTEN".into(),
            receive_queue: 0,
            send_queue: 0,
        },
        query::Socket {
            protocol: Protocol::Udp,
            local: "[fec0::16]:7".parse().unwrap(),
            remote: Some("[fec0::2]:4000".parse().unwrap()),
            state: "".into(),
            receive_queue: 12,
            send_queue: 0,
        },
    ]
}

/// Returns an explanation with every step and every verdict, and one of a receiver without an address.
pub fn explanations() -> Vec<Explanation> {
    let verdicts = [Verdict::Pass, Verdict::Unknown];
    let steps = STEPS
        .iter()
        .zip(verdicts.into_iter().cycle())
        .map(|(step, verdict)| Step {
            step,
            brane: "red".into(),
            verdict,
            thing: "vnic1".into(),
            detail: "up".into(),
        });
    let whole = Explanation {
        from: "red".into(),
        to: "10.0.2.17".into(),
        traffic: Traffic::Tcp(80),
        source: Some([10, 0, 2, 16].into()),
        destination: Some([10, 0, 2, 17].into()),
        steps: steps.collect(),
    };
    let mut stopped = whole.clone();
    stopped.traffic = Traffic::Icmp;
    (stopped.source, stopped.destination) = (None, None);
    stopped.steps.truncate(1);
    stopped.steps[0].verdict = Verdict::Stop;
    vec![whole, stopped]
}

pub fn matrix() -> Matrix {
    let pair = |from: &str, to: &str, outcome, stopped_at: Option<&str>| Pair {
        family: Family::Inet,
        from: from.into(),
        to: to.into(),
        address: [10, 0, 2, 17].into(),
        outcome,
        stopped_at: stopped_at.map(Into::into),
        tried: None,
    };
    Matrix {
        traffic: Traffic::Udp(7),
        probe: true,
        branes: vec!["red".into(), "blue".into()],
        pairs: vec![
            pair("red", "blue", Outcome::Reaches, None),
            pair(
                "blue",
                "red",
                Outcome::Stopped,
                Some("path of blue: switch of nic0"),
            ),
        ],
    }
}
