//! Ways to die, for a look at how the hypervisor and its other domains take it.

use crate::command::Crash;
use core::arch::asm;
use guest_kernel::{hypercall, println, probe};
use pv_abi::hypercall::IRET;

/// An address where nothing is mapped.
const UNMAPPED: u64 = 0x1000;

/// Dies as asked. Coming back would be the hypervisor's mistake.
pub fn die(way: Crash) {
    println!("goodbye");
    // SAFETY: each of these ends the domain, as its user asked; no code runs after it.
    unsafe {
        match way {
            Crash::Null => asm!("mov rax, [{null}]", null = in(reg) 0u64, out("rax") _),
            Crash::Ud => asm!("ud2"),
            Crash::Stack => asm!("mov rsp, {stack}", "ud2", stack = in(reg) UNMAPPED, options(noreturn)),
            Crash::Iret => asm!("mov rsp, {stack}", "mov eax, {iret}", "syscall", "ud2", stack = in(reg) UNMAPPED,
                iret = const IRET, options(noreturn)),
            Crash::Triple => {
                let _ = hypercall::set_trap_table(core::ptr::null());
                probe::ud2();
            }
        }
    }
}
