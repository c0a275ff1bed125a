//! Domains that the control domain makes.

use crate::marks;
use crate::meter::{Effort, Figure, Measured};
use alloc::vec::Vec;
use core::arch::global_asm;
use core::slice;
use guest_kernel::control::{self, Error, New, calls};
use guest_kernel::probe::rdtsc;
use guest_kernel::time;
use pv_abi::elfnote::{XEN_ELFNOTE_ENTRY, XEN_ELFNOTE_LOADER, XEN_ELFNOTE_VIRT_BASE, XEN_ELFNOTE_XEN_VERSION};
use pv_abi::errno::Errno;
use pv_abi::hypercall::SCHED_OP;
use pv_abi::sched::SCHEDOP_BLOCK;
use pv_abi::vcpu::VcpuGuestContext;
use zerocopy::FromZeros;

global_asm!(
    // An ELF file: its header, two program headers, notes, and a kernel that reads the TSC with its first instruction, keeps
    // it in rbx, and sleeps for good.
    ".pushsection .rodata.bench_child, \"a\", @progbits",
    ".balign 8",
    ".globl bench_child, bench_child_end",
    "bench_child:",
    ".byte 0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0",
    ".quad 0",
    ".short 2, 62",
    ".long 1",
    ".quad {address}, 64, 0",
    ".long 0",
    ".short 64, 56, 2, 64, 0, 0",
    // PT_LOAD: flags, offset, virtual and physical address, sizes, alignment.
    ".long 1, 5",
    ".quad bench_child_code - bench_child, {address}, {start}",
    ".quad bench_child_end - bench_child_code, bench_child_end - bench_child_code, 4096",
    // PT_NOTE
    ".long 4, 4",
    ".quad bench_child_notes - bench_child, 0, 0",
    ".quad bench_child_code - bench_child_notes, bench_child_code - bench_child_notes, 4",
    "bench_child_notes:",
    ".long 4, 8, {entry_note}",
    ".asciz \"Xen\"",
    ".quad {address}",
    ".long 4, 8, {base_note}",
    ".asciz \"Xen\"",
    ".quad {base}",
    ".long 4, 8, {version_note}",
    ".asciz \"Xen\"",
    ".asciz \"xen-3.0\"",
    ".long 4, 8, {loader_note}",
    ".asciz \"Xen\"",
    ".asciz \"generic\"",
    "bench_child_code:",
    "rdtsc",
    "shl rdx, 32",
    "lea rbx, [rax + rdx]",
    "2:",
    "mov eax, {sched_op}",
    "mov edi, {block}",
    "xor esi, esi",
    "syscall",
    "jmp 2b",
    "bench_child_end:",
    ".popsection",
    base = const BASE,
    start = const START,
    address = const BASE + START,
    entry_note = const XEN_ELFNOTE_ENTRY,
    base_note = const XEN_ELFNOTE_VIRT_BASE,
    version_note = const XEN_ELFNOTE_XEN_VERSION,
    loader_note = const XEN_ELFNOTE_LOADER,
    sched_op = const SCHED_OP,
    block = const SCHEDOP_BLOCK,
);

/// The address of the child's first byte, and where its kernel is from there.
const BASE: u64 = 0xffff_ffff_8000_0000;
const START: u64 = 0x10_0000;

/// A child's memory: 4 MiB.
const PAGES: u64 = 1024;

/// With 8 other domains.
pub fn create_start_8(effort: Effort) -> Measured {
    create_start(effort, 8)
}

/// With 200.
pub fn create_start_200(effort: Effort) -> Measured {
    create_start(effort, 200)
}

/// A domain of 4 MiB from its ELF file, from before `createdomain` to its first instruction. Besides the calling domain
/// there are `others`, which sleep.
fn create_start(effort: Effort, others: usize) -> Measured {
    let mut sleeping = Vec::new();
    while sleeping.len() < others {
        sleeping.push(child()?.0);
    }
    let mut best = u64::MAX;
    for left in (0..effort.batches).rev() {
        if left == 0 {
            marks::begin();
        }
        let (id, instructions) = child()?;
        if left == 0 {
            marks::end();
        }
        best = best.min(instructions);
        calls::destroy_domain(id)?;
    }
    sleeping.into_iter().try_for_each(|id| calls::destroy_domain(id).map(drop))?;
    Ok(Figure { instructions: best, operations: 1 })
}

/// A child that has started; its number, and the instructions until its first one.
fn child() -> Result<(u16, u64), Errno> {
    let before = rdtsc();
    let handle = u128::from(before).to_le_bytes();
    let new = New { kernel: file(), ramdisk: &[], command_line: "", pages: PAGES, vcpus: 1, handle };
    let id = control::create(&new).map_err(refusal)?.id;
    calls::unpause_domain(id)?;
    let mut context = VcpuGuestContext::new_box_zeroed().map_err(|_| Errno::ENOMEM)?;
    while context.user_regs.rbx == 0 {
        // It has this CPU now, long enough to fall asleep.
        time::sleep(1_000_000);
        calls::read_context(id, 0, &mut context)?;
    }
    Ok((id, context.user_regs.rbx - before))
}

fn file() -> &'static [u8] {
    unsafe extern "C" {
        static bench_child: u8;
        static bench_child_end: u8;
    }
    // SAFETY: the symbols are the bounds of constant data, above.
    unsafe {
        let (start, end) = (&raw const bench_child, &raw const bench_child_end);
        slice::from_raw_parts(start, end as usize - start as usize)
    }
}

fn refusal(error: Error) -> Errno {
    match error {
        Error::Kernel(_) => Errno::EINVAL,
        Error::Memory { .. } | Error::Here(_) => Errno::ENOMEM,
        Error::Refused(_, errno) => errno,
    }
}
