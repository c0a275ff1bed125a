//! A domain from a kernel's ELF file: created, filled through mappings of its frames, and ready to be unpaused.

use super::calls;
use super::foreign::Foreign;
use crate::hypercall::{self, Owner, mmuext, mmuext_op};
use crate::memory;
use crate::paging::{Mfn, PAGE_BYTES, PAGE_SIZE, Pfn};
use crate::start::start_info;
use alloc::boxed::Box;
use core::fmt;
use domain_builder::{DomainMemory, Extents, Failure, KernelImage, Layout, Params, RFLAGS, Refusal, StartState};
use pv_abi::domctl::CreateDomain;
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::start_info::StartFlags;
use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use pv_abi::vcpu::{CpuUserRegs, VcpuContextFlags, VcpuGuestContext};
use zerocopy::FromZeros;

/// Why a domain can't be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// Its kernel, or what it was to start with.
    Kernel(Refusal),
    /// The machine has too little memory.
    Memory {
        /// Pages that it was to have.
        pages: u64,
    },
    /// This domain has too little memory, or can't reach the other's.
    Here(memory::Error),
    /// The hypervisor refused a step, which is named.
    Refused(&'static str, Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Kernel(refusal) => write!(f, "kernel: {refusal}"),
            Error::Memory { pages } => write!(f, "needs {pages} pages of memory, which the machine doesn't have free"),
            Error::Here(error) => write!(f, "its memory can't be written: {error}"),
            Error::Refused(what, errno) => write!(f, "{what} was refused: {errno:?}"),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Kernel(refusal)
    }
}

impl From<memory::Error> for Error {
    fn from(error: memory::Error) -> Error {
        Error::Here(error)
    }
}

/// What a new domain is to be.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// Its kernel's ELF file.
    pub kernel: &'a [u8],
    /// Its RAM disk; empty for none.
    pub ramdisk: &'a [u8],
    /// Its kernel's command line.
    pub command_line: &'a str,
    /// Its memory.
    pub pages: u64,
    /// Its vCPUs.
    pub vcpus: u32,
    /// Its handle, which no other domain should have.
    pub handle: [u8; 16],
}

/// A page that a domain shares with a back end in this domain, and the port that goes with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ring {
    /// The machine frame.
    pub frame: u64,
    /// The domain's port, to which this domain may connect.
    pub port: u32,
}

/// A domain that was made. It is paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Created {
    /// Its number.
    pub id: u16,
    /// Its ring to XenStore.
    pub store: Ring,
    /// Its console.
    pub console: Ring,
}

/// Largest extents that memory is asked for in: 2 MiB.
const LARGE: u32 = 9;
/// Pages of a new domain that are mapped at a time.
const WINDOW: usize = 64;

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

/// Creates and builds a domain, which is paused. If it can't be built it is gone again.
///
/// # Errors
/// What is wrong.
pub fn create(new: &New<'_>) -> Result<Created, Error> {
    let image = KernelImage::parse(new.kernel)?;
    let layout = Layout::plan(&image, new.pages, new.ramdisk.len() as u64)?;
    let config = CreateDomain {
        handle: new.handle,
        max_vcpus: new.vcpus,
        // As Xen's own tools ask for.
        max_evtchn_port: 1023,
        max_grant_frames: -1,
        max_maptrack_frames: -1,
        grant_opts: 1,
        ..CreateDomain::default()
    };
    let id = calls::create_domain(0, config).map_err(refused("createdomain"))?;
    build(id, &image, &layout, new).inspect_err(|_| _ = calls::destroy_domain(id))
}

fn refused(what: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Refused(what, errno)
}

/// Builds a domain that was created and has no memory.
fn build(id: u16, image: &KernelImage<'_>, layout: &Layout, new: &New<'_>) -> Result<Created, Error> {
    calls::set_max_pages(id, new.pages).map_err(refused("max_mem"))?;
    let frames = populate(id, new.pages)?;
    let info = calls::domain_info(id).map_err(refused("getdomaininfo"))?;
    let port = || hypercall::alloc_unbound(id, DOMID_SELF).map_err(refused("alloc_unbound"));
    let (store_port, console_port) = (port()?, port()?);
    let params = Params {
        command_line: new.command_line,
        ramdisk: new.ramdisk,
        shared_info: Mfn(info.shared_info_frame),
        flags: StartFlags::empty(),
        store_port,
        console_port,
    };
    let mut memory = Frames { id, frames, window: Foreign::window(WINDOW as u64)?, shown: None };
    let state = domain_builder::build(image, layout, &params, &mut memory).map_err(|failure| match failure {
        Failure::Refused(refusal) => Error::Kernel(refusal),
        Failure::Memory(error) => Error::Here(error),
    })?;
    // What is mapped writable can't be a page table.
    drop(memory);
    // SAFETY: no frame of ours is touched.
    unsafe { mmuext_op(&[mmuext::pin(4, state.root.0)], None, Owner { pages: id, tables: None }) }
        .map_err(refused("pinning"))?;
    let context = start_context(&state).ok_or(Error::Here(memory::Error::OutOfFrames))?;
    calls::set_context(id, 0, &context).map_err(refused("setvcpucontext"))?;
    Ok(Created {
        id,
        store: Ring { frame: state.store.0, port: store_port },
        console: Ring { frame: state.console.0, port: console_port },
    })
}

/// Gives a domain its memory.
fn populate(id: u16, pages: u64) -> Result<Extents, Error> {
    let mut frames = Extents::new();
    let mut order = LARGE;
    while frames.frames() < pages {
        let next = frames.frames();
        while next + (1 << order) > pages {
            order = 0;
        }
        let mut extent = [next];
        match calls::populate(id, &mut extent, order) {
            Ok(1) => frames.push(Mfn(extent[0]), 1 << order),
            Ok(_) if order > 0 => order = 0,
            Ok(_) => return Err(Error::Memory { pages }),
            Err(errno) => return Err(Error::Refused("populate_physmap", errno)),
        }
    }
    Ok(frames)
}

/// The memory of a domain that is being built. A window moves over it, wherever something is written.
struct Frames {
    id: u16,
    frames: Extents,
    window: Foreign,
    /// The first page that the window shows.
    shown: Option<u64>,
}

impl Frames {
    /// Moves the window to a page; the page's offset in it.
    fn move_to(&mut self, pfn: Pfn) -> Result<usize, memory::Error> {
        let offset = usize::try_from(pfn.0 % WINDOW as u64).unwrap_or(0);
        let first = pfn.0 - offset as u64;
        if self.shown != Some(first) {
            self.shown = None;
            let mut frames = [0; WINDOW];
            let count = usize::try_from(self.frames.frames() - first).unwrap_or(WINDOW).min(WINDOW);
            self.frames.mfns(Pfn(first), &mut frames[..count]);
            self.window.show(self.id, &frames[..count])?;
            self.shown = Some(first);
        }
        Ok(offset * PAGE_BYTES)
    }
}

impl DomainMemory for Frames {
    type Error = memory::Error;

    fn mfn(&self, pfn: Pfn) -> Mfn {
        self.frames.mfn(pfn)
    }

    fn mfns(&self, first: Pfn, into: &mut [u64]) {
        self.frames.mfns(first, into);
    }

    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) -> Result<(), memory::Error> {
        let page = self.move_to(pfn)?;
        self.window.write(page + offset, bytes);
        Ok(())
    }

    fn write_table_entry(&mut self, pfn: Pfn, index: usize, entry: u64) -> Result<(), memory::Error> {
        self.write(pfn, 8 * index, &entry.to_ne_bytes())
    }
}

/// What the first vCPU starts with; `None` without memory for it.
fn start_context(state: &StartState) -> Option<Box<VcpuGuestContext>> {
    let mut context = VcpuGuestContext::new_box_zeroed().ok()?;
    context.flags = (VcpuContextFlags::IN_KERNEL | VcpuContextFlags::ONLINE).bits();
    context.user_regs = CpuUserRegs {
        rip: state.entry,
        rsp: state.stack,
        rsi: state.start_info,
        cs: FLAT_KERNEL_CS,
        ss: FLAT_KERNEL_SS,
        rflags: RFLAGS,
        ..CpuUserRegs::default()
    };
    context.ctrlreg[3] = state.root.0 * PAGE_SIZE;
    Some(context)
}
