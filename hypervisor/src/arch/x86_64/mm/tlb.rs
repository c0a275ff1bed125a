//! TLB flushes of the running CPU, and the page-table root.

use core::arch::asm;

use x86_64::PhysAddr;
use x86_64::instructions::tlb::{self, InvPcidCommand};
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::structures::paging::PhysFrame;

use super::shadow;
use crate::addr::Mfn;
use crate::arch::cpu_features::{self, Features};
use crate::arch::isolation::detour;

/// Forgets every translation of this CPU, global ones (the hypervisor's own) included.
///
/// Toggling CR4.PGE does that on every CPU; `invpcid`, where present, does it faster. SDM volume 3, 4.10.4.1.
pub fn flush_all() {
    if cpu_features::get().contains(Features::INVPCID) {
        // SAFETY: the CPU has the instruction.
        unsafe { tlb::flush_pcid(InvPcidCommand::All) };
        return;
    }
    let cr4 = Cr4::read_raw();
    // SAFETY: global pages are a property of the TLB only: no mapping changes. The old value is restored at once.
    unsafe {
        Cr4::write_raw(cr4 ^ Cr4Flags::PAGE_GLOBAL.bits());
        Cr4::write_raw(cr4);
    }
}

/// Forgets this CPU's translation of one address, global or not, and its cached upper-level entries. Its shadow root, if it
/// has one, forgets it too.
#[inline]
pub fn flush_address(address: u64) {
    // A displacement of four bytes makes room for a detour.
    // SAFETY: forgets a translation; the detour changes no register, and the stack only below RSP.
    unsafe {
        asm!(
            detour!(concat!(
                "push rdi; push rbp; mov rbp, rsp; and rsp, -16; push r11; push r10; push r9; push r8; ",
                "push rsi; push rdx; push rcx; push rax; call {follow}; pop rax; pop rcx; pop rdx; ",
                "pop rsi; pop r8; pop r9; pop r10; pop r11; mov rsp, rbp; pop rbp; pop rdi"
            ), "{{disp32}} invlpg [rdi]"),
            in("rdi") address,
            follow = sym shadow::follow,
        );
    }
}

/// Makes `root` the L4 table of this CPU and forgets the guest translations of the old one.
///
/// # Safety
/// `root` must be an L4 table whose hypervisor slots equal [`super::hypervisor_slots`], and stay one for as long as
/// it is loaded.
#[inline]
pub unsafe fn load_root(root: Mfn) {
    let frame = PhysFrame::containing_address(PhysAddr::new_truncate(root.base().0));
    // SAFETY: the caller promises an L4 table that maps the hypervisor as the current one does.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// The L4 table this CPU uses.
#[inline]
pub fn root() -> Mfn {
    Mfn(Cr3::read().0.start_address().as_u64() >> 12)
}
