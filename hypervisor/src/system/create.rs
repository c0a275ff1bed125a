//! New domains, and how those that the boot archive names get their memory and their kernels.

use core::convert::Infallible;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use boot_archive::{Archive, BlobError, DomainConfig, Scheduling};
use domain_builder::{
    DomainMemory, Extents, Failure as Unbuilt, KernelImage, Layout, Params, RFLAGS, Refusal, StartState, build,
};
use log::{error, info};
use pv_abi::start_info::StartFlags;
use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use spin::Mutex;

use super::memory::{self, Memory};
use super::park::Parked;
use super::runner::Runner;
use super::{Domain, console, cpu, flush, machine, park, remove};
use crate::addr::{DomainId, Mfn, Pfn, VcpuId};
use crate::arch::{guest_frames, time};
use crate::domain::MAX_VCPUS;
use crate::domain::shared::SharedInfo;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::event::{DEFAULT_MAX_PORTS, Events, Rights};
use crate::grant::{Grants, Limits};
use crate::guest::GuestRegisters;
use crate::mm::buddy::MAX_ORDER;
use crate::mm::error::Refused;
use crate::mm::flush::{AtomicCpuSet, CpuSet};
use crate::mm::m2p;
use crate::mm::owner::DomainFrames;
use crate::mm::perform::Unfinished;
use crate::mm::state::Level;
use crate::sched::Share;
use crate::sync::{Once, Rank, SpinLock};
use crate::time::Allowance;

/// The control domain's number.
const CONTROL: DomainId = DomainId(0);
/// The other domains of the machine file count from here.
pub(super) const FIRST_ID: u16 = 1;

/// The vCPU that starts.
const FIRST_VCPU: VcpuId = VcpuId(0);

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
            Failure::Duplicate => f.write_str("another domain has this name, or control"),
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
    let mut ids = (FIRST_ID..).map(DomainId);
    for config in &archive.config().domains {
        let id = if config.control { Some(CONTROL) } else { ids.next() };
        let Some(id) = id else { return };
        match create(archive, config, id) {
            Ok(domain) => start(&domain),
            Err(failure) => error!("{id}: refusing domain '{}': {failure}", config.name),
        }
    }
}

/// Lets the first vCPU of a new domain run. The others are down.
fn start(domain: &Arc<Domain>) {
    let (pages, vcpus) = (domain.max_pages.load(Ordering::Relaxed), domain.vcpu_count());
    info!("{} ({}): {} MiB, {vcpus} vCPUs", domain.id, domain.name, pages >> 8);
    enlist(domain);
    domain.link(FIRST_VCPU).set_up(true);
    park::unpark(domain);
}

/// Puts a new domain on the list of all. Its vCPUs are dealt out to CPUs one by one.
pub fn enlist(domain: &Arc<Domain>) {
    let links = domain.events.vcpus();
    cpu::make_room(links.len());
    for link in links {
        link.set_cpu(link.affinity().load().cycle(domain.turn(link.id)));
    }
    machine().domains.lock().push(domain.clone());
    console::domain_started(domain.id);
}

fn create(archive: &Archive<'_>, config: &DomainConfig, id: DomainId) -> Result<Arc<Domain>, Failure> {
    if !(1..=MAX_VCPUS).contains(&config.vcpus) {
        return Err(Failure::Vcpus(config.vcpus));
    }
    if machine().domains.lock().iter().any(|domain| domain.name == config.name || domain.id == id) {
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
    let Scheduling { weight, cap, dedicated, .. } = config.scheduling;
    let new = New {
        id,
        name: config.name.clone(),
        max_pages: config.memory_pages,
        vcpus: config.vcpus,
        handle: handle(id),
        privileged: config.control,
        supervised: false,
        grants: Limits::DEFAULT,
        sharing: Sharing { weight, cap, allowed, dedicated },
        max_ports: DEFAULT_MAX_PORTS,
    };
    let domain = new_domain(new).ok_or(Failure::NoMemory { pages: config.memory_pages, free: 0 })?;
    let built = Blocks::allocate(&domain).and_then(|mut memory| {
        let params = Params {
            command_line: &config.command_line,
            ramdisk,
            shared_info: domain.shared_mfn,
            flags: start_flags(config),
            store_port: 0,
            console_port: 0,
        };
        build(&image, &layout, &params, &mut memory).map_err(|unbuilt| match unbuilt {
            Unbuilt::Refused(refusal) => Failure::Kernel(refusal),
            Unbuilt::Memory(error) => match error {},
        })
    });
    match built.and_then(|state| set_first_vcpu(&domain, &state)) {
        Ok(()) => Ok(domain),
        Err(failure) => {
            remove::discard(&domain);
            Err(failure)
        }
    }
}

/// All CPUs that run.
fn running_cpus() -> CpuSet {
    CpuSet::first(machine().running.load(Ordering::Relaxed))
}

/// The CPUs that are nobody's own.
pub(super) fn shared_cpus() -> CpuSet {
    running_cpus().difference(cpu::board().dedicated())
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

fn start_flags(config: &DomainConfig) -> StartFlags {
    if config.control { StartFlags::PRIVILEGED | StartFlags::INITDOMAIN } else { StartFlags::empty() }
}

/// Gives the first vCPU the state that the builder made.
fn set_first_vcpu(domain: &Domain, state: &StartState) -> Result<(), Failure> {
    let mut runner = domain.take_parked(FIRST_VCPU).expect("all vCPUs of a new domain are parked");
    runner.vcpu.regs = start_registers(state);
    let taken = take_root(domain, &mut runner.vcpu, state.root);
    domain.parked.lock().add(runner);
    domain.link(FIRST_VCPU).set_initialised();
    taken
}

fn start_registers(state: &StartState) -> GuestRegisters {
    GuestRegisters {
        rip: state.entry,
        rsp: state.stack,
        rsi: state.start_info,
        cs: FLAT_KERNEL_CS.into(),
        ss: FLAT_KERNEL_SS.into(),
        rflags: RFLAGS,
        ..GuestRegisters::default()
    }
}

/// What is decided about a domain before it has memory.
pub struct New {
    /// Its number, which no other has.
    pub id: DomainId,
    /// Its name in the log and on the console.
    pub name: String,
    /// Most frames it may have.
    pub max_pages: u64,
    /// Its vCPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// Its UUID-like handle.
    pub handle: [u8; 16],
    /// It is the control domain.
    pub privileged: bool,
    /// It is the control domain that creates it.
    pub supervised: bool,
    /// What it may have of grants.
    pub grants: Limits,
    /// Its part of the CPUs.
    pub sharing: Sharing,
    /// Its ports have numbers below this.
    pub max_ports: u32,
}

/// A domain's part of the CPUs.
pub struct Sharing {
    /// Its weight, see [`Share`].
    pub weight: u16,
    /// The most CPU time it gets, in percent of one CPU; 0: no limit.
    pub cap: u16,
    /// The CPUs that it may use.
    pub allowed: CpuSet,
    /// These are its own, one for each vCPU.
    pub dedicated: bool,
}

impl Default for Sharing {
    /// A domain like any other, on all CPUs that are nobody's own.
    fn default() -> Sharing {
        let Scheduling { weight, cap, dedicated, .. } = Scheduling::default();
        Sharing { weight, cap, allowed: shared_cpus(), dedicated }
    }
}

/// A domain that owns nothing yet but the page it shares with the hypervisor and a frame for grants. Its vCPUs are down.
/// `None` if there are no frames for these.
pub fn new_domain(new: New) -> Option<Arc<Domain>> {
    let (table, allocator) = (machine().frames, machine().allocator);
    let page = allocator.lock().alloc(&table, 0)?;
    flush::flush(memory::clock().stale(page.last_use, memory::mmu().online));
    let shared = guest_frames::shared_info(&table, page.mfn);
    prepare_shared(shared);
    let mut frames = DomainFrames::new(new.id);
    frames.share(&table, page.mfn);
    m2p::mark_shared(&guest_frames::Tables, page.mfn);
    let rights = Rights { privileged: new.privileged, max_ports: new.max_ports };
    let domain = Arc::new(Domain {
        id: new.id,
        name: new.name,
        privileged: new.privileged,
        supervised: new.supervised,
        max_pages: AtomicU64::new(new.max_pages),
        handle: Mutex::new(new.handle),
        events: Arc::new(Events::new(new.id, shared, new.vcpus, rights, &memory::ForEvents)),
        grants: Arc::new(Grants::new(new.id, new.grants)),
        assists: Arc::default(),
        parked: SpinLock::new(Rank::Parked, Parked::with_capacity(new.vcpus)),
        paused: AtomicU32::new(0),
        pauses: AtomicU32::new(0),
        shared_mfn: page.mfn,
        frames: SpinLock::new(Rank::Domain, frames),
        share: Arc::new(Share::new(new.sharing.weight, new.sharing.cap)),
        allowed: new.sharing.allowed,
        dedicated: new.sharing.dedicated,
        cpus: AtomicCpuSet::new(),
        complaints: Allowance::default(),
        printed: Allowance::default(),
        hardware: (new.id == CONTROL && new.privileged).then(|| Arc::new(machine().own.others())),
        shutdown: Once::new(),
        end: Once::new(),
        dismantled: AtomicBool::new(false),
        awaited: AtomicBool::new(false),
        live: AtomicU32::new(new.vcpus),
    });
    if let Some(hardware) = &domain.hardware {
        hardware.interrupts.give_to(&domain.events);
    }
    for link in domain.events.vcpus() {
        link.affinity().store(domain.cpus_of(link.id));
        let vcpu = Vcpu::new(link, domain.assists.clone());
        domain.parked.lock().add(Box::new(Runner::new(vcpu, domain.clone())));
    }
    if !Memory(&domain).share().is_some_and(|mfn| domain.grants.add_frame(0, mfn)) {
        remove::discard(&domain);
        return None;
    }
    Some(domain)
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

/// No toolstack names these domains; the number serves as UUID.
fn handle(id: DomainId) -> [u8; 16] {
    u128::from(id.0).to_be_bytes()
}

/// The new domain's memory: extents as large as can be had.
struct Blocks(Extents);

impl Blocks {
    /// Takes all the frames that the domain may have from the allocator, zeroed.
    fn allocate(domain: &Domain) -> Result<Blocks, Failure> {
        let pages = domain.max_pages.load(Ordering::Relaxed);
        let mut extents = Extents::new();
        let mut largest = MAX_ORDER;
        while extents.frames() < pages {
            let pfn = extents.frames();
            let order = largest.min(u8::try_from((pages - pfn).ilog2()).unwrap_or(MAX_ORDER));
            match Memory(domain).populate(order, Some(Pfn(pfn))) {
                Some(mfn) => extents.push(mfn, 1 << order),
                None if order > 0 => largest = order - 1,
                None => {
                    let free = machine().allocator.lock().free_frames() + pfn;
                    return Err(Failure::NoMemory { pages, free });
                }
            }
        }
        Ok(Blocks(extents))
    }
}

impl DomainMemory for Blocks {
    type Error = Infallible;

    fn mfn(&self, pfn: Pfn) -> Mfn {
        self.0.mfn(pfn)
    }

    fn mfns(&self, first: Pfn, into: &mut [u64]) {
        self.0.mfns(first, into);
    }

    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        guest_frames::write(&machine().frames, self.mfn(pfn), offset, bytes);
        Ok(())
    }

    fn write_table_entry(&mut self, pfn: Pfn, index: usize, entry: u64) -> Result<(), Infallible> {
        guest_frames::write_entry(&machine().frames, self.mfn(pfn), index, entry);
        Ok(())
    }
}
