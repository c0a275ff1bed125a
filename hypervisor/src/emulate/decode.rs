//! From bytes to an [`Instruction`]: 64-bit mode, and only the instructions that fault in ring 3.
//!
//! The tables are the opcode maps of the SDM (volume 2, appendix A), cut down to those instructions. The host tests
//! compare every answer, also "unknown", with an independent decoder.

use super::fetch::MAX_LENGTH;
use super::instruction::{AddressSize, Gpr, Instruction, Operation, Port, Segment, Width};

/// Why there is no instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The bytes end before the instruction does.
    Truncated,
    /// It is longer than 15 bytes.
    TooLong,
    /// It is invalid, or none of those that fault in ring 3.
    Unknown,
}

/// Decodes the instruction at the start of `bytes`.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Instruction, DecodeError> {
    let mut cursor = Cursor { bytes, at: 0 };
    let (prefixes, opcode) = Prefixes::read(&mut cursor)?;
    // None of these instructions may be locked.
    if prefixes.lock {
        return Err(DecodeError::Unknown);
    }
    let operation = match opcode {
        0x0f => two_byte(&mut cursor, prefixes)?,
        _ => one_byte(opcode, &mut cursor, prefixes)?,
    };
    Ok(Instruction { operation, length: cursor.at })
}

/// Opcodes of one byte (SDM volume 2, table A-2).
fn one_byte(opcode: u8, cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<Operation, DecodeError> {
    let width = if opcode & 1 == 0 { Width::Byte } else { prefixes.operand_width() };
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
        0x00 => group_6(cursor)?,
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
fn group_6(cursor: &mut Cursor<'_>) -> Result<Operation, DecodeError> {
    let modrm = cursor.modrm()?;
    match modrm.reg {
        2 => Ok(Operation::Lldt),
        3 => Ok(Operation::Ltr),
        _ => Err(DecodeError::Unknown),
    }
}

/// `0f 01` (SDM volume 2, table A-6, group 7).
fn group_7(cursor: &mut Cursor<'_>, prefixes: Prefixes) -> Result<Operation, DecodeError> {
    let modrm = cursor.modrm()?;
    match (modrm.is_register, modrm.reg, modrm.rm) {
        (false, 2, _) => Ok(Operation::Lgdt),
        (false, 3, _) => Ok(Operation::Lidt),
        (_, 6, _) => Ok(Operation::Lmsw),
        (false, 7, _) => Ok(Operation::Invlpg),
        (true, 7, 0) => Ok(Operation::Swapgs),
        (true, 7, 1) => Ok(Operation::Rdtscp),
        // Any other prefix here makes these other, newer instructions.
        _ if prefixes.mandatory != Mandatory::None => Err(DecodeError::Unknown),
        (true, 1, 0) => Ok(Operation::Monitor),
        (true, 1, 1) => Ok(Operation::Mwait),
        (true, 1, 2) => Ok(Operation::Clac),
        (true, 1, 3) => Ok(Operation::Stac),
        (true, 2, 1) => Ok(Operation::Xsetbv),
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

/// The last of the prefixes that choose between instructions of one opcode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mandatory {
    None,
    OperandSize,
    F2,
    F3,
}

impl Mandatory {
    fn is_repeat(self) -> bool {
        matches!(self, Mandatory::F2 | Mandatory::F3)
    }
}

#[derive(Clone, Copy)]
struct Prefixes {
    operand_size: bool,
    address_size: bool,
    lock: bool,
    mandatory: Mandatory,
    segment: Segment,
    /// The REX byte, 0 if there is none.
    rex: u8,
}

impl Prefixes {
    const REX_W: u8 = 1 << 3;
    const REX_R: u8 = 1 << 2;
    const REX_B: u8 = 1;

    /// Reads prefixes up to and with the first byte that is none.
    fn read(cursor: &mut Cursor<'_>) -> Result<(Prefixes, u8), DecodeError> {
        let mut prefixes = Prefixes {
            operand_size: false,
            address_size: false,
            lock: false,
            mandatory: Mandatory::None,
            segment: Segment::Flat,
            rex: 0,
        };
        loop {
            let byte = cursor.next()?;
            match byte {
                0x40..=0x4f => {
                    prefixes.rex = byte;
                    continue;
                }
                // ES, CS, SS, DS: without meaning in 64-bit mode, and without effect on an FS or GS before them.
                0x26 | 0x2e | 0x36 | 0x3e => {}
                0x64 => prefixes.segment = Segment::Fs,
                0x65 => prefixes.segment = Segment::Gs,
                0x66 => prefixes.operand_size = true,
                0x67 => prefixes.address_size = true,
                0xf0 => prefixes.lock = true,
                0xf2 => prefixes.mandatory = Mandatory::F2,
                0xf3 => prefixes.mandatory = Mandatory::F3,
                _ => {
                    if prefixes.mandatory == Mandatory::None && prefixes.operand_size {
                        prefixes.mandatory = Mandatory::OperandSize;
                    }
                    return Ok((prefixes, byte));
                }
            }
            // REX counts only right before the opcode.
            prefixes.rex = 0;
        }
    }

    /// REX.W wins over 66, and there are no ports of 64 bits.
    fn operand_width(self) -> Width {
        if self.operand_size && self.rex & Prefixes::REX_W == 0 { Width::Word } else { Width::Dword }
    }

    fn address_size(self) -> AddressSize {
        if self.address_size { AddressSize::Bits32 } else { AddressSize::Bits64 }
    }

    /// The fourth bit of ModRM's `reg`.
    fn rex_r(self) -> u8 {
        if self.rex & Prefixes::REX_R != 0 { 8 } else { 0 }
    }

    /// The fourth bit of ModRM's `rm`.
    fn rex_b(self) -> u8 {
        if self.rex & Prefixes::REX_B != 0 { 8 } else { 0 }
    }
}

struct ModRm {
    is_register: bool,
    reg: u8,
    rm: u8,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: u8,
}

impl Cursor<'_> {
    fn next(&mut self) -> Result<u8, DecodeError> {
        let at = usize::from(self.at);
        if at == MAX_LENGTH {
            return Err(DecodeError::TooLong);
        }
        let byte = *self.bytes.get(at).ok_or(DecodeError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        (0..count).try_for_each(|_| self.next().map(drop))
    }

    /// Reads ModRM and skips SIB and displacement (SDM volume 2, tables 2-2 and 2-3).
    fn modrm(&mut self) -> Result<ModRm, DecodeError> {
        const SIB_FOLLOWS: u8 = 4;
        const NO_BASE: u8 = 5;
        let byte = self.next()?;
        let (mode, reg, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
        let base = if mode != 3 && rm == SIB_FOLLOWS { self.next()? & 7 } else { rm };
        match mode {
            0 if base == NO_BASE => self.skip(4)?,
            1 => self.skip(1)?,
            2 => self.skip(4)?,
            _ => {}
        }
        Ok(ModRm { is_register: mode == 3, reg, rm })
    }
}
