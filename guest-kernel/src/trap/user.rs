//! User mode as a function call: [`run`] enters it, and is back with the trap or system call that ended it.
//!
//! The entry stack has room for nothing but the frame of a trap. The hypervisor enters the kernel there and the stubs
//! save the registers there; then the kernel goes on where [`run`] left it, on the stack it had. Event upcalls stay
//! masked meanwhile, so nothing else comes in on the entry stack.

use super::frame::{SYSTEM_CALL, TrapFrame};
use crate::hypercall::{register_callback, stack_switch};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::AtomicU64;
use pv_abi::errno::Errno;
use pv_abi::trap::{CALLBACKTYPE_SYSCALL, CallbackFlags, FLAT_KERNEL_SS};

const STACK_SIZE: usize = 512;

/// The stack on which the kernel is entered from user mode.
#[repr(C, align(512))]
struct EntryStack(UnsafeCell<[u8; STACK_SIZE]>);

// SAFETY: one vCPU runs this kernel, and user mode and kernel use the stack in turns.
unsafe impl Sync for EntryStack {}

static ENTRY_STACK: EntryStack = EntryStack(UnsafeCell::new([0; STACK_SIZE]));

/// The kernel's stack pointer in [`run`], while user mode runs; 0 otherwise.
pub(super) static KERNEL_STACK: AtomicU64 = AtomicU64::new(0);

const _: () = assert!(size_of::<TrapFrame>() + 16 <= STACK_SIZE);

global_asm!(
    ".pushsection .text.user, \"ax\", @progbits",
    // fn(frame): loads the registers in the frame, which lies on the entry stack.
    ".globl user_enter",
    "user_enter:",
    "    push rbp",
    "    push rbx",
    "    push r12",
    "    push r13",
    "    push r14",
    "    push r15",
    "    mov [rip + {kernel_stack}], rsp",
    "    mov rsp, rdi",
    "    jmp trap_return",
    // The stubs come here with all registers saved, and the kernel's stack pointer in rax.
    ".globl user_left",
    "user_left:",
    "    mov rsp, rax",
    "    mov qword ptr [rip + {kernel_stack}], 0",
    "    pop r15",
    "    pop r14",
    "    pop r13",
    "    pop r12",
    "    pop rbx",
    "    pop rbp",
    "    ret",
    // The callback for `syscall`: the frame is that of a trap without error code.
    ".globl user_system_call",
    "user_system_call:",
    "    pop rcx",
    "    pop r11",
    "    push 0",
    "    push {system_call}",
    "    jmp trap_common",
    ".popsection",
    system_call = const SYSTEM_CALL,
    kernel_stack = sym KERNEL_STACK,
);

unsafe extern "sysv64" {
    fn user_enter(frame: *mut TrapFrame);
    fn user_system_call();
}

/// Names the entries of user mode to the hypervisor.
///
/// # Errors
/// When it has no such calls.
pub fn init() -> Result<(), Errno> {
    // SAFETY: the stack is static, large enough for a frame, and used for nothing else; the callback is made for it.
    unsafe {
        stack_switch(FLAT_KERNEL_SS, top())?;
        register_callback(CALLBACKTYPE_SYSCALL, CallbackFlags::MASK_EVENTS, user_system_call as *const () as u64)?;
    }
    Ok(())
}

/// Runs user mode in the active address space, from `registers` up to the next trap or system call, whose frame they are
/// then. The code selector counts for nothing: it is user mode whatever it says.
pub fn run(registers: &mut TrapFrame) {
    // With a code selector of the kernel's this would be a jump within the kernel, to anywhere.
    registers.cs |= 3;
    let frame = (top() - size_of::<TrapFrame>() as u64) as *mut TrapFrame;
    // SAFETY: the frame lies on the entry stack, aligned, where every entry from user mode leaves one; nothing else is
    // there. User mode can reach none of the kernel's memory, and the stubs restore what the ABI of functions asks for.
    unsafe {
        frame.write(*registers);
        user_enter(frame);
        *registers = frame.read();
    }
}

fn top() -> u64 {
    ENTRY_STACK.0.get() as u64 + STACK_SIZE as u64
}
