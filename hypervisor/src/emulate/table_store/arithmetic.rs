//! Values and flags of arithmetic instructions (SDM volume 2, their pages; volume 1, 3.4.3.1 for the flags).
//!
//! Where the SDM leaves a flag undefined, it becomes what CPUs make of it: AF is cleared by logic, and the bit
//! instructions change CF alone.

use super::super::instruction::OperandSize;
use super::decode::{Binary, Bit, Unary};

const CF: u64 = 1 << 0;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
/// RFLAGS.ZF.
pub const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;
const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

/// What an instruction makes of its operands. The value has no bits above the size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Computed {
    /// The new value.
    pub value: u64,
    /// All of RFLAGS.
    pub rflags: u64,
}

/// `to = to op from`. Operands have no bits above the size.
pub fn binary(operation: Binary, size: OperandSize, to: u64, from: u64, rflags: u64) -> Computed {
    match operation {
        Binary::Add => add(size, to, from, 0, rflags),
        Binary::Adc => add(size, to, from, rflags & CF, rflags),
        Binary::Sub => subtract(size, to, from, 0, rflags),
        Binary::Sbb => subtract(size, to, from, rflags & CF, rflags),
        Binary::Or => computed(size, to | from, 0, rflags),
        Binary::And => computed(size, to & from, 0, rflags),
        Binary::Xor => computed(size, to ^ from, 0, rflags),
    }
}

/// `to = op to`.
pub fn unary(operation: Unary, size: OperandSize, to: u64, rflags: u64) -> Computed {
    // INC and DEC leave CF alone, so that loops over long numbers can use them.
    let keep_carry = |computed: Computed| Computed { rflags: computed.rflags & !CF | rflags & CF, ..computed };
    match operation {
        Unary::Inc => keep_carry(add(size, to, 1, 0, rflags)),
        Unary::Dec => keep_carry(subtract(size, to, 1, 0, rflags)),
        Unary::Not => Computed { value: !to & size.mask(), rflags },
        Unary::Neg => subtract(size, 0, to, 0, rflags),
    }
}

/// Changes one bit of `to`, and copies what it was to CF. `index` counts modulo the size.
pub fn bit(operation: Bit, size: OperandSize, to: u64, index: u64, rflags: u64) -> Computed {
    let index = index % size.bits();
    let value = match operation {
        Bit::Set => to | 1 << index,
        Bit::Reset => to & !(1 << index),
        Bit::Complement => to ^ 1 << index,
    };
    Computed { value, rflags: rflags & !CF | to >> index & CF }
}

/// `a + b + carry`. The carry out of each bit is the majority of the bits and the carry into it.
pub fn add(size: OperandSize, a: u64, b: u64, carry: u64, rflags: u64) -> Computed {
    let sum = a.wrapping_add(b).wrapping_add(carry);
    let carries = a & b | (a | b) & !sum;
    computed(size, sum, carries, rflags)
}

/// `a - b - borrow`; the carries are borrows.
pub fn subtract(size: OperandSize, a: u64, b: u64, borrow: u64, rflags: u64) -> Computed {
    let difference = a.wrapping_sub(b).wrapping_sub(borrow);
    let borrows = !a & b | (!a | b) & difference;
    computed(size, difference, borrows, rflags)
}

/// The value and its flags, by the carry out of each bit.
fn computed(size: OperandSize, value: u64, carries: u64, rflags: u64) -> Computed {
    let value = value & size.mask();
    let top = size.bits() - 1;
    // Overflow: the carries out of the two highest bits differ.
    let flags = [
        (CF, carries >> top & 1 != 0),
        (PF, (value & 0xff).count_ones().is_multiple_of(2)),
        (AF, carries >> 3 & 1 != 0),
        (ZF, value == 0),
        (SF, value >> top & 1 != 0),
        (OF, (carries >> top ^ carries >> (top - 1)) & 1 != 0),
    ];
    let set = flags.iter().filter(|(_, is_set)| *is_set).fold(0, |set, (flag, _)| set | flag);
    Computed { value, rflags: rflags & !ARITHMETIC | set }
}
