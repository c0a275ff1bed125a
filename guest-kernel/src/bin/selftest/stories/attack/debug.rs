//! Debug exceptions at the border: breakpoints that would fire in the hypervisor, and steps across its entries.

use crate::check::{HYPERVISOR, M2P, NON_CANONICAL, Told, call, equal, holds};
use crate::stories::mmu::ground::*;
use crate::stories::mmu::user::{CODE, DATA, SYSCALL, UserSpace, program};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel::hypercall::{self, get_debugreg, set_debugreg};
use guest_kernel::trap::{self, TrapFrame};
use guest_kernel::{catch, probe};
use pv_abi::hypercall::{SET_DEBUGREG, XEN_VERSION};
use pv_abi::version::XENVER_PAGESIZE;

const TRAP: u64 = 1 << 8;

static STEPS: AtomicU64 = AtomicU64::new(0);

/// Counts a #DB and switches stepping off.
fn count(frame: &mut TrapFrame) {
    STEPS.fetch_add(1, Ordering::Relaxed);
    frame.rflags = frame.rflags & !TRAP | 1 << 16;
}

/// Breakpoints on the hypervisor's memory (XSA-444): by hypercall, by `mov`, in every register, and by a length that
/// reaches into it; and the registers that would trap the hypervisor's own accesses.
pub fn on_the_hypervisor() -> Told {
    let places = [HYPERVISOR, M2P, 0xffff_8080_0000_0000, 0xffff_82d0_8020_0000, 0xffff_87ff_ffff_fff8, NON_CANONICAL];
    for place in places {
        for register in 0..4 {
            holds("by hypercall", set_debugreg(register, place).is_err())?;
            equal("nothing set", get_debugreg(register), Ok(0))?;
        }
        // SAFETY: the instructions trap, or have no effect on the kernel.
        let by_mov = unsafe {
            [
                catch!(["mov dr0, {place}"] place = in(reg) place,),
                catch!(["mov dr1, {place}"] place = in(reg) place,),
                catch!(["mov dr2, {place}"] place = in(reg) place,),
                catch!(["mov dr3, {place}"] place = in(reg) place,),
            ]
        };
        by_mov.into_iter().try_for_each(|caught| equal("by mov", caught.map(|caught| caught.vector), Some(13)))?;
    }
    // The last bytes below, with a length of 8.
    equal("below", set_debugreg(0, 0x7fff_ffff_fff8), Ok(0))?;
    for bits in [1 << 13, 1 << 32, u64::MAX, 0b11 | 0b10 << 16] {
        holds("DR7", set_debugreg(7, bits).is_err())?;
        // SAFETY: as above.
        let by_mov = unsafe { catch!(["mov dr7, {bits}"] bits = in(reg) bits,) };
        equal("DR7 by mov", by_mov.map(|caught| caught.vector), Some(13))?;
    }
    for number in [u64::from(u32::MAX), 8, 1 << 31] {
        holds("no such register", call(SET_DEBUGREG, [number, 0]).is_err())?;
    }
    equal("off", set_debugreg(7, 0), Ok(0))?;
    equal("a call", call(XEN_VERSION, [u64::from(XENVER_PAGESIZE)]), Ok(4096))
}

/// `mov ss` from a watched word holds the #DB back until after the next instruction, which here enters the hypervisor
/// (XSA-260).
pub fn held_back_by_mov_ss() -> Told {
    trap::set_handler(1, Some(count));
    let word = Page::new();
    // SAFETY: reads a selector.
    unsafe { core::arch::asm!("mov [{at}], ss", at = in(reg) word.address) };
    equal("watch", set_debugreg(0, word.address), Ok(0))?;
    // Reads and writes of two bytes, for all tasks.
    equal("on", set_debugreg(7, 1 << 1 | 0b0111 << 16), Ok(0))?;
    for _ in 0..4 {
        let result: u64;
        // SAFETY: loads the selector that SS has; the handler changes flags only.
        unsafe {
            core::arch::asm!("mov ss, [{at}]", "syscall", at = in(reg) word.address,
                inout("rax") u64::from(XEN_VERSION) => result, inout("rdi") u64::from(XENVER_PAGESIZE) => _,
                inout("rsi") 0u64 => _, out("rdx") _, out("r10") _, out("r8") _, out("rcx") _, out("r11") _);
        }
        equal("the call", result, 4096)?;
        for vector in [3, 0x80, 6, 13] {
            // SAFETY: as above.
            let caught = unsafe {
                match vector {
                    3 => held_back(word.address, 0),
                    0x80 => held_back(word.address, 1),
                    6 => held_back(word.address, 2),
                    _ => held_back(word.address, 3),
                }
            };
            holds("the trap behind it", caught == vector || caught == 1)?;
        }
    }
    equal("off", set_debugreg(7, 0), Ok(0))?;
    trap::set_handler(1, None);
    equal("a call", call(XEN_VERSION, [u64::from(XENVER_PAGESIZE)]), Ok(4096))
}

/// `mov ss` from `at` and then one of four instructions that trap; the vector of what is caught first.
///
/// # Safety
/// At `at` is the selector that SS has.
unsafe fn held_back(at: u64, which: u8) -> u8 {
    // SAFETY: the caller's promise; all of them trap.
    let caught = unsafe {
        match which {
            0 => catch!(["mov ss, [{at}]", "int3"] at = in(reg) at,),
            1 => catch!(["mov ss, [{at}]", "int 0x80"] at = in(reg) at,),
            2 => catch!(["mov ss, [{at}]", "ud2"] at = in(reg) at,),
            _ => catch!(["mov ss, [{at}]", "hlt"] at = in(reg) at,),
        }
    };
    caught.map_or(0, |caught| caught.vector)
}

/// Single steps into a hypercall, from the kernel.
pub fn step_into_a_call() -> Told {
    trap::set_handler(1, Some(count));
    for _ in 0..4 {
        STEPS.store(0, Ordering::Relaxed);
        let result: u64;
        // SAFETY: the handler switches stepping off.
        unsafe {
            core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "syscall", "nop", "nop",
                inout("rax") u64::from(XEN_VERSION) => result, inout("rdi") u64::from(XENVER_PAGESIZE) => _,
                inout("rsi") 0u64 => _, out("rdx") _, out("r10") _, out("r8") _, out("rcx") _, out("r11") _);
        }
        equal("the call", result, 4096)?;
        holds("steps", STEPS.load(Ordering::Relaxed) <= 1)?;
        for caught in [step_and(0), step_and(1), step_and(2)] {
            holds("a step and a trap", matches!(caught, 1 | 3 | 0x80 | 13))?;
        }
    }
    // SAFETY: clears the flag, should it be left.
    unsafe { core::arch::asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
    trap::set_handler(1, None);
    let _ = hypercall::yield_now();
    equal("a trap", probe::ud2().map(|caught| caught.vector), Some(6))
}

/// Steps onto an instruction that traps; the vector of what is caught first.
fn step_and(which: u8) -> u8 {
    // SAFETY: all of them trap.
    let caught = unsafe {
        match which {
            0 => catch!(["pushfq", "or qword ptr [rsp], 0x100", "popfq", "int3"]),
            1 => catch!(["pushfq", "or qword ptr [rsp], 0x100", "popfq", "int 0x80"]),
            _ => catch!(["pushfq", "or qword ptr [rsp], 0x100", "popfq", "cli"]),
        }
    };
    // The trap's return brings the flag back.
    // SAFETY: clears it.
    unsafe { core::arch::asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
    caught.map_or(0, |caught| caught.vector)
}

/// The same from user mode, into `syscall`, `sysenter` and `int`, with watched stacks, and with NT set (XSA-44).
pub fn from_user_mode() -> Told {
    let space = UserSpace::new(program![
        "mov ss, [rdi]",
        "syscall",
        "mov ss, [rdi]",
        "int 0x80",
        "mov ss, [rdi]",
        "sysenter",
        "mov ss, [rdi]",
        "ud2"
    ])?;
    space.data.write(0, u64::from(pv_abi::trap::FLAT_USER_SS));
    equal("watch", set_debugreg(0, DATA), Ok(0))?;
    equal("on", set_debugreg(7, 1 << 1 | 0b0111 << 16), Ok(0))?;
    for rip in [CODE, CODE + 4, CODE + 8, CODE + 12] {
        for rflags in [2, 2 | TRAP, 2 | 1 << 14, 2 | TRAP | 1 << 14] {
            let frame = space.run(TrapFrame { rip, rflags, rdi: DATA, ..space.start() });
            let known = matches!(frame.vector(), 1 | 6 | 13 | 0x80 | SYSCALL);
            holds(&alloc::format!("{:?} at {rip:#x}", frame.caught()), known)?;
            equal("cs", frame.cs & 3, 3)?;
        }
    }
    equal("off", set_debugreg(7, 0), Ok(0))?;
    // Stepping alone.
    for rip in [CODE + 2, CODE + 6, CODE + 10, CODE + 14] {
        let frame = space.run(TrapFrame { rip, rflags: 2 | TRAP, rdi: DATA, ..space.start() });
        holds(
            &alloc::format!("{:?} at {rip:#x}", frame.caught()),
            matches!(frame.vector(), 1 | 6 | 13 | 0x80 | SYSCALL),
        )?;
    }
    equal("a good one", space.run(TrapFrame { rip: CODE + 2, ..space.start() }).vector(), SYSCALL)
}
