//! Decodes instructions into steps, so that a run has no unknown codes.

use crate::code::*;
use crate::{Reason, SCRATCH};
use brane_abi::filter::Instruction;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Byte,
    Half,
    Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    K(u32),
    X,
    A,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Or,
    And,
    Xor,
    ShiftLeft,
    ShiftRight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Equal,
    Above,
    NotBelow,
    CommonBit,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Load(Width, u32),
    LoadAtX(Width, u32),
    LoadHeaderLength(u32),
    SetA(Operand),
    SetX(Operand),
    SetALength,
    SetXLength,
    GetScratchA(u8),
    GetScratchX(u8),
    PutScratchA(u8),
    PutScratchX(u8),
    Alu(Alu, Operand),
    Negate,
    Jump(u32),
    Branch {
        condition: Condition,
        operand: Operand,
        yes: u8,
        no: u8,
    },
    Return(Operand),
}

impl Step {
    /// Decodes an instruction. Checks everything but its jumps.
    pub(crate) fn decode(instruction: &Instruction) -> Result<Step, Reason> {
        let Instruction { code, jt, jf, k } = *instruction;
        let unknown = Reason::UnknownCode(code);
        // Classes, sizes, modes and operations all lie in the lower eight bits.
        if code > 0xff {
            return Err(unknown);
        }
        let operand = if code & X == X { Operand::X } else { Operand::K(k) };
        let scratch = || match u8::try_from(k) {
            Ok(index) if usize::from(index) < SCRATCH => Ok(index),
            _ => Err(Reason::Scratch(k)),
        };
        Ok(match code & 0x07 {
            LD => match code & 0xf8 {
                IMM => Step::SetA(Operand::K(k)),
                MEM => Step::GetScratchA(scratch()?),
                LEN => Step::SetALength,
                other => {
                    let width = match other & 0x18 {
                        W => Width::Word,
                        H => Width::Half,
                        B => Width::Byte,
                        _ => return Err(unknown),
                    };
                    match other & 0xe0 {
                        ABS => Step::Load(width, k),
                        IND => Step::LoadAtX(width, k),
                        _ => return Err(unknown),
                    }
                }
            },
            LDX => match code & 0xf8 {
                IMM => Step::SetX(Operand::K(k)),
                MEM => Step::GetScratchX(scratch()?),
                LEN => Step::SetXLength,
                mode if mode == MSH | B => Step::LoadHeaderLength(k),
                _ => return Err(unknown),
            },
            ST if code == ST => Step::PutScratchA(scratch()?),
            STX if code == STX => Step::PutScratchX(scratch()?),
            ALU => {
                let alu = match code & 0xf0 {
                    ADD => Alu::Add,
                    SUB => Alu::Sub,
                    MUL => Alu::Mul,
                    DIV => Alu::Div,
                    MOD => Alu::Mod,
                    OR => Alu::Or,
                    AND => Alu::And,
                    XOR => Alu::Xor,
                    LSH => Alu::ShiftLeft,
                    RSH => Alu::ShiftRight,
                    NEG if code == ALU | NEG => return Ok(Step::Negate),
                    _ => return Err(unknown),
                };
                match (alu, operand) {
                    (Alu::Div | Alu::Mod, Operand::K(0)) => return Err(Reason::DivisionByZero),
                    (Alu::ShiftLeft | Alu::ShiftRight, Operand::K(by)) if by >= u32::BITS => {
                        return Err(Reason::Shift(by));
                    }
                    _ => Step::Alu(alu, operand),
                }
            }
            JMP => {
                let condition = match code & 0xf0 {
                    JA if code == JMP | JA => return Ok(Step::Jump(k)),
                    JEQ => Condition::Equal,
                    JGT => Condition::Above,
                    JGE => Condition::NotBelow,
                    JSET => Condition::CommonBit,
                    _ => return Err(unknown),
                };
                Step::Branch {
                    condition,
                    operand,
                    yes: jt,
                    no: jf,
                }
            }
            RET => match code & 0xf8 {
                K => Step::Return(Operand::K(k)),
                A => Step::Return(Operand::A),
                _ => return Err(unknown),
            },
            MISC => match code & 0xf8 {
                TAX => Step::SetX(Operand::A),
                TXA => Step::SetA(Operand::X),
                _ => return Err(unknown),
            },
            _ => return Err(unknown),
        })
    }

    /// Returns the longest jump of the step, in instructions behind it.
    pub(crate) fn jumps(&self) -> Option<u32> {
        match *self {
            Step::Jump(by) => Some(by),
            Step::Branch { yes, no, .. } => Some(u32::from(yes.max(no))),
            _ => None,
        }
    }
}
