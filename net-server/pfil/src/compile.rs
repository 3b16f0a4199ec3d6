//! Compiles a rule to classic BPF over the IP packet.
//!
//! The program tests what lies in the packet: family, protocol, addresses, ports, TCP flags and ICMP type. It expects a packet
//! that [`crate::packet::Packet`] accepts. Direction, interface, state, rate and the rule's own program are not part of it.

use crate::Problem;
use crate::check::{check, family_of, mask4, mask6};
use crate::names::{TCP, UDP};
use crate::packet::HEADER6;
use alloc::vec::Vec;
use brane_abi::control::Family;
use brane_abi::filter::{Instruction, PortRange, Rule};
use brane_abi::net::Cidr;
use branes_bpf::code::*;
use branes_bpf::{Program, WHOLE};
use core::net::IpAddr;

/// Checks a rule and compiles it. The program accepts the whole packet or nothing.
pub fn compile(rule: &Rule) -> Result<Program, Problem> {
    check(rule)?;
    Program::verify(&assemble(rule)).map_err(Problem::Program)
}

/// Target of a jump.
#[derive(Clone, Copy)]
enum Target {
    /// The next instruction.
    Next,
    /// A place that [`Assembler::place`] sets.
    Label(usize),
}
use Target::{Label, Next};

/// The packet does not match.
const FAIL: Target = Label(0);

/// Instructions whose jumps have no distance yet.
struct Assembler {
    code: Vec<Instruction>,
    /// Jumps of the instruction with this index.
    jumps: Vec<(usize, Target, Target)>,
    /// Index of each label's instruction.
    labels: Vec<usize>,
}

impl Assembler {
    fn emit(&mut self, code: u16, k: u32) {
        self.code.push(Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        });
    }

    fn branch(&mut self, condition: u16, k: u32, yes: Target, no: Target) {
        self.jumps.push((self.code.len(), yes, no));
        self.emit(JMP | condition | K, k);
    }

    fn label(&mut self) -> Target {
        self.labels.push(0);
        Label(self.labels.len() - 1)
    }

    /// Sets the place of a label to the next instruction.
    fn place(&mut self, label: Target) {
        let here = self.code.len();
        if let Label(label) = label
            && let Some(place) = self.labels.get_mut(label)
        {
            *place = here;
        }
    }

    /// Sets the distances. One that does not fit ends behind the program, so the check refuses the program.
    fn finish(self) -> Vec<Instruction> {
        let mut code = self.code;
        for (index, yes, no) in self.jumps {
            let distance = |target| match target {
                Next => 0,
                Label(label) => {
                    let place = self.labels.get(label).copied().unwrap_or(usize::MAX);
                    u8::try_from(place.saturating_sub(index + 1)).unwrap_or(u8::MAX)
                }
            };
            if let Some(step) = code.get_mut(index) {
                step.jt = distance(yes);
                step.jf = distance(no);
            }
        }
        code
    }
}

/// Builds the instructions of a rule that was checked.
pub(crate) fn assemble(rule: &Rule) -> Vec<Instruction> {
    let mut out = Assembler {
        code: Vec::new(),
        jumps: Vec::new(),
        labels: Vec::from([0]),
    };
    let ports = !rule.from.ports.is_empty() || !rule.to.ports.is_empty();
    let transport = ports || rule.flags.is_some() || rule.icmp.is_some();
    let protocol = ports || rule.protocol.is_some();
    headers(&mut out, family_of(rule), protocol, transport);
    if let Some(protocol) = rule.protocol {
        out.branch(JEQ, protocol.into(), Next, FAIL);
    } else if protocol {
        let either = out.label();
        out.branch(JEQ, TCP.into(), either, Next);
        out.branch(JEQ, UDP.into(), Next, FAIL);
        out.place(either);
    }
    for (end, v4, v6) in [(&rule.from, 12, 8), (&rule.to, 16, 24)] {
        if let Some(prefix) = end.prefix {
            address(&mut out, prefix, v4, v6);
        }
    }
    for (end, at) in [(&rule.from, 0), (&rule.to, 2)] {
        port(&mut out, &end.ports, at);
    }
    if let Some(flags) = rule.flags {
        out.emit(LD | B | IND, 13);
        out.emit(ALU | AND | K, flags.mask.into());
        out.branch(JEQ, flags.set.into(), Next, FAIL);
    }
    if let Some(icmp) = rule.icmp {
        out.emit(LD | B | IND, 0);
        out.branch(JEQ, icmp.kind.into(), Next, FAIL);
        if let Some(code) = icmp.code {
            out.emit(LD | B | IND, 1);
            out.branch(JEQ, code.into(), Next, FAIL);
        }
    }
    out.emit(RET | K, WHOLE);
    out.place(FAIL);
    out.emit(RET | K, 0);
    out.finish()
}

/// Tests the family. Loads the length of the IP header into X if `transport`, then the protocol into A if `protocol`.
fn headers(out: &mut Assembler, family: Option<Family>, protocol: bool, transport: bool) {
    if family.is_none() && !protocol && !transport {
        return;
    }
    let fields = |out: &mut Assembler, family| {
        if transport {
            match family {
                Family::Inet => out.emit(LDX | B | MSH, 0),
                Family::Inet6 => out.emit(LDX | W | IMM, HEADER6 as u32),
            }
        }
        if protocol {
            let at = match family {
                Family::Inet => 9,
                Family::Inet6 => 6,
            };
            out.emit(LD | B | ABS, at);
        }
    };
    out.emit(LD | B | ABS, 0);
    out.emit(ALU | AND | K, 0xf0);
    let Some(family) = family else {
        let (six, done) = (out.label(), out.label());
        out.branch(JEQ, 0x40, Next, six);
        fields(out, Family::Inet);
        // Always jumps: both targets are equal.
        out.branch(JEQ, 0, done, done);
        out.place(six);
        out.branch(JEQ, 0x60, Next, FAIL);
        fields(out, Family::Inet6);
        out.place(done);
        return;
    };
    let version = match family {
        Family::Inet => 0x40,
        Family::Inet6 => 0x60,
    };
    out.branch(JEQ, version, Next, FAIL);
    fields(out, family);
}

/// Tests an address, which lies at `v4` or `v6` in the header.
fn address(out: &mut Assembler, prefix: Cidr, v4: u32, v6: u32) {
    let (bits, mask, at) = match prefix.ip {
        IpAddr::V4(ip) => (
            u128::from(ip.to_bits()) << 96,
            u128::from(mask4(prefix.prefix)) << 96,
            v4,
        ),
        IpAddr::V6(ip) => (ip.to_bits(), mask6(prefix.prefix), v6),
    };
    for word in 0..4 {
        let part = |of: u128| (of >> (96 - 32 * word)) as u32;
        if part(mask) == 0 {
            return;
        }
        out.emit(LD | W | ABS, at + 4 * word);
        if part(mask) != u32::MAX {
            out.emit(ALU | AND | K, part(mask));
        }
        out.branch(JEQ, part(bits), Next, FAIL);
    }
}

/// Tests the port that lies at `at` in the header of TCP or UDP.
fn port(out: &mut Assembler, ranges: &[PortRange], at: u32) {
    let Some((last, others)) = ranges.split_last() else {
        return;
    };
    out.emit(LD | H | IND, at);
    let found = out.label();
    for range in others {
        let next = out.label();
        self::range(out, range, found, next);
        out.place(next);
    }
    self::range(out, last, found, FAIL);
    out.place(found);
}

fn range(out: &mut Assembler, range: &PortRange, yes: Target, no: Target) {
    if range.first == range.last {
        out.branch(JEQ, range.first.into(), yes, no);
    } else {
        out.branch(JGE, range.first.into(), Next, no);
        out.branch(JGT, range.last.into(), no, yes);
    }
}
