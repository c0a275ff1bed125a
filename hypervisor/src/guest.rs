//! The seams between the pure rules and the machine: how rules reach guest memory and guest registers.
//!
//! Host tests implement these traits with fakes; `arch` implements them for real.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::GuestVa;

/// A guest access faulted at this address: not mapped, not writable, or not a guest address at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault(pub u64);

/// Copies between the hypervisor and the *current* guest address space, with the guest kernel's rights.
///
/// Guest memory is only ever copied, never borrowed: another vCPU may change it between two reads, so each value is
/// read once, into our own memory, and checked there.
pub trait GuestCopy {
    /// Copies `buf.len()` bytes from the guest. On a fault `buf` may be partly written.
    fn read_bytes(&mut self, from: u64, buf: &mut [u8]) -> Result<(), Fault>;

    /// Copies `bytes` to the guest. On a fault the guest may see a part of them.
    fn write_bytes(&mut self, to: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Copies a value from the guest. Those of a few words, as frames and requests are, may take a shorter way.
    fn read<T: FromBytes + IntoBytes>(&mut self, from: u64) -> Result<T, Fault> {
        let mut value = T::new_zeroed();
        self.read_bytes(from, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies a value to the guest. On a fault the guest may see a part of it.
    fn write<T: IntoBytes + Immutable>(&mut self, to: u64, value: &T) -> Result<(), Fault> {
        self.write_bytes(to, value.as_bytes())
    }
}

/// Checks that `len` bytes at `address` are in guest ranges; the first thing every [`GuestCopy`] does.
#[inline]
pub fn check_span(address: u64, len: usize) -> Result<(), Fault> {
    if GuestVa::are_bytes(address, len as u64) { Ok(()) } else { Err(Fault(address)) }
}

/// Exceptions by vector, as in [`GuestRegisters::vector`] (SDM volume 3, table 7-1).
#[allow(missing_docs)]
pub mod vector {
    pub const DEBUG: u32 = 1;
    pub const NMI: u32 = 2;
    pub const INVALID_OPCODE: u32 = 6;
    pub const DEVICE_NOT_AVAILABLE: u32 = 7;
    pub const DOUBLE_FAULT: u32 = 8;
    pub const INVALID_TSS: u32 = 10;
    pub const GENERAL_PROTECTION: u32 = 13;
    pub const PAGE_FAULT: u32 = 14;
    pub const MACHINE_CHECK: u32 = 18;
}

/// The registers a guest had when it entered the hypervisor, and what it will have when it goes on.
///
/// The order is that of the entry stubs' pushes, from the last to the first. The six that hold the arguments of a hypercall
/// lie together, so that they need not be copied ([`GuestRegisters::arguments`]).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct GuestRegisters {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub rcx: u64,
    pub rax: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub r10: u64,
    pub r8: u64,
    pub r9: u64,
    /// The CPU's error code, 0 for vectors without one.
    pub error_code: u32,
    /// The vector that entered the hypervisor, or one of `arch::entry`'s `SYSCALL`, `SYSCALL32`, `SYSENTER`.
    pub vector: u32,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Registers in [`GuestRegisters`], and the first of a hypercall's arguments.
const WORDS: usize = size_of::<GuestRegisters>() / 8;
const FIRST_ARGUMENT: usize = core::mem::offset_of!(GuestRegisters, rdi) / 8;

const _: () = assert!(WORDS == 21);

impl GuestRegisters {
    /// All of them, in memory's order.
    #[inline]
    pub fn words(&mut self) -> &mut [u64; WORDS] {
        zerocopy::transmute_mut!(self)
    }

    /// RDI, RSI, RDX, R10, R8, R9: the arguments of a hypercall, in their order.
    #[inline]
    pub fn arguments(&mut self) -> &mut [u64; 6] {
        let arguments = self.words().split_at_mut(FIRST_ARGUMENT).1;
        arguments.first_chunk_mut().expect("six registers follow")
    }
}
