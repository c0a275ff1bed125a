//! From the machine as `arch` found it to the first guest.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use alloc::vec::Vec;

use boot_archive::{Archive, LogLevel, Symbols, WhenAllStopped, Xpti};
use log::{LevelFilter, debug, error, info, warn};

use super::archive::create_domains;
use super::console::Input;
use super::device::Own;
use super::{CPUS, MACHINE, Machine, machine, memory, one_less, stock};
use crate::addr::{CpuId, Mfn};
use crate::arch::boot::{self, BootFacts, LoadedArchive, Memory};
use crate::arch::cpu_features::{self, Features};
use crate::arch::{self, barriers, console, entry, isolation, mm, panic, percpu, vectors};
use crate::emulate::CpuidPolicy;
use crate::mm::buddy::FrameAllocator;
use crate::mm::frame::FrameTable;
use crate::sched::{Board, RunQueue};
use crate::sync::{Once, Rank, SpinLock};
use crate::time::SECOND;

/// The frames, before there is a heap for anything else.
struct Frames {
    table: FrameTable<'static>,
    allocator: SpinLock<FrameAllocator>,
    facts: BootFacts,
    /// Until the boot CPU takes it.
    archive: SpinLock<Option<LoadedArchive>>,
}

static FRAMES: Once<Frames> = Once::new();

fn frames() -> &'static Frames {
    FRAMES.get().expect("`start` has filled it")
}

/// Goes on where `arch` has found out what the machine is.
pub fn start(memory: Memory) -> ! {
    let Memory { facts, archive, frames: table, mut allocator } = memory;
    stock::lay_in(&table, &mut allocator);
    info!("memory: {} MiB for domains", allocator.free_frames() >> 8);
    let archive = SpinLock::new(Rank::Domains, Some(archive));
    FRAMES.call_once(|| Frames { table, allocator: SpinLock::new(Rank::Frames, allocator), facts, archive });
    mm::set_frame_source(frame_for_hypervisor);
    arch::enter_boot_block(boot_cpu)
}

/// A frame for the hypervisor's own tables and heap.
fn frame_for_hypervisor() -> Option<Mfn> {
    let frames = frames();
    stock::take(&frames.table, &frames.allocator)
}

extern "C" fn boot_cpu(cpu: CpuId) -> ! {
    arch::prepare_cpu(cpu);
    console::set_cpu_source(|| percpu::cpu().0);
    let facts = &frames().facts;
    boot::devices(facts);
    let loaded = frames().archive.lock().take().expect("taken once, here");
    let archive = match Archive::parse(loaded.bytes()) {
        Ok(archive) => archive,
        Err(error) => {
            error!("boot archive: {error}; there is nothing to run");
            panic::stop()
        }
    };
    configure(&archive);
    boot::phase("archive");
    make_machine(facts, archive.config().when_all_stopped);
    start_cpus(facts);
    boot::phase("other CPUs");
    console::enable_receive_interrupt(vectors::SERIAL);
    create_domains(&archive);
    drop(archive);
    give_back(loaded);
    boot::phase("domains");
    report_phases();
    one_less();
    entry::run_guests(CPUS.slot())
}

/// What the archive says about the hypervisor itself.
fn configure(archive: &Archive<'_>) {
    let config = archive.config();
    console::set_level(match config.console.log_level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    });
    if let WhenAllStopped::DebugExit(port) = config.when_all_stopped {
        arch::set_debug_exit(port);
    }
    isolate(config.xpti);
    keep_apart();
    // Copied, because the archive's memory is given back.
    let symbols = config.symbols.as_ref().and_then(|blob| archive.blob(blob).ok()).map(|bytes| bytes.to_vec().leak());
    if let Some(Ok(symbols)) = symbols.map(|bytes| Symbols::parse(bytes)) {
        panic::set_symbols(symbols);
    }
}

/// Has guests run without the hypervisor's memory mapped, if that is asked for.
fn isolate(xpti: Xpti) {
    let exposed = cpu_features::exposure().meltdown;
    if xpti == Xpti::On || xpti == Xpti::Auto && exposed {
        isolation::enable();
        info!("cpu: guests run on page tables of their own, against Meltdown");
    } else if exposed {
        warn!("cpu: xpti is off: a hostile guest can read all memory");
    }
}

/// Has the CPUs forget what a guest could learn of others from, as far as they can.
fn keep_apart() {
    let features = cpu_features::get();
    if features.contains(Features::IBPB) {
        barriers::enable_forgetting();
        info!("cpu: branch predictors forget when another domain comes, against Spectre");
    }
    // Without MD_CLEAR too: where that isn't shown, the microcode may know it all the same.
    if cpu_features::exposure().buffers {
        barriers::enable_clearing();
        info!("cpu: buffers are cleared on the way to a guest, against MDS");
    }
}

/// Gives the archive's memory to domains that are created from now on.
fn give_back(archive: LoadedArchive) {
    let Frames { table, allocator, facts, .. } = frames();
    let frames = archive.into_frames();
    for range in facts.ram.iter().map(|range| range.intersection(frames)).filter(|range| !range.is_empty()) {
        allocator.lock().add_range(table, range.start, range.frames());
        debug!("boot archive: {} KiB given back", range.frames() << 2);
    }
}

fn make_machine(facts: &BootFacts, when_all_stopped: WhenAllStopped) {
    let frames = frames();
    let cpus = facts.cpus.len();
    MACHINE.call_once(|| Machine {
        frames: frames.table,
        allocator: &frames.allocator,
        domains: SpinLock::new(Rank::Domains, Vec::new()),
        untold: AtomicUsize::new(1),
        queues: (0..).map(CpuId).take(cpus).map(|cpu| SpinLock::new(Rank::Queue, RunQueue::new(cpu))).collect(),
        board: Board::new(),
        vcpus: AtomicUsize::new(0),
        running: AtomicU32::new(1),
        input: SpinLock::new(Rank::Input, Input::new()),
        cpuid: CpuidPolicy::new(arch::cpuid),
        own: Own::find(facts),
        wall_clock: facts.wall_clock.unwrap_or(0) / SECOND,
        when_all_stopped,
        any_crash: AtomicBool::new(false),
    });
}

fn start_cpus(facts: &BootFacts) {
    let running = arch::start_other_cpus(facts, other_cpu);
    machine().running.store(running, Ordering::Relaxed);
    memory::init(running);
    info!("{running} of {} CPUs run", facts.cpus.len());
}

extern "C" fn other_cpu(cpu: CpuId) -> ! {
    arch::prepare_cpu(cpu);
    arch::apic::init_this_cpu(cpu);
    entry::run_guests(CPUS.slot())
}

/// For the boot benchmark.
fn report_phases() {
    let phases = boot::phases();
    for pair in phases.windows(2) {
        if let [before, after] = pair {
            debug!("boot-phase: {} {}", after.name, after.tsc - before.tsc);
        }
    }
}
