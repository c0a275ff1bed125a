//! The glue: every lock and every piece of shared state, the run loop, and what carries out the rules' decisions.
//!
//! [`Machine`] holds it all and is made once at boot. Where things are:
//! * [`entry`]: what the entry stubs call, and what interrupts do;
//! * [`cpu`]: which vCPU a CPU runs, and switching;
//! * [`runner`]: a running vCPU with its machine state, as hypercalls and emulation see it;
//! * [`create`] and [`remove`]: domains come and go;
//! * [`memory`] and [`flush`]: the rules of page tables and frames, with their effects;
//! * [`fault`]: page faults of guests; [`descriptors`]: a guest's LDT, page by page;
//! * [`console`]: who reads the keyboard; [`complain`]: what guests did wrong;
//! * [`boot`]: from the boot loader's hand-over to the first guest.
#![forbid(unsafe_code)]

pub mod boot;
mod complain;
mod console;
mod cpu;
mod create;
mod descriptors;
pub mod entry;
mod fault;
mod flush;
mod memory;
mod remove;
mod runner;

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use boot_archive::WhenAllStopped;

use crate::addr::{CpuId, DomainId, Mfn};
use crate::arch::{apic, vectors};
use crate::domain::End;
use crate::domain::shared::SharedInfo;
use crate::emulate::CpuidPolicy;
use crate::event::Events;
use crate::mm::buddy::FrameAllocator;
use crate::mm::flush::{AtomicCpuSet, MAX_CPUS};
use crate::mm::frame::FrameTable;
use crate::mm::owner::DomainFrames;
use crate::sync::{Once, PerCpu, SpinLock};
use complain::Complaints;
use console::Input;
use cpu::Cpu;
use runner::Runner;

/// Everything that CPUs share.
struct Machine {
    frames: FrameTable<'static>,
    allocator: &'static SpinLock<FrameAllocator>,
    domains: SpinLock<Vec<Arc<Domain>>>,
    inboxes: Box<[SpinLock<Inbox>]>,
    /// CPUs that run: those with numbers below this.
    running: AtomicU32,
    input: SpinLock<Input>,
    cpuid: CpuidPolicy,
    /// UTC in seconds at system time 0.
    wall_clock: u64,
    when_all_stopped: WhenAllStopped,
    /// Some domain ended otherwise than in order.
    any_crash: AtomicBool,
}

static MACHINE: Once<Machine> = Once::new();

/// What belongs to each CPU. A static of its own, without a look whether it was made: every entry from a guest needs it.
static CPUS: PerCpu<Cpu> = PerCpu::new([const { RefCell::new(Cpu::new()) }; MAX_CPUS]);

/// The machine. Callers run after boot made it.
#[inline]
fn machine() -> &'static Machine {
    MACHINE.get().expect("boot has made the machine before anything runs on it")
}

impl Machine {
    /// All CPUs that run.
    fn running_cpus(&self) -> impl Iterator<Item = CpuId> {
        (0..self.running.load(Ordering::Relaxed)).map(CpuId)
    }
}

/// What a domain's vCPUs share.
pub struct Domain {
    id: DomainId,
    name: String,
    vcpus: u32,
    /// Most frames it may have allocated.
    max_pages: u64,
    handle: [u8; 16],
    shared: &'static SharedInfo,
    /// Its event channels.
    events: Arc<Events>,
    /// The frame behind `shared`, which the hypervisor holds until the last vCPU is gone.
    shared_mfn: Mfn,
    /// All frames it owns.
    frames: SpinLock<DomainFrames>,
    /// CPUs that may hold its translations.
    cpus: AtomicCpuSet,
    complaints: Complaints,
    /// Why it ended; set once.
    end: Once<End>,
    /// vCPUs that still exist. The one that brings it to 0 removes the domain.
    live: AtomicU32,
}

impl Domain {
    /// Has it ended? Its vCPUs are then taken off their CPUs as they come by.
    fn is_ending(&self) -> bool {
        self.end.is_completed()
    }
}

/// What other CPUs leave for a CPU before they kick it.
#[derive(Default)]
struct Inbox {
    /// vCPUs that now belong to it.
    #[expect(clippy::vec_box, reason = "a vCPU stays where it is while it moves between queues")]
    adopt: Vec<Box<Runner>>,
    /// Some domain has ended: look for its vCPUs.
    reap: bool,
}

/// Leaves something in a CPU's inbox and makes it look.
fn post(cpu: CpuId, message: impl FnOnce(&mut Inbox)) {
    if let Some(inbox) = machine().inboxes.get(cpu.0 as usize) {
        message(&mut inbox.lock());
        apic::send(cpu, vectors::KICK);
    }
}

/// All domains have stopped: does what the machine file says.
fn all_stopped() {
    use crate::arch::{DebugExit, acpi, debug_exit};
    log::info!("all domains have stopped");
    match machine().when_all_stopped {
        WhenAllStopped::Stay => {}
        WhenAllStopped::PowerOff => acpi::power_off(),
        WhenAllStopped::DebugExit(_) => {
            let crashed = machine().any_crash.load(Ordering::Relaxed);
            debug_exit(if crashed { DebugExit::Crashed } else { DebugExit::Clean });
        }
    }
}
