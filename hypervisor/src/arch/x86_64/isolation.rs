//! Page-table isolation, for CPUs with Meltdown (CVE-2017-5754): while a guest runs, CR3 names the CPU's shadow root
//! ([`super::mm::shadow`]), in which the hypervisor's memory is not mapped.
//!
//! Whether a machine does that is decided at boot ([`enable`]). On one that doesn't nothing is different: the entry code has
//! **detours**, places that become jumps to code which goes to the shadow root or comes from it, and back to what the
//! jump has replaced. Detours are
//! * where a guest enters, before anything is touched that the shadow root doesn't map: [`from_shadow`];
//! * where it is left for, when only its registers are still to be loaded: [`enter_shadow`];
//! * where one address is flushed, so that the shadow follows.
//!
//! What makes it safe:
//! * *NMI, #MC, #DB and #DF* may come while ring 0 is on the shadow root, between a detour and the guest. They go by what is in
//!   CR3, not by who was interrupted: to the real root, and back to the shadow if that was there.
//! * *A fault of `iretq`*, on the guest's frame, comes on the shadow root too, and goes by CR3 as well. It never comes back.
//! * *Nothing is global* (CR4.PGE is clear), so that each change of CR3 drops all translations of the other root, those of
//!   the hypervisor above all. There is no PCID.
//! * *Nothing of others is left* in the pages that are mapped: of the main stack only [`CpuTop`](percpu::CpuTop) is, with the
//!   running guest's own registers ([`percpu::STACK_GAP`]); an interrupt stack is cleared after use.

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};

use super::mm::shadow;
use super::percpu;
use super::uaccess::{resolve, table};
use crate::mm::flush::Stamp;

/// Instructions, at least five bytes long in all, where a CPU with a shadow root makes a detour: `before` comes before them.
///
/// Nothing jumps to the inside of what is replaced; the labels 781 to 783 are taken. `in`: the section that says where these
/// are, for [`open`].
macro_rules! detour {
    ($before:expr, $replaced:expr) => {
        detour!(in ".detours", $before, $replaced)
    };
    (in $list:literal, $before:expr, $replaced:expr) => {
        concat!(
            "781: ",
            $replaced,
            "\n782:\n",
            ".pushsection .text.entry.detours, \"ax\", @progbits\n",
            "783: ",
            $before,
            "\n",
            $replaced,
            "\njmp 782b\n",
            ".popsection\n",
            ".pushsection ",
            $list,
            ", \"a\"\n",
            ".balign 4\n",
            ".long 781b - .\n",
            ".long 783b - .\n",
            ".popsection",
        )
    };
}
pub(super) use detour;

/// Comes from the shadow root to the real one, if the CPU is on it; preserves all registers but the flags. RSP is in this
/// CPU's block.
macro_rules! from_shadow {
    () => {
        "push rax; push rdx; mov rdx, rsp; and rdx, -{block_size}; mov rax, cr3; cmp rax, [rdx + {shadow_in_block}]; \
         jne 5f; mov rax, [rdx + {root_in_block}]; mov cr3, rax; 5: pop rdx; pop rax"
    };
}
pub(super) use from_shadow;

/// Whether guests run on shadow roots.
static ON: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    static __detours_start: [[i32; 2]; 0];
    static __detours_end: [[i32; 2]; 0];
}

/// Whether guests run on shadow roots.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Lets guests run on shadow roots from now on: on this CPU, and on those that are started later.
///
/// # Panics
/// When called twice, or without frames for the tables.
pub fn enable() {
    assert!(!ON.swap(true, Ordering::Relaxed), "a step of the start taken twice");
    // SAFETY: the linker script bounds the section with these symbols; only the macro puts something in it.
    let detours = unsafe { table(&raw const __detours_start, &raw const __detours_end) };
    // SAFETY: the caller, boot, calls this once, before other CPUs run.
    unsafe { open(detours) };
    prepare_this_cpu();
}

/// Makes the CPUs take these detours.
///
/// # Safety
/// They are the macro's. No other CPU runs, and interrupts are off.
pub(super) unsafe fn open(detours: &[[i32; 2]]) {
    // SAFETY: nobody executes or writes anything else meanwhile. What is replaced is a whole number of our own instructions,
    // into which nothing jumps. Changes of CR0 serialize.
    unsafe {
        Cr0::update(|cr0| cr0.remove(Cr0Flags::WRITE_PROTECT));
        for [site, target] in detours {
            let (site, target) = (resolve(site), resolve(target));
            let [a, b, c, d, ..] = target.wrapping_sub(site + 5).to_le_bytes();
            (site as *mut [u8; 5]).write_volatile([0xe9, a, b, c, d]); // jmp
        }
        Cr0::update(|cr0| cr0.insert(Cr0Flags::WRITE_PROTECT));
    }
}

/// Makes this CPU's shadow root, if guests run on one. Its block and descriptor tables are complete.
///
/// # Panics
/// Without frames for it.
pub(super) fn prepare_this_cpu() {
    if !is_on() {
        return;
    }
    let root = shadow::build(percpu::cpu()).expect("a machine has frames for a handful of tables");
    percpu::this().shadow.set(root.base().0);
    // SAFETY: global pages are a property of the TLB only: no mapping changes. What was global is flushed with this.
    unsafe { Cr4::update(|cr4| cr4.remove(Cr4Flags::PAGE_GLOBAL)) };
}

/// The value of CR3 for a guest that runs next, with the shadow root up to date. `flushed`: when this CPU has flushed last.
pub fn enter_shadow(flushed: Stamp) -> u64 {
    let top = percpu::this();
    shadow::renew(top, flushed);
    if top.stacks_used.replace(false) {
        shadow::clear_interrupt_stacks();
    }
    top.shadow.get()
}
