//! Page tables: `mmu_update`, `mmuext_op`, `update_va_mapping`. Header: `xen.h`.

use super::{Answer, call};
use pv_abi::domid::DOMID_SELF;
use pv_abi::hypercall as number;
use pv_abi::mmu::{MmuUpdate, MmuextOp, UVMF_ALL, UVMF_INVLPG, UVMF_LOCAL, UVMF_MULTI, UVMF_NONE, UVMF_TLB_FLUSH};

/// Whose frames a list of updates is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Whose frames the new entries map.
    pub pages: u16,
    /// Whose page tables are changed, for `mmu_update` only; `None` means the caller's.
    pub tables: Option<u16>,
}

impl Owner {
    /// The calling domain's tables and frames.
    pub const SELF: Owner = Owner { pages: DOMID_SELF, tables: None };

    /// The argument's form: the frames' owner in the low half, the tables' owner plus one in the high half.
    const fn argument(self) -> u64 {
        let tables = match self.tables {
            Some(domain) => domain as u64 + 1,
            None => 0,
        };
        tables << 16 | self.pages as u64
    }
}

/// Makes the page-table updates of a list, in order, up to the first that is refused (`mmu_update`).
///
/// `done` receives how many were made. TLBs are flushed only as far as the hypervisor's own safety needs it.
///
/// # Errors
/// Those of the update that was refused.
///
/// # Safety
/// No mapping of memory that Rust believes to be its own changes its frame or its rights, and where a stale translation
/// matters the caller flushes it.
pub unsafe fn mmu_update(updates: &[MmuUpdate], done: Option<&mut u32>, owner: Owner) -> Answer {
    let args = [updates.as_ptr() as u64, updates.len() as u64, address_of(done), owner.argument(), 0];
    // SAFETY: the call reads the list and writes `done`; mappings are the caller's promise.
    unsafe { call(number::MMU_UPDATE, args) }
}

/// Does the operations of a list, in order, up to the first that is refused (`mmuext_op`). [`mmuext`] makes them.
///
/// `done` receives how many were done.
///
/// # Errors
/// Those of the operation that was refused.
///
/// # Safety
/// As [`mmu_update`]; memory that Rust believes to be its own stays mapped under a new base table; frames to be cleared
/// or copied to are the caller's.
pub unsafe fn mmuext_op(operations: &[MmuextOp], done: Option<&mut u32>, owner: Owner) -> Answer {
    let args = [operations.as_ptr() as u64, operations.len() as u64, address_of(done), owner.argument(), 0];
    // SAFETY: as above.
    unsafe { call(number::MMUEXT_OP, args) }
}

/// The vCPUs that a flush is for.
#[derive(Clone, Copy, Debug)]
pub enum Vcpus<'a> {
    /// The one that calls.
    Here,
    /// All of the domain.
    All,
    /// Those whose bits are set, 64 in each word. The ABI wants a word for every 64 vCPUs that the domain may have.
    Mask(&'a [u64]),
}

/// What `update_va_mapping` flushes from TLBs when it has succeeded.
#[derive(Clone, Copy, Debug)]
pub enum Flush<'a> {
    /// Nothing.
    None,
    /// The address.
    Address(Vcpus<'a>),
    /// Everything.
    Tlb(Vcpus<'a>),
}

impl Flush<'_> {
    /// The argument's form. A mask's address is a multiple of 8, so the low bits are free for the kind of flush.
    fn argument(self) -> u64 {
        let (kind, vcpus) = match self {
            Flush::None => return UVMF_NONE,
            Flush::Address(vcpus) => (UVMF_INVLPG, vcpus),
            Flush::Tlb(vcpus) => (UVMF_TLB_FLUSH, vcpus),
        };
        kind | match vcpus {
            Vcpus::Here => UVMF_LOCAL,
            Vcpus::All => UVMF_ALL,
            Vcpus::Mask(mask) => UVMF_MULTI | mask.as_ptr() as u64,
        }
    }
}

/// Writes the level 1 entry that maps `address` in the current address space (`update_va_mapping`).
///
/// # Errors
/// `EINVAL` where no level 1 table covers the address, and those of the entry.
///
/// # Safety
/// No Rust object lives in the page at `address`, and the new mapping is used only as what it maps.
pub unsafe fn update_va_mapping(address: u64, entry: u64, flush: Flush<'_>) -> Answer {
    // SAFETY: no Rust object lives in the page, as the caller promises; a mask is only read.
    unsafe { call(number::UPDATE_VA_MAPPING, [address, entry, flush.argument(), 0, 0]) }
}

/// [`update_va_mapping`] to a frame of another domain.
///
/// # Errors
/// As [`update_va_mapping`], and those of the domain's rights.
///
/// # Safety
/// As [`update_va_mapping`].
pub unsafe fn update_va_mapping_otherdomain(address: u64, entry: u64, flush: Flush<'_>, domain: u16) -> Answer {
    let args = [address, entry, flush.argument(), u64::from(domain), 0];
    // SAFETY: as above.
    unsafe { call(number::UPDATE_VA_MAPPING_OTHERDOMAIN, args) }
}

/// The address that a call writes its count to; 0 means that nobody wants it.
fn address_of(done: Option<&mut u32>) -> u64 {
    done.map_or(0, |done| (&raw mut *done) as u64)
}

/// The operations of [`mmuext_op`]. Frames are machine frames.
pub mod mmuext {
    use pv_abi::mmu::*;

    const fn operation(cmd: u32, arg1: u64, arg2: u64) -> MmuextOp {
        MmuextOp { cmd, _pad: 0, arg1, arg2 }
    }

    /// Keeps `frame` a table of `level`, 1 to 4.
    ///
    /// # Panics
    /// At other levels.
    pub const fn pin(level: u32, frame: u64) -> MmuextOp {
        assert!(level >= 1 && level <= 4, "no such level of page tables");
        operation(MMUEXT_PIN_L1_TABLE + level - 1, frame, 0)
    }

    /// Ends a pin.
    pub const fn unpin(frame: u64) -> MmuextOp {
        operation(MMUEXT_UNPIN_TABLE, frame, 0)
    }

    /// Loads the kernel's root table.
    pub const fn new_base(frame: u64) -> MmuextOp {
        operation(MMUEXT_NEW_BASEPTR, frame, 0)
    }

    /// Loads the user's root table; 0 for none.
    pub const fn new_user_base(frame: u64) -> MmuextOp {
        operation(MMUEXT_NEW_USER_BASEPTR, frame, 0)
    }

    /// Flushes this vCPU's TLB.
    pub const fn flush_here() -> MmuextOp {
        operation(MMUEXT_TLB_FLUSH_LOCAL, 0, 0)
    }

    /// Flushes one address from this vCPU's TLB.
    pub const fn flush_address_here(address: u64) -> MmuextOp {
        operation(MMUEXT_INVLPG_LOCAL, address, 0)
    }

    /// Flushes the TLBs of the vCPUs in the bitmap at `mask`.
    pub const fn flush_some(mask: u64) -> MmuextOp {
        operation(MMUEXT_TLB_FLUSH_MULTI, 0, mask)
    }

    /// Flushes one address from the TLBs of the vCPUs in the bitmap at `mask`.
    pub const fn flush_address_some(address: u64, mask: u64) -> MmuextOp {
        operation(MMUEXT_INVLPG_MULTI, address, mask)
    }

    /// Flushes all vCPUs' TLBs.
    pub const fn flush_all() -> MmuextOp {
        operation(MMUEXT_TLB_FLUSH_ALL, 0, 0)
    }

    /// Flushes one address from all vCPUs' TLBs.
    pub const fn flush_address_all(address: u64) -> MmuextOp {
        operation(MMUEXT_INVLPG_ALL, address, 0)
    }

    /// Writes back and empties this CPU's caches.
    pub const fn flush_cache() -> MmuextOp {
        operation(MMUEXT_FLUSH_CACHE, 0, 0)
    }

    /// Writes back and empties all CPUs' caches.
    pub const fn flush_cache_global() -> MmuextOp {
        operation(MMUEXT_FLUSH_CACHE_GLOBAL, 0, 0)
    }

    /// Sets the LDT: `entries` descriptors from `address`.
    pub const fn set_ldt(address: u64, entries: u32) -> MmuextOp {
        operation(MMUEXT_SET_LDT, address, entries as u64)
    }

    /// Fills `frame` with zeros.
    pub const fn clear_page(frame: u64) -> MmuextOp {
        operation(MMUEXT_CLEAR_PAGE, frame, 0)
    }

    /// Copies frame `from` to frame `to`.
    pub const fn copy_page(to: u64, from: u64) -> MmuextOp {
        operation(MMUEXT_COPY_PAGE, to, from)
    }

    /// Makes the 512 frames from `frame` a superpage.
    pub const fn mark_super(frame: u64) -> MmuextOp {
        operation(MMUEXT_MARK_SUPER, frame, 0)
    }

    /// Ends a superpage.
    pub const fn unmark_super(frame: u64) -> MmuextOp {
        operation(MMUEXT_UNMARK_SUPER, frame, 0)
    }
}
