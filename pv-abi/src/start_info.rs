//! What a new guest kernel is told, in the page that `rsi` points to. Header: `xen.h`.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes for the command line, with its NUL.
pub const MAX_GUEST_CMDLINE: usize = 1024;

bitflags! {
    /// In [`StartInfo::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct StartFlags: u32 {
        /// The domain is privileged.
        const PRIVILEGED = 1 << 0;
        /// The domain is the first one, the control domain.
        const INITDOMAIN = 1 << 1;
        /// The module is a list of modules.
        const MULTIBOOT_MOD = 1 << 2;
        /// [`StartInfo::mod_start`] is a pseudo-physical frame number.
        const MOD_START_PFN = 1 << 3;
        /// The toolstack understands a physical-to-machine table that is only mapped linearly.
        const VIRT_P2M_4TOOLS = 1 << 4;
        /// Power-management options.
        const PM_MASK = 0xff << 8;
    }
}

/// The start-of-day page: `struct start_info`. All zeros behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StartInfo {
    /// The interface, `xen-3.0-x86_64`, with zeros behind.
    pub magic: [u8; 32],
    /// Frames the domain has.
    pub nr_pages: u64,
    /// **Machine address** of the shared-info frame.
    pub shared_info: u64,
    /// [`StartFlags`].
    pub flags: u32,
    /// Padding.
    pub _pad0: u32,
    /// Machine frame number of the XenStore ring; 0 if the domain is XenStore's host.
    pub store_mfn: u64,
    /// The domain's port to XenStore.
    pub store_evtchn: u32,
    /// Padding.
    pub _pad1: u32,
    /// Machine frame number of the console ring.
    ///
    /// Domain 0 has a description of its video console instead: the offset from this struct in the low 32 bits, the
    /// size in the high 32 bits.
    pub console_mfn: u64,
    /// The domain's port to the console. Unused in domain 0.
    pub console_evtchn: u32,
    /// Padding.
    pub _pad2: u32,
    /// Guest address of the L4 table.
    pub pt_base: u64,
    /// Frames of page tables, from `pt_base` on.
    pub nr_pt_frames: u64,
    /// Guest address of the physical-to-machine table, `nr_pages` entries of `u64`.
    pub mfn_list: u64,
    /// The module (initrd): a guest address, or a frame number with [`StartFlags::MOD_START_PFN`]. 0 if there is none.
    pub mod_start: u64,
    /// Bytes in the module.
    pub mod_len: u64,
    /// The command line, ended by NUL.
    pub cmd_line: [u8; MAX_GUEST_CMDLINE],
    /// The first pseudo-physical frame of the physical-to-machine table and the page tables that map it.
    pub first_p2m_pfn: u64,
    /// Frames from there.
    pub nr_p2m_frames: u64,
}
layout!(
    StartInfo, 1168,
    nr_pages @ 0x20, shared_info @ 0x28, flags @ 0x30, store_mfn @ 0x38, store_evtchn @ 0x40, console_mfn @ 0x48,
    console_evtchn @ 0x50, pt_base @ 0x58, mfn_list @ 0x68, mod_start @ 0x70, cmd_line @ 0x80, first_p2m_pfn @ 0x480,
);
