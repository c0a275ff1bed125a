//! New domains, from what the boot archive says of them.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use boot_archive::{Archive, BlobError, DomainConfig};
use log::{error, info};
use pv_abi::start_info::StartFlags;

use super::runner::Runner;
use super::{Domain, console, machine, post};
use crate::addr::{CpuId, DomainId, Mfn, Pfn, VcpuId};
use crate::arch::vcpu::MachineState;
use crate::arch::{guest_frames, mm, time};
use crate::domain::MAX_VCPUS;
use crate::domain::builder::{DomainMemory, KernelImage, Layout, Params, Refusal, build};
use crate::domain::shared::SharedInfo;
use crate::domain::vcpu::{Callbacks, Control, Gate, Mode, Vcpu};
use crate::mm::buddy::MAX_ORDER;
use crate::sync::{Once, Rank, SpinLock};

/// Domain 0 is the control domain's number; those of the machine file count from here.
const FIRST_ID: u16 = 1;

/// Why a domain can't be created.
enum Failure {
    Archive(&'static str, BlobError),
    Kernel(Refusal),
    Vcpus(u32),
    NoMemory { pages: u64, free: u64 },
    Duplicate,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Archive(what, error) => write!(f, "{what}: {error}"),
            Failure::Kernel(refusal) => write!(f, "kernel: {refusal}"),
            Failure::Vcpus(vcpus) => write!(f, "{vcpus} vCPUs, expected 1 to {MAX_VCPUS}"),
            Failure::NoMemory { pages, free } => write!(f, "needs {pages} pages of memory, {free} are free"),
            Failure::Duplicate => f.write_str("another domain has this name"),
        }
    }
}

/// Creates all domains of the archive; one that can't be is refused with a line in the log.
pub fn create_all(archive: &Archive<'_>) {
    for (config, id) in archive.config().domains.iter().zip((FIRST_ID..).map(DomainId)) {
        match create(archive, config, id) {
            Ok(runner) => start(runner),
            Err(failure) => error!("{id}: refusing domain '{}': {failure}", config.name),
        }
    }
}

/// Hands a new vCPU to a CPU; domains are dealt out one by one.
fn start(runner: Box<Runner>) {
    let domain = &runner.domain;
    info!("{} ({}): {} MiB, {} vCPUs", domain.id, domain.name, domain.pages >> 8, domain.vcpus);
    console::domain_started(domain.id);
    machine().domains.lock().push(domain.clone());
    let cpu = CpuId(u32::from(domain.id.0 - FIRST_ID) % machine().running.load(Ordering::Relaxed));
    post(cpu, |inbox| inbox.adopt.push(runner));
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
    let mut memory = Memory::allocate(config.memory_pages, id)?;
    let Some(shared_mfn) = allocate_shared() else {
        memory.give_up();
        return Err(Failure::NoMemory { pages: 1, free: 0 });
    };
    let shared = guest_frames::shared_info(&machine().frames, shared_mfn);
    let params = Params {
        command_line: &config.command_line,
        ramdisk,
        shared_info: shared_mfn,
        flags: StartFlags::empty(),
        store_port: 0,
        console_port: 0,
    };
    let state = match build(&image, &layout, &params, &mut memory) {
        Ok(state) => state,
        Err(refusal) => {
            memory.give_up();
            machine().allocator.lock().free(&machine().frames, shared_mfn, 0, true);
            return Err(Failure::Kernel(refusal));
        }
    };
    for (index, entry) in (mm::layout::FIRST_SLOT..).zip(mm::hypervisor_slots()) {
        guest_frames::write_entry(&machine().frames, state.root, index, entry);
    }
    prepare_shared(shared);
    let domain = Arc::new(Domain {
        id,
        name: config.name.clone(),
        vcpus: config.vcpus,
        pages: config.memory_pages,
        handle: handle(id),
        shared,
        shared_mfn,
        memory: SpinLock::new(Rank::Domain, memory.blocks.into_iter().map(|block| (block.mfn, block.order)).collect()),
        end: Once::new(),
        live: AtomicU32::new(1),
    });
    let vcpu = first_vcpu(&domain, state.root, state.registers);
    Ok(Box::new(Runner { vcpu, state: MachineState::default(), domain }))
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

fn first_vcpu(domain: &Domain, root: Mfn, registers: crate::guest::GuestRegisters) -> Vcpu {
    let [info, ..] = &domain.shared.vcpus;
    Vcpu {
        domain: domain.id,
        id: VcpuId(0),
        regs: registers,
        mode: Mode::Kernel,
        gates: Box::new([Gate::default(); 256]),
        callbacks: Callbacks::default(),
        kernel_sp: 0,
        kernel_root: root,
        user_root: None,
        assists: 0,
        control: Control::NEW,
        info,
    }
}

/// What tools would give as a UUID: until there are tools, the domain's number.
fn handle(id: DomainId) -> [u8; 16] {
    u128::from(id.0).to_be_bytes()
}

fn allocate_shared() -> Option<Mfn> {
    Some(machine().allocator.lock().alloc(&machine().frames, 0)?.mfn)
}

/// A run of frames of the new domain.
struct Block {
    pfn: u64,
    mfn: Mfn,
    order: u8,
}

/// The new domain's memory: blocks as large as can be had, in the order of their pfns.
struct Memory {
    blocks: Vec<Block>,
}

impl Memory {
    /// Takes `pages` frames from the allocator, zeroed and owned by `id`; all of them or none.
    fn allocate(pages: u64, id: DomainId) -> Result<Memory, Failure> {
        let mut memory = Memory { blocks: Vec::new() };
        let mut pfn = 0;
        let mut largest = MAX_ORDER;
        while pfn < pages {
            let order = largest.min(u8::try_from((pages - pfn).ilog2()).unwrap_or(MAX_ORDER));
            let found = machine().allocator.lock().alloc(&machine().frames, order);
            match found {
                Some(block) => {
                    guest_frames::give(&machine().frames, block.mfn, 1 << order, id, Pfn(pfn), block.dirty);
                    memory.blocks.push(Block { pfn, mfn: block.mfn, order });
                    pfn += 1 << order;
                }
                None if order > 0 => largest = order - 1,
                None => {
                    memory.give_up();
                    let free = machine().allocator.lock().free_frames();
                    return Err(Failure::NoMemory { pages, free });
                }
            }
        }
        Ok(memory)
    }

    /// Gives everything back: the domain isn't created.
    fn give_up(&mut self) {
        for block in self.blocks.drain(..) {
            guest_frames::release(&machine().frames, &mut machine().allocator.lock(), block.mfn, block.order);
        }
    }
}

impl DomainMemory for Memory {
    fn mfn(&self, pfn: Pfn) -> Mfn {
        let index = self.blocks.partition_point(|block| block.pfn <= pfn.0) - 1;
        let block = &self.blocks[index];
        block.mfn.offset(pfn.0 - block.pfn)
    }

    fn mfns(&self, first: Pfn, into: &mut [u64]) {
        let mut index = self.blocks.partition_point(|block| block.pfn <= first.0) - 1;
        for (pfn, slot) in (first.0..).zip(into) {
            if pfn - self.blocks[index].pfn >= 1 << self.blocks[index].order {
                index += 1;
            }
            *slot = self.blocks[index].mfn.0 + (pfn - self.blocks[index].pfn);
        }
    }

    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) {
        guest_frames::write(&machine().frames, self.mfn(pfn), offset, bytes);
    }

    fn write_table_entry(&mut self, pfn: Pfn, index: usize, entry: u64) {
        guest_frames::write_entry(&machine().frames, self.mfn(pfn), index, entry);
    }
}
