//! Decoded instructions.

use crate::guest::GuestRegisters;

/// An instruction and its size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// What it does.
    pub operation: Operation,
    /// Its length in bytes, prefixes included: 1 to 15.
    pub length: u8,
}

/// The instructions that fault in ring 3, by their mnemonics in the SDM, with the operands that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Operation {
    Rdmsr,
    Wrmsr,
    In { port: Port, width: Width },
    Out { port: Port, width: Width },
    Ins { width: Width, address: AddressSize, repeat: bool },
    Outs { width: Width, address: AddressSize, repeat: bool, segment: Segment },
    Cli,
    Sti,
    Clts,
    MovFromCr { control: u8, to: Gpr },
    MovToCr { control: u8, from: Gpr },
    MovFromDr { debug: u8, to: Gpr },
    MovToDr { debug: u8, from: Gpr },
    Wbinvd,
    Invd,
    Xsetbv,
    Rdtsc,
    Rdtscp,
    Cpuid,
    Int(u8),
    Int3,
    Hlt,
    Lmsw,
    Invlpg,
    Lgdt,
    Lidt,
    Lldt,
    Ltr,
    Swapgs,
    Sysret,
    Iret,
    Rdpmc,
    Monitor,
    Mwait,
    Clac,
    Stac,
}

/// Where an I/O instruction takes its port number from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// The instruction.
    Immediate(u8),
    /// DX.
    Dx,
}

/// Bytes that an I/O instruction moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Width {
    Byte,
    Word,
    Dword,
}

impl Width {
    /// 1, 2 or 4.
    pub const fn bytes(self) -> usize {
        match self {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Dword => 4,
        }
    }

    /// The bits that a value of this width has.
    pub const fn mask(self) -> u32 {
        match self {
            Width::Byte => 0xff,
            Width::Word => 0xffff,
            Width::Dword => u32::MAX,
        }
    }
}

/// The size of an operand that is no port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum OperandSize {
    Byte,
    Word,
    Dword,
    Qword,
}

impl OperandSize {
    /// 1, 2, 4 or 8.
    pub const fn bytes(self) -> u64 {
        match self {
            OperandSize::Byte => 1,
            OperandSize::Word => 2,
            OperandSize::Dword => 4,
            OperandSize::Qword => 8,
        }
    }

    /// 8, 16, 32 or 64.
    pub const fn bits(self) -> u64 {
        self.bytes() * 8
    }

    /// The bits that a value of this size has.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// How much of an address register counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum AddressSize {
    Bits32,
    Bits64,
}

impl AddressSize {
    /// The part of an address or of a string instruction's count that is used.
    pub const fn clip(self, value: u64) -> u64 {
        match self {
            AddressSize::Bits32 => value & 0xffff_ffff,
            AddressSize::Bits64 => value,
        }
    }
}

/// The segment of a memory operand. In 64-bit mode only FS and GS have a base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Segment {
    Flat,
    Fs,
    Gs,
}

/// A general register, in the order of the numbers that instructions use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Gpr {
    const ALL: [Gpr; 16] = [
        Gpr::Rax,
        Gpr::Rcx,
        Gpr::Rdx,
        Gpr::Rbx,
        Gpr::Rsp,
        Gpr::Rbp,
        Gpr::Rsi,
        Gpr::Rdi,
        Gpr::R8,
        Gpr::R9,
        Gpr::R10,
        Gpr::R11,
        Gpr::R12,
        Gpr::R13,
        Gpr::R14,
        Gpr::R15,
    ];

    /// The register with a four-bit number.
    pub const fn from_number(number: u8) -> Gpr {
        Gpr::ALL[(number & 0xf) as usize]
    }

    /// The number of its value among the words of [`GuestRegisters`].
    pub fn word(self) -> u8 {
        // Each register is a number that no other word is.
        let mut numbered = GuestRegisters::default();
        for (word, number) in numbered.words().iter_mut().zip(0..) {
            *word = number;
        }
        self.read(&numbered).to_le_bytes()[0]
    }

    /// Reads it.
    pub const fn read(self, regs: &GuestRegisters) -> u64 {
        match self {
            Gpr::Rax => regs.rax,
            Gpr::Rcx => regs.rcx,
            Gpr::Rdx => regs.rdx,
            Gpr::Rbx => regs.rbx,
            Gpr::Rsp => regs.rsp,
            Gpr::Rbp => regs.rbp,
            Gpr::Rsi => regs.rsi,
            Gpr::Rdi => regs.rdi,
            Gpr::R8 => regs.r8,
            Gpr::R9 => regs.r9,
            Gpr::R10 => regs.r10,
            Gpr::R11 => regs.r11,
            Gpr::R12 => regs.r12,
            Gpr::R13 => regs.r13,
            Gpr::R14 => regs.r14,
            Gpr::R15 => regs.r15,
        }
    }

    /// The place of its value.
    pub const fn of(self, regs: &mut GuestRegisters) -> &mut u64 {
        match self {
            Gpr::Rax => &mut regs.rax,
            Gpr::Rcx => &mut regs.rcx,
            Gpr::Rdx => &mut regs.rdx,
            Gpr::Rbx => &mut regs.rbx,
            Gpr::Rsp => &mut regs.rsp,
            Gpr::Rbp => &mut regs.rbp,
            Gpr::Rsi => &mut regs.rsi,
            Gpr::Rdi => &mut regs.rdi,
            Gpr::R8 => &mut regs.r8,
            Gpr::R9 => &mut regs.r9,
            Gpr::R10 => &mut regs.r10,
            Gpr::R11 => &mut regs.r11,
            Gpr::R12 => &mut regs.r12,
            Gpr::R13 => &mut regs.r13,
            Gpr::R14 => &mut regs.r14,
            Gpr::R15 => &mut regs.r15,
        }
    }
}
