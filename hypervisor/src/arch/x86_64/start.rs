//! The steps of the start that concern a whole CPU, for `system` to take in order. Each may be taken once.

use core::sync::atomic::{AtomicBool, Ordering};

use pv_abi::trap::FLAT_RING3_SS64;

use super::boot::BootFacts;
use super::{cpu_features, descriptors, fpu, isolation, mm, percpu, smp, syscall};
use crate::addr::CpuId;

/// Moves the boot CPU onto the stack of its block, and goes on there.
///
/// # Panics
/// When called twice.
pub fn enter_boot_block(entry: smp::Entry) -> ! {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    once(&TAKEN);
    // SAFETY: only the boot CPU runs before `start_other_cpus`, and the stack of its block is used from here on.
    unsafe { smp::enter_block(CpuId(0), entry) }
}

/// Loads the descriptor tables and entry points of the running CPU, which is on the stack of its block.
pub fn prepare_cpu(cpu: CpuId) {
    let block = mm::blocks::base(cpu);
    percpu::this().cpu.set(cpu.0);
    percpu::this().data_segment.set(FLAT_RING3_SS64);
    let stub = mm::blocks::frame(cpu, percpu::SYSCALL_STUB_PAGE).expect("the block is mapped before its CPU starts");
    // SAFETY: the block is this CPU's, mapped and zeroed, and the frame is the one behind its stub page; interrupts are
    // off until the first guest runs. Our own page tables are loaded, and after the first line the IDT is, too.
    unsafe {
        descriptors::load(block);
        cpu_features::enable();
        syscall::load(block, stub);
    }
    fpu::init_this_cpu();
    isolation::prepare_this_cpu();
}

/// Starts the other CPUs; returns how many run now, this one included. Interrupt controllers are set up by now.
///
/// # Panics
/// When called twice.
pub fn start_other_cpus(facts: &BootFacts, entry: smp::Entry) -> u32 {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    once(&TAKEN);
    // SAFETY: boot found the low frames and set them aside for this; this is the one call.
    unsafe { smp::start_all(&facts.cpus, facts.low_memory, entry) }
}

fn once(taken: &AtomicBool) {
    assert!(!taken.swap(true, Ordering::Relaxed), "a step of the start taken twice");
}
