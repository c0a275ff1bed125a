//! From bytes to a [`Store`]: the instructions that kernels change page tables with, and their kin.
//!
//! The tables are the opcode maps of the SDM (volume 2, appendix A), cut down to instructions that write to memory
//! what an arithmetic unit or a register holds. The host tests compare every answer with an independent decoder.

use super::super::encoding::{Base, Cursor, DecodeError, Memory, Prefixes, Rm};
use super::super::instruction::{Gpr, OperandSize, Segment};
use crate::guest::GuestRegisters;

/// An instruction that writes to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Store {
    /// What it does.
    pub action: Action,
    /// The size of all its operands.
    pub size: OperandSize,
    /// Where it writes. The bits that [`Action::Bit`] selects by a register may be far from there.
    pub to: Memory,
    /// Its length in bytes: 1 to 15.
    pub length: u8,
}

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Action {
    Mov(Source),
    Movs { from: Memory, repeat: bool },
    Stos { repeat: bool },
    Xchg(Register),
    Cmpxchg(Register),
    Xadd(Register),
    Binary(Binary, Source),
    Unary(Unary),
    Bit(Bit, Source),
}

impl Action {
    /// May it have a LOCK prefix (SDM volume 2, LOCK)? With one, the others are invalid.
    fn is_lockable(self) -> bool {
        !matches!(self, Action::Mov(_) | Action::Movs { .. } | Action::Stos { .. })
    }
}

/// The operand that is not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Source {
    Register(Register),
    /// Sign-extended.
    Immediate(u64),
}

/// Arithmetic with two operands, in the order of the opcodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
}

/// Arithmetic with one operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Unary {
    Inc,
    Dec,
    Not,
    Neg,
}

/// BTS, BTR, BTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Bit {
    Set,
    Reset,
    Complement,
}

/// A general register as an operand of some size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// The whole register.
    pub gpr: Gpr,
    /// The operand is its second lowest byte: AH, CH, DH or BH.
    pub high_byte: bool,
}

impl Register {
    /// The register that ModRM's `reg` names.
    fn of(reg: u8, size: OperandSize, prefixes: Prefixes) -> Register {
        const FIRST_HIGH_BYTE: u8 = 4;
        if size == OperandSize::Byte && !prefixes.has_rex() && reg >= FIRST_HIGH_BYTE {
            return Register { gpr: Gpr::from_number(reg - FIRST_HIGH_BYTE), high_byte: true };
        }
        Register { gpr: Gpr::from_number(reg | prefixes.rex_r()), high_byte: false }
    }

    fn shift(self) -> u32 {
        if self.high_byte { 8 } else { 0 }
    }

    /// Its value.
    pub fn read(self, regs: &GuestRegisters, size: OperandSize) -> u64 {
        self.gpr.read(regs) >> self.shift() & size.mask()
    }

    /// Writes it; `value` has no bits above the size. A 32-bit result clears the upper half, shorter ones leave the
    /// rest as it is (SDM volume 1, 3.4.1.1).
    pub fn write(self, regs: &mut GuestRegisters, size: OperandSize, value: u64) {
        let whole = self.gpr.of(regs);
        let kept = match size {
            OperandSize::Byte | OperandSize::Word => *whole & !(size.mask() << self.shift()),
            OperandSize::Dword | OperandSize::Qword => 0,
        };
        *whole = kept | value << self.shift();
    }
}

/// Decodes the instruction at the start of `bytes`.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Store, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let (prefixes, first) = Prefixes::read(&mut cursor)?;
    let (action, size, to) = match first {
        0x0f => two_byte(&mut cursor, prefixes)?,
        _ => one_byte(first, &mut cursor, prefixes)?,
    };
    if prefixes.lock && !action.is_lockable() {
        return Err(DecodeError::Unknown);
    }
    Ok(Store { action, size, to, length: cursor.length() })
}

type Decoded = (Action, OperandSize, Memory);

/// Opcodes of one byte (SDM volume 2, table A-2).
fn one_byte(opcode: u8, cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<Decoded, DecodeError> {
    const ACCUMULATOR: Register = Register { gpr: Gpr::Rax, high_byte: false };
    let size = prefixes.operand_size(opcode);
    let repeat = prefixes.mandatory.is_repeat();
    Ok(match opcode {
        // Arithmetic, the first two of each eight opcodes: to memory, from a register.
        0x00..=0x3f if opcode & 7 < 2 => {
            let binary = binary(opcode >> 3)?;
            let (register, to) = register_and_memory(cursor, size, prefixes)?;
            (Action::Binary(binary, Source::Register(register)), size, to)
        }
        // Group 1.
        0x80 | 0x81 | 0x83 => {
            let (reg, to) = extension_and_memory(cursor, prefixes)?;
            let immediate = if opcode == 0x83 { cursor.signed_byte()? } else { cursor.immediate(size)? };
            (Action::Binary(binary(reg)?, Source::Immediate(immediate)), size, to)
        }
        0x86 | 0x87 => {
            let (register, to) = register_and_memory(cursor, size, prefixes)?;
            (Action::Xchg(register), size, to)
        }
        0x88 | 0x89 => {
            let (register, to) = register_and_memory(cursor, size, prefixes)?;
            (Action::Mov(Source::Register(register)), size, to)
        }
        0xa2 | 0xa3 => (Action::Mov(Source::Register(ACCUMULATOR)), size, cursor.absolute(prefixes)?),
        0xa4 | 0xa5 => {
            let from = string_operand(Gpr::Rsi, prefixes.segment, prefixes);
            (Action::Movs { from, repeat }, size, string_operand(Gpr::Rdi, Segment::Flat, prefixes))
        }
        0xaa | 0xab => (Action::Stos { repeat }, size, string_operand(Gpr::Rdi, Segment::Flat, prefixes)),
        // Group 11.
        0xc6 | 0xc7 => {
            let (0, to) = extension_and_memory(cursor, prefixes)? else { return Err(DecodeError::Unknown) };
            (Action::Mov(Source::Immediate(cursor.immediate(size)?)), size, to)
        }
        // Groups 3, 4 and 5.
        0xf6 | 0xf7 | 0xfe | 0xff => {
            let (reg, to) = extension_and_memory(cursor, prefixes)?;
            let unary = match (opcode & 8, reg) {
                (0, 2) => Unary::Not,
                (0, 3) => Unary::Neg,
                (8, 0) => Unary::Inc,
                (8, 1) => Unary::Dec,
                _ => return Err(DecodeError::Unknown),
            };
            (Action::Unary(unary), size, to)
        }
        _ => return Err(DecodeError::Unknown),
    })
}

/// Opcodes of two bytes, the first of them 0x0f (SDM volume 2, table A-3).
fn two_byte(cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<Decoded, DecodeError> {
    let opcode = cursor.next()?;
    // Also of the bit instructions, which have no form for bytes and an even opcode among them.
    let bit_size = prefixes.operand_size(1);
    let size = prefixes.operand_size(opcode);
    Ok(match opcode {
        0xab | 0xb3 | 0xbb => {
            let (register, to) = register_and_memory(cursor, bit_size, prefixes)?;
            (Action::Bit(bit(opcode >> 3)?, Source::Register(register)), bit_size, to)
        }
        // Group 8.
        0xba => {
            let (reg, to) = extension_and_memory(cursor, prefixes)?;
            let bit = bit(reg)?;
            (Action::Bit(bit, Source::Immediate(cursor.signed_byte()?)), bit_size, to)
        }
        0xb0 | 0xb1 => {
            let (register, to) = register_and_memory(cursor, size, prefixes)?;
            (Action::Cmpxchg(register), size, to)
        }
        0xc0 | 0xc1 => {
            let (register, to) = register_and_memory(cursor, size, prefixes)?;
            (Action::Xadd(register), size, to)
        }
        _ => return Err(DecodeError::Unknown),
    })
}

/// The arithmetic of a three-bit number. 7 is CMP, which writes nothing.
fn binary(number: u8) -> Result<Binary, DecodeError> {
    Ok(match number & 7 {
        0 => Binary::Add,
        1 => Binary::Or,
        2 => Binary::Adc,
        3 => Binary::Sbb,
        4 => Binary::And,
        5 => Binary::Sub,
        6 => Binary::Xor,
        _ => return Err(DecodeError::Unknown),
    })
}

/// The same for bit instructions. 4 is BT, which writes nothing.
fn bit(number: u8) -> Result<Bit, DecodeError> {
    Ok(match number & 7 {
        5 => Bit::Set,
        6 => Bit::Reset,
        7 => Bit::Complement,
        _ => return Err(DecodeError::Unknown),
    })
}

/// ModRM as a register and memory.
fn register_and_memory(
    cursor: &mut Cursor<'_>,
    size: OperandSize,
    prefixes: Prefixes,
) -> Result<(Register, Memory), DecodeError> {
    let (reg, memory) = extension_and_memory(cursor, prefixes)?;
    Ok((Register::of(reg, size, prefixes), memory))
}

/// ModRM as three bits more of the opcode, and memory.
fn extension_and_memory(cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<(u8, Memory), DecodeError> {
    let modrm = cursor.modrm(prefixes)?;
    match modrm.rm {
        Rm::Memory(memory) => Ok((modrm.reg, memory)),
        Rm::Register(_) => Err(DecodeError::Unknown),
    }
}

fn string_operand(gpr: Gpr, segment: Segment, prefixes: Prefixes) -> Memory {
    Memory { segment, base: Base::Register(gpr), index: None, displacement: 0, size: prefixes.address_size() }
}
