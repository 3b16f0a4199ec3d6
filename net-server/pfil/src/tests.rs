//! Tests of the crate, and what they share.

mod calls;
mod chain;
mod compiled;
mod filters;
pub mod packets;
mod states;
mod text;

use brane_abi::control::Family;
use brane_abi::filter::*;
use brane_abi::net::Cidr;
use branes_bpf::code::*;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Creates an instruction.
pub fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Addresses of few networks, so that rules and packets meet.
pub fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::Inet => (select(vec![0x0a00_0200u32, 0x0a00_0300, 0xc0a8_0000]), 0u32..4)
            .prop_map(|(network, host)| Ipv4Addr::from_bits(network | host).into())
            .boxed(),
        Family::Inet6 => (
            select(vec![0xfec0u128 << 112, 0xfec1 << 112, 0xfec0 << 112 | 1 << 64]),
            0u128..4,
        )
            .prop_map(|(network, host)| Ipv6Addr::from_bits(network | host).into())
            .boxed(),
    }
}

fn prefix(family: Family) -> impl Strategy<Value = Cidr> {
    (address(family), 0u8..=128).prop_map(|(ip, bits)| match ip {
        IpAddr::V4(ip) => {
            let bits = bits % 33;
            let ip = Ipv4Addr::from_bits(ip.to_bits() & crate::check::mask4(bits));
            Cidr {
                ip: ip.into(),
                prefix: bits,
            }
        }
        IpAddr::V6(ip) => {
            let ip = Ipv6Addr::from_bits(ip.to_bits() & crate::check::mask6(bits));
            Cidr {
                ip: ip.into(),
                prefix: bits,
            }
        }
    })
}

/// Ports near each other, so that rules and packets meet.
pub fn port() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 50u16..60, 1 => any::<u16>()]
}

fn range() -> impl Strategy<Value = PortRange> {
    (port(), port()).prop_map(|(a, b)| PortRange {
        first: a.min(b),
        last: a.max(b),
    })
}

fn end(family: Family, ports: bool) -> impl Strategy<Value = End> {
    let ports = vec(range(), 0..=if ports { MAX_PORTS } else { 0 });
    (option::of(prefix(family)), ports).prop_map(|(prefix, ports)| End { prefix, ports })
}

fn program() -> impl Strategy<Value = Vec<Instruction>> {
    let step = prop_oneof![
        (0u32..50).prop_map(|k| instruction(LD | B | ABS, 0, 0, k)),
        any::<u32>().prop_map(|k| instruction(ALU | ADD | K, 0, 0, k)),
        any::<u32>().prop_map(|k| instruction(JMP | JGT | K, 0, 0, k)),
    ];
    vec(step, 0..MAX_PROGRAM - 1).prop_map(|mut program| {
        program.push(instruction(RET | K, 0, 0, 1));
        program
    })
}

/// Protocols with something to match, and some without.
pub fn protocol(family: Family) -> impl Strategy<Value = u8> {
    let icmp = if family == Family::Inet { 1 } else { 58 };
    prop_oneof![4 => Just(6u8), 4 => Just(17), 4 => Just(icmp), 1 => Just(47), 1 => Just(200)]
}

/// What a rule demands of the IP packet.
pub fn packet_rule() -> impl Strategy<Value = Rule> {
    select(&Family::ALL).prop_flat_map(|family| {
        option::of(protocol(family)).prop_flat_map(move |protocol| {
            let ports = matches!(protocol, None | Some(6 | 17));
            let tcp = protocol == Some(6);
            let icmp = matches!(protocol, Some(1 | 58));
            let flags = (0u8..64, 1u8..64).prop_map(|(set, mask)| TcpFlags {
                set: set & mask,
                mask,
            });
            let kinds = prop_oneof![0u8..16, 128u8..140];
            (
                option::of(Just(family)),
                end(family, ports),
                end(family, ports),
                option::of(flags).prop_map(move |flags| flags.filter(|_| tcp)),
                option::of((kinds, option::of(0u8..3)))
                    .prop_map(move |of| of.filter(|_| icmp).map(|(kind, code)| IcmpMatch { kind, code })),
            )
                .prop_map(move |(family, from, to, flags, icmp)| Rule {
                    family,
                    protocol,
                    from,
                    to,
                    flags,
                    icmp,
                    ..Rule::default()
                })
        })
    })
}

/// Rules that pass the check, with everything that a rule can have.
pub fn rule() -> impl Strategy<Value = Rule> {
    let states = subsequence(
        vec![
            FlowState::New,
            FlowState::Established,
            FlowState::Related,
            FlowState::Invalid,
        ],
        0..=4,
    );
    (
        packet_rule(),
        select(vec![Action::Pass, Action::Drop, Action::Reject]),
        option::of(select(vec![Direction::In, Direction::Out])),
        option::of("[a-z][a-z0-9._-]{0,30}"),
        states.prop_shuffle(),
        option::of((1u32.., 1u32..).prop_map(|(per_second, burst)| Rate { per_second, burst })),
        option::of(program()),
    )
        .prop_map(
            |(rule, action, direction, interface, states, rate, program)| Rule {
                action,
                direction,
                interface,
                states,
                rate,
                program: program.unwrap_or_default(),
                ..rule
            },
        )
}
