//! From bytes to an [`Instruction`]: 64-bit mode, and only the instructions that fault in ring 3.
//!
//! The tables are the opcode maps of the SDM (volume 2, appendix A), cut down to those instructions. The host tests
//! compare every answer, also "unknown", with an independent decoder.

use super::encoding::{Cursor, Mandatory, Prefixes, Rm};
use super::instruction::{Gpr, Instruction, Operation, Port, Width};

pub use super::encoding::DecodeError;

/// Decodes the instruction at the start of `bytes`.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Instruction, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let (prefixes, opcode) = Prefixes::read(&mut cursor)?;
    // None of these instructions may be locked.
    if prefixes.lock {
        return Err(DecodeError::Unknown);
    }
    let operation = match opcode {
        0x0f => two_byte(&mut cursor, prefixes)?,
        _ => one_byte(opcode, &mut cursor, prefixes)?,
    };
    Ok(Instruction { operation, length: cursor.length() })
}

/// Opcodes of one byte (SDM volume 2, table A-2).
fn one_byte(opcode: u8, cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<Operation, DecodeError> {
    let width = if opcode & 1 == 0 { Width::Byte } else { prefixes.port_width() };
    let address = prefixes.address_size();
    let repeat = prefixes.mandatory.is_repeat();
    Ok(match opcode {
        0x6c | 0x6d => Operation::Ins { width, address, repeat },
        0x6e | 0x6f => Operation::Outs { width, address, repeat, segment: prefixes.segment },
        0xcc => Operation::Int3,
        0xcd => Operation::Int(cursor.next()?),
        0xcf => Operation::Iret,
        0xe4 | 0xe5 => Operation::In { port: Port::Immediate(cursor.next()?), width },
        0xe6 | 0xe7 => Operation::Out { port: Port::Immediate(cursor.next()?), width },
        0xec | 0xed => Operation::In { port: Port::Dx, width },
        0xee | 0xef => Operation::Out { port: Port::Dx, width },
        0xf4 => Operation::Hlt,
        0xfa => Operation::Cli,
        0xfb => Operation::Sti,
        _ => return Err(DecodeError::Unknown),
    })
}

/// Opcodes of two bytes, the first of them 0x0f (SDM volume 2, table A-3).
fn two_byte(cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<Operation, DecodeError> {
    Ok(match cursor.next()? {
        0x00 => group_6(cursor, prefixes)?,
        0x01 => group_7(cursor, prefixes)?,
        0x06 => Operation::Clts,
        0x07 => Operation::Sysret,
        0x08 => Operation::Invd,
        // With F3 it is WBNOINVD, which CPUID hides.
        0x09 if prefixes.mandatory != Mandatory::F3 => Operation::Wbinvd,
        0x20 => {
            let (control, to) = control_operands(cursor, prefixes)?;
            Operation::MovFromCr { control, to }
        }
        0x21 => {
            let (debug, to) = debug_operands(cursor, prefixes)?;
            Operation::MovFromDr { debug, to }
        }
        0x22 => {
            let (control, from) = control_operands(cursor, prefixes)?;
            Operation::MovToCr { control, from }
        }
        0x23 => {
            let (debug, from) = debug_operands(cursor, prefixes)?;
            Operation::MovToDr { debug, from }
        }
        0x30 => Operation::Wrmsr,
        0x31 => Operation::Rdtsc,
        0x32 => Operation::Rdmsr,
        0x33 => Operation::Rdpmc,
        0xa2 => Operation::Cpuid,
        _ => return Err(DecodeError::Unknown),
    })
}

/// `0f 00` (SDM volume 2, table A-6, group 6).
fn group_6(cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<Operation, DecodeError> {
    match cursor.modrm(prefixes)?.reg {
        2 => Ok(Operation::Lldt),
        3 => Ok(Operation::Ltr),
        _ => Err(DecodeError::Unknown),
    }
}

/// `0f 01` (SDM volume 2, table A-6, group 7).
fn group_7(cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<Operation, DecodeError> {
    let modrm = cursor.modrm(prefixes)?;
    match (modrm.reg, modrm.rm) {
        (2, Rm::Memory(_)) => Ok(Operation::Lgdt),
        (3, Rm::Memory(_)) => Ok(Operation::Lidt),
        (6, _) => Ok(Operation::Lmsw),
        (7, Rm::Memory(_)) => Ok(Operation::Invlpg),
        (7, Rm::Register(0)) => Ok(Operation::Swapgs),
        (7, Rm::Register(1)) => Ok(Operation::Rdtscp),
        // Any other prefix here makes these other, newer instructions.
        _ if prefixes.mandatory != Mandatory::None => Err(DecodeError::Unknown),
        (1, Rm::Register(0)) => Ok(Operation::Monitor),
        (1, Rm::Register(1)) => Ok(Operation::Mwait),
        (1, Rm::Register(2)) => Ok(Operation::Clac),
        (1, Rm::Register(3)) => Ok(Operation::Stac),
        (2, Rm::Register(1)) => Ok(Operation::Xsetbv),
        _ => Err(DecodeError::Unknown),
    }
}

/// The operands of MOV to or from a control register. The mode bits of ModRM do not count: both are registers.
fn control_operands(cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<(u8, Gpr), DecodeError> {
    let modrm = cursor.next()?;
    let control = modrm >> 3 & 7 | prefixes.rex_r();
    match control {
        0 | 2 | 3 | 4 | 8 => Ok((control, Gpr::from_number(modrm & 7 | prefixes.rex_b()))),
        _ => Err(DecodeError::Unknown),
    }
}

/// The same for debug registers.
fn debug_operands(cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<(u8, Gpr), DecodeError> {
    let modrm = cursor.next()?;
    match prefixes.rex_r() {
        0 => Ok((modrm >> 3 & 7, Gpr::from_number(modrm & 7 | prefixes.rex_b()))),
        _ => Err(DecodeError::Unknown),
    }
}
