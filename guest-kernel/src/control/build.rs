//! A domain from a kernel's ELF file: created, filled through mappings of its frames, and ready to be unpaused.

use super::calls;
use super::image::{Image, Wrong};
use super::plan::Plan;
use super::window::Window;
use crate::hypercall::{Owner, mmuext, mmuext_op};
use crate::memory;
use crate::paging::{self, Mfn, PAGE_BYTES, PAGE_SIZE, PRESENT, Pfn, Rights, WRITABLE, kernel_page};
use crate::start::start_info;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use pv_abi::domctl::CreateDomain;
use pv_abi::errno::Errno;
use pv_abi::start_info::{StartFlags, StartInfo};
use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use pv_abi::vcpu::{CpuUserRegs, VcpuContextFlags, VcpuGuestContext};
use zerocopy::{FromZeros, IntoBytes};

/// Why a domain can't be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Its kernel is none.
    Kernel(Wrong),
    /// Its kernel doesn't fit.
    Size,
    /// There is too little memory, in the machine or here.
    Memory,
    /// The hypervisor refused a step, which is named.
    Refused(&'static str, Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Kernel(wrong) => write!(f, "the kernel can't be used: {wrong:?}"),
            Error::Size => f.write_str("the kernel doesn't fit"),
            Error::Memory => f.write_str("too little memory"),
            Error::Refused(what, errno) => write!(f, "{what} was refused: {errno:?}"),
        }
    }
}

/// What a new domain is to be.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// Its kernel's ELF file.
    pub kernel: &'a [u8],
    /// Its kernel's command line.
    pub command_line: &'a str,
    /// Its memory.
    pub pages: u64,
    /// Its vCPUs.
    pub vcpus: u32,
}

/// Largest extents that memory is asked for in: 2 MiB.
const LARGE: u32 = 9;

/// The module that came with this domain, if there is one.
///
/// # Errors
/// Those of the memory.
pub fn module() -> Result<Option<&'static [u8]>, memory::Error> {
    let info = start_info();
    // From now on the frames behind the builder's mapping have addresses.
    drop(memory::lock()?);
    if info.mod_len == 0 {
        return Ok(None);
    }
    let by_frame = StartFlags::from_bits_retain(info.flags).contains(StartFlags::MOD_START_PFN);
    let address = if by_frame { memory::DIRECT_MAP + info.mod_start * PAGE_SIZE } else { info.mod_start };
    let length = usize::try_from(info.mod_len).map_err(|_| memory::Error::OutOfFrames)?;
    // SAFETY: the module is in frames in a row that nobody else has, mapped in a row, and nothing writes there.
    Ok(Some(unsafe { core::slice::from_raw_parts(address as *const u8, length) }))
}

/// Creates and builds a domain, which is paused; its number. If it can't be built it is gone again.
///
/// # Errors
/// What is wrong.
pub fn create(new: &New<'_>) -> Result<u16, Error> {
    let image = Image::parse(new.kernel).map_err(Error::Kernel)?;
    let config = CreateDomain {
        max_vcpus: new.vcpus,
        max_grant_frames: -1,
        max_maptrack_frames: -1,
        grant_opts: 1,
        ..CreateDomain::default()
    };
    let id = calls::create_domain(0, config).map_err(|errno| Error::Refused("createdomain", errno))?;
    build(id, &image, new).inspect_err(|_| _ = calls::destroy_domain(id))?;
    Ok(id)
}

/// Builds a domain that was created and has no memory.
///
/// # Errors
/// What is wrong. The domain is then as it is.
pub fn build(id: u16, image: &Image<'_>, new: &New<'_>) -> Result<(), Error> {
    let plan = Plan::new(image, new.pages).ok_or(Error::Size)?;
    let refused = |what| move |errno| Error::Refused(what, errno);
    calls::set_max_pages(id, new.pages).map_err(refused("max_mem"))?;
    let domain = Domain { id, frames: populate(id, new.pages)? };
    for segment in &image.segments {
        domain.copy(segment.start, segment.bytes)?;
    }
    if let Some(address) = image.hypercall_page {
        let pfn = address.checked_sub(plan.base).ok_or(Error::Size)? / PAGE_SIZE;
        calls::fill_hypercall_page(id, domain.frame(Pfn(pfn))?).map_err(refused("hypercall_init"))?;
    }
    for (page, frames) in plan.p2m.clone().zip(domain.frames.chunks(PAGE_BYTES / 8)) {
        domain.write(Pfn(page), frames.as_bytes())?;
    }
    domain.write_tables(&plan)?;
    domain.write_start_info(&plan, new.command_line)?;
    let root = domain.frame(plan.upper[0])?;
    // SAFETY: no frame of ours is touched.
    unsafe { mmuext_op(&[mmuext::pin(4, root)], None, Owner { pages: id, tables: None }) }
        .map_err(refused("pinning"))?;
    let context = start_context(image, &plan, root).ok_or(Error::Memory)?;
    calls::set_context(id, 0, &context).map_err(refused("setvcpucontext"))?;
    Ok(())
}

/// Gives a domain its memory; the machine frame of each of its pages.
fn populate(id: u16, pages: u64) -> Result<Vec<u64>, Error> {
    let mut frames = Vec::new();
    frames.try_reserve_exact(usize::try_from(pages).map_err(|_| Error::Size)?).map_err(|_| Error::Memory)?;
    let mut order = LARGE;
    let mut next = 0;
    while next < pages {
        while next + (1 << order) > pages {
            order = 0;
        }
        let mut extent = [next];
        match calls::populate(id, &mut extent, order) {
            Ok(1) => {
                frames.extend(extent[0]..extent[0] + (1 << order));
                next += 1 << order;
            }
            Ok(_) if order > 0 => order = 0,
            Ok(_) => return Err(Error::Memory),
            Err(errno) => return Err(Error::Refused("populate_physmap", errno)),
        }
    }
    Ok(frames)
}

/// A domain that is being built.
struct Domain {
    id: u16,
    /// The machine frame of each page.
    frames: Vec<u64>,
}

impl Domain {
    fn frame(&self, pfn: Pfn) -> Result<u64, Error> {
        let frame = usize::try_from(pfn.0).ok().and_then(|pfn| self.frames.get(pfn));
        frame.copied().ok_or(Error::Size)
    }

    fn open(&self, pfn: Pfn) -> Result<Window, Error> {
        Window::open(self.id, self.frame(pfn)?).map_err(|errno| Error::Refused("a foreign mapping", errno))
    }

    /// Writes the start of a page.
    fn write(&self, pfn: Pfn, bytes: &[u8]) -> Result<(), Error> {
        self.open(pfn)?.write(0, bytes);
        Ok(())
    }

    /// Copies bytes to a place counted from the domain's first byte.
    fn copy(&self, mut place: u64, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let offset = (place % PAGE_SIZE) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(PAGE_BYTES - offset));
            self.open(Pfn(place / PAGE_SIZE))?.write(offset, now);
            place += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Writes the page tables: everything is writable but themselves.
    fn write_tables(&self, plan: &Plan) -> Result<(), Error> {
        let [l4, l3, l2] = plan.upper;
        for (level, table, below) in [(4, l4, l3), (3, l3, l2)] {
            let mut entries = [0u64; 512];
            entries[paging::index(plan.base, level)] = paging::table(Mfn(self.frame(below)?));
            self.write(table, entries.as_bytes())?;
        }
        let mut upper = [0u64; 512];
        for (number, leaf) in plan.leaves.clone().enumerate() {
            upper[paging::index(plan.base, 2) + number] = paging::table(Mfn(self.frame(Pfn(leaf))?));
            let mut entries = [0u64; 512];
            for (entry, pfn) in entries.iter_mut().zip(512 * number as u64..) {
                let write = if plan.is_table(Pfn(pfn)) { 0 } else { WRITABLE };
                *entry = kernel_page(Mfn(self.frame(Pfn(pfn))?), Rights::Execute) & !WRITABLE | PRESENT | write;
            }
            self.write(Pfn(leaf), entries.as_bytes())?;
        }
        self.write(l2, upper.as_bytes())
    }

    fn write_start_info(&self, plan: &Plan, command_line: &str) -> Result<(), Error> {
        const MAGIC: &[u8] = b"xen-3.0-x86_64";
        let shared = calls::domain_info(self.id).map_err(|errno| Error::Refused("getdomaininfo", errno))?;
        let mut info = StartInfo::new_zeroed();
        info.magic[..MAGIC.len()].copy_from_slice(MAGIC);
        info.nr_pages = plan.pages;
        info.shared_info = shared.shared_info_frame * PAGE_SIZE;
        info.store_mfn = self.frame(plan.store)?;
        info.console_mfn = self.frame(plan.console)?;
        info.pt_base = plan.address(plan.upper[0]);
        info.nr_pt_frames = plan.tables();
        info.mfn_list = plan.address(Pfn(plan.p2m.start));
        let room = info.cmd_line.len() - 1;
        let line = command_line.as_bytes();
        info.cmd_line[..line.len().min(room)].copy_from_slice(&line[..line.len().min(room)]);
        self.write(plan.start_info, info.as_bytes())
    }
}

/// What the first vCPU starts with; `None` without memory for it.
fn start_context(image: &Image<'_>, plan: &Plan, root: u64) -> Option<Box<VcpuGuestContext>> {
    /// RFLAGS: interrupts are on, as always.
    const FLAGS: u64 = 1 << 9;
    let mut context = VcpuGuestContext::new_box_zeroed().ok()?;
    context.flags = (VcpuContextFlags::IN_KERNEL | VcpuContextFlags::ONLINE).bits();
    context.user_regs = CpuUserRegs {
        rip: image.entry,
        rsp: plan.address(plan.stack) + PAGE_SIZE,
        rsi: plan.address(plan.start_info),
        cs: FLAT_KERNEL_CS,
        ss: FLAT_KERNEL_SS,
        rflags: FLAGS,
        ..CpuUserRegs::default()
    };
    context.ctrlreg[3] = root * PAGE_SIZE;
    Some(context)
}
