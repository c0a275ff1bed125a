//! Writes a planned domain into its memory.

use core::fmt;

use addresses::{Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn};
use zerocopy::IntoBytes;

use super::layout::P2M_PER_PAGE;
use super::paging::{page_entry, page_number, slot, table_entry};
use super::{KernelImage, Layout, Params, PfnRange, Refusal, hypercall_page, start_info};

/// The flags that the first vCPU starts with: IF, which is always set while a guest runs, and bit 1, which reads as one on
/// every CPU.
pub const RFLAGS: u64 = 1 << 9 | 1 << 1;

/// The memory of a domain that has not started, by frame. All of it is zero when the builder gets it.
///
/// The builder names only frames below `nr_pages`.
pub trait DomainMemory {
    /// Why a frame can't be written.
    type Error;
    /// The machine frame behind a frame.
    fn mfn(&self, pfn: Pfn) -> Mfn;
    /// The machine frame numbers of consecutive frames. Worth overriding where finding each of them takes a search: the
    /// physical-to-machine table asks for every frame of the domain.
    fn mfns(&self, first: Pfn, into: &mut [u64]) {
        for (entry, pfn) in into.iter_mut().zip(first.0..) {
            *entry = self.mfn(Pfn(pfn)).0;
        }
    }
    /// Writes bytes inside one page: `offset + bytes.len()` is at most the page size.
    ///
    /// # Errors
    /// Where the memory can't be reached; what was built until then is worth nothing.
    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Writes one entry, `index` below 512, of a frame that will be a page table.
    ///
    /// # Errors
    /// As [`write`](DomainMemory::write).
    fn write_table_entry(&mut self, pfn: Pfn, index: usize, entry: u64) -> Result<(), Self::Error>;
}

/// What a domain starts with. vCPU 0's code and stack segments are the flat ones of a guest's kernel, its flags [`RFLAGS`];
/// all that is not said is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartState {
    /// The first instruction (`rip`).
    pub entry: u64,
    /// The top of the stack (`rsp`).
    pub stack: u64,
    /// The address of the start info (`rsi`).
    pub start_info: u64,
    /// The kernel's top-level table. Its hypervisor slots are empty; the hypervisor fills them when it checks the tables.
    pub root: Mfn,
    /// The XenStore ring page.
    pub store: Mfn,
    /// The console ring page.
    pub console: Mfn,
}

/// Why a planned domain was not built.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure<E> {
    /// Image, plan and parameters don't fit each other. Nothing was written.
    Refused(Refusal),
    /// The domain's memory could not be written.
    Memory(E),
}

impl<E> From<Refusal> for Failure<E> {
    fn from(refusal: Refusal) -> Failure<E> {
        Failure::Refused(refusal)
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(refusal) => refusal.fmt(f),
            Failure::Memory(error) => write!(f, "its memory can't be written: {error}"),
        }
    }
}

/// Builds the domain that `layout` plans for `image` and `ramdisk`. Refuses before it writes anything.
///
/// # Errors
/// What was refused, or why the memory can't be written.
pub fn build<M: DomainMemory + ?Sized>(
    image: &KernelImage<'_>,
    layout: &Layout,
    params: &Params<'_>,
    mem: &mut M,
) -> Result<StartState, Failure<M::Error>> {
    if !layout.is_for(image, params.ramdisk.len() as u64) {
        return Err(Refusal::OtherPlan.into());
    }
    let start_info = start_info::compose(layout, params, mem)?;
    for segment in image.segments() {
        copy_in(mem, segment.start, segment.data).map_err(Failure::Memory)?;
    }
    if let Some(pfn) = image.hypercall_page() {
        let mut page = [0; PAGE_SIZE];
        hypercall_page::fill(&mut page);
        mem.write(pfn, 0, &page).map_err(Failure::Memory)?;
    }
    copy_in(mem, layout.ramdisk.start.0 << PAGE_SHIFT, params.ramdisk)
        .and_then(|()| write_p2m(layout, mem))
        .and_then(|()| write_tables(layout, mem))
        .and_then(|()| mem.write(layout.start_info, 0, start_info.as_bytes()))
        .map_err(Failure::Memory)?;
    Ok(StartState {
        entry: image.entry().get(),
        stack: layout.address(layout.stack) + PAGE_SIZE as u64,
        start_info: layout.address(layout.start_info),
        root: mem.mfn(layout.root()),
        store: mem.mfn(layout.store),
        console: mem.mfn(layout.console),
    })
}

/// Copies bytes to a place counted from the first byte of pfn 0, page by page.
fn copy_in<M: DomainMemory + ?Sized>(mem: &mut M, mut place: u64, mut bytes: &[u8]) -> Result<(), M::Error> {
    while !bytes.is_empty() {
        let offset = (place & 0xfff) as usize;
        let (now, later) = bytes.split_at(bytes.len().min(PAGE_SIZE - offset));
        mem.write(Pfn(place >> PAGE_SHIFT), offset, now)?;
        place += now.len() as u64;
        bytes = later;
    }
    Ok(())
}

fn write_p2m<M: DomainMemory + ?Sized>(layout: &Layout, mem: &mut M) -> Result<(), M::Error> {
    let mut entries = [0u64; P2M_PER_PAGE];
    for (page, first) in layout.p2m.iter().zip((0..layout.nr_pages).step_by(P2M_PER_PAGE)) {
        let left = usize::try_from(layout.nr_pages - first).unwrap_or(P2M_PER_PAGE);
        let entries = &mut entries[..left.min(P2M_PER_PAGE)];
        mem.mfns(Pfn(first), entries);
        mem.write(page, 0, entries.as_bytes())?;
    }
    Ok(())
}

/// Writes every entry: tables into their parents, the frames of the contiguous area and of the p2m into the L1 tables.
fn write_tables<M: DomainMemory + ?Sized>(layout: &Layout, mem: &mut M) -> Result<(), M::Error> {
    for run in layout.runs() {
        for (child, parent) in [(3, 4), (2, 3), (1, 2)] {
            for (number, pfn) in run.tables(child) {
                if let Some(table) = layout.find_table(parent, number >> 9) {
                    mem.write_table_entry(table, slot(number), table_entry(mem.mfn(pfn)))?;
                }
            }
        }
    }
    let contiguous = PfnRange { start: Pfn(0), count: layout.mapped };
    map_range(layout, page_number(layout.base), contiguous, mem)?;
    match layout.separate_p2m {
        Some(address) => map_range(layout, page_number(address), layout.p2m, mem),
        None => Ok(()),
    }
}

/// Maps frames one after the other from virtual page number `page` on.
fn map_range<M: DomainMemory + ?Sized>(
    layout: &Layout,
    page: u64,
    pfns: PfnRange,
    mem: &mut M,
) -> Result<(), M::Error> {
    for (page, pfn) in (page..).zip(pfns.iter()) {
        if let Some(table) = layout.find_table(1, page >> 9) {
            let entry = page_entry(mem.mfn(pfn), !layout.is_page_table(pfn));
            mem.write_table_entry(table, slot(page), entry)?;
        }
    }
    Ok(())
}
