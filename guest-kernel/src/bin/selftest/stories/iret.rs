//! Returning from a trap: the `iret` hypercall, and a plain `iretq`.

use crate::check::{Told, equal, trapped};
use core::arch::asm;
use guest_kernel::{probe, trap};
use pv_abi::hypercall::IRET;
use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use pv_abi::vcpu::VcpuContextFlags;

const CARRY: u64 = 1;
const INTERRUPT: u64 = 1 << 9;
const IOPL: u64 = 3 << 12;

/// What was in the registers after the return: rax, rcx, r11, rflags, and how far rsp moved.
type After = [u64; 5];

/// Builds a frame with these values and returns through it, by way of the instruction sequence `$how`.
macro_rules! return_through {
    ($how:literal, $flags:expr, $cs:expr, $rflags:expr) => {{
        let mut after: After = [0; 5];
        // SAFETY: the frame leads to label 3 with the stack as it was, so nothing is lost but declared registers.
        unsafe {
            asm!(
                "mov rsi, rsp",
                "push {ss}",
                "push rsi",
                "push {rflags}",
                "push {cs}",
                "lea rax, [rip + 3f]",
                "push rax",
                $how,
                "3:",
                "mov [rdi], rax",
                "mov [rdi + 8], rcx",
                "mov [rdi + 16], r11",
                "pushfq",
                "pop qword ptr [rdi + 24]",
                "mov rax, rsi",
                "sub rax, rsp",
                "mov [rdi + 32], rax",
                "cld",
                ss = const FLAT_KERNEL_SS as i64,
                cs = in(reg) $cs,
                rflags = in(reg) $rflags,
                in("rdx") $flags,
                in("rdi") after.as_mut_ptr(),
                out("rsi") _, out("rax") _, out("rcx") _, out("r11") _,
            );
        }
        after
    }};
}

/// Pushes flags, rcx, r11 and rax of an `iret` frame and makes the hypercall.
macro_rules! through_hypercall {
    ($flags:expr, $cs:expr, $rflags:expr) => {
        return_through!(
            "push rdx; push 0xcccc; push 0xbbbb; push 0xaaaa; mov eax, 23; syscall; ud2",
            $flags,
            $cs,
            $rflags
        )
    };
}

const _: () = assert!(IRET == 23);

/// All that the frame holds is restored, and what a guest may not set is ignored.
pub fn restores() -> Told {
    let kernel = u64::from(FLAT_KERNEL_CS & !3);
    let after = through_hypercall!(0u64, kernel, CARRY | 2);
    equal("rax, rcx, r11", &after[..3], &[0xaaaa, 0xcccc, 0xbbbb])?;
    equal("carry, IOPL", after[3] & (CARRY | IOPL), CARRY)?;
    equal("rsp", after[4], 0)?;

    let after = through_hypercall!(0u64, kernel, IOPL | 1 << 17 | 2);
    equal("carry, IOPL, VM", after[3] & (CARRY | IOPL | 1 << 17), 0)?;

    // A frame that says "from a system call" need not bring back rcx and r11.
    let after = through_hypercall!(VcpuContextFlags::IN_SYSCALL.bits(), kernel, CARRY | 2);
    equal("rax after IN_SYSCALL", after[0], 0xaaaa)?;
    equal("carry after IN_SYSCALL", after[3] & CARRY, CARRY)?;
    equal("rsp after IN_SYSCALL", after[4], 0)
}

/// IF in the frame is the upcall mask: set means unmasked. The next trap's frame shows it.
pub fn upcall_mask() -> Told {
    let kernel = u64::from(FLAT_KERNEL_CS & !3);
    // Nothing is bound to a port yet, so nothing can be delivered while unmasked.
    through_hypercall!(0u64, kernel, INTERRUPT | 2);
    trapped("ud2 unmasked", probe::ud2(), 6, 0)?;
    let open = trap::last_frame().map(|frame| (frame.upcall_mask(), frame.rflags & INTERRUPT));
    through_hypercall!(0u64, kernel, 2u64);
    trapped("ud2 masked", probe::ud2(), 6, 0)?;
    let closed = trap::last_frame().map(|frame| (frame.upcall_mask(), frame.rflags & INTERRUPT));
    equal("unmasked", open, Some((0, INTERRUPT)))?;
    equal("masked", closed, Some((1, 0)))
}

/// A plain `iretq` to the flat selectors, which needs no help.
pub fn native() -> Told {
    let after = return_through!("iretq", 0u64, u64::from(FLAT_KERNEL_CS), CARRY | 2);
    equal("carry", after[3] & CARRY, CARRY)?;
    equal("rsp", after[4], 0)
}
