//! Debug registers (SDM volume 3, 17.2): which values a guest may have in them.
//!
//! Used by MOV to and from a debug register and by the hypercalls `set_debugreg` and `get_debugreg`.
//!
//! A breakpoint of a guest must not fire in the hypervisor: addresses are the guest's only (XSA-444), DR7.GD is never
//! set, and breakpoints on ports, which only the hypervisor's own I/O could reach, are kept but never loaded.

use super::control::CR4_DE;
use crate::addr::GuestVa;
use crate::domain::vcpu::Control;

const DR6_BS: u64 = 1 << 14;
/// DR6: bits that always read as 1, and the one below bit 16 that always reads as 0.
const DR6_ONES: u64 = 0xffff_0ff0;
const DR6_ZERO: u64 = 1 << 12;

const DR7_ONES: u64 = 1 << 10;
/// Bits 11 (RTM, hidden by CPUID), 12, 14 and 15.
const DR7_ZEROS: u64 = 0xd800;
const DR7_GD: u64 = 1 << 13;
/// R/W field of a breakpoint: on port accesses.
const ON_PORT: u64 = 0b10;

/// Why a debug register can't be accessed or can't have a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DebugRefusal {
    /// There is no such register; 4 and 5 exist only while CR4.DE is clear.
    NoSuchRegister,
    /// A breakpoint's address is not canonical or belongs to the hypervisor.
    NotAGuestAddress,
    /// DR6 or DR7 has bits above the lower half.
    HighBits,
    /// DR7.GD would trap the hypervisor's own accesses.
    GeneralDetect,
    /// A breakpoint on a port without CR4.DE.
    PortBreakpoint,
}

/// Reads a debug register.
///
/// # Errors
/// [`DebugRefusal::NoSuchRegister`].
pub fn read(control: &Control, number: u8) -> Result<u64, DebugRefusal> {
    let number = resolve(control, number)?;
    control.debug.get(usize::from(number)).copied().ok_or(DebugRefusal::NoSuchRegister)
}

/// Writes a debug register; reserved bits get their fixed values. Does not load the CPU's: see
/// [`hardware_registers`].
///
/// # Errors
/// [`DebugRefusal`]; nothing has changed then.
pub fn write(control: &mut Control, number: u8, value: u64) -> Result<(), DebugRefusal> {
    let number = resolve(control, number)?;
    let value = match number {
        6 => dr6(value)?,
        7 => dr7(value, control.cr4 & CR4_DE != 0)?,
        _ => GuestVa::new(value).ok_or(DebugRefusal::NotAGuestAddress)?.get(),
    };
    let slot = control.debug.get_mut(usize::from(number)).ok_or(DebugRefusal::NoSuchRegister)?;
    *slot = value;
    Ok(())
}

/// What the CPU's registers are to hold while the vCPU runs: at each number that register, 0 at 4 and 5.
pub fn hardware_registers(control: &Control) -> [u64; 8] {
    let [dr0, dr1, dr2, dr3, _, _, dr6, _] = control.debug;
    [dr0, dr1, dr2, dr3, 0, 0, dr6, hardware_dr7(control)]
}

/// DR7 without breakpoints on ports.
fn hardware_dr7(control: &Control) -> u64 {
    let [.., dr7] = control.debug;
    (0..4).filter(|&index| kind(dr7, index) == ON_PORT).fold(dr7, |dr7, index| dr7 & !enable_bits(index))
}

/// Notes in DR6 that the debug exception about to be raised is a single step.
pub(super) fn note_single_step(control: &mut Control) {
    let [.., dr6, _] = &mut control.debug;
    *dr6 |= DR6_BS;
}

/// 4 and 5 are old names of 6 and 7.
fn resolve(control: &Control, number: u8) -> Result<u8, DebugRefusal> {
    match number {
        0..=3 | 6 | 7 => Ok(number),
        4 | 5 if control.cr4 & CR4_DE == 0 => Ok(number + 2),
        _ => Err(DebugRefusal::NoSuchRegister),
    }
}

fn dr6(value: u64) -> Result<u64, DebugRefusal> {
    if value >> 32 != 0 { Err(DebugRefusal::HighBits) } else { Ok(value & !DR6_ZERO | DR6_ONES) }
}

fn dr7(value: u64, port_breakpoints: bool) -> Result<u64, DebugRefusal> {
    if value >> 32 != 0 {
        return Err(DebugRefusal::HighBits);
    }
    if value & DR7_GD != 0 {
        return Err(DebugRefusal::GeneralDetect);
    }
    let is_bad = |index| value & enable_bits(index) != 0 && kind(value, index) == ON_PORT && !port_breakpoints;
    if (0..4).any(is_bad) {
        return Err(DebugRefusal::PortBreakpoint);
    }
    Ok(value & !DR7_ZEROS | DR7_ONES)
}

/// The R/W field of breakpoint `index`.
fn kind(dr7: u64, index: u32) -> u64 {
    dr7 >> (16 + 4 * index) & 0b11
}

/// The local and the global enable bit of breakpoint `index`.
fn enable_bits(index: u32) -> u64 {
    0b11 << (2 * index)
}
