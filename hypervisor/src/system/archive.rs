//! The domains that the boot archive names: how they get their memory and their kernels.

use core::convert::Infallible;
use core::fmt;
use core::sync::atomic::Ordering;

use alloc::sync::Arc;

use boot_archive::{Archive, BlobError, DomainConfig, Scheduling};
use domain_builder::{
    DomainMemory, Extents, Failure as Unbuilt, KernelImage, Layout, Params, RFLAGS, Refusal, StartState, build,
};
use log::{error, info};
use pv_abi::start_info::StartFlags;
use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};

use super::create::{CONTROL, FIRST_ID, New, Sharing, enlist, new_domain, running_cpus};
use super::memory::Memory;
use super::{Domain, machine, park, queues, remove};
use crate::addr::{DomainId, Mfn, Pfn, VcpuId};
use crate::arch::guest_frames;
use crate::domain::MAX_VCPUS;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::event::DEFAULT_MAX_PORTS;
use crate::grant::Limits;
use crate::guest::GuestRegisters;
use crate::mm::buddy::MAX_ORDER;
use crate::mm::error::Refused;
use crate::mm::flush::CpuSet;
use crate::mm::perform::Unfinished;
use crate::mm::state::Level;

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
pub fn create_domains(archive: &Archive<'_>) {
    for domain in &archive.config().domains {
        if domain.scheduling.dedicated {
            queues::board().dedicate(CpuSet::from_bits(domain.scheduling.cpus).intersection(running_cpus()));
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

/// The CPUs that a domain's vCPUs may use.
fn allowed_cpus(config: &DomainConfig) -> Result<CpuSet, Failure> {
    let cpus = CpuSet::from_bits(config.scheduling.cpus).intersection(running_cpus());
    if !config.scheduling.dedicated {
        let shared = cpus.difference(queues::board().dedicated());
        return if shared.is_empty() { Err(Failure::NoCpu) } else { Ok(shared) };
    }
    let (cpus_there, vcpus) = (cpus.iter().count(), config.vcpus);
    if cpus_there < vcpus as usize { Err(Failure::FewCpus { cpus: cpus_there, vcpus }) } else { Ok(cpus) }
}

fn start_flags(config: &DomainConfig) -> StartFlags {
    if config.control { StartFlags::PRIVILEGED | StartFlags::INITDOMAIN } else { StartFlags::empty() }
}

/// No toolstack names these domains; the number serves as UUID.
fn handle(id: DomainId) -> [u8; 16] {
    u128::from(id.0).to_be_bytes()
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
