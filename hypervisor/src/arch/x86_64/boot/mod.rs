//! From the boot loader's hand-over to a machine that `system` can run on.
//!
//! In this order, on the boot CPU:
//! 1. [`begin`]: the boot loader's stack, with what locks need. [`early`], in the boot loader's page tables: console, CPU check,
//!    memory map, ACPI, TSC.
//! 2. [`memory`]: our own page tables, frame table, frame allocator.
//! 3. The caller names a frame source ([`super::mm::set_frame_source`]), after which the heap works; moves onto its
//!    block's stack ([`super::smp::enter_block`]); loads its descriptor tables.
//! 4. [`devices`]: interrupt controllers and timer.
//! 5. [`super::smp::start_all`].
//!
//! Our own code and the archive stay where the boot loader put them. Nothing else of what it left is used after
//! [`memory`] but the stack, until step 3.

mod config;
mod phases;

use core::fmt;
use core::slice;

use arrayvec::ArrayVec;
use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

use super::acpi::{self, AcpiFacts, MAX_CPUS};
use super::apic::{self, ApicId};
use super::cpu_features::{self, Features};
use super::mm::layout::{DIRECT_MAP, DIRECT_MAP_END};
use super::mm::{self, direct_map, m2p};
use super::smp::TRAMPOLINE_FRAMES;
use super::time::{self, calibrate};
use super::{console, panic, percpu, uaccess};
use crate::addr::{MachineAddr, Mfn, PAGE_SIZE};
use crate::machine::{FrameRange, MemoryMap, Ranges, RegionKind};
use crate::mm::buddy::FrameAllocator;
use crate::mm::frame::FrameTable;
use crate::time::{Clock, SECOND};

pub use config::BOOTLOADER_CONFIG;
pub use phases::{phase, phases};

/// The first frame above the memory of a PC that firmware and old devices have their fingers in.
const FIRST_MIB: u64 = 0x100;
/// The first frame above what a PC may call RAM below that.
const LOW_MEMORY_END: Mfn = Mfn(0xa0);

/// Who started the boot loader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Firmware {
    /// A PC BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Firmware::Bios => "BIOS",
            Firmware::Uefi => "UEFI",
        })
    }
}

/// What is known about the machine.
#[derive(Clone, Debug)]
pub struct BootFacts {
    /// Who started the boot loader.
    pub firmware: Firmware,
    /// All RAM that is managed.
    pub ram: Ranges,
    /// The CPUs that can be used, the boot CPU first.
    pub cpus: ArrayVec<ApicId, MAX_CPUS>,
    /// [`TRAMPOLINE_FRAMES`] frames for [`super::smp::start_all`].
    pub low_memory: Option<Mfn>,
    /// Nanoseconds from 1970-01-01 00:00 UTC to the start of system time, by the CMOS clock.
    pub wall_clock: Option<u64>,
    /// What ACPI says.
    pub acpi: AcpiFacts,
}

/// The file that came with the hypervisor, in memory of its own.
#[derive(Debug)]
pub struct LoadedArchive {
    bytes: &'static [u8],
    frames: FrameRange,
}

impl LoadedArchive {
    /// The file; empty if none came.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Its frames, for the frame allocator: nobody reads the file any more.
    pub fn into_frames(self) -> FrameRange {
        self.frames
    }
}

/// What is known before our own page tables are in force.
struct Early {
    facts: BootFacts,
    archive: LoadedArchive,
    map: MemoryMap,
    stack: core::ops::Range<u64>,
}

/// What [`memory`] gives.
pub struct Memory {
    /// All about the machine.
    pub facts: BootFacts,
    /// What to run on it.
    pub archive: LoadedArchive,
    /// An entry for each frame: reserved, free, or device memory.
    pub frames: FrameTable<'static>,
    /// All free frames.
    pub allocator: FrameAllocator,
}

/// Goes on with `then`, on the boot loader's stack: from here on locks can be taken.
pub fn begin(info: &'static mut BootInfo, then: extern "C" fn(&'static mut BootInfo) -> !) -> ! {
    // SAFETY: the boot loader gives us the stack that `BOOTLOADER_CONFIG` asks for, with interrupts off; what it hands over
    // lies elsewhere.
    unsafe { percpu::begin_with_top(info, then) }
}

/// Takes the machine over from the boot loader: [`early`], then [`memory`].
pub fn take_over(info: &'static mut BootInfo) -> Memory {
    let early = early(info);
    if cpu_features::get().contains(Features::SMAP) {
        // SAFETY: no other CPU runs, there is no guest, and the boot loader's map of all memory is in force, which
        // gives a writable alias of our text.
        unsafe { uaccess::enable_smap(mm::image::boot_alias) };
    }
    // SAFETY: called once, with the one `BootInfo` that there is; nothing else of the boot loader's memory is in use.
    unsafe { memory(early) }
}

/// Opens the console, checks the CPU, and finds out about the machine.
///
/// A machine that can't run the hypervisor gets a message that says why, and halts.
fn early(info: &'static mut BootInfo) -> Early {
    let entry_tsc = time::tsc();
    phase("entry");
    console::init();
    log::info!("Pavise {}", env!("CARGO_PKG_VERSION"));
    if let Err(missing) = cpu_features::init() {
        refuse(format_args!("this CPU lacks {missing}"));
    }
    phase("cpu");

    let limit = info.memory_regions.iter().map(|region| region.end).max().unwrap_or(0).max(1 << 32);
    let rsdp = info.rsdp_addr.into_option().map(MachineAddr);
    // SAFETY: the boot loader's tables are in force. As `BOOTLOADER_CONFIG` asks, they map machine addresses up to
    // the end of the highest region, or 4 GiB, in the direct map's place.
    let acpi = unsafe { acpi::read(rsdp, MachineAddr(limit)) };
    acpi::init_power(acpi.power);
    phase("acpi");

    let hpet = acpi.hpet.filter(|hpet| hpet.0 < limit - PAGE_SIZE as u64);
    // SAFETY: ACPI says that it is an HPET, and it is within the boot loader's map.
    let measured = unsafe { calibrate::tsc_hz(hpet, acpi.pm_timer) };
    let Some((clock, source)) = measured.and_then(|(hz, source)| Some((Clock::new(hz, entry_tsc)?, source))) else {
        refuse(format_args!("no timer to measure the time-stamp counter with"));
    };
    time::set_clock(clock);
    phase("calibration");

    cpu_features::report();
    log::info!("time: TSC at {}.{:03} MHz by {source}", clock.khz() / 1000, clock.khz() % 1000);
    let (facts, map) = gather(info, acpi);
    report(&facts, &map);
    phase("memory map");
    let stack = info.kernel_stack_bottom..info.kernel_stack_bottom + info.kernel_stack_len;
    Early { facts, archive: find_archive(info), map, stack }
}

fn gather(info: &BootInfo, acpi: AcpiFacts) -> (BootFacts, MemoryMap) {
    let kinds = info.memory_regions.iter().map(|region| region.kind);
    let is_uefi = kinds.clone().any(|kind| matches!(kind, MemoryRegionKind::UnknownUefi(_)));
    let regions = info.memory_regions.iter().map(classify);
    let mut map = MemoryMap::new(regions, MachineAddr(DIRECT_MAP_END - DIRECT_MAP).frame());
    // Frame 0 holds the real-mode interrupt table, and is a null pointer to much code.
    map.free.remove(FrameRange::new(Mfn(0), 1));
    let low_memory = map.free.take(TRAMPOLINE_FRAMES, 1, LOW_MEMORY_END);
    map.free.remove(FrameRange::new(Mfn(0), FIRST_MIB));
    let facts = BootFacts {
        firmware: if is_uefi { Firmware::Uefi } else { Firmware::Bios },
        ram: map.ram.clone(),
        cpus: in_order(&acpi.cpus),
        low_memory,
        wall_clock: wall_clock(&acpi),
        acpi,
    };
    (facts, map)
}

fn classify(region: &MemoryRegion) -> (u64, u64, RegionKind) {
    let kind = match region.kind {
        MemoryRegionKind::Usable => RegionKind::Free,
        MemoryRegionKind::Bootloader => RegionKind::Loaded,
        _ => RegionKind::Reserved,
    };
    (region.start, region.end, kind)
}

/// The archive, where the direct map shows it. The boot loader has loaded it in one piece.
fn find_archive(info: &BootInfo) -> LoadedArchive {
    let none = LoadedArchive { bytes: &[], frames: FrameRange::new(Mfn(0), 0) };
    let Some(frame) = info.ramdisk_addr.into_option().and_then(mm::translate) else { return none };
    let Ok(length) = usize::try_from(info.ramdisk_len) else { return none };
    // SAFETY: the boot loader keeps these frames out of the free regions, and they stay mapped, here and in our own
    // direct map; nothing writes to them before their owner gives them away, and with them this reference.
    let bytes = unsafe { slice::from_raw_parts(direct_map(frame.base()), length) };
    LoadedArchive { bytes, frames: FrameRange::new(frame, length.div_ceil(PAGE_SIZE) as u64) }
}

/// The boot CPU first, then the others in ACPI's order. Without ACPI the boot CPU is alone.
fn in_order(listed: &[u32]) -> ArrayVec<ApicId, MAX_CPUS> {
    let boot_cpu = cpu_features::apic_id();
    // An xAPIC has 8 bits for an id, and 255 means all.
    let reachable = |id: u32| id < 0xff || cpu_features::get().contains(Features::X2APIC);
    let others = listed.iter().filter(|&&id| id != boot_cpu && reachable(id)).take(MAX_CPUS - 1);
    core::iter::once(&boot_cpu).chain(others).map(|&id| ApicId(id)).collect()
}

fn wall_clock(acpi: &AcpiFacts) -> Option<u64> {
    let now = time::read_rtc(acpi.century_register)?.unix_seconds()?.checked_mul(SECOND)?;
    now.checked_sub(time::now())
}

fn report(facts: &BootFacts, map: &MemoryMap) {
    let mib = |frames: u64| frames >> 8;
    log::info!(
        "memory: {} MiB in {} ranges, {} MiB free",
        mib(map.ram.frames()),
        map.ram.iter().count(),
        mib(map.free.frames())
    );
    for range in map.ram.iter() {
        log::debug!("memory: {:#014x}..{:#014x}", range.start.base().0, range.end.base().0);
    }
    let lost = map.ram.lost() + map.free.lost();
    if lost > 0 {
        log::warn!("memory: too many ranges; {} MiB are not used", mib(lost));
    }
    log::info!("machine: {} boot, {} CPUs, {} I/O APICs", facts.firmware, facts.cpus.len(), facts.acpi.io_apics.len());
    if facts.acpi.cpus_left_out > 0 {
        log::warn!("machine: {} CPUs beyond {MAX_CPUS} are not used", facts.acpi.cpus_left_out);
    }
    if facts.wall_clock.is_none() {
        log::warn!("time: the CMOS clock holds no date");
    }
}

/// Makes our own page tables and loads them, and collects what memory is free.
///
/// A machine with too little memory gets a message that says so, and halts.
///
/// # Safety
/// Called once, with nothing of the boot loader's memory but `early`, the stack and the archive in use.
unsafe fn memory(early: Early) -> Memory {
    let Early { facts, archive, mut map, stack } = early;
    let cpus = u32::try_from(facts.cpus.len()).unwrap_or(1);
    // SAFETY: the boot loader's tables are in force, with its map of all memory; what is free is unused.
    let built = unsafe { mm::build(&mut map, stack, cpus) };
    if let Err(error) = built {
        refuse(format_args!("no room for the hypervisor's own tables: {error:?}"));
    }
    phase("page tables");
    // SAFETY: the tables were just made for this RAM; the stack was kept.
    let frames = unsafe { mm::switch(&map.ram) };
    m2p::init(&map.ram);
    let mut allocator = FrameAllocator::new();
    for range in map.free.iter() {
        allocator.add_range(&frames, range.start, range.frames());
    }
    phase("frame table");
    Memory { facts, archive, frames, allocator }
}

/// Sets up the interrupt controllers and the boot CPU's timer. The boot CPU has its IDT by now.
pub fn devices(facts: &BootFacts) {
    if let Err(error) = apic::init(&facts.acpi) {
        refuse(format_args!("can't map the interrupt controllers: {error:?}"));
    }
    phase("interrupt controllers");
}

fn refuse(reason: fmt::Arguments<'_>) -> ! {
    log::error!("can't run on this machine: {reason}");
    panic::stop()
}
