//! Single instructions and accesses that may trap, with the trap as a value.
//!
//! Reads and refused instructions are safe to try anywhere; a write is `unsafe`, because it may succeed.

use crate::catch;
use crate::trap::{self, Caught};
use core::arch::asm;
use pv_abi::cpuid::XEN_EMULATE_PREFIX;

/// The four registers that `cpuid` fills: eax, ebx, ecx, edx.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "registers by their own names")]
pub struct Cpuid {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// `cpuid` through the forced-emulation prefix: always the hypervisor's answer.
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    const PREFIX: [u8; 5] = XEN_EMULATE_PREFIX;
    let (eax, ecx, edx);
    let mut rbx = 0u64;
    // SAFETY: the hypervisor emulates a `cpuid`, which only sets the four registers; rbx, which the compiler keeps for
    // itself, is put back.
    unsafe {
        asm!(
            "xchg {rbx}, rbx",
            ".byte {}, {}, {}, {}, {}",
            "cpuid",
            "xchg {rbx}, rbx",
            const PREFIX[0],
            const PREFIX[1],
            const PREFIX[2],
            const PREFIX[3],
            const PREFIX[4],
            rbx = inout(reg) rbx,
            inout("eax") leaf => eax,
            inout("ecx") subleaf => ecx,
            out("edx") edx,
        );
    }
    Cpuid { eax, ebx: low(rbx), ecx, edx }
}

/// The low half of a register.
const fn low(register: u64) -> u32 {
    (register & 0xffff_ffff) as u32
}

/// A plain `cpuid`: the CPU's own answer, unless the hypervisor makes the instruction fault.
pub fn native_cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let raw = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    Cpuid { eax: raw.eax, ebx: raw.ebx, ecx: raw.ecx, edx: raw.edx }
}

/// Reads the time-stamp counter.
pub fn rdtsc() -> u64 {
    // SAFETY: the instruction has no effect but its result.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Reads 8 bytes.
pub fn read(address: u64) -> Result<u64, Caught> {
    let value;
    // SAFETY: a load that faults is caught; one that doesn't has no effect.
    let caught = unsafe { catch!(["mov {value}, [{address}]"] value = out(reg) value, address = in(reg) address,) };
    caught.map_or(Ok(value), Err)
}

/// Writes 8 bytes.
///
/// # Safety
/// If the page turns out to be writable, the bytes must be the caller's to write.
pub unsafe fn write(address: u64, value: u64) -> Result<(), Caught> {
    // SAFETY: a store that faults is caught; for one that doesn't the caller vouches.
    let caught = unsafe { catch!(["mov [{address}], {value}"] value = in(reg) value, address = in(reg) address,) };
    caught.map_or(Ok(()), Err)
}

/// Jumps to `address` and expects to come back by a trap.
///
/// # Safety
/// There must be nothing executable at `address`.
pub unsafe fn jump(address: u64) -> Option<Caught> {
    // SAFETY: the fetch faults before any instruction runs, as the caller says, and the trap brings us back.
    unsafe { catch!(["jmp {address}"] address = in(reg) address,) }
}

/// Reads a model-specific register.
pub fn rdmsr(msr: u32) -> Result<u64, Caught> {
    let (low, high): (u32, u32);
    // SAFETY: reading a register that the hypervisor lets a guest read has no effect; the rest trap.
    let caught = unsafe {
        catch!(["mov eax, 0x5a5a5a5a", "rdmsr", "mov {low:e}, eax"]
            low = out(reg) low, in("ecx") msr, out("edx") high,)
    };
    caught.map_or(Ok(u64::from(high) << 32 | u64::from(low)), Err)
}

/// Writes a model-specific register.
///
/// # Safety
/// If the hypervisor lets the write through, its effect (on segment bases, for example) must be wanted.
pub unsafe fn wrmsr(msr: u32, value: u64) -> Result<(), Caught> {
    // SAFETY: the write traps, or its effect is wanted, as the caller promises.
    let caught = unsafe {
        catch!(["mov eax, {low:e}", "wrmsr"]
            low = in(reg) value, in("ecx") msr, in("edx") value >> 32,)
    };
    caught.map_or(Ok(()), Err)
}

/// Reads a byte from an I/O port.
pub fn inb(port: u16) -> Result<u8, Caught> {
    let value: u32;
    // SAFETY: without I/O privilege the instruction traps; with it, the ports that the self-test reads have no effect.
    let caught =
        unsafe { catch!(["xor eax, eax", "in al, dx", "mov {value:e}, eax"] value = out(reg) value, in("dx") port,) };
    caught.map_or(Ok((value & 0xff) as u8), Err)
}

/// Writes a byte to an I/O port.
///
/// # Safety
/// If the domain has the I/O privilege, the device's reaction must be wanted.
pub unsafe fn outb(port: u16, value: u8) -> Result<(), Caught> {
    // SAFETY: the instruction traps, or the device's reaction is wanted, as the caller promises.
    let caught =
        unsafe { catch!(["mov eax, {value:e}", "out dx, al"] value = in(reg) u32::from(value), in("dx") port,) };
    caught.map_or(Ok(()), Err)
}

/// Executes one instruction without operands and says what it trapped with.
macro_rules! instruction {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name() -> Option<Caught> {
            // SAFETY: each of these traps, or has an effect only on flags that the hypervisor keeps virtual.
            unsafe { catch!([$text]) }
        }
    )*};
}

instruction! {
    /// `ud2`.
    ud2 = "ud2";
    /// `int3`.
    int3 = "int3";
    /// `cli`.
    cli = "cli";
    /// `sti`.
    sti = "sti";
    /// `hlt`.
    hlt = "hlt";
    /// `clts`.
    clts = "clts";
    /// A division by zero.
    divide_by_zero = "xor eax, eax; div al";
    /// `int 0x20`.
    int20 = "int 0x20";
    /// `int 0x80`.
    int80 = "int 0x80";
    /// `int 13`: #GP's own vector.
    int13 = "int 13";
    /// An x87 instruction, which traps while CR0.TS is set.
    fnop = "fnop";
}

/// Reads a control register by number.
macro_rules! control_register {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name() -> Result<u64, Caught> {
            let value;
            // SAFETY: a read has no effect.
            let caught = unsafe { catch!([$text] value = out(reg) value,) };
            caught.map_or(Ok(value), Err)
        }
    )*};
}

control_register! {
    /// Reads CR0.
    cr0 = "mov {value}, cr0";
    /// Reads CR2.
    cr2 = "mov {value}, cr2";
    /// Reads CR3.
    cr3 = "mov {value}, cr3";
    /// Reads CR4.
    cr4 = "mov {value}, cr4";
    /// Reads CR8, which no guest may.
    cr8 = "mov {value}, cr8";
}

/// The whole frame of the trap that the last probe met.
pub fn last_frame() -> Option<trap::TrapFrame> {
    trap::last_frame()
}

/// Turns AVX on for this vCPU, if the machine has it.
pub fn enable_avx() -> bool {
    const OSXSAVE: u64 = 1 << 18;
    let features = cpuid(1, 0).ecx;
    if features & (1 << 26) == 0 || features & (1 << 28) == 0 {
        return false;
    }
    let cr4 = cr4().unwrap_or(0) | OSXSAVE;
    // SAFETY: the bit allows xsetbv, which then enables registers that kernel code doesn't use.
    let caught =
        unsafe { catch!(["mov cr4, {cr4}", "mov eax, 7", "xsetbv"] cr4 = in(reg) cr4, in("ecx") 0, in("edx") 0,) };
    caught.is_none()
}
