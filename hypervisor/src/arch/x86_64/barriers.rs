//! Against what a CPU remembers of one guest, or of the hypervisor, and another guest could learn by speculation.
//!
//! * *Branch predictors* that one domain has trained (Spectre variant 2, CVE-2017-5715) forget that when another comes to the
//!   CPU: [`forget_branches`].
//! * *Buffers* with data of memory accesses (MDS, CVE-2018-12126 and relatives) are overwritten on each way to a guest, by
//!   `verw`. It comes last but for the guest's own registers, which are in `CpuTop`: detours
//!   ([`super::isolation`]), which other CPUs don't take.
//!
//! Not dealt with: threads that share a core and run different domains at the same time; what a guest trains for the
//! hypervisor itself to mispredict; bounds that are checked too late (variant 1).

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::registers::model_specific::Msr;

use super::isolation::open;
use super::uaccess::table;

/// IA32_PRED_CMD, and its bit for a barrier (IBPB).
const PRED_CMD_MSR: u32 = 0x49;
const IBPB: u64 = 1 << 0;

/// Makes a detour that overwrites the CPU's buffers, with RSP + `$top` = the guest's registers in `CpuTop`; changes flags.
macro_rules! clear_buffers {
    ($top:literal, $replaced:expr) => {
        detour!(in ".clearing_detours", concat!("verw word ptr [rsp + ", $top, " + {data_segment}]"), $replaced)
    };
}
pub(super) use clear_buffers;

/// Whether branch predictors are made to forget.
static FORGETS: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    static __clearing_detours_start: [[i32; 2]; 0];
    static __clearing_detours_end: [[i32; 2]; 0];
}

/// Makes [`forget_branches`] do so. All CPUs have IBPB.
pub fn enable_forgetting() {
    FORGETS.store(true, Ordering::Relaxed);
}

/// Another domain is about to run on this CPU: what the last one has taught its branch predictors is not used any more.
#[inline]
pub fn forget_branches() {
    if FORGETS.load(Ordering::Relaxed) {
        // SAFETY: the register exists on a CPU with IBPB, and only the speed of what follows depends on it.
        unsafe { Msr::new(PRED_CMD_MSR).write(IBPB) };
    }
}

/// Has the CPU's buffers overwritten on each way to a guest from now on, also by CPUs that are started later.
///
/// # Panics
/// When called twice.
pub fn enable_clearing() {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    assert!(!TAKEN.swap(true, Ordering::Relaxed), "a step of the start taken twice");
    // SAFETY: the linker script bounds the section with these symbols; only the macro puts something in it. No other CPU
    // runs, and interrupts are off.
    unsafe { open(table(&raw const __clearing_detours_start, &raw const __clearing_detours_end)) };
}
