//! Writes a planned domain into its memory.

use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use zerocopy::IntoBytes;

use super::layout::P2M_PER_PAGE;
use super::paging::{page_entry, page_number, slot, table_entry};
use super::{KernelImage, Layout, Params, PfnRange, Refusal, hypercall_page, start_info};
use crate::addr::{Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn};
use crate::guest::GuestRegisters;
use crate::mm::state::Level;

/// RFLAGS.IF, which is always set while a guest runs.
const RFLAGS_IF: u64 = 1 << 9;
/// RFLAGS bit 1, which reads as one on every CPU.
const RFLAGS_ALWAYS: u64 = 1 << 1;

/// The memory of a domain that has not started, by frame. All of it is zero when the builder gets it.
///
/// The builder names only frames below `nr_pages`.
pub trait DomainMemory {
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
    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]);
    /// Writes one entry, `index` below 512, of a frame that will be a page table.
    fn write_table_entry(&mut self, pfn: Pfn, index: usize, entry: u64);
}

/// What a domain starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartState {
    /// vCPU 0's registers; what is not set is 0. DS, ES, FS, GS and all segment bases start at 0 too.
    pub registers: GuestRegisters,
    /// The kernel's top-level table. Its hypervisor slots are empty; the caller fills them when it validates the tables
    /// named by [`Layout::page_tables`].
    pub root: Mfn,
    /// The XenStore ring page.
    pub store: Mfn,
    /// The console ring page.
    pub console: Mfn,
}

/// Builds the domain that `layout` plans for `image` and `ramdisk`. Refuses before it writes anything.
pub fn build<M: DomainMemory + ?Sized>(
    image: &KernelImage<'_>,
    layout: &Layout,
    params: &Params<'_>,
    mem: &mut M,
) -> Result<StartState, Refusal> {
    if !layout.is_for(image, params.ramdisk.len() as u64) {
        return Err(Refusal::OtherPlan);
    }
    let start_info = start_info::compose(layout, params, mem)?;
    for segment in image.segments() {
        copy_in(mem, segment.start, segment.data);
    }
    if let Some(pfn) = image.hypercall_page() {
        let mut page = [0; PAGE_SIZE];
        hypercall_page::fill(&mut page);
        mem.write(pfn, 0, &page);
    }
    copy_in(mem, layout.ramdisk.start.0 << PAGE_SHIFT, params.ramdisk);
    write_p2m(layout, mem);
    write_tables(layout, mem);
    mem.write(layout.start_info, 0, start_info.as_bytes());
    Ok(StartState {
        registers: start_registers(image, layout),
        root: mem.mfn(layout.root()),
        store: mem.mfn(layout.store),
        console: mem.mfn(layout.console),
    })
}

/// Copies bytes to a place counted from the first byte of pfn 0, page by page.
fn copy_in<M: DomainMemory + ?Sized>(mem: &mut M, mut place: u64, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let offset = (place & 0xfff) as usize;
        let (now, later) = bytes.split_at(bytes.len().min(PAGE_SIZE - offset));
        mem.write(Pfn(place >> PAGE_SHIFT), offset, now);
        place += now.len() as u64;
        bytes = later;
    }
}

fn write_p2m<M: DomainMemory + ?Sized>(layout: &Layout, mem: &mut M) {
    let mut entries = [0u64; P2M_PER_PAGE];
    for (page, first) in layout.p2m.iter().zip((0..layout.nr_pages).step_by(P2M_PER_PAGE)) {
        let left = usize::try_from(layout.nr_pages - first).unwrap_or(P2M_PER_PAGE);
        let entries = &mut entries[..left.min(P2M_PER_PAGE)];
        mem.mfns(Pfn(first), entries);
        mem.write(page, 0, entries.as_bytes());
    }
}

/// Writes every entry: tables into their parents, the frames of the contiguous area and of the p2m into the L1 tables.
fn write_tables<M: DomainMemory + ?Sized>(layout: &Layout, mem: &mut M) {
    for run in layout.runs() {
        for (child, parent) in [(Level::L3, Level::L4), (Level::L2, Level::L3), (Level::L1, Level::L2)] {
            for (number, pfn) in run.tables(child) {
                if let Some(table) = layout.find_table(parent, number >> 9) {
                    mem.write_table_entry(table, slot(number), table_entry(mem.mfn(pfn)));
                }
            }
        }
    }
    let contiguous = PfnRange { start: Pfn(0), count: layout.mapped };
    map_range(layout, page_number(layout.base), contiguous, mem);
    if let Some(address) = layout.separate_p2m {
        map_range(layout, page_number(address), layout.p2m, mem);
    }
}

/// Maps frames one after the other from virtual page number `page` on.
fn map_range<M: DomainMemory + ?Sized>(layout: &Layout, page: u64, pfns: PfnRange, mem: &mut M) {
    for (page, pfn) in (page..).zip(pfns.iter()) {
        if let Some(table) = layout.find_table(Level::L1, page >> 9) {
            let entry = page_entry(mem.mfn(pfn), !layout.is_page_table(pfn));
            mem.write_table_entry(table, slot(page), entry);
        }
    }
}

fn start_registers(image: &KernelImage<'_>, layout: &Layout) -> GuestRegisters {
    GuestRegisters {
        rip: image.entry().get(),
        rsp: layout.address(layout.stack) + PAGE_SIZE as u64,
        rsi: layout.address(layout.start_info),
        cs: FLAT_KERNEL_CS.into(),
        ss: FLAT_KERNEL_SS.into(),
        rflags: RFLAGS_IF | RFLAGS_ALWAYS,
        ..GuestRegisters::default()
    }
}
