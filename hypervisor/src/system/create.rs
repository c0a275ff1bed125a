//! New domains, from what the boot archive says of them.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use boot_archive::{Archive, BlobError, DomainConfig, Scheduling};
use log::{error, info};
use pv_abi::start_info::StartFlags;

use super::complain::Complaints;
use super::memory::{self, Memory};
use super::park::Parked;
use super::runner::Runner;
use super::{Domain, console, cpu, flush, machine, remove};
use crate::addr::{DomainId, Mfn, Pfn, VcpuId};
use crate::arch::{guest_frames, time};
use crate::domain::MAX_VCPUS;
use crate::domain::builder::{DomainMemory, KernelImage, Layout, Params, Refusal, build};
use crate::domain::shared::SharedInfo;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::event::Events;
use crate::mm::buddy::MAX_ORDER;
use crate::mm::error::Refused;
use crate::mm::flush::{AtomicCpuSet, CpuSet};
use crate::mm::m2p;
use crate::mm::owner::DomainFrames;
use crate::mm::perform::Unfinished;
use crate::mm::state::Level;
use crate::sched::Share;
use crate::sync::{Once, Rank, SpinLock};

/// Domain 0 is the control domain's number; those of the machine file count from here.
const FIRST_ID: u16 = 1;

/// Why a domain can't be created.
enum Failure {
    Archive(&'static str, BlobError),
    Kernel(Refusal),
    Tables(Refused),
    Vcpus(u32),
    NoMemory { pages: u64, free: u64 },
    Duplicate,
    NoCpu,
    FewCpus { cpus: usize, vcpus: u32 },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Archive(what, error) => write!(f, "{what}: {error}"),
            Failure::Kernel(refusal) => write!(f, "kernel: {refusal}"),
            Failure::Tables(refused) => write!(f, "page tables: {refused}"),
            Failure::Vcpus(vcpus) => write!(f, "{vcpus} vCPUs, expected 1 to {MAX_VCPUS}"),
            Failure::NoMemory { pages, free } => write!(f, "needs {pages} pages of memory, {free} are free"),
            Failure::NoCpu => f.write_str("no CPU that it may use runs, or all are dedicated to other domains"),
            Failure::FewCpus { cpus, vcpus } => write!(f, "{cpus} of its dedicated CPUs run, for {vcpus} vCPUs"),
            Failure::Duplicate => f.write_str("another domain has this name"),
        }
    }
}

/// Creates all domains of the archive; one that can't be is refused with a line in the log.
pub fn create_all(archive: &Archive<'_>) {
    for domain in &archive.config().domains {
        if domain.scheduling.dedicated {
            cpu::board().dedicate(CpuSet::from_bits(domain.scheduling.cpus).intersection(running_cpus()));
        }
    }
    for (config, id) in archive.config().domains.iter().zip((FIRST_ID..).map(DomainId)) {
        match create(archive, config, id) {
            Ok(runner) => start(runner),
            Err(failure) => error!("{id}: refusing domain '{}': {failure}", config.name),
        }
    }
}

/// Lets the first vCPU of a new domain run. The others are down. vCPUs are dealt out to CPUs one by one.
fn start(runner: Box<Runner>) {
    let domain = runner.domain.clone();
    let links = domain.events.vcpus();
    info!("{} ({}): {} MiB, {} vCPUs", domain.id, domain.name, domain.max_pages >> 8, links.len());
    console::domain_started(domain.id);
    machine().domains.lock().push(domain.clone());
    cpu::make_room(links.len());
    for (link, turn) in links.iter().zip(usize::from(domain.id.0 - FIRST_ID)..) {
        link.set_cpu(domain.cpus_of(link.id).cycle(turn));
        if link.id != runner.vcpu.id {
            let vcpu = Vcpu::new(link, domain.assists.clone());
            domain.live.fetch_add(1, Ordering::Relaxed);
            domain.parked.lock().add(Box::new(Runner::new(vcpu, domain.clone())));
        }
    }
    runner.link().set_up(true);
    cpu::enqueue(runner);
}

fn create(archive: &Archive<'_>, config: &DomainConfig, id: DomainId) -> Result<Box<Runner>, Failure> {
    if !(1..=MAX_VCPUS).contains(&config.vcpus) {
        return Err(Failure::Vcpus(config.vcpus));
    }
    if machine().domains.lock().iter().any(|domain| domain.name == config.name) {
        return Err(Failure::Duplicate);
    }
    let kernel = archive.blob(&config.kernel).map_err(|error| Failure::Archive("kernel", error))?;
    let ramdisk = match &config.ramdisk {
        Some(blob) => archive.blob(blob).map_err(|error| Failure::Archive("ramdisk", error))?,
        None => &[],
    };
    let image = KernelImage::parse(kernel).map_err(Failure::Kernel)?;
    let layout = Layout::plan(&image, config.memory_pages, ramdisk.len() as u64).map_err(Failure::Kernel)?;
    let allowed = allowed_cpus(config)?;
    let domain = Arc::new(new_domain(config, id, allowed)?);
    let built = Blocks::allocate(&domain).and_then(|mut memory| {
        let params = Params {
            command_line: &config.command_line,
            ramdisk,
            shared_info: domain.shared_mfn,
            flags: StartFlags::empty(),
            store_port: 0,
            console_port: 0,
        };
        build(&image, &layout, &params, &mut memory).map_err(Failure::Kernel)
    });
    let mut vcpu = Vcpu::new(domain.link(VcpuId(0)), domain.assists.clone());
    let started = built.and_then(|state| {
        vcpu.regs = state.registers;
        domain.link(VcpuId(0)).set_initialised();
        take_root(&domain, &mut vcpu, state.root)
    });
    let runner = Box::new(Runner::new(vcpu, domain));
    match started {
        Ok(()) => Ok(runner),
        Err(failure) => {
            remove::discard(runner);
            Err(failure)
        }
    }
}

/// All CPUs that run.
fn running_cpus() -> CpuSet {
    CpuSet::first(machine().running.load(Ordering::Relaxed))
}

/// The CPUs that a domain's vCPUs may use.
fn allowed_cpus(config: &DomainConfig) -> Result<CpuSet, Failure> {
    let cpus = CpuSet::from_bits(config.scheduling.cpus).intersection(running_cpus());
    if !config.scheduling.dedicated {
        let shared = cpus.difference(cpu::board().dedicated());
        return if shared.is_empty() { Err(Failure::NoCpu) } else { Ok(shared) };
    }
    let (cpus_there, vcpus) = (cpus.iter().count(), config.vcpus);
    if cpus_there < vcpus as usize { Err(Failure::FewCpus { cpus: cpus_there, vcpus }) } else { Ok(cpus) }
}

/// A domain that owns nothing yet but the page it shares with the hypervisor.
fn new_domain(config: &DomainConfig, id: DomainId, allowed: CpuSet) -> Result<Domain, Failure> {
    let Scheduling { weight, cap, dedicated, .. } = config.scheduling;
    let (table, allocator) = (machine().frames, machine().allocator);
    let none_left = Failure::NoMemory { pages: config.memory_pages, free: 0 };
    let page = allocator.lock().alloc(&table, 0).ok_or(none_left)?;
    flush::flush(memory::clock().stale(page.last_use, memory::mmu().online));
    let shared = guest_frames::shared_info(&table, page.mfn);
    prepare_shared(shared);
    let mut frames = DomainFrames::new(id);
    frames.share(&table, page.mfn);
    m2p::mark_shared(&guest_frames::Tables, page.mfn);
    Ok(Domain {
        id,
        name: config.name.clone(),
        max_pages: config.memory_pages,
        handle: handle(id),
        events: Arc::new(Events::new(id, shared, config.vcpus)),
        assists: Arc::default(),
        parked: SpinLock::new(Rank::Parked, Parked::with_capacity(config.vcpus)),
        paused: AtomicU32::new(0),
        shared_mfn: page.mfn,
        frames: SpinLock::new(Rank::Domain, frames),
        share: Arc::new(Share::new(weight, cap)),
        allowed,
        dedicated,
        cpus: AtomicCpuSet::new(),
        complaints: Complaints::default(),
        end: Once::new(),
        live: AtomicU32::new(1),
    })
}

/// Checks the tables that the builder made, pins the root as the ABI promises, and gives it to the vCPU.
fn take_root(domain: &Domain, vcpu: &mut Vcpu, root: Mfn) -> Result<(), Failure> {
    let Vcpu { pending, roots, .. } = vcpu;
    loop {
        let step = Memory(domain).step(pending, |op, _| {
            if roots.kernel.is_none()
                && let Some(old) = op.set_root(roots, Mode::Kernel, Some(root), false)?
            {
                op.drop_root(old);
            }
            op.pin(root, Level::L4)
        });
        match step {
            Ok(()) => return Ok(()),
            Err(Unfinished::Again) => {}
            Err(Unfinished::Refused(refused)) => return Err(Failure::Tables(refused)),
        }
    }
}

/// Upcalls start masked, and the clock is right before the first instruction: Linux divides by its scale.
fn prepare_shared(shared: &SharedInfo) {
    let record = time::clock().guest_record(time::tsc());
    for info in &shared.vcpus {
        info.set_upcall_mask(true);
        info.set_time(&record);
    }
    shared.set_wall_clock(machine().wall_clock, 0);
}

/// What tools would give as a UUID: until there are tools, the domain's number.
fn handle(id: DomainId) -> [u8; 16] {
    u128::from(id.0).to_be_bytes()
}

/// A run of frames of the new domain.
struct Block {
    pfn: u64,
    mfn: Mfn,
    order: u8,
}

/// The new domain's memory: blocks as large as can be had, in the order of their pfns.
struct Blocks(Vec<Block>);

impl Blocks {
    /// Takes all the frames that the domain may have from the allocator, zeroed.
    fn allocate(domain: &Domain) -> Result<Blocks, Failure> {
        let pages = domain.max_pages;
        let mut blocks = Vec::new();
        let mut pfn = 0;
        let mut largest = MAX_ORDER;
        while pfn < pages {
            let order = largest.min(u8::try_from((pages - pfn).ilog2()).unwrap_or(MAX_ORDER));
            match Memory(domain).populate(order) {
                Some(mfn) => {
                    (0..1 << order).for_each(|n| m2p::set(&guest_frames::Tables, mfn.offset(n), Pfn(pfn + n)));
                    blocks.push(Block { pfn, mfn, order });
                    pfn += 1 << order;
                }
                None if order > 0 => largest = order - 1,
                None => {
                    let free = machine().allocator.lock().free_frames() + pfn;
                    return Err(Failure::NoMemory { pages, free });
                }
            }
        }
        Ok(Blocks(blocks))
    }
}

impl DomainMemory for Blocks {
    fn mfn(&self, pfn: Pfn) -> Mfn {
        let index = self.0.partition_point(|block| block.pfn <= pfn.0) - 1;
        let block = &self.0[index];
        block.mfn.offset(pfn.0 - block.pfn)
    }

    fn mfns(&self, first: Pfn, into: &mut [u64]) {
        let mut index = self.0.partition_point(|block| block.pfn <= first.0) - 1;
        for (pfn, slot) in (first.0..).zip(into) {
            if pfn - self.0[index].pfn >= 1 << self.0[index].order {
                index += 1;
            }
            *slot = self.0[index].mfn.0 + (pfn - self.0[index].pfn);
        }
    }

    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) {
        guest_frames::write(&machine().frames, self.mfn(pfn), offset, bytes);
    }

    fn write_table_entry(&mut self, pfn: Pfn, index: usize, entry: u64) {
        guest_frames::write_entry(&machine().frames, self.mfn(pfn), index, entry);
    }
}
