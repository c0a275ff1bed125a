//! Why an operation did not finish: it has to go on later, or it was refused.

use core::fmt;

use pv_abi::errno::Errno;

use super::entry::Entry;
use super::flush::CpuSet;
use super::state::{FrameType, Level};
use crate::addr::Mfn;

/// Why an operation returned before it was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Stop {
    /// Do a full flush on these CPUs, each posted to the [`FlushClock`](super::flush::FlushClock), then call again.
    /// Calling again without it leads back here: nothing relies on the caller's word.
    Flush(CpuSet),
    /// The budget is used up, there are frames to free first, or another vCPU is at work on a table. Carry out the
    /// effects, let interrupts and other vCPUs in, then call again with a new budget.
    Again,
    /// Refused for good; nothing has changed.
    Refused(Refused),
}

/// A refusal, and the page-table entry it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The reason.
    pub why: Refusal,
    /// The innermost entry that could not be accepted; `None` if the request itself was at fault.
    pub entry: Option<EntryAt>,
}

/// A page-table entry, where it is or was to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryAt {
    /// The table.
    pub table: Mfn,
    /// Its level.
    pub level: Level,
    /// The entry's number in it.
    pub index: usize,
    /// The value that was asked for.
    pub value: Entry,
}

/// The reasons. [`Refused::errno`] gives each its ABI code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The frame does not exist, is free, or belongs to somebody else.
    NotOwned(Mfn),
    /// The frame is in use as another type.
    InUse {
        /// The frame.
        mfn: Mfn,
        /// What it is in use as.
        is: FrameType,
        /// What it was to be used as.
        wanted: FrameType,
    },
    /// The frame has as many references as can be counted.
    TooManyReferences(Mfn),
    /// A device frame that this domain was not given.
    NotPermitted(Mfn),
    /// A bit that guests may not set.
    Flags,
    /// An entry that is not present but names cacheable memory, on a CPU that would leak it (L1TF).
    NotPresentNamesMemory,
    /// An L4 slot of the hypervisor's.
    HypervisorSlot,
    /// Another domain's page in a table above L1.
    ForeignTable,
    /// A page-table address that is not a multiple of 8.
    Misaligned,
    /// No L1 table maps this address.
    NotMapped,
    /// The table is pinned already.
    Pinned(Mfn),
    /// The table is not pinned.
    NotPinned(Mfn),
    /// A descriptor that guests may not have.
    Descriptor {
        /// The page.
        mfn: Mfn,
        /// The descriptor's number in it.
        index: usize,
        /// Its value.
        value: u64,
    },
    /// The frame is not the domain's allocation (any more), so it can't be given back.
    NotAllocated(Mfn),
}

impl Stop {
    /// A refusal that is not about a particular entry.
    #[cold]
    pub const fn refuse(why: Refusal) -> Stop {
        Stop::Refused(Refused { why, entry: None })
    }

    /// Says which entry the refusal is about, unless an inner one is named already.
    pub(super) fn about(self, at: EntryAt) -> Stop {
        match self {
            Stop::Refused(Refused { why, entry: None }) => Stop::Refused(Refused { why, entry: Some(at) }),
            Stop::Refused(_) | Stop::Flush(_) | Stop::Again => self,
        }
    }
}

impl Refused {
    /// The code the guest gets; the same as Xen's for the same request.
    pub fn errno(&self) -> Errno {
        let leaf = self.entry.is_some_and(|at| at.level == Level::L1);
        match self.why {
            Refusal::NotOwned(_) | Refusal::InUse { .. } | Refusal::TooManyReferences(_) if leaf => Errno::EBUSY,
            Refusal::NotPermitted(_) => Errno::EPERM,
            Refusal::NotOwned(_)
            | Refusal::InUse { .. }
            | Refusal::TooManyReferences(_)
            | Refusal::Flags
            | Refusal::NotPresentNamesMemory
            | Refusal::HypervisorSlot
            | Refusal::ForeignTable
            | Refusal::Misaligned
            | Refusal::NotMapped
            | Refusal::Pinned(_)
            | Refusal::NotPinned(_)
            | Refusal::Descriptor { .. }
            | Refusal::NotAllocated(_) => Errno::EINVAL,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(EntryAt { table, level, index, value }) = self.entry {
            write!(f, "{level:?} table {table} entry {index} = {:#x}: ", value.0)?;
        }
        self.why.fmt(f)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotOwned(mfn) => write!(f, "frame {mfn} is not the domain's"),
            Refusal::InUse { mfn, is, wanted } => write!(f, "frame {mfn} is in use as {is}, not {wanted}"),
            Refusal::TooManyReferences(mfn) => write!(f, "frame {mfn} has too many references"),
            Refusal::NotPermitted(mfn) => write!(f, "device frame {mfn} is not permitted"),
            Refusal::Flags => f.write_str("bits that guests may not set"),
            Refusal::NotPresentNamesMemory => f.write_str("not present, but names memory (L1TF)"),
            Refusal::HypervisorSlot => f.write_str("slot belongs to the hypervisor"),
            Refusal::ForeignTable => f.write_str("another domain's frame in an upper table"),
            Refusal::Misaligned => f.write_str("entry address is not a multiple of 8"),
            Refusal::NotMapped => f.write_str("no L1 table for the address"),
            Refusal::Pinned(mfn) => write!(f, "table {mfn} is pinned already"),
            Refusal::NotPinned(mfn) => write!(f, "frame {mfn} is not pinned"),
            Refusal::Descriptor { mfn, index, value } => {
                write!(f, "descriptor {index} of frame {mfn} = {value:#x} is not allowed")
            }
            Refusal::NotAllocated(mfn) => write!(f, "frame {mfn} is not allocated to the domain"),
        }
    }
}
