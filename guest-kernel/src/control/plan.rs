//! What goes where in a new domain's memory, which is mapped one to one from its base on (`xen.h`, "start of day"):
//!
//! ```text
//! pfn 0                                                                                          end of the mapping
//! | free | kernel | p2m | start info | store | console | page tables | stack | free, 512 KiB at least |
//! ```
//!
//! The table of frames is in the mapping whatever the kernel's notes ask for: kernels go by `start_info.mfn_list`.

use super::image::Image;
use crate::paging::{PAGE_SIZE, Pfn};
use core::ops::Range;

/// Pages that a kernel finds mapped and free behind the boot stack, at least.
const SLACK: u64 = 512 * 1024 / PAGE_SIZE;
/// The mapping ends at a multiple of this many pages: 4 MiB.
const ALIGNMENT: u64 = 1024;
/// Entries of a page of the table of frames.
pub const P2M_PER_PAGE: u64 = PAGE_SIZE / 8;

/// The places of everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The address of the first page.
    pub base: u64,
    /// Pages that the domain has.
    pub pages: u64,
    /// Pages that are mapped.
    pub mapped: u64,
    /// The table of frames.
    pub p2m: Range<u64>,
    /// The start info.
    pub start_info: Pfn,
    /// The ring to XenStore.
    pub store: Pfn,
    /// The console's ring.
    pub console: Pfn,
    /// The root table, and the tables of levels 3 and 2.
    pub upper: [Pfn; 3],
    /// The tables of level 1.
    pub leaves: Range<u64>,
    /// The stack, of one page.
    pub stack: Pfn,
}

impl Plan {
    /// Plans a domain. `None` if the kernel doesn't fit, or if its mapping would need more than one table of level 2.
    pub fn new(image: &Image<'_>, pages: u64) -> Option<Plan> {
        let kernel = image.end().div_ceil(PAGE_SIZE);
        let p2m = kernel..kernel.checked_add(pages.div_ceil(P2M_PER_PAGE))?;
        let mut leaves = 0;
        let mapped = loop {
            // Start info, store, console, three tables, the stack.
            let used = p2m.end.checked_add(7 + leaves)?;
            let mapped = (used + SLACK).next_multiple_of(ALIGNMENT);
            if leaves == mapped / 512 {
                break mapped;
            }
            leaves = mapped / 512;
        };
        let in_one_table = image.base.is_multiple_of(512 * PAGE_SIZE)
            && image.base.checked_add(mapped * PAGE_SIZE - 1).is_some_and(|last| last >> 30 == image.base >> 30);
        if mapped > pages || !in_one_table {
            return None;
        }
        let first = p2m.end;
        let pfn = |n| Pfn(first + n);
        Some(Plan {
            base: image.base,
            pages,
            mapped,
            p2m,
            start_info: pfn(0),
            store: pfn(1),
            console: pfn(2),
            upper: [pfn(3), pfn(4), pfn(5)],
            leaves: first + 6..first + 6 + leaves,
            stack: pfn(6 + leaves),
        })
    }

    /// The address of a page.
    pub const fn address(&self, pfn: Pfn) -> u64 {
        self.base + pfn.0 * PAGE_SIZE
    }

    /// Whether a page is a page table.
    pub fn is_table(&self, pfn: Pfn) -> bool {
        (self.upper[0].0..self.leaves.end).contains(&pfn.0)
    }

    /// How many tables there are.
    pub const fn tables(&self) -> u64 {
        self.leaves.end - self.upper[0].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::image::Segment;
    use proptest::prelude::*;
    use std::vec;

    fn image(base: u64, end: u64) -> Image<'static> {
        Image {
            segments: vec![Segment { start: 0x10_0000, length: end - 0x10_0000, bytes: &[] }],
            base,
            entry: base,
            hypercall_page: None,
        }
    }

    #[test]
    fn a_small_kernel_fits_in_4_mib() {
        let plan = Plan::new(&image(0xffff_ffff_8000_0000, 0x18_0000), 1024).unwrap();
        assert_eq!((plan.mapped, plan.tables()), (1024, 5));
        assert_eq!(Plan::new(&image(0xffff_ffff_8000_0000, 0x18_0000), 1023), None);
        assert_eq!(
            Plan::new(&image(0xffff_ffff_8000_1000, 0x18_0000), 1024),
            None,
            "the base is in the middle of a table"
        );
        assert_eq!(Plan::new(&image(0xffff_ffff_ffe0_0000, 0x18_0000), 1024), None, "the address space ends");
    }

    proptest! {
        /// Nothing overlaps, all is mapped, and there is room behind the stack.
        #[test]
        fn everything_has_a_place_of_its_own(end in 0x10_0001_u64..1 << 26, pages in 1024_u64..1 << 18) {
            let image = image(0xffff_ffff_8000_0000, end);
            let Some(plan) = Plan::new(&image, pages) else { return Ok(()) };
            let mut uses = vec![0..end.div_ceil(PAGE_SIZE), plan.p2m.clone(), plan.leaves.clone()];
            let [l4, l3, l2] = plan.upper;
            uses.extend([plan.start_info, plan.store, plan.console, l4, l3, l2, plan.stack].map(|pfn| pfn.0..pfn.0 + 1));
            uses.sort_by_key(|range| range.start);
            prop_assert!(uses.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(plan.stack.0 + 1 + SLACK <= plan.mapped && plan.mapped <= pages);
            prop_assert_eq!(plan.leaves.end - plan.leaves.start, plan.mapped / 512);
            prop_assert!((plan.p2m.end - plan.p2m.start) * P2M_PER_PAGE >= pages);
        }
    }
}
