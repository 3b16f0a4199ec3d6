//! Classic BPF ("The BSD Packet Filter", McCanne and Jacobson, 1993): checks programs, and runs them on packets.
//!
//! Programs come from operators and from clients, which are not trusted. [`Program::verify`] accepts a program only if each of
//! its instructions is known, each jump ends inside of it, and its last instruction returns. All jumps go forward, so a run
//! executes each instruction once at most. A run reads the packet and 16 words of scratch memory, and nothing else.
//!
//! Differences to Linux: scratch memory is zero at the start, and the extensions at negative offsets do not exist (such a load is
//! out of bounds). A shift by 32 or more that X holds gives 0.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

pub mod code;
mod decode;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use brane_abi::filter::Instruction;
use core::fmt;
use decode::{Alu, Condition, Operand, Step, Width};

/// Instructions of a program, at most. Rules of a filter are limited further, by [`brane_abi::filter::MAX_PROGRAM`].
pub const MAX_LENGTH: usize = 512;
/// Memory of the longest program in bytes.
pub const BYTES: usize = MAX_LENGTH * size_of::<Step>();
/// Words of scratch memory.
pub const SCRATCH: usize = 16;
/// Result of a program that accepts the whole packet.
pub const WHOLE: u32 = u32::MAX;

/// Reason for which a program is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No instruction has this code.
    UnknownCode(u16),
    /// The jump ends behind the last instruction.
    Jump,
    /// The instruction divides by the constant 0.
    DivisionByZero,
    /// The instruction shifts by a constant of 32 or more.
    Shift(u32),
    /// Scratch memory has no word of this index.
    Scratch(u32),
    /// The last instruction does not return.
    NoReturn,
    /// The program has no instruction.
    Empty,
    /// The program has more than [`MAX_LENGTH`] instructions.
    TooLong(usize),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::UnknownCode(code) => write!(f, "unknown code {code}"),
            Reason::Jump => f.write_str("the jump ends behind the last instruction"),
            Reason::DivisionByZero => f.write_str("division by 0"),
            Reason::Shift(by) => write!(f, "shift by {by}; 31 is the most"),
            Reason::Scratch(index) => write!(f, "no scratch word {index}; the last is {}", SCRATCH - 1),
            Reason::NoReturn => f.write_str("the last instruction does not return"),
            Reason::Empty => f.write_str("the program is empty"),
            Reason::TooLong(length) => write!(f, "{length} instructions, {MAX_LENGTH} allowed"),
        }
    }
}

/// Refusal of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Index of the instruction, from 0 on.
    pub index: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction {}: {}", self.index, self.reason)
    }
}

/// A program that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    steps: Vec<Step>,
}

/// Registers and scratch memory of a run.
struct Registers {
    a: u32,
    x: u32,
    scratch: [u32; SCRATCH],
}

impl Program {
    /// Checks a program.
    pub fn verify(code: &[Instruction]) -> Result<Program, Fault> {
        let at = |index, reason| Fault { index, reason };
        if code.len() > MAX_LENGTH {
            return Err(at(MAX_LENGTH, Reason::TooLong(code.len())));
        }
        let mut steps = Vec::with_capacity(code.len());
        for (index, instruction) in code.iter().enumerate() {
            let step = Step::decode(instruction).map_err(|reason| at(index, reason))?;
            // Instructions behind this one; a jump by this number or more leaves the program.
            let behind = code.len() - index - 1;
            if step.jumps().is_some_and(|by| u64::from(by) >= behind as u64) {
                return Err(at(index, Reason::Jump));
            }
            steps.push(step);
        }
        match steps.last() {
            None => Err(at(0, Reason::Empty)),
            Some(Step::Return(_)) => Ok(Program { steps }),
            Some(_) => Err(at(code.len() - 1, Reason::NoReturn)),
        }
    }

    /// Returns the number of instructions, which is the most that a run executes.
    pub fn length(&self) -> usize {
        self.steps.len()
    }

    /// Runs the program. `wire_len` is the length of the packet on the wire, of which `packet` may be the first part. Returns the
    /// number of bytes that the program accepts; 0 refuses the packet. A load behind the packet's end and a division by 0 end the
    /// run with 0.
    pub fn run(&self, packet: &[u8], wire_len: u32) -> u32 {
        let mut r = Registers {
            a: 0,
            x: 0,
            scratch: [0; SCRATCH],
        };
        let mut at = 0usize;
        while let Some(step) = self.steps.get(at) {
            at += 1;
            match *step {
                Step::Return(Operand::K(k)) => return k,
                Step::Return(Operand::X) => return r.x,
                Step::Return(Operand::A) => return r.a,
                Step::Jump(by) => at = at.saturating_add(by as usize),
                Step::Branch {
                    condition,
                    operand,
                    yes,
                    no,
                } => {
                    let right = r.operand(operand);
                    let holds = match condition {
                        Condition::Equal => r.a == right,
                        Condition::Above => r.a > right,
                        Condition::NotBelow => r.a >= right,
                        Condition::CommonBit => r.a & right != 0,
                    };
                    at += usize::from(if holds { yes } else { no });
                }
                _ => {
                    if r.execute(step, packet, wire_len).is_none() {
                        return 0;
                    }
                }
            }
        }
        // The last step returns, so a run does not get here.
        0
    }
}

impl Registers {
    fn operand(&self, operand: Operand) -> u32 {
        match operand {
            Operand::K(k) => k,
            Operand::X => self.x,
            Operand::A => self.a,
        }
    }

    /// Executes a step that does not jump. Returns `None` if the run ends.
    fn execute(&mut self, step: &Step, packet: &[u8], wire_len: u32) -> Option<()> {
        match *step {
            Step::Load(width, at) => self.a = load(packet, at, width)?,
            Step::LoadAtX(width, k) => self.a = load(packet, self.x.checked_add(k)?, width)?,
            Step::LoadHeaderLength(at) => self.x = (load(packet, at, Width::Byte)? & 15) * 4,
            Step::SetA(operand) => self.a = self.operand(operand),
            Step::SetX(operand) => self.x = self.operand(operand),
            Step::SetALength => self.a = wire_len,
            Step::SetXLength => self.x = wire_len,
            Step::GetScratchA(index) => self.a = *self.scratch.get(usize::from(index))?,
            Step::GetScratchX(index) => self.x = *self.scratch.get(usize::from(index))?,
            Step::PutScratchA(index) => *self.scratch.get_mut(usize::from(index))? = self.a,
            Step::PutScratchX(index) => *self.scratch.get_mut(usize::from(index))? = self.x,
            Step::Alu(alu, operand) => self.a = compute(alu, self.a, self.operand(operand))?,
            Step::Negate => self.a = self.a.wrapping_neg(),
            Step::Return(_) | Step::Jump(_) | Step::Branch { .. } => {}
        }
        Some(())
    }
}

/// Computes `a` OP `b`. Returns `None` for a division by 0.
fn compute(alu: Alu, a: u32, b: u32) -> Option<u32> {
    Some(match alu {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::Div => a.checked_div(b)?,
        Alu::Mod => a.checked_rem(b)?,
        Alu::Or => a | b,
        Alu::And => a & b,
        Alu::Xor => a ^ b,
        Alu::ShiftLeft => a.checked_shl(b).unwrap_or(0),
        Alu::ShiftRight => a.checked_shr(b).unwrap_or(0),
    })
}

/// Loads a number in network order. Returns `None` if it does not lie in the packet.
fn load(packet: &[u8], at: u32, width: Width) -> Option<u32> {
    let rest = packet.get(usize::try_from(at).ok()?..)?;
    match width {
        Width::Byte => rest.first().copied().map(u32::from),
        Width::Half => rest.first_chunk().map(|b| u32::from(u16::from_be_bytes(*b))),
        Width::Word => rest.first_chunk().map(|b| u32::from_be_bytes(*b)),
    }
}
