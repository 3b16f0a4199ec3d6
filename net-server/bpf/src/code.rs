//! Operation codes of classic BPF, as in `linux/bpf_common.h` and `net/bpf.h` of the BSDs.

/// Loads into the accumulator A.
pub const LD: u16 = 0x00;
/// Loads into the index register X.
pub const LDX: u16 = 0x01;
/// Stores A in scratch memory.
pub const ST: u16 = 0x02;
/// Stores X in scratch memory.
pub const STX: u16 = 0x03;
/// Computes on A.
pub const ALU: u16 = 0x04;
/// Jumps.
pub const JMP: u16 = 0x05;
/// Returns.
pub const RET: u16 = 0x06;
/// Copies between A and X.
pub const MISC: u16 = 0x07;

/// Size of a load: 32 bits.
pub const W: u16 = 0x00;
/// Size of a load: 16 bits.
pub const H: u16 = 0x08;
/// Size of a load: 8 bits.
pub const B: u16 = 0x10;

/// Loads the constant k.
pub const IMM: u16 = 0x00;
/// Loads from the packet at k.
pub const ABS: u16 = 0x20;
/// Loads from the packet at X + k.
pub const IND: u16 = 0x40;
/// Loads from scratch memory.
pub const MEM: u16 = 0x60;
/// Loads the length of the packet on the wire.
pub const LEN: u16 = 0x80;
/// Loads four times the lower half of the byte at k: the length of an IPv4 header.
pub const MSH: u16 = 0xa0;

/// A + operand.
pub const ADD: u16 = 0x00;
/// A - operand.
pub const SUB: u16 = 0x10;
/// A * operand.
pub const MUL: u16 = 0x20;
/// A / operand.
pub const DIV: u16 = 0x30;
/// A | operand.
pub const OR: u16 = 0x40;
/// A & operand.
pub const AND: u16 = 0x50;
/// A << operand.
pub const LSH: u16 = 0x60;
/// A >> operand.
pub const RSH: u16 = 0x70;
/// -A.
pub const NEG: u16 = 0x80;
/// A % operand.
pub const MOD: u16 = 0x90;
/// A ^ operand.
pub const XOR: u16 = 0xa0;

/// Jumps by k.
pub const JA: u16 = 0x00;
/// Jumps if A is the operand.
pub const JEQ: u16 = 0x10;
/// Jumps if A is above the operand.
pub const JGT: u16 = 0x20;
/// Jumps if A is not below the operand.
pub const JGE: u16 = 0x30;
/// Jumps if A and the operand have a common bit.
pub const JSET: u16 = 0x40;

/// The operand is k.
pub const K: u16 = 0x00;
/// The operand is X.
pub const X: u16 = 0x08;
/// The result is A (of RET).
pub const A: u16 = 0x10;

/// X = A.
pub const TAX: u16 = 0x00;
/// A = X.
pub const TXA: u16 = 0x80;
