//! Page tables: `mmu_update`, `mmuext_op` and `update_va_mapping`. Header: `xen.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// In [`MmuUpdate::ptr`]: the bits that hold the command.
pub const MMU_UPDATE_COMMAND_MASK: u64 = 3;
/// Writes a page-table entry, checked by the type of the table's frame.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// Writes the machine-to-pseudo-physical entry of a frame.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// [`MMU_NORMAL_PT_UPDATE`] that keeps the accessed and dirty bits that are set.
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
/// [`MMU_NORMAL_PT_UPDATE`] with a machine frame number, in a translated guest too.
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;

/// In the count argument of `mmu_update` and `mmuext_op`: the hypervisor restarts a call that it interrupted. Part of
/// the ABI, but in no header.
pub const MMU_UPDATE_PREEMPTED: u32 = 1 << 31;

/// One update of `mmu_update`: `struct mmu_update`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MmuUpdate {
    /// Machine address of the entry, with an `MMU_*` command in bits 0 and 1.
    pub ptr: u64,
    /// The new entry, or the new pseudo-physical frame number.
    pub val: u64,
}
layout!(MmuUpdate, 16, val @ 8);

/// Makes a frame an L1 table and keeps it one.
pub const MMUEXT_PIN_L1_TABLE: u32 = 0;
/// Makes a frame an L2 table and keeps it one.
pub const MMUEXT_PIN_L2_TABLE: u32 = 1;
/// Makes a frame an L3 table and keeps it one.
pub const MMUEXT_PIN_L3_TABLE: u32 = 2;
/// Makes a frame an L4 table and keeps it one.
pub const MMUEXT_PIN_L4_TABLE: u32 = 3;
/// Ends a pin.
pub const MMUEXT_UNPIN_TABLE: u32 = 4;
/// Loads the kernel's L4 table.
pub const MMUEXT_NEW_BASEPTR: u32 = 5;
/// Flushes the TLB of this CPU.
pub const MMUEXT_TLB_FLUSH_LOCAL: u32 = 6;
/// Flushes one address from the TLB of this CPU.
pub const MMUEXT_INVLPG_LOCAL: u32 = 7;
/// Flushes the TLBs of some vCPUs.
pub const MMUEXT_TLB_FLUSH_MULTI: u32 = 8;
/// Flushes one address from the TLBs of some vCPUs.
pub const MMUEXT_INVLPG_MULTI: u32 = 9;
/// Flushes the TLBs of all vCPUs.
pub const MMUEXT_TLB_FLUSH_ALL: u32 = 10;
/// Flushes one address from the TLBs of all vCPUs.
pub const MMUEXT_INVLPG_ALL: u32 = 11;
/// Writes back and flushes this CPU's caches.
pub const MMUEXT_FLUSH_CACHE: u32 = 12;
/// Sets the LDT.
pub const MMUEXT_SET_LDT: u32 = 13;
/// Loads the user's L4 table.
pub const MMUEXT_NEW_USER_BASEPTR: u32 = 15;
/// Fills a frame with zeros.
pub const MMUEXT_CLEAR_PAGE: u32 = 16;
/// Copies a frame.
pub const MMUEXT_COPY_PAGE: u32 = 17;
/// Writes back and flushes all CPUs' caches.
pub const MMUEXT_FLUSH_CACHE_GLOBAL: u32 = 18;
/// Makes 512 frames a superpage.
pub const MMUEXT_MARK_SUPER: u32 = 19;
/// Ends a superpage.
pub const MMUEXT_UNMARK_SUPER: u32 = 20;

/// One operation of `mmuext_op`: `struct mmuext_op`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MmuextOp {
    /// An `MMUEXT_*` operation.
    pub cmd: u32,
    /// Padding.
    pub _pad: u32,
    /// `mfn` or `linear_addr`: a machine frame number, or the address to flush or to set the LDT to.
    pub arg1: u64,
    /// `nr_ents` (low 32 bits), `vcpumask` or `src_mfn`: the LDT's entries, the guest address of a bitmap of vCPUs, or
    /// the machine frame to copy.
    pub arg2: u64,
}
layout!(MmuextOp, 24, arg1 @ 8, arg2 @ 16);

/// `update_va_mapping`: no flush.
pub const UVMF_NONE: u64 = 0;
/// `update_va_mapping`: flush the whole TLB.
pub const UVMF_TLB_FLUSH: u64 = 1;
/// `update_va_mapping`: flush the address.
pub const UVMF_INVLPG: u64 = 2;
/// `update_va_mapping`: the bits that say what to flush.
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// `update_va_mapping`: flush on the vCPUs in a bitmap, whose guest address is in the other bits.
pub const UVMF_MULTI: u64 = 0;
/// `update_va_mapping`: flush on this CPU only; the other bits are 0.
pub const UVMF_LOCAL: u64 = 0;
/// `update_va_mapping`: flush on all vCPUs.
pub const UVMF_ALL: u64 = 1 << 2;
