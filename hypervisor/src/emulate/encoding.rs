//! How instructions are encoded in 64-bit mode (SDM volume 2, chapter 2): prefixes, ModRM, SIB, displacements and
//! immediates. Which opcode means what is not here.

use super::fetch::MAX_LENGTH;
use super::instruction::{AddressSize, Gpr, OperandSize, Segment, Width};

/// Why there is no instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The bytes end before the instruction does.
    Truncated,
    /// It is longer than 15 bytes.
    TooLong,
    /// It is invalid, or none of those that are asked for.
    Unknown,
}

/// The last of the prefixes that choose between instructions of one opcode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mandatory {
    None,
    OperandSize,
    F2,
    F3,
}

impl Mandatory {
    pub fn is_repeat(self) -> bool {
        matches!(self, Mandatory::F2 | Mandatory::F3)
    }
}

/// All prefixes of an instruction.
#[derive(Clone, Copy)]
pub struct Prefixes {
    operand_size: bool,
    address_size: bool,
    pub lock: bool,
    pub mandatory: Mandatory,
    pub segment: Segment,
    /// The REX byte, 0 if there is none.
    rex: u8,
}

impl Prefixes {
    const REX_W: u8 = 1 << 3;
    const REX_R: u8 = 1 << 2;
    const REX_X: u8 = 1 << 1;
    const REX_B: u8 = 1;

    /// Reads prefixes up to and with the first byte that is none.
    pub fn read(cursor: &mut Cursor<'_>) -> Result<(Prefixes, u8), DecodeError> {
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

    /// The width of an I/O instruction that moves no byte. REX.W wins over 66, and there are no ports of 64 bits.
    pub fn port_width(self) -> Width {
        if self.operand_size && self.rex & Prefixes::REX_W == 0 { Width::Word } else { Width::Dword }
    }

    /// The size of the operands of the many opcodes whose lowest bit says "not a byte".
    pub fn operand_size(self, opcode: u8) -> OperandSize {
        match (opcode & 1, self.rex & Prefixes::REX_W, self.operand_size) {
            (0, _, _) => OperandSize::Byte,
            (_, 0, true) => OperandSize::Word,
            (_, 0, false) => OperandSize::Dword,
            _ => OperandSize::Qword,
        }
    }

    pub fn address_size(self) -> AddressSize {
        if self.address_size { AddressSize::Bits32 } else { AddressSize::Bits64 }
    }

    /// Any REX replaces the registers AH, CH, DH and BH by SPL, BPL, SIL and DIL.
    pub fn has_rex(self) -> bool {
        self.rex != 0
    }

    /// The fourth bit of ModRM's `reg`.
    pub fn rex_r(self) -> u8 {
        if self.rex & Prefixes::REX_R != 0 { 8 } else { 0 }
    }

    /// The fourth bit of SIB's `index`.
    fn rex_x(self) -> u8 {
        if self.rex & Prefixes::REX_X != 0 { 8 } else { 0 }
    }

    /// The fourth bit of ModRM's `rm` or SIB's `base`.
    pub fn rex_b(self) -> u8 {
        if self.rex & Prefixes::REX_B != 0 { 8 } else { 0 }
    }
}

/// ModRM and what belongs to it.
pub struct ModRm {
    /// The register's number, or the rest of the opcode. Without REX.R.
    pub reg: u8,
    /// The other operand.
    pub rm: Rm,
}

/// The operand that is a register or in memory.
pub enum Rm {
    /// The register's number, without REX.B.
    Register(u8),
    Memory(Memory),
}

/// A memory operand: base + index << shift + displacement, in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    pub segment: Segment,
    pub base: Base,
    /// The index register, and the log2 of its factor.
    pub index: Option<(Gpr, u8)>,
    /// Sign-extended.
    pub displacement: u64,
    pub size: AddressSize,
}

/// What the displacement of a memory operand is relative to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    Zero,
    Register(Gpr),
    NextInstruction,
}

/// The bytes of an instruction, read one by one.
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: u8,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// How many were read.
    pub fn length(&self) -> u8 {
        self.at
    }

    pub fn next(&mut self) -> Result<u8, DecodeError> {
        let at = usize::from(self.at);
        if at == MAX_LENGTH {
            return Err(DecodeError::TooLong);
        }
        let byte = *self.bytes.get(at).ok_or(DecodeError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.next()?;
        }
        Ok(array)
    }

    /// A byte, sign-extended.
    pub fn signed_byte(&mut self) -> Result<u64, DecodeError> {
        Ok(i64::from(i8::from_le_bytes(self.array()?)).cast_unsigned())
    }

    /// Four bytes, sign-extended.
    fn signed_dword(&mut self) -> Result<u64, DecodeError> {
        Ok(i64::from(i32::from_le_bytes(self.array()?)).cast_unsigned())
    }

    /// An immediate operand, sign-extended. Those for 64 bits have 32.
    pub fn immediate(&mut self, size: OperandSize) -> Result<u64, DecodeError> {
        match size {
            OperandSize::Byte => self.signed_byte(),
            OperandSize::Word => Ok(i64::from(i16::from_le_bytes(self.array()?)).cast_unsigned()),
            OperandSize::Dword | OperandSize::Qword => self.signed_dword(),
        }
    }

    /// A memory operand that is an address in the instruction (SDM volume 2, table 2-4).
    pub fn absolute(&mut self, prefixes: Prefixes) -> Result<Memory, DecodeError> {
        let size = prefixes.address_size();
        let displacement = match size {
            AddressSize::Bits32 => u32::from_le_bytes(self.array()?).into(),
            AddressSize::Bits64 => u64::from_le_bytes(self.array()?),
        };
        Ok(Memory { segment: prefixes.segment, base: Base::Zero, index: None, displacement, size })
    }

    /// Reads ModRM, SIB and displacement (SDM volume 2, tables 2-2 and 2-3).
    pub fn modrm(&mut self, prefixes: Prefixes) -> Result<ModRm, DecodeError> {
        const SIB_FOLLOWS: u8 = 4;
        const NO_INDEX: u8 = 4;
        const NO_BASE: u8 = 5;
        let byte = self.next()?;
        let (mode, reg, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
        if mode == 3 {
            return Ok(ModRm { reg, rm: Rm::Register(rm) });
        }
        // What stands for "no base" is looked at without REX.B, what stands for "no index" with REX.X.
        let (base, index, without_base) = if rm == SIB_FOLLOWS {
            let sib = self.next()?;
            let index = sib >> 3 & 7 | prefixes.rex_x();
            let scaled = (index != NO_INDEX).then_some((Gpr::from_number(index), sib >> 6));
            (sib & 7, scaled, Base::Zero)
        } else {
            (rm, None, Base::NextInstruction)
        };
        let base_register = Base::Register(Gpr::from_number(base | prefixes.rex_b()));
        let (base, displacement) = match mode {
            0 if base == NO_BASE => (without_base, self.signed_dword()?),
            0 => (base_register, 0),
            1 => (base_register, self.signed_byte()?),
            _ => (base_register, self.signed_dword()?),
        };
        let memory = Memory { segment: prefixes.segment, base, index, displacement, size: prefixes.address_size() };
        Ok(ModRm { reg, rm: Rm::Memory(memory) })
    }
}
