//! Ways to die. The hypervisor kills the domain and says why; a verdict line means that it didn't.

use crate::check::{HYPERVISOR, NON_CANONICAL, Told, UNMAPPED, call, equal, fail};
use core::arch::asm;
use guest_kernel::start::VIRT_BASE;
use guest_kernel::trap::{self, TrapFrame};
use guest_kernel::{println, probe};
use pv_abi::hypercall::{IRET, SET_TRAP_TABLE};
use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};

const SURVIVED: &str = "survived";

fn forget_handlers() -> Told {
    equal("null table", call(SET_TRAP_TABLE, [0]), Ok(0))
}

/// A #UD with an empty trap table.
pub fn no_handler() -> Told {
    forget_handlers()?;
    probe::ud2();
    fail(SURVIVED)
}

/// A page fault with an empty trap table.
pub fn page_fault_no_handler() -> Told {
    forget_handlers()?;
    let _ = probe::read(UNMAPPED);
    fail(SURVIVED)
}

/// A jump to where nothing is mapped, with an empty trap table.
pub fn jump_to_nothing() -> Told {
    forget_handlers()?;
    // SAFETY: nothing is mapped there.
    unsafe { probe::jump(UNMAPPED) };
    fail(SURVIVED)
}

/// An `iret` whose frame is on no page.
pub fn iret_frame_unmapped() -> Told {
    iret_with_stack(UNMAPPED)
}

/// An `iret` whose frame is in the hypervisor.
pub fn iret_frame_in_hypervisor() -> Told {
    iret_with_stack(HYPERVISOR)
}

fn iret_with_stack(stack: u64) -> Told {
    // SAFETY: the domain ends here; if it doesn't, the stack pointer is put back.
    unsafe {
        asm!("mov {saved}, rsp", "mov rsp, {stack}", "syscall", "mov rsp, {saved}", saved = out(reg) _,
            stack = in(reg) stack, inout("rax") u64::from(IRET) => _, out("rcx") _, out("r11") _);
    }
    fail(SURVIVED)
}

/// An `iret` to user mode in a domain that has named no page tables for it.
pub fn iret_to_user_without_tables() -> Told {
    // SAFETY: the domain ends here.
    unsafe {
        asm!("push {ss}", "push rsp", "push 2", "push {cs}", "lea rax, [rip + 3f]", "push rax", "push 0", "push 0",
            "push 0", "push 0", "mov eax, {iret}", "syscall", "3: ud2",
            ss = const FLAT_KERNEL_SS as i64, cs = const FLAT_KERNEL_CS as i64, iret = const IRET, options(noreturn));
    }
}

/// A trap while the stack pointer is on no page.
pub fn stack_unmapped() -> Told {
    trap_with_stack(UNMAPPED + 0x800)
}

/// A trap while the stack pointer is in the hypervisor.
pub fn stack_in_hypervisor() -> Told {
    trap_with_stack(HYPERVISOR)
}

/// A trap while the stack pointer isn't an address at all.
pub fn stack_not_canonical() -> Told {
    trap_with_stack(NON_CANONICAL << 8)
}

fn trap_with_stack(stack: u64) -> Told {
    // SAFETY: the domain ends here; if it doesn't, the stack pointer is put back.
    unsafe {
        asm!("mov {saved}, rsp", "mov rsp, {stack}", "ud2", "mov rsp, {saved}", saved = out(reg) _,
            stack = in(reg) stack);
    }
    fail(SURVIVED)
}

/// A handler that traps, again and again, until its stack runs off the first page of the domain.
pub fn handler_faults() -> Told {
    fn fault_again(_frame: &mut TrapFrame) {
        probe_again();
    }
    fn probe_again() {
        // SAFETY: traps.
        unsafe { asm!("ud2") };
    }
    trap::set_handler(6, Some(fault_again));
    // The pages below the image belong to the domain and hold nothing.
    trap_with_stack(VIRT_BASE + 0x2000)
}

/// A panic of the guest kernel's own: it prints a backtrace and says that it crashed.
pub fn panic() -> Told {
    println!("about to panic");
    panic!("as the story asks");
}
