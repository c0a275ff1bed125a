//! Debug registers, by `set_debugreg` and `get_debugreg` and by `mov`.

use crate::check::{HYPERVISOR, M2P, NON_CANONICAL, Told, equal, holds, refused};
use core::arch::asm;
use guest_kernel::hypercall::{get_debugreg, set_debugreg};
use guest_kernel::trap::{self, TrapFrame};
use guest_kernel::{catch, probe};
use pv_abi::errno::Errno;

/// DR7: breakpoint 0 on for all tasks, at execution.
const EXECUTE: u64 = 1 << 1;
/// DR7: breakpoint 0 on, at writes of 8 bytes.
const WRITE: u64 = 1 << 1 | 0b1001 << 16;
const GENERAL_DETECT: u64 = 1 << 13;

static WATCHED: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// The registers hold what a guest may have in them.
pub fn registers() -> Told {
    let address = (&raw const WATCHED) as u64;
    for register in 0..4 {
        equal("at start", get_debugreg(register), Ok(0))?;
        equal("set", set_debugreg(register, address + u64::from(register)), Ok(0))?;
        equal("get", get_debugreg(register), Ok(address + u64::from(register)))?;
        equal("clear", set_debugreg(register, 0), Ok(0))?;
    }
    equal("DR6", set_debugreg(6, 0), Ok(0))?;
    equal("its fixed bits", get_debugreg(6), Ok(0xffff_0ff0))?;
    equal("DR7", set_debugreg(7, 0), Ok(0))?;
    equal("its fixed bits", get_debugreg(7).map(|value| value & 0xff00), Ok(1 << 10))?;
    // SAFETY: reads a register.
    let dr7: Option<trap::Caught> = unsafe { catch!(["mov {value}, dr7"] value = out(reg) _,) };
    equal("mov from DR7", dr7, None)
}

/// Addresses of the hypervisor's, or none at all (XSA-444), and bits that would trap the hypervisor itself.
pub fn refusals() -> Told {
    for register in 0..4 {
        for address in [HYPERVISOR, M2P, 0xffff_8080_0000_0000, 0xffff_87ff_ffff_ffff, NON_CANONICAL, 1 << 63] {
            refused("address", set_debugreg(register, address), Errno::EPERM)?;
        }
        equal("nothing set", get_debugreg(register), Ok(0))?;
    }
    refused("general detect", set_debugreg(7, GENERAL_DETECT), Errno::EPERM)?;
    for register in [6, 7] {
        refused("high bits", set_debugreg(register, 1 << 32), Errno::EINVAL)?;
    }
    // A breakpoint on a port, without CR4.DE.
    refused("on a port", set_debugreg(7, 1 << 1 | 0b10 << 16), Errno::EPERM)?;
    for register in [8, 9, 15, 100, u32::MAX] {
        refused("no such register", set_debugreg(register, 0), Errno::ENODEV)?;
        holds("no such register", get_debugreg(register).is_err())?;
    }
    Ok(())
}

/// Breakpoints at an instruction and at a store fire, once each, and say so in DR6.
pub fn breakpoints() -> Told {
    fn count(frame: &mut TrapFrame) {
        frame.rbx += 1;
        frame.r9 = frame.rip;
        // Go on behind the instruction instead of stopping again.
        frame.rflags |= 1 << 16;
    }
    trap::set_handler(1, Some(count));
    let (here, rip, fired): (u64, u64, u64);
    // SAFETY: the handler changes rbx and r9 only; rbx is put back. Argument registers are declared.
    unsafe {
        asm!(
            "xchg {saved}, rbx",
            "xor ebx, ebx",
            "mov eax, 8", "xor edi, edi", "lea rsi, [rip + 3f]", "mov {here}, rsi", "syscall",
            "mov eax, 8", "mov edi, 7", "mov esi, {execute}", "syscall",
            "3: nop",
            "xchg {saved}, rbx",
            saved = inout(reg) 0u64 => fired,
            here = out(reg) here,
            execute = const EXECUTE,
            out("r9") rip,
            out("rax") _, out("rcx") _, out("r11") _, out("rdi") _, out("rsi") _, out("rdx") _, out("r8") _, out("r10") _,
        );
    }
    equal("times at the instruction", fired, 1)?;
    equal("rip", rip, here)?;
    equal("DR6", get_debugreg(6).map(|value| value & 0xf), Ok(1))?;
    equal("off", set_debugreg(7, 0), Ok(0))?;

    equal("address", set_debugreg(0, (&raw const WATCHED) as u64), Ok(0))?;
    equal("DR6", set_debugreg(6, 0), Ok(0))?;
    equal("on", set_debugreg(7, WRITE), Ok(0))?;
    let fired: u64;
    // SAFETY: as above; the store is to a static.
    unsafe {
        asm!("xchg {saved}, rbx", "xor ebx, ebx", "mov [{at}], rbx", "nop", "xchg {saved}, rbx",
            saved = inout(reg) 0u64 => fired, at = in(reg) (&raw const WATCHED) as u64, out("r9") _);
    }
    equal("off", set_debugreg(7, 0), Ok(0))?;
    trap::set_handler(1, None);
    equal("times at the store", fired, 1)?;
    equal("DR6", get_debugreg(6).map(|value| value & 0xf), Ok(1))?;
    equal("and then no more", probe::read((&raw const WATCHED) as u64), Ok(0))
}
