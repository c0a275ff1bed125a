//! User mode.

use crate::meter::{Effort, Measured};
use crate::scratch::Pages;
use core::arch::global_asm;
use guest_kernel::hypercall::{self, Owner, mmuext};
use guest_kernel::paging::{self, PAGE_SIZE};
use guest_kernel::start::{VIRT_BASE, start_info};
use pv_abi::hypercall::IRET;
use pv_abi::trap::{CALLBACKTYPE_SYSCALL, CallbackFlags, FLAT_KERNEL_SS, FLAT_USER_CS, FLAT_USER_SS};

/// The user's root table.
static ROOT: Pages<1> = Pages::new();
/// The stack on which the kernel is entered.
static STACK: Pages<1> = Pages::new();

global_asm!(
    ".pushsection .text.bench_user, \"ax\", @progbits",
    ".globl bench_visit_user, bench_user_entry",
    // Leaves for user mode by `iret`. Both ways keep all registers but rcx and r11.
    "bench_visit_user:",
    "    mov [rip + bench_kernel_stack], rsp",
    "    lea rcx, [rip + bench_user]",
    "    push {ss}",
    "    push rsp",
    // RFLAGS with IF clear: upcalls stay masked.
    "    push 2",
    "    push {cs}",
    "    push rcx",
    "    push 0",
    "    push rcx",
    "    push r11",
    "    push rax",
    "    mov eax, {iret}",
    "    syscall",
    // All that the user does.
    "bench_user:",
    "    syscall",
    // Drops the frame and returns to the caller of `bench_visit_user`.
    "bench_user_entry:",
    "    mov rsp, [rip + bench_kernel_stack]",
    "    ret",
    ".popsection",
    ".pushsection .bss.bench_user, \"aw\", @nobits",
    ".balign 8",
    "bench_kernel_stack: .skip 8",
    ".popsection",
    ss = const FLAT_USER_SS,
    cs = const FLAT_USER_CS,
    iret = const IRET,
);

unsafe extern "C" {
    static bench_user_entry: u8;
    fn bench_visit_user();
}

/// To user mode by `iret`, and back by a system call.
pub fn syscall(effort: Effort) -> Measured {
    let root = ROOT.page(0);
    let image = paging::index(VIRT_BASE, 4);
    // The user sees the kernel's image: its one instruction lies there, and keeping secrets isn't what is measured.
    // SAFETY: the page is the new table, which nothing uses yet, and the builder maps its root table.
    unsafe {
        let shared = (start_info().pt_base as *const u64).add(image).read_volatile();
        (root.address as *mut u64).add(image).write_volatile(shared);
    }
    root.protect()?;
    let operations = [mmuext::pin(4, root.frame), mmuext::new_user_base(root.frame)];
    // SAFETY: the kernel's own mappings stay.
    unsafe { hypercall::mmuext_op(&operations, None, Owner::SELF) }?;
    let stack = STACK.page(0).address + PAGE_SIZE;
    let address = (&raw const bench_user_entry) as u64;
    // SAFETY: the stack is used by the entry alone.
    unsafe { hypercall::stack_switch(FLAT_KERNEL_SS, stack) }?;
    // SAFETY: the entry follows the protocol: it drops the frame.
    unsafe { hypercall::register_callback(CALLBACKTYPE_SYSCALL, CallbackFlags::MASK_EVENTS, address) }?;
    effort.count(1, || {
        // SAFETY: the user comes back by its system call.
        unsafe { bench_visit_user() };
        0
    })
}
