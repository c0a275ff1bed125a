//! What goes where in a new domain's memory, decided before any of it is written.

use super::paging::{TOP_DOWN, TableRun, page_number};
use super::{KernelImage, Refusal};
use addresses::{GuestVa, PAGE_SHIFT, PAGE_SIZE, Pfn};

/// Pages the kernel finds mapped and free behind the boot stack, at least: 512 KiB.
const SLACK: u64 = 512 * 1024 / PAGE_SIZE as u64;
/// The mapped area ends on a boundary of this many pages: 4 MiB.
const MAP_ALIGNMENT: u64 = 4 * 1024 * 1024 / PAGE_SIZE as u64;
/// Entries of the physical-to-machine table in a page.
pub(super) const P2M_PER_PAGE: usize = PAGE_SIZE / 8;
/// More pages than this no 48-bit physical address could name. Keeps all sums below far from overflow.
const MAX_PAGES: u64 = 1 << (48 - PAGE_SHIFT);

/// A gap-free range of a domain's frames. May be empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PfnRange {
    /// The first frame.
    pub start: Pfn,
    /// How many there are.
    pub count: u64,
}

impl PfnRange {
    /// One past the last frame's number.
    pub fn end(self) -> u64 {
        self.start.0 + self.count
    }

    /// The frame after the last.
    pub fn end_pfn(self) -> Pfn {
        Pfn(self.end())
    }

    /// Whether the frame is one of these.
    pub fn contains(self, pfn: Pfn) -> bool {
        self.start <= pfn && pfn.0 < self.end()
    }

    /// The frames in ascending order.
    pub fn iter(self) -> impl Iterator<Item = Pfn> {
        (self.start.0..self.end()).map(Pfn)
    }
}

/// The plan of a new domain's memory. The picture is in the [module's header](super).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The virtual address of pfn 0.
    pub base: GuestVa,
    /// Frames the domain has.
    pub nr_pages: u64,
    /// The kernel image, from its first segment to the end of its last.
    pub kernel: PfnRange,
    /// The ramdisk; empty if there is none.
    pub ramdisk: PfnRange,
    /// The ramdisk's exact length in bytes.
    pub ramdisk_len: u64,
    /// The physical-to-machine table, one `u64` for each of `nr_pages`.
    pub p2m: PfnRange,
    /// The table's virtual address.
    pub p2m_address: u64,
    /// The tables that only serve to map the p2m; empty if it is in the contiguous area.
    pub p2m_tables: PfnRange,
    /// The `start_info` page.
    pub start_info: Pfn,
    /// The XenStore ring page.
    pub store: Pfn,
    /// The console ring page.
    pub console: Pfn,
    /// The tables that map the contiguous area, the L4 first.
    pub tables: PfnRange,
    /// The boot stack, one page.
    pub stack: Pfn,
    /// How many frames, from pfn 0, are mapped one to one from `base`.
    pub mapped: u64,
    /// `p2m_address`, if the p2m has its own mapping.
    pub(super) separate_p2m: Option<GuestVa>,
    main_run: TableRun,
    p2m_run: Option<TableRun>,
}

impl Layout {
    /// Plans a domain of `nr_pages` frames with a ramdisk of `ramdisk_len` bytes (0: none).
    pub fn plan(image: &KernelImage<'_>, nr_pages: u64, ramdisk_len: u64) -> Result<Layout, Refusal> {
        let base = image.base();
        let ramdisk_pages = ramdisk_len.div_ceil(PAGE_SIZE as u64);
        let p2m_pages = nr_pages.div_ceil(P2M_PER_PAGE as u64).max(1);
        check_amounts(image.pfns().end() + ramdisk_pages, nr_pages)?;

        let mut next = Cursor(image.pfns().end_pfn());
        let mapped_ramdisk = (!image.notes().ramdisk_by_pfn).then(|| next.take(ramdisk_pages));
        let mapped_p2m = image.p2m_address().is_none().then(|| next.take(p2m_pages));
        let (start_info, store, console) = (next.take_one(), next.take_one(), next.take_one());
        let (main_run, mapped) = fit_tables(base, next.0)?;
        let main_run = main_run.placed(next.0);
        let tables = next.take(main_run.total());
        let stack = next.take_one();

        let mut next = Cursor(Pfn(mapped));
        let ramdisk = mapped_ramdisk.unwrap_or_else(|| next.take(ramdisk_pages));
        let p2m = mapped_p2m.unwrap_or_else(|| next.take(p2m_pages));
        let p2m_address = image.p2m_address().map_or(address_of(base, p2m.start), GuestVa::get);
        let p2m_run = image.p2m_address().map(|address| p2m_tables(address, p2m_pages, base, &main_run));
        let p2m_run = p2m_run.transpose()?.map(|run| run.placed(next.0));
        let p2m_tables = next.take(p2m_run.as_ref().map_or(0, TableRun::total));

        if next.0.0 > nr_pages {
            return Err(Refusal::TooSmall { needed: next.0.0, given: nr_pages });
        }
        Ok(Layout {
            base,
            nr_pages,
            kernel: image.pfns(),
            ramdisk,
            ramdisk_len,
            p2m,
            p2m_address,
            p2m_tables,
            start_info,
            store,
            console,
            tables,
            stack,
            mapped,
            separate_p2m: image.p2m_address(),
            main_run,
            p2m_run,
        })
    }

    /// Whether this was planned for the image and a ramdisk of this length.
    pub(super) fn is_for(&self, image: &KernelImage<'_>, ramdisk_len: u64) -> bool {
        (self.base, self.kernel, self.separate_p2m, self.ramdisk_len)
            == (image.base(), image.pfns(), image.p2m_address(), ramdisk_len)
    }

    /// The virtual address at which the contiguous area shows a frame. Meaningful for frames below `mapped`.
    pub fn address(&self, pfn: Pfn) -> u64 {
        address_of(self.base, pfn)
    }

    /// The top-level table.
    pub fn root(&self) -> Pfn {
        self.tables.start
    }

    /// Every page table of the domain with its level, from 4 for the root to 1.
    pub fn page_tables(&self) -> impl Iterator<Item = (Pfn, u32)> {
        self.runs()
            .flat_map(|run| TOP_DOWN.into_iter().flat_map(|level| run.tables(level).map(move |(_, pfn)| (pfn, level))))
    }

    /// The tables of the contiguous area, then those only the p2m needs.
    pub(super) fn runs(&self) -> impl Iterator<Item = &TableRun> {
        core::iter::once(&self.main_run).chain(&self.p2m_run)
    }

    /// The frame of the table of a level with this number.
    pub(super) fn find_table(&self, level: u32, number: u64) -> Option<Pfn> {
        self.runs().find_map(|run| run.find(level, number))
    }

    /// Whether a frame is one of the page tables, which a guest may read and not write.
    pub fn is_page_table(&self, pfn: Pfn) -> bool {
        self.tables.contains(pfn) || self.p2m_tables.contains(pfn)
    }
}

/// Hands out frames in ascending order.
struct Cursor(Pfn);

impl Cursor {
    fn take(&mut self, count: u64) -> PfnRange {
        let range = PfnRange { start: self.0, count };
        self.0 = range.end_pfn();
        range
    }

    fn take_one(&mut self) -> Pfn {
        self.take(1).start
    }
}

/// Bounds what the plan adds up: `bulk` is the largest part of it.
fn check_amounts(bulk: u64, nr_pages: u64) -> Result<(), Refusal> {
    if nr_pages > MAX_PAGES {
        return Err(Refusal::TooLarge(nr_pages));
    }
    if bulk > MAX_PAGES {
        return Err(Refusal::TooSmall { needed: bulk, given: nr_pages });
    }
    Ok(())
}

fn address_of(base: GuestVa, pfn: Pfn) -> u64 {
    base.get().wrapping_add(pfn.0 << PAGE_SHIFT)
}

/// Finds the tables that map the contiguous area, which holds `used` and then the tables themselves, the boot stack
/// and the slack; and how many frames that area has.
fn fit_tables(base: GuestVa, used: Pfn) -> Result<(TableRun, u64), Refusal> {
    let first = page_number(base);
    let mut tables = 0;
    // The count can only grow from round to round, and 512 pages more ask for one table more: this ends quickly.
    let (run, mapped) = loop {
        let wanted = used.0 + tables + 1 + SLACK;
        let mapped = (first + wanted).next_multiple_of(MAP_ALIGNMENT) - first;
        let run = TableRun::covering(first, mapped);
        if run.total() == tables {
            break (run, mapped);
        }
        tables = run.total();
    };
    if base.span(mapped << PAGE_SHIFT).is_none() {
        return Err(Refusal::NotGuestRange { what: "boot area", start: base.get() });
    }
    Ok((run, mapped))
}

/// The tables that map a p2m of `pages` pages at `address`, apart from those that the contiguous area has already.
fn p2m_tables(address: GuestVa, pages: u64, base: GuestVa, main: &TableRun) -> Result<TableRun, Refusal> {
    let Some(span) = address.span(pages << PAGE_SHIFT) else {
        return Err(Refusal::NotGuestRange { what: "physical-to-machine table", start: address.get() });
    };
    if page_number(span) + pages > page_number(base) {
        return Err(Refusal::P2mOverlap(address.get()));
    }
    Ok(TableRun::covering(page_number(address), pages).without(main))
}
