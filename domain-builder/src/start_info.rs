//! The page that tells a new kernel where everything is.

use pv_abi::start_info::{MAX_GUEST_CMDLINE, StartFlags, StartInfo};
use zerocopy::FromZeros;

use super::{DomainMemory, Layout, Refusal};
use addresses::Mfn;

/// The interface's name and architecture. Kernels compare the first seven bytes.
const MAGIC: &[u8] = b"xen-3.0-x86_64";

/// What the domain's owner decides about its start.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    /// The kernel's command line.
    pub command_line: &'a str,
    /// The ramdisk's contents; empty if there is none.
    pub ramdisk: &'a [u8],
    /// The frame the hypervisor shares with the domain. Not part of its memory.
    pub shared_info: Mfn,
    /// `PRIVILEGED` and `INITDOMAIN` for the control domain, nothing for others.
    pub flags: StartFlags,
    /// The domain's port to XenStore; 0 makes Linux believe it is XenStore's host.
    pub store_port: u32,
    /// The domain's port to its console; 0 if it has none.
    pub console_port: u32,
}

/// Describes the planned domain to its kernel.
pub(super) fn compose<M: DomainMemory + ?Sized>(
    layout: &Layout,
    params: &Params<'_>,
    mem: &M,
) -> Result<StartInfo, Refusal> {
    let command_line = params.command_line.as_bytes();
    // One byte stays for the NUL.
    if command_line.len() >= MAX_GUEST_CMDLINE {
        return Err(Refusal::CommandLine(command_line.len()));
    }
    let mut info = StartInfo::new_zeroed();
    info.magic[..MAGIC.len()].copy_from_slice(MAGIC);
    info.nr_pages = layout.nr_pages;
    info.shared_info = params.shared_info.base().0;
    info.flags = params.flags.bits();
    info.store_mfn = mem.mfn(layout.store).0;
    info.store_evtchn = params.store_port;
    info.console_mfn = mem.mfn(layout.console).0;
    info.console_evtchn = params.console_port;
    info.pt_base = layout.address(layout.root());
    info.nr_pt_frames = layout.tables.count;
    info.mfn_list = layout.p2m_address;
    info.cmd_line[..command_line.len()].copy_from_slice(command_line);
    describe_ramdisk(layout, &mut info);
    if layout.separate_p2m.is_some() {
        // Linux reserves exactly these frames and later frees them, the tables included.
        info.first_p2m_pfn = layout.p2m.start.0;
        info.nr_p2m_frames = layout.p2m.count + layout.p2m_tables.count;
    }
    Ok(info)
}

fn describe_ramdisk(layout: &Layout, info: &mut StartInfo) {
    if layout.ramdisk_len == 0 {
        return;
    }
    info.mod_len = layout.ramdisk_len;
    if layout.ramdisk.start.0 >= layout.mapped {
        info.mod_start = layout.ramdisk.start.0;
        info.flags |= StartFlags::MOD_START_PFN.bits();
    } else {
        info.mod_start = layout.address(layout.ramdisk.start);
    }
}
