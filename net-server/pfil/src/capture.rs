//! Compiles a rule's matches for captures: programs that see a frame from the Ethernet header on, or a packet of `lo0`.
//!
//! Operators write the rules, and frames come from the network. Neither is trusted. The program is checked before it is returned.

use crate::Problem;
use crate::check::check;
use crate::compile::assemble;
use alloc::vec::Vec;
use brane_abi::capture::Link;
use brane_abi::filter::{Instruction, Rule};
use branes_bpf::Program;
use branes_bpf::code::*;

/// Length of an Ethernet header.
const ETHERNET: u32 = 14;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
/// Offset of flags and fragment offset in an IPv4 header, and the bits of the fragment offset (RFC 791, 3.1).
const FRAGMENT: (u32, u32) = (6, 0x1fff);

/// Compiles the matches of a rule for a capture. As [`crate::compile()`], the program leaves out direction, interface, state, rate and
/// the rule's own program. A fragment behind the first one has no ports, flags and types, so it does not match a rule with them.
pub fn for_capture(rule: &Rule, link: Link) -> Result<Vec<Instruction>, Problem> {
    check(rule)?;
    let base = match link {
        Link::Ethernet => ETHERNET,
        Link::Raw => 0,
    };
    let statement = |code, k| Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let branch = |condition, k, jt, jf| Instruction {
        code: JMP | condition | K,
        jt,
        jf,
        k,
    };
    let transport = !rule.from.ports.is_empty()
        || !rule.to.ports.is_empty()
        || rule.flags.is_some()
        || rule.icmp.is_some();
    let (family, four, six) = match link {
        Link::Ethernet => (Vec::from([statement(LD | H | ABS, 12)]), IPV4, IPV6),
        // The upper half of the first byte is the version.
        Link::Raw => (
            Vec::from([statement(LD | B | ABS, 0), statement(ALU | AND | K, 0xf0)]),
            0x40,
            0x60,
        ),
    };
    let mut code = family;
    let mask = if transport { FRAGMENT.1 } else { 0 };
    code.extend([
        branch(JEQ, four, 0, 2),
        statement(LD | H | ABS, base + FRAGMENT.0),
        branch(JSET, mask, 1, 2),
        branch(JEQ, six, 1, 0),
        statement(RET | K, 0),
    ]);
    code.extend(assemble(rule).into_iter().map(|mut instruction| {
        let loads = match instruction.code & 0x07 {
            LD => matches!(instruction.code & 0xe0, ABS | IND),
            LDX => instruction.code & 0xe0 == MSH,
            _ => false,
        };
        if loads {
            instruction.k = instruction.k.saturating_add(base);
        }
        instruction
    }));
    Program::verify(&code).map_err(Problem::Program)?;
    Ok(code)
}
