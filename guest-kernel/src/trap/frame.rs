//! The registers of an interrupted context, as the entry stubs save them.

use core::fmt;
use pv_abi::trap::{FLAT_USER_CS, FLAT_USER_SS};
use pv_abi::vcpu::VcpuContextFlags;

/// What the entry of a system call has in place of a vector. The `iret` hypercall's flags have the same bit for a return
/// from one, which spares it `rcx` and `r11`.
pub(super) const SYSTEM_CALL: u64 = 1 << 8;

/// What the entry of an event upcall has in place of a vector.
pub(super) const UPCALL: u64 = 1 << 9;

const _: () = assert!(SYSTEM_CALL == VcpuContextFlags::IN_SYSCALL.bits());

/// Everything about a trap. The order is that of the stubs' pushes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "registers by their own names")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// As pushed; [`TrapFrame::vector`] has it as a number.
    pub vector: u64,
    /// 0 for vectors without one.
    pub error_code: u64,
    pub rip: u64,
    /// Bits 0-15 the selector, bits 32-39 the upcall mask before the trap.
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<TrapFrame>() == 22 * 8);

/// The two facts about a trap that most callers want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caught {
    /// The exception or interrupt vector.
    pub vector: u8,
    /// Its error code, 0 for vectors without one.
    pub error_code: u32,
}

impl TrapFrame {
    /// Where user mode begins, with zeros in all other registers. Event upcalls stay masked: the interrupt flag is clear.
    pub fn user(rip: u64, rsp: u64) -> TrapFrame {
        TrapFrame {
            rip,
            rsp,
            cs: u64::from(FLAT_USER_CS),
            ss: u64::from(FLAT_USER_SS),
            rflags: 2,
            ..TrapFrame::default()
        }
    }

    /// Whether this is no trap but the `syscall` instruction in user mode.
    pub fn is_system_call(&self) -> bool {
        self.vector == SYSTEM_CALL
    }

    /// Whether this is no trap but an event upcall.
    pub(super) fn is_upcall(&self) -> bool {
        self.vector == UPCALL
    }

    /// The vector, 0 to 255.
    pub fn vector(&self) -> u8 {
        // The stubs push nothing else; the mask is for the compiler.
        (self.vector & 0xff) as u8
    }

    /// Vector and error code.
    pub fn caught(&self) -> Caught {
        Caught { vector: self.vector(), error_code: u32::try_from(self.error_code).unwrap_or(u32::MAX) }
    }

    /// The event upcall mask as it was before the trap.
    pub fn upcall_mask(&self) -> u8 {
        ((self.cs >> 32) & 0xff) as u8
    }
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trap {} ({}), error code {:#x}", self.vector, name(self.vector), self.error_code)
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} at rip {:#018x}", self.caught(), self.rip)?;
        writeln!(f, "cs {:#x} ss {:#x} rflags {:#x} rsp {:#018x}", self.cs, self.ss, self.rflags, self.rsp)?;
        let registers = [
            [("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx)],
            [("rdx", self.rdx), ("rsi", self.rsi), ("rdi", self.rdi)],
            [("rbp", self.rbp), ("r8 ", self.r8), ("r9 ", self.r9)],
            [("r10", self.r10), ("r11", self.r11), ("r12", self.r12)],
            [("r13", self.r13), ("r14", self.r14), ("r15", self.r15)],
        ];
        for [a, b, c] in registers {
            writeln!(f, "{} {:016x}  {} {:016x}  {} {:016x}", a.0, a.1, b.0, b.1, c.0, c.1)?;
        }
        Ok(())
    }
}

/// The mnemonic of an exception.
fn name(vector: u8) -> &'static str {
    const NAMES: [&str; 22] = [
        "#DE",
        "#DB",
        "NMI",
        "#BP",
        "#OF",
        "#BR",
        "#UD",
        "#NM",
        "#DF",
        "coprocessor",
        "#TS",
        "#NP",
        "#SS",
        "#GP",
        "#PF",
        "spurious",
        "#MF",
        "#AC",
        "#MC",
        "#XM",
        "#VE",
        "#CP",
    ];
    NAMES.get(usize::from(vector)).copied().unwrap_or("interrupt")
}
