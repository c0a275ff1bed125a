//! The block of memory that belongs to one CPU: its descriptor tables, its stacks with their guard pages, and the
//! [`CpuTop`] above the main stack.
//!
//! Blocks are aligned to their size, so code that runs on any of a CPU's stacks finds its [`CpuTop`] by rounding the
//! stack pointer. The guest's GS base therefore never has to leave the register: no `swapgs` on a hypercall.

use core::cell::{Cell, UnsafeCell};

use super::mm::layout::{BLOCKS, HEAP};
use crate::addr::{CpuId, PAGE_SIZE};
use crate::domain::vcpu::{GDT_PAGES, LDT_PAGES};
use crate::guest::GuestRegisters;
use crate::mm::shadow::Source;

/// Bytes in a CPU's block; also its alignment.
pub const BLOCK_SIZE: usize = BLOCK_PAGES * PAGE_SIZE;
/// Pages in a CPU's block.
pub const BLOCK_PAGES: usize = 64;

/// What backs one page of the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// Nothing: touching it is a fault. Every stack has one below it.
    Guard,
    /// One zeroed frame shared by all CPUs, read-only: the guest part of the GDT while no guest has set one.
    SharedZero,
    /// A zeroed frame of its own, read-write, no-execute.
    Data,
    /// A zeroed frame of its own, read-execute. Filled through the direct map before the CPU uses it.
    Code,
}

/// What backs page `page` of a block; guard pages separate all stacks.
pub const fn backing(page: usize) -> Backing {
    match page {
        0..GDT_PAGE => Backing::SharedZero, // until a guest sets its part of the GDT
        GDT_PAGE => Backing::Data,
        17 | 18 | 20 | 21 | 23 | 24 | 26 | 27 => Backing::Data, // the four interrupt-stack-table stacks
        SYSCALL_STUB_PAGE => Backing::Code,
        TSS_PAGE => Backing::Data,
        MAIN_STACK_PAGE..BLOCK_PAGES => Backing::Data,
        _ => Backing::Guard,
    }
}

/// The GDT starts at the block's base; its first 14 pages are the guest's, this one is ours (byte 0xe000).
pub const GDT_PAGE: usize = 14;
/// The two entry stubs of the `syscall` instruction.
pub const SYSCALL_STUB_PAGE: usize = 29;
/// The task-state segment.
pub const TSS_PAGE: usize = 31;
/// First of the 16 pages in which the running guest's LDT appears; nothing is mapped there while it has none.
pub const LDT_PAGE: usize = 32;
/// First page of the main stack, which ends with the block.
pub const MAIN_STACK_PAGE: usize = 49;
/// The page with [`CpuTop`].
pub const TOP_PAGE: usize = BLOCK_PAGES - 1;
/// Index of the page above each interrupt stack: #DF, NMI, #MC, #DB, in the order of their IST numbers 1..=4.
pub const IST_TOP_PAGES: [usize; 4] = [19, 22, 25, 28];

/// What lies at the top of the main stack, in a page of which nothing else is used: a guest on a CPU with Meltdown can read
/// it.
#[repr(C, align(16))]
pub struct CpuTop {
    /// Keeps the end of `regs` aligned to 16, which is where the CPU starts to push (TSS.RSP0).
    _align: u64,
    /// The registers of the guest that was interrupted last; what the next return to a guest loads.
    /// In a cell: whoever has them (`system`, by the entry stubs) may have [`this`] at the same time.
    pub regs: UnsafeCell<GuestRegisters>,
    /// This CPU.
    pub cpu: Cell<u32>,
    /// Bit per lock rank held, see [`crate::sync`].
    pub ranks_held: Cell<u32>,
    /// What `system` keeps for the CPU: what [`run_guests`](super::entry::run_guests) was given, and every entry from a
    /// guest hands on.
    pub system: Cell<*const ()>,
    /// On a CPU with a shadow root ([`super::isolation`]): its value for CR3; else 0, which CR3 never is.
    pub shadow: Cell<u64>,
    /// CR3 as it was when the CPU went to its shadow root, and is to be when it comes back.
    pub root: Cell<u64>,
    /// What the shadow is a copy of: [`Source::NONE`] at first.
    pub source: Cell<Source>,
    /// Something may be left on an interrupt stack.
    pub stacks_used: Cell<bool>,
    /// A selector of a writable segment, with which `verw` is fastest ([`super::barriers`]).
    pub data_segment: Cell<u16>,
}

/// From [`CpuTop::regs`] down to the main stack as compiled code uses it, which begins in the page below.
pub const STACK_GAP: usize = PAGE_SIZE - size_of::<CpuTop>() + core::mem::offset_of!(CpuTop, regs);
const _: () = assert!(size_of::<CpuTop>() < PAGE_SIZE && STACK_GAP % 16 == 8);

/// The end of the main stack as compiled code uses it, for the block at `block`.
pub const fn stack_top(block: u64) -> u64 {
    block + (BLOCK_SIZE - PAGE_SIZE) as u64
}

/// Pages that a CPU touches between a guest and the hypervisor, besides code: descriptor tables, entry stubs, the first
/// words of each stack.
pub const fn is_needed_for_entry(page: usize) -> bool {
    matches!(page, 0..=GDT_PAGE | SYSCALL_STUB_PAGE | TSS_PAGE | TOP_PAGE) || is_guests(page) || is_ist_top(page)
}

const fn is_ist_top(page: usize) -> bool {
    let [double_fault, nmi, machine_check, debug] = IST_TOP_PAGES;
    let above = page + 1;
    above == double_fault || above == nmi || above == machine_check || above == debug
}

/// Pages that show a guest's descriptors, so that what they show changes.
pub const fn is_guests(page: usize) -> bool {
    page < GDT_PAGE || LDT_PAGE <= page && page < LDT_PAGE + LDT_PAGES
}

const _: () = assert!(GDT_PAGE == GDT_PAGES && LDT_PAGE + LDT_PAGES < MAIN_STACK_PAGE);
const _: () = assert!(size_of::<CpuTop>().is_multiple_of(16));
const _: () = assert!((core::mem::offset_of!(CpuTop, regs) + size_of::<GuestRegisters>()).is_multiple_of(16));

/// Address of the [`CpuTop`] of the block at `block`.
pub const fn top_of(block: u64) -> u64 {
    block + (BLOCK_SIZE - size_of::<CpuTop>()) as u64
}

/// The running CPU's [`CpuTop`]. Valid as soon as the CPU runs on a stack of its block, and before that from
/// [`begin_with_top`] on.
#[inline(always)]
pub fn this() -> &'static CpuTop {
    let rsp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    let top = top_of(rsp & !(BLOCK_SIZE as u64 - 1)) as *const CpuTop;
    // SAFETY: (1) every hypervisor stack is part of a block aligned to its size, or made like one by `begin_with_top`, so
    // `top` is a `CpuTop`: mapped, aligned, zero-initialised, not unmapped while the stack is in use; (2) all fields that change behind a shared reference are
    // cells, and a `CpuTop` is only ever reached from its own CPU.
    unsafe { &*top }
}

/// Runs `then` on the stack that the caller is on, below a [`CpuTop`] of zeros, so that locks can be taken before there is a
/// block. What is on the stack is lost.
///
/// # Safety
/// The stack must end where a block of its size and alignment would end, and nothing may be on it that is needed later. An
/// interrupt must not come before there is an IDT.
pub unsafe fn begin_with_top<T>(argument: &'static mut T, then: extern "C" fn(&'static mut T) -> !) -> ! {
    let rsp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    // SAFETY: the memory above the new RSP is the stack's; who called us is never returned to, nor is this. `then` finds the
    // stack aligned as the ABI has it. The direction flag is clear in Rust code.
    unsafe {
        core::arch::asm!(
            "mov rsp, rdi",
            "rep stosq",
            "mov rdi, {argument}",
            "xor ebp, ebp",
            "call {then}",
            "ud2",
            argument = in(reg) argument,
            then = in(reg) then,
            in("rdi") top_of(rsp & !(BLOCK_SIZE as u64 - 1)),
            in("rcx") size_of::<CpuTop>() / 8,
            in("rax") 0,
            options(noreturn),
        )
    }
}

/// As [`this`], but `None` while the boot CPU is still on the boot loader's stack.
pub fn try_this() -> Option<&'static CpuTop> {
    let local = 0_u8;
    (BLOCKS..HEAP).contains(&(&raw const local as u64)).then(this)
}

/// The running CPU's number.
#[inline(always)]
pub fn cpu() -> CpuId {
    CpuId(this().cpu.get())
}
