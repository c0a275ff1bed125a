//! The frame in which a trap arrives, word by word.

use crate::check::{Told, equal, holds};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel::trap::{self, TrapFrame};
use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};

/// Bits of RFLAGS.
const CARRY: u64 = 1;
const INTERRUPT: u64 = 1 << 9;
const IOPL: u64 = 3 << 12;

/// Traps with known values in all registers and `$offset` subtracted from rsp; the frame is then `last_frame`.
macro_rules! trap_with_known_registers {
    ($offset:literal, $instruction:literal) => {{
        let mut stack_and_rip = [0u64; 2];
        // SAFETY: every register is declared or put back, and the trap goes on at label 3.
        unsafe {
            asm!(
                "push rbx",
                "push rbp",
                "lea rax, [rip + 3f]",
                "mov [rip + {slot}], rax",
                "lea rax, [rip + 2f]",
                "mov [rdi + 8], rax",
                concat!("sub rsp, ", $offset),
                "mov [rdi], rsp",
                "mov eax, 0xa0a0",
                "mov ebx, 0xb0b0",
                "mov ecx, 0xc0c0",
                "mov edx, 0xd0d0",
                "mov esi, 0x5151",
                "mov ebp, 0xbbbb",
                "mov r8d, 0x0808",
                "mov r9d, 0x0909",
                "mov r10d, 0x1010",
                "mov r11d, 0x1111",
                "mov r12d, 0x1212",
                "mov r13d, 0x1313",
                "mov r14d, 0x1414",
                "mov r15d, 0x1515",
                "stc",
                concat!("2: ", $instruction),
                "3:",
                concat!("add rsp, ", $offset),
                "pop rbp",
                "pop rbx",
                slot = sym trap::RECOVERY,
                in("rdi") stack_and_rip.as_mut_ptr(),
                out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("r8") _, out("r9") _, out("r10") _,
                out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            );
        }
        (stack_and_rip[0], stack_and_rip[1])
    }};
}

/// Every word of a frame without and with an error code.
pub fn words() -> Told {
    let (rsp, rip) = trap_with_known_registers!("0", "ud2");
    check("ud2", 6, 0, rsp, rip)?;
    let (rsp, rip) = trap_with_known_registers!("0", "hlt");
    check("hlt", 13, 0, rsp, rip)?;
    let (rsp, rip) = trap_with_known_registers!("0", "mov es, ecx");
    check("bad selector", 13, 0xc0c0, rsp, rip)?;
    // Where the interrupted stack isn't aligned, the frame says what it was.
    let (rsp, rip) = trap_with_known_registers!("1", "ud2");
    check("ud2 at an odd stack", 6, 0, rsp, rip)?;
    let (rsp, rip) = trap_with_known_registers!("8", "hlt");
    check("hlt at a stack off by 8", 13, 0, rsp, rip)
}

fn check(what: &str, vector: u8, error_code: u64, rsp: u64, rip: u64) -> Told {
    let Some(frame) = trap::last_frame() else { return holds(what, false) };
    equal(what, (frame.vector(), frame.error_code), (vector, error_code))?;
    equal("rcx and r11", [frame.rcx, frame.r11], [0xc0c0, 0x1111])?;
    equal("rax, rbx, rdx, rsi", [frame.rax, frame.rbx, frame.rdx, frame.rsi], [0xa0a0, 0xb0b0, 0xd0d0, 0x5151])?;
    equal("rbp, r8, r9, r10", [frame.rbp, frame.r8, frame.r9, frame.r10], [0xbbbb, 0x0808, 0x0909, 0x1010])?;
    let high = [frame.r12, frame.r13, frame.r14, frame.r15];
    equal("r12 to r15", high, [0x1212, 0x1313, 0x1414, 0x1515])?;
    equal("rip", frame.rip, rip)?;
    equal("rsp", frame.rsp, rsp)?;
    equal("ss", frame.ss & 0xffff, u64::from(FLAT_KERNEL_SS))?;
    // Privilege bits 0 say "from the kernel"; the upcall mask, set since start, lies above.
    equal("cs and mask", frame.cs, u64::from(FLAT_KERNEL_CS & !3) | 1 << 32)?;
    equal("carry, IF, IOPL", frame.rflags & (CARRY | INTERRUPT | IOPL), CARRY)
}

static FRAME_ADDRESS: AtomicU64 = AtomicU64::new(0);
static FLAGS_IN_HANDLER: AtomicU64 = AtomicU64::new(0);

/// The frame lies right below the interrupted stack pointer, rounded down to 16, and the handler starts with a clean
/// set of flags.
pub fn placement() -> Told {
    fn note(frame: &mut TrapFrame) {
        FRAME_ADDRESS.store((&raw const *frame) as u64, Ordering::Relaxed);
        frame.rip += 2;
    }
    trap::set_handler(6, Some(note));
    for offset in 0..32u64 {
        let rsp: u64;
        // SAFETY: the stack pointer moves down and back; the handler skips the ud2.
        unsafe {
            asm!("mov {saved}, rsp", "sub rsp, {offset}", "mov {rsp}, rsp", "ud2", "mov rsp, {saved}",
                saved = out(reg) _, offset = in(reg) offset, rsp = out(reg) rsp);
        }
        let address = FRAME_ADDRESS.load(Ordering::Relaxed);
        equal("frame", address, (rsp & !15) - size_of::<TrapFrame>() as u64)?;
    }
    trap::set_handler(6, None);
    Ok(())
}

/// AC, NT and TF of the interrupted code are in the frame, but not in force in the handler.
pub fn flags() -> Told {
    const NESTED_TASK: u64 = 1 << 14;
    const ALIGNMENT: u64 = 1 << 18;
    fn note(frame: &mut TrapFrame) {
        let flags: u64;
        // SAFETY: reads the flags.
        unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
        FLAGS_IN_HANDLER.store(flags, Ordering::Relaxed);
        FRAME_ADDRESS.store(frame.rflags, Ordering::Relaxed);
        frame.rflags &= !(NESTED_TASK | ALIGNMENT);
        frame.rip += 2;
    }
    trap::set_handler(6, Some(note));
    // SAFETY: the handler takes the flags away again and skips the ud2.
    unsafe {
        asm!("pushfq", "or qword ptr [rsp], {}", "popfq", "ud2", const NESTED_TASK | ALIGNMENT);
    }
    trap::set_handler(6, None);
    let interrupted = FRAME_ADDRESS.load(Ordering::Relaxed);
    equal("flags in the frame", interrupted & (NESTED_TASK | ALIGNMENT), NESTED_TASK | ALIGNMENT)?;
    let handler = FLAGS_IN_HANDLER.load(Ordering::Relaxed);
    equal("flags in the handler", handler & (NESTED_TASK | ALIGNMENT), 0)
}
