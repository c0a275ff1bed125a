//! The state word of a frame: both reference counts, the type and the flags in one 64-bit value.
//!
//! Everything that must change together is in this one word, so that every transition is a single compare-exchange
//! and no CPU ever sees half of one. The functions here are plain arithmetic on a value; [`types`](super::types)
//! explains the transitions and applies them to shared frames.
//!
//! ```text
//! bits  0..26  general references      (free block head: bits 0..8 order, bit 8 dirty)
//! bits 26..52  type references
//! bits 52..55  type
//! bit  55      validated               bit 56 pinned
//! bit  57      allocation reference    bit 58 seen by a domain that is not the owner
//! bits 62..64  usage
//! ```

use core::fmt;

use super::types::Taken;

/// What a frame may be used as. A frame has one type at a time, and keeps it while a type reference is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameType {
    /// Never typed since it was allocated.
    None = 0,
    /// May be mapped writable by the guest.
    Writable = 1,
    /// A page of segment descriptors (part of a GDT or LDT).
    Descriptors = 2,
    /// A level 1 page table, whose entries map pages.
    L1 = 3,
    /// A level 2 page table.
    L2 = 4,
    /// A level 3 page table.
    L3 = 5,
    /// A level 4 page table, the root of an address space.
    L4 = 6,
}

/// The level of a page table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Entries map pages.
    L1 = 1,
    /// Entries name L1 tables.
    L2 = 2,
    /// Entries name L2 tables.
    L3 = 3,
    /// Entries name L3 tables; the root.
    L4 = 4,
}

impl Level {
    /// The level of the tables that entries at this level name; `None` for L1.
    pub const fn below(self) -> Option<Level> {
        match self {
            Level::L1 => None,
            Level::L2 => Some(Level::L1),
            Level::L3 => Some(Level::L2),
            Level::L4 => Some(Level::L3),
        }
    }

    /// The type of a frame that holds a table of this level.
    pub const fn frame_type(self) -> FrameType {
        match self {
            Level::L1 => FrameType::L1,
            Level::L2 => FrameType::L2,
            Level::L3 => FrameType::L3,
            Level::L4 => FrameType::L4,
        }
    }
}

impl FrameType {
    /// Whether this is a page-table type.
    pub const fn is_table(self) -> bool {
        self as u8 >= FrameType::L1 as u8
    }

    /// The table level, if this is a page-table type.
    pub const fn level(self) -> Option<Level> {
        match self {
            FrameType::L1 => Some(Level::L1),
            FrameType::L2 => Some(Level::L2),
            FrameType::L3 => Some(Level::L3),
            FrameType::L4 => Some(Level::L4),
            FrameType::None | FrameType::Writable | FrameType::Descriptors => None,
        }
    }
}

impl fmt::Display for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameType::None => "untyped",
            FrameType::Writable => "writable",
            FrameType::Descriptors => "descriptor page",
            FrameType::L1 => "L1 table",
            FrameType::L2 => "L2 table",
            FrameType::L3 => "L3 table",
            FrameType::L4 => "L4 table",
        })
    }
}

/// What a frame's metadata is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// Not ours to give out, or inside a free block behind its head. The meaning of zeroed memory.
    Reserved,
    /// The first frame of a free block.
    FreeHead,
    /// Allocated: to a domain, or to the hypervisor where there is no owner.
    InUse,
    /// No RAM: device registers, firmware tables. References are not counted.
    Device,
}

/// A value of the state word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State(pub(super) u64);

/// Most references of either kind. A guest that asks for more is refused.
pub const MAX_REFERENCES: u64 = (1 << COUNT_BITS) - 1;

const COUNT_BITS: u32 = 26;
const REFERENCE: u64 = 1;
const TYPE_REFERENCE: u64 = 1 << COUNT_BITS;
const TYPE_COUNT: u64 = MAX_REFERENCES << COUNT_BITS;
const TYPE_SHIFT: u32 = 2 * COUNT_BITS;
const TYPE_MASK: u64 = 7 << TYPE_SHIFT;
const VALIDATED: u64 = 1 << 55;
const PINNED: u64 = 1 << 56;
const ALLOCATION: u64 = 1 << 57;
const FOREIGN: u64 = 1 << 58;
const USAGE_SHIFT: u32 = 62;
const FREE_DIRTY: u64 = 1 << 8;

impl State {
    /// A frame nobody may touch: the meaning of zeroed memory.
    pub const RESERVED: State = State(0);
    /// A frame that is not RAM.
    pub const DEVICE: State = State(3 << USAGE_SHIFT);
    /// Allocated, no owner, no references.
    pub const IN_USE: State = State(2 << USAGE_SHIFT);

    /// The head of a free block of `2^order` frames.
    pub const fn free_head(order: u8, dirty: bool) -> State {
        State((1 << USAGE_SHIFT) | order as u64 | if dirty { FREE_DIRTY } else { 0 })
    }

    /// Allocated to a domain, which holds the allocation reference and nothing else.
    pub const fn allocated() -> State {
        State(State::IN_USE.0 | ALLOCATION | REFERENCE)
    }

    /// Allocated again to the domain that it was just taken from. What other domains had done with it is forgotten, so
    /// that it counts as seen by them.
    pub const fn restored() -> State {
        State(State::allocated().0 | FOREIGN)
    }

    /// Allocated to a domain that may map it. The one reference is the hypervisor's, and it is of type writable: the
    /// hypervisor writes there, so it must never be a table of the domain's.
    pub const fn shared() -> State {
        let kind = (FrameType::Writable as u64) << TYPE_SHIFT | VALIDATED;
        State(State::IN_USE.0 | kind | TYPE_REFERENCE | REFERENCE)
    }

    /// The hypervisor's own, for good, to be mapped by the control domain for reading: the one type reference, which is
    /// never dropped, is of no type that a guest could ask for.
    pub const fn read_only() -> State {
        State(State::IN_USE.0 | TYPE_REFERENCE | REFERENCE)
    }

    /// What the frame is used for.
    pub const fn usage(self) -> Usage {
        match self.0 >> USAGE_SHIFT {
            0 => Usage::Reserved,
            1 => Usage::FreeHead,
            2 => Usage::InUse,
            _ => Usage::Device,
        }
    }

    /// Order and dirtiness of the free block that starts here.
    pub const fn free_block(self) -> Option<(u8, bool)> {
        match self.usage() {
            Usage::FreeHead => Some(((self.0 & 0xff) as u8, self.0 & FREE_DIRTY != 0)),
            Usage::Reserved | Usage::InUse | Usage::Device => None,
        }
    }

    /// General references: one for each use of any kind.
    pub const fn references(self) -> u64 {
        self.0 & MAX_REFERENCES
    }

    /// Type references: the uses that rely on the type.
    pub const fn type_references(self) -> u64 {
        (self.0 >> COUNT_BITS) & MAX_REFERENCES
    }

    /// The type; only relied upon while there are type references.
    pub const fn frame_type(self) -> FrameType {
        match (self.0 & TYPE_MASK) >> TYPE_SHIFT {
            1 => FrameType::Writable,
            2 => FrameType::Descriptors,
            3 => FrameType::L1,
            4 => FrameType::L2,
            5 => FrameType::L3,
            6 => FrameType::L4,
            _ => FrameType::None,
        }
    }

    /// Whether the type is `kind`.
    pub const fn is_type(self, kind: FrameType) -> bool {
        self.0 & TYPE_MASK == (kind as u64) << TYPE_SHIFT
    }

    /// Whether the contents were checked for the type, so that others may take further type references.
    pub const fn is_validated(self) -> bool {
        self.0 & VALIDATED != 0
    }

    /// Whether the guest pinned the table: one type reference is the pin's.
    pub const fn is_pinned(self) -> bool {
        self.0 & PINNED != 0
    }

    /// Whether the owner still holds the reference that came with the allocation.
    pub const fn has_allocation(self) -> bool {
        self.0 & ALLOCATION != 0
    }

    /// Whether a domain other than the owner held a reference since the frame was allocated.
    pub const fn is_foreign(self) -> bool {
        self.0 & FOREIGN != 0
    }

    /// Whether the contents were checked for the type `kind`. Then the frame is in use: all others lack the flag.
    const fn is_checked_as(self, kind: FrameType) -> bool {
        self.0 & (TYPE_MASK | VALIDATED) == (kind as u64) << TYPE_SHIFT | VALIDATED
    }

    /// Whether the frame is in use as `kind` now, and checked.
    pub const fn is_live(self, kind: FrameType) -> bool {
        // The count, the type and the flag are neighbours: one comparison tests them all.
        let field = (self.0 & (TYPE_COUNT | TYPE_MASK | VALIDATED)) >> COUNT_BITS;
        let none = (VALIDATED | (kind as u64) << TYPE_SHIFT) >> COUNT_BITS;
        field.wrapping_sub(none + 1) < MAX_REFERENCES
    }
}

/// Why a reference can't be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TakeError {
    /// Free, or no RAM at all.
    NotInUse,
    /// In use as another type.
    OtherType,
    /// In use as this type, but being checked or taken apart.
    Changing,
    /// The count is at its limit.
    Overflow,
}

/// The transitions.
impl State {
    /// One more general reference.
    #[inline]
    pub(super) fn referenced(self, foreign: bool) -> Result<State, TakeError> {
        if self.usage() != Usage::InUse {
            return Err(TakeError::NotInUse);
        }
        match self.references() {
            0 => Err(TakeError::NotInUse),
            MAX_REFERENCES => Err(TakeError::Overflow),
            _ => Ok(State((self.0 + REFERENCE) | foreign_bit(foreign))),
        }
    }

    /// One general reference less.
    #[inline]
    pub(super) fn unreferenced(self) -> State {
        if self.references() <= self.type_references() {
            self.has_no_reference();
        }
        State(self.0 - REFERENCE)
    }

    /// Not where it could happen: there it would cost three instructions although it doesn't.
    #[cold]
    fn has_no_reference(self) -> ! {
        panic!("dropping a reference that is not there: {self:?}")
    }

    /// One more reference of type `kind`, with a general one.
    ///
    /// A writable page whose count is 0 stays validated: it needs no flush to become writable again.
    #[inline]
    pub(super) fn take(self, kind: FrameType, foreign: bool) -> Result<(State, Taken), TakeError> {
        if let Some(taken) = self.take_validated(kind, foreign) {
            return Ok((taken, Taken::Validated));
        }
        let next = self.referenced(foreign)?;
        if self.type_references() == 0 {
            let untyped = next.0 & !(TYPE_MASK | VALIDATED);
            return Ok((State((untyped | (kind as u64) << TYPE_SHIFT) + TYPE_REFERENCE), Taken::First));
        }
        Err(if self.is_type(kind) { TakeError::Changing } else { TakeError::OtherType })
    }

    /// [`State::take`] where there is nothing to check, else `None`: mostly the frame has that type already.
    #[inline]
    pub(super) fn take_validated(self, kind: FrameType, foreign: bool) -> Option<State> {
        // In use, because it is checked. The other count can't overflow: each type reference comes with a general one.
        let (usable, countable) = match kind {
            FrameType::Writable => (self.is_checked_as(kind), self.references().wrapping_sub(1) < MAX_REFERENCES - 1),
            _ => (self.is_live(kind), self.references() < MAX_REFERENCES),
        };
        (usable && countable).then_some(State((self.0 + TYPE_REFERENCE + REFERENCE) | foreign_bit(foreign)))
    }

    /// One reference of type `kind` less, with its general one. The last one of a table stays, not validated: its
    /// entries have to be dropped first, and then [`State::abandoned`] follows.
    #[inline]
    pub(super) fn released(self, kind: FrameType) -> State {
        if !self.is_live(kind) {
            self.has_no_reference();
        }
        if self.type_references() == 1 && kind.is_table() {
            return State(self.0 & !VALIDATED);
        }
        State(self.0 - TYPE_REFERENCE - REFERENCE)
    }

    /// The contents were checked: others may take the type too.
    pub(super) fn confirmed(self) -> State {
        assert!(self.type_references() == 1 && !self.is_validated(), "confirming {self:?}");
        State(self.0 | VALIDATED)
    }

    /// The only type reference, of a frame that is not validated, is dropped.
    pub(super) fn abandoned(self) -> State {
        assert!(self.type_references() == 1 && !self.is_validated(), "abandoning {self:?}");
        State(self.0 - TYPE_REFERENCE - REFERENCE)
    }

    /// With the pin set. The caller holds the type reference that becomes the pin's.
    pub(super) fn pinned(self) -> State {
        State(self.0 | PINNED)
    }

    /// With the pin cleared. The type reference becomes the caller's.
    pub(super) fn unpinned(self) -> State {
        State(self.0 & !PINNED)
    }

    /// Without the allocation reference, which must be there.
    pub(super) fn given_back(self) -> State {
        assert!(self.has_allocation(), "giving back {self:?}");
        State(self.0 & !ALLOCATION).unreferenced()
    }
}

const fn foreign_bit(foreign: bool) -> u64 {
    if foreign { FOREIGN } else { 0 }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (references, type_references) = (self.references(), self.type_references());
        write!(f, "{:?} {} refs {references} type refs {type_references}", self.usage(), self.frame_type())?;
        for (set, name) in [
            (self.is_validated(), " validated"),
            (self.is_pinned(), " pinned"),
            (self.has_allocation(), " allocation"),
            (self.is_foreign(), " foreign"),
        ] {
            if set {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}
