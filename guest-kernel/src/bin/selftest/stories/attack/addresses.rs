//! Addresses that are none, given to everything that takes one (XSA-193, XSA-279).

use crate::check::{HYPERVISOR, M2P, NON_CANONICAL, Told, call, equal, holds};
use crate::stories::mmu::ground::*;
use crate::stories::mmu::user::{CODE, SYSCALL, UserSpace, program};
use guest_kernel::hypercall::mmuext::{flush_address_all, flush_address_here, flush_address_some, set_ldt};
use guest_kernel::hypercall::{self, set_segment_base, stack_switch};
use guest_kernel::trap::TrapFrame;
use guest_kernel::{catch, probe};
use pv_abi::hypercall::{UPDATE_VA_MAPPING, XEN_VERSION};
use pv_abi::mmu::{UVMF_ALL, UVMF_INVLPG, UVMF_TLB_FLUSH};
use pv_abi::version::XENVER_PAGESIZE;

const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Not canonical, in many ways.
fn wild() -> impl Iterator<Item = u64> {
    let edges = [NON_CANONICAL, 0xffff_7fff_ffff_ffff, 0xffff_7fff_ffff_f000, 1 << 63, 0x8000_7fff_ffff_f000];
    edges.into_iter().chain((47..63).map(|bit| 1 << bit)).chain((47..63).map(|bit| !(1u64 << bit) & !4095))
}

/// The machine still works: a call, a trap, a yield.
fn still_works() -> Told {
    equal("a call", call(XEN_VERSION, [u64::from(XENVER_PAGESIZE)]), Ok(4096))?;
    equal("a trap", probe::int3().map(|caught| caught.vector), Some(3))?;
    equal("a yield", hypercall::yield_now(), Ok(0))
}

/// Bases of FS and GS, by every way to set them.
pub fn segment_bases() -> Told {
    for address in wild() {
        for which in 0..3 {
            holds("by hypercall", set_segment_base(which, address).is_err())?;
        }
        for msr in [FS_BASE, GS_BASE, KERNEL_GS_BASE] {
            // SAFETY: nothing of the kernel is addressed through FS or GS.
            let written = unsafe { probe::wrmsr(msr, address) };
            holds("by MSR", written.is_err_and(|caught| caught.vector == 13))?;
            equal("nothing set", probe::rdmsr(msr), Ok(0))?;
        }
    }
    still_works()?;
    if probe::cpuid(7, 0).ebx & 1 == 0 {
        return Ok(());
    }
    let cr4 = probe::cr4().unwrap_or(0);
    // SAFETY: switches on FSGSBASE.
    equal("CR4", unsafe { catch!(["mov cr4, {cr4}"] cr4 = in(reg) cr4 | 1 << 16,) }, None)?;
    for address in wild() {
        // Where the CPU doesn't refuse it, as QEMU's doesn't, the hypervisor has to live with it.
        // SAFETY: as above.
        let caught = unsafe {
            [
                catch!(["wrfsbase {address}"] address = in(reg) address,),
                catch!(["wrgsbase {address}"] address = in(reg) address,),
            ]
        };
        holds("by instruction", caught.into_iter().flatten().all(|caught| caught.vector == 13))?;
        still_works()?;
    }
    for which in 0..3 {
        equal("back to 0", set_segment_base(which, 0), Ok(0))?;
    }
    Ok(())
}

/// Flushes of single addresses, by every call that has them.
pub fn flushes() -> Told {
    let mask = [u64::MAX; 4];
    let page = Page::new();
    for address in wild().chain([HYPERVISOR, M2P, 0xffff_87ff_ffff_f000, u64::MAX]) {
        for operation in
            [flush_address_here(address), flush_address_all(address), flush_address_some(address, mask.as_ptr() as u64)]
        {
            equal("flush", operate(operation), Ok(0))?;
        }
        for flags in [UVMF_INVLPG, UVMF_INVLPG | UVMF_ALL, UVMF_TLB_FLUSH, UVMF_INVLPG | mask.as_ptr() as u64] {
            for entry in [0, page.entry(WRITE)] {
                holds("mapping", call(UPDATE_VA_MAPPING, [address, entry, flags]).is_err())?;
            }
        }
        holds("LDT", operate(set_ldt(address & !4095, 1)).is_err() || address == u64::MAX)?;
        equal("no LDT", operate(set_ldt(0, 0)), Ok(0))?;
    }
    still_works()
}

/// User mode with such addresses in its registers and bases, and accesses through them.
pub fn in_user_mode() -> Told {
    let space = UserSpace::new(program!["syscall", "mov rax, [rdi]", "syscall", "jmp rdi", "push rax", "syscall"])?;
    for address in wild() {
        let all = TrapFrame {
            rax: address,
            rbx: address,
            rcx: address,
            rdx: address,
            rsi: address,
            rdi: address,
            rbp: address,
            r8: address,
            r15: address,
            ..space.start()
        };
        let frame = space.run(TrapFrame { rsp: address, ..all });
        equal("system call", (frame.vector(), frame.rsp, frame.rdi), (SYSCALL, address, address))?;
        equal("load", space.run(TrapFrame { rip: CODE + 2, ..all }).vector(), 13)?;
        holds("jump", matches!(space.run(TrapFrame { rip: CODE + 7, ..all }).vector(), 13 | 14))?;
        let push = space.run(TrapFrame { rip: CODE + 9, rsp: address, ..all });
        holds("push", matches!(push.vector(), 12..=14))?;
    }
    // The kernel's own stack for user mode is judged at its first use: the domain's end, so not here.
    // SAFETY: user mode isn't entered again.
    equal("stack_switch", unsafe { stack_switch(0, NON_CANONICAL) }, Ok(0))?;
    still_works()
}
