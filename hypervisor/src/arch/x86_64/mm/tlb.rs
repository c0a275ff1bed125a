//! TLB flushes of the running CPU, and the page-table root.

use x86_64::instructions::tlb::{self, InvPcidCommand};
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, VirtAddr};

use crate::addr::Mfn;
use crate::arch::cpu_features::{self, Features};

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

/// Forgets every translation of this CPU but the global ones, that is, those of the guest.
pub fn flush_guest() {
    tlb::flush_all();
}

/// Forgets this CPU's translation of one address, global or not, and its cached upper-level entries.
#[inline]
pub fn flush_address(address: u64) {
    tlb::flush(VirtAddr::new_truncate(address));
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
