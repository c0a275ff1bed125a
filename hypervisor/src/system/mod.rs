//! The glue: locks, shared state, the run loop, and the code that carries out decisions of the pure modules.
//!
//! [`Machine`] holds the state that all CPUs share and is made once at boot. A few statics stand beside the code that owns
//! them: those that must exist before it, that the fast path needs, or that one file alone uses. Where things are:
//! * [`entry`]: what the entry stubs call, and what interrupts do;
//! * [`cpu`]: which vCPU a CPU runs; [`switch`]: the change from one to another;
//! * [`queues`]: vCPUs that are ready or asleep; [`wake`]: those that wait for something;
//! * [`park`]: vCPUs that may not run: down, or of a paused domain;
//! * [`runner`]: a vCPU with its machine state; [`world`]: the machine, as hypercalls and emulation see it;
//! * [`create`]: a new domain; [`archive`]: those of the boot archive, with their kernels;
//! * [`end`]: a domain's end; [`remove`]: what is left of it; [`control`]: both by the control domain's will;
//! * [`device`]: the hardware, for the domain that has it;
//! * [`memory`] and [`flush`]: the rules of page tables and frames, with their effects; [`stock`]: frames for the heap;
//! * [`fault`]: page faults of guests; [`descriptors`]: a guest's LDT, page by page;
//! * [`console`]: who reads the keyboard; [`complain`]: what guests did wrong;
//! * [`boot`]: from the boot loader's hand-over to the first guest.
#![forbid(unsafe_code)]

mod archive;
pub mod boot;
mod complain;
mod console;
mod control;
mod cpu;
mod create;
mod descriptors;
mod device;
mod end;
pub mod entry;
mod fault;
mod flush;
mod memory;
mod park;
mod queues;
mod remove;
mod runner;
mod stock;
mod switch;
mod wake;
mod world;

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use boot_archive::WhenAllStopped;
use spin::Mutex;

use crate::addr::{CpuId, DomainId, Mfn, VcpuId};
use crate::arch::{apic, vectors};
use crate::device::Hardware;
use crate::domain::End;
use crate::domain::link::VcpuLink;
use crate::domain::vcpu::Assists;
use crate::emulate::CpuidPolicy;
use crate::event::Events;
use crate::grant::Grants;
use crate::mm::buddy::FrameAllocator;
use crate::mm::flush::{AtomicCpuSet, CpuSet, MAX_CPUS};
use crate::mm::frame::FrameTable;
use crate::mm::owner::DomainFrames;
use crate::sched::{Board, RunQueue, Share};
use crate::sync::{Once, PerCpu, SpinLock};
use crate::time::Allowance;
use console::Input;
use device::Own;
use park::ParkedList;
use remove::Remains;
use runner::Runner;

pub use cpu::Cpu;

/// Everything that CPUs share.
struct Machine {
    frames: FrameTable<'static>,
    allocator: &'static SpinLock<FrameAllocator>,
    domains: SpinLock<Vec<Arc<Domain>>>,
    /// Domains that are there, or whose removal is still to be logged; and one more while boot creates domains.
    untold: AtomicUsize,
    /// The vCPUs that wait or sleep, by the CPU whose they are. Any CPU may take the lock, to wake one up.
    queues: Box<[SpinLock<RunQueue<Box<Runner>>>]>,
    /// What CPUs tell each other of their queues.
    board: Board,
    /// vCPUs of all domains: each queue has room for so many.
    vcpus: AtomicUsize,
    /// CPUs that run: those with numbers below this.
    running: AtomicU32,
    input: SpinLock<Input>,
    cpuid: CpuidPolicy,
    /// What of the hardware is the hypervisor's own.
    own: Own,
    /// UTC in seconds at system time 0.
    wall_clock: u64,
    when_all_stopped: WhenAllStopped,
    /// Some domain ended otherwise than in order.
    any_crash: AtomicBool,
}

static MACHINE: Once<Machine> = Once::new();

/// What belongs to each CPU. A static of its own, without a look whether it was made: every entry from a guest needs it.
static CPUS: PerCpu<Cpu> = PerCpu::new([const { RefCell::new(Cpu::new()) }; MAX_CPUS]);

/// What is left of ended domains and still to be given back, by the CPU that does it. Apart from [`CPUS`], because a call of
/// the vCPU there may add to it.
static REMAINS: PerCpu<Remains> = PerCpu::new([const { RefCell::new(Remains::new()) }; MAX_CPUS]);

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
    /// It is the control domain.
    privileged: bool,
    /// The control domain created it, and learns of its end.
    supervised: bool,
    /// Most frames it may have allocated.
    max_pages: AtomicU64,
    handle: Mutex<[u8; 16]>,
    /// Its event channels, and what all CPUs share of its vCPUs.
    events: Arc<Events>,
    /// What it grants, and its handles to what others grant it.
    grants: Arc<Grants>,
    assists: Arc<Assists>,
    /// Its vCPUs that may not run.
    parked: SpinLock<ParkedList>,
    /// How many reasons there are that none of its vCPUs may run.
    paused: AtomicU32,
    /// How many of them are the control domain's.
    pauses: AtomicU32,
    /// The frame of the shared-info page, which the hypervisor holds until the last vCPU is gone.
    shared_mfn: Mfn,
    /// All frames it owns.
    frames: SpinLock<DomainFrames>,
    /// Its part of the CPUs.
    share: Arc<Share>,
    /// The CPUs that its vCPUs may use at first.
    allowed: CpuSet,
    /// Each of its vCPUs has one of those for itself.
    dedicated: bool,
    /// CPUs that may hold its translations.
    cpus: AtomicCpuSet,
    /// Lines of the log about it.
    complaints: Allowance,
    /// What it wrote on the hypervisor's console, in bytes.
    printed: Allowance,
    /// The hardware, if it has that.
    hardware: Option<Arc<Hardware>>,
    /// Why it shut down, if it did and waits for the control domain to end it; set once.
    shutdown: Once<End>,
    /// Why it ended; set once.
    end: Once<End>,
    /// It owns nothing any more but what other domains refer to.
    dismantled: AtomicBool,
    /// The call that ended it is to find it yet.
    awaited: AtomicBool,
    /// vCPUs that still exist, running or not. The one that brings it to 0 removes the domain.
    live: AtomicU32,
}

impl Domain {
    /// Has it ended? Then whoever has one of its vCPUs in hand takes it apart, instead of putting it anywhere.
    fn is_ending(&self) -> bool {
        self.end.is_completed()
    }

    /// What all CPUs share of a vCPU of this domain.
    fn link(&self, id: VcpuId) -> &VcpuLink {
        self.events.vcpu(id).expect("a domain has a link for each of its vCPUs")
    }

    /// Where a vCPU stands when the domain's vCPUs are dealt out to CPUs one by one.
    fn turn(&self, id: VcpuId) -> usize {
        usize::from(self.id.0.saturating_sub(create::FIRST_ID)) + id.0 as usize
    }

    /// The CPUs that a vCPU may use at first.
    fn cpus_of(&self, id: VcpuId) -> CpuSet {
        if self.dedicated { CpuSet::only(self.allowed.cycle(id.0 as usize)) } else { self.allowed }
    }

    /// How many vCPUs it was created with.
    fn vcpu_count(&self) -> u32 {
        u32::try_from(self.events.vcpus().len()).unwrap_or(u32::MAX)
    }
}

/// Interrupts a CPU, so that it [schedules](cpu).
fn nudge(cpu: CpuId) {
    apic::send(cpu, vectors::KICK);
}

/// A domain's end is told, or boot has created what it had to. With the last one all domains have stopped: does what the
/// machine file says.
///
/// Not by the length of the list of domains: another CPU may be about to log what it took off, and boot may be at the next.
fn one_less() {
    use crate::arch::{DebugExit, acpi, debug_exit};
    if machine().untold.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
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
