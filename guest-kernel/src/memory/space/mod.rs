//! Address spaces: regions for user mode, with pages that come when they are touched, and the kernel's part.
//!
//! User mode has the first entry of the root tables, 512 GiB, with one level 3 table that both roots share: the
//! kernel's root, which has the kernel's entries as well, and the user's, which has nothing else. The builder's
//! physical-to-machine table, at the second entry, belongs to the kernel's part.
//!
//! A space is made of plain tables and then pinned. After that its tables can't be written, and changes are requests.
//! Pages of regions are shared between a space and its forks until one of them writes (copy on write).
//!
//! | file | what |
//! |---|---|
//! | `pages` | pages that come when they are touched, copies on write, contents |
//! | `life` | pinned, active, forked, destroyed |

mod life;
mod pages;

use super::direct::DIRECT_MAP;
use super::frames::Editor;
use super::{Error, Memory, numbers};
use crate::paging::frames::FrameList;
use crate::paging::regions::{Regions, Unsuitable};
use crate::paging::tree::{Missing, Root, Tables, edit};
use crate::paging::{Mfn, Rights, index, table};
use crate::start::{P2M_BASE, VIRT_BASE};
use core::ops::Range;

pub use pages::{Access, Denied, Touched};

/// The first address above user mode's part.
pub const USER_END: u64 = 1 << 39;

/// The entries of a root table that belong to the kernel: its tables of numbers, its frames, its image.
const KERNEL_SLOTS: [usize; 3] = [index(P2M_BASE, 4), index(DIRECT_MAP, 4), index(VIRT_BASE, 4)];
/// The entry of a root table that belongs to user mode.
const USER_SLOT: usize = 0;

/// An address space. One that is dropped keeps its frames: [`destroy`](Space::destroy) returns them.
#[derive(Debug)]
pub struct Space {
    regions: Regions,
    /// Root table of the kernel.
    kernel: Mfn,
    /// Root table of user mode.
    user: Mfn,
    /// The level 3 table below both.
    upper: Mfn,
    /// Tables that are plain, and those that aren't.
    fresh: FrameList,
    sealed: FrameList,
    pinned: bool,
}

impl Space {
    /// A space without regions.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`].
    pub fn new(memory: &mut Memory) -> Result<Space, Error> {
        Space::with(memory, Regions::new(USER_END))
    }

    fn with(memory: &mut Memory, regions: Regions) -> Result<Space, Error> {
        memory.expect_free(3)?;
        let entries = KERNEL_SLOTS.map(|slot| (slot, memory.read(memory.root, slot)));
        let (mut fresh, mut sealed) = (FrameList::new(), FrameList::new());
        let mut editor = Editor { memory, fresh: &mut fresh, sealed: &mut sealed };
        let [kernel, user, upper] = [editor.allocate()?, editor.allocate()?, editor.allocate()?];
        for (slot, entry) in entries {
            editor.store(kernel, slot, entry);
        }
        editor.store(kernel, USER_SLOT, table(upper));
        editor.store(user, USER_SLOT, table(upper));
        Ok(Space { regions, kernel, user, upper, fresh, sealed, pinned: false })
    }

    /// Adds a region. Its pages come when they are touched.
    ///
    /// # Errors
    /// When the range doesn't suit.
    pub fn add(&mut self, range: Range<u64>, rights: Rights) -> Result<(), Unsuitable> {
        self.regions.add(range, rights)
    }

    /// Moves the end of the region that starts at `start` up by `bytes`. The answer is where it was.
    ///
    /// # Errors
    /// When there is no such region, or the longer one doesn't suit.
    pub fn grow(&mut self, start: u64, bytes: u64) -> Result<u64, Unsuitable> {
        self.regions.grow(start, bytes)
    }

    /// How many page tables the space has, roots included.
    pub fn tables(&self) -> u32 {
        self.fresh.count() + self.sealed.count()
    }

    /// The level 1 entry at an address of user mode, 0 if there is none.
    pub fn entry(&self, memory: &Memory, address: u64) -> u64 {
        if address < USER_END { memory.lookup(self.upper, 3, address) } else { 0 }
    }

    /// The addresses of all tables in the kernel.
    pub fn table_addresses<'a>(&self, memory: &'a Memory) -> impl Iterator<Item = u64> + use<'a> {
        [&self.fresh, &self.sealed]
            .map(|list| memory.frames.first(list))
            .into_iter()
            .flat_map(|first| core::iter::successors(first, |pfn| memory.frames.next(*pfn)).map(numbers::address))
    }

    fn edit(
        &mut self,
        memory: &mut Memory,
        range: Range<u64>,
        missing: Missing,
        leaf: &mut impl FnMut(&mut Editor<'_>, u64, u64) -> Result<Option<u64>, Error>,
    ) -> Result<(), Error> {
        let root = self.root();
        let mut editor = Editor { memory, fresh: &mut self.fresh, sealed: &mut self.sealed };
        edit(&mut editor, root, range, missing, leaf)
    }

    fn root(&self) -> Root {
        Root { table: self.upper, level: 3, live: self.pinned }
    }
}
