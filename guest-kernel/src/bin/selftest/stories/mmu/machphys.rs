//! The frames of the machine-to-physical table: listed for everybody, and mapped, to be read, by the domain with privilege.

use super::ground::*;
use crate::check::{Told, call, equal, holds, refused, refuses_bad_pointers, writes};
use alloc::format;
use guest_kernel::hypercall::Answer;
use guest_kernel::memory;
use guest_kernel::paging::PAGE_SIZE;
use guest_kernel::start::start_info;
use pv_abi::domid::{DOMID_SELF, DOMID_XEN};
use pv_abi::errno::Errno;
use pv_abi::hypercall::{MEMORY_OP, UPDATE_VA_MAPPING_OTHERDOMAIN};
use pv_abi::memory::{MachphysMfnList, XENMEM_MACHPHYS_MFN_LIST, XENMEM_MAXIMUM_RAM_PAGE};
use pv_abi::mmu::UVMF_INVLPG;

/// Frames whose entries fill 2 MiB of the table.
const STRETCH: u64 = (2 << 20) / 8;
/// Frames whose entries fill a page.
const ENTRIES: u64 = PAGE_SIZE / 8;

fn list(into: &mut [u64]) -> Result<u32, Errno> {
    let mut argument = MachphysMfnList {
        max_extents: u32::try_from(into.len()).unwrap_or(u32::MAX),
        extent_start: into.as_mut_ptr() as u64,
        ..MachphysMfnList::default()
    };
    call(MEMORY_OP, [XENMEM_MACHPHYS_MFN_LIST.into(), writes(&mut argument)]).map(|_| argument.nr_extents)
}

fn map_in_name(domain: u16, mfn: u64, flags: u64) -> Answer {
    call(UPDATE_VA_MAPPING_OTHERDOMAIN, [WINDOW, mfn << 12 | flags, UVMF_INVLPG, domain.into()])
}

/// The list, and the domain's own entries in the frames that it names.
pub fn frames() -> Told {
    let end = call(MEMORY_OP, [XENMEM_MAXIMUM_RAM_PAGE.into(), 0]).unwrap_or(0);
    let expected = end.div_ceil(STRETCH);
    let mut bases = [u64::MAX; 64];
    let told = list(&mut bases).map(u64::from);
    equal("stretches of the table", told, Ok(expected.min(64)))?;
    let (bases, rest) = bases.split_at(usize::try_from(expected.min(64)).unwrap_or(64));
    holds("frames in rows of 512", bases.iter().all(|base| base.is_multiple_of(512) && *base < end))?;
    holds("only as many were written", rest.iter().all(|word| *word == u64::MAX))?;
    equal("none asked for", list(&mut []), Ok(0))?;
    let mut nowhere = MachphysMfnList { max_extents: 1, ..MachphysMfnList::default() };
    nowhere.extent_start = crate::check::UNMAPPED;
    let answer = call(MEMORY_OP, [XENMEM_MACHPHYS_MFN_LIST.into(), writes(&mut nowhere)]);
    refused("a list nowhere", answer, Errno::EFAULT)?;
    refuses_bad_pointers("machphys_mfn_list", |at| call(MEMORY_OP, [XENMEM_MACHPHYS_MFN_LIST.into(), at]))?;

    let _tree = Tree::hooked()?;
    // Not each: they are in rows.
    for pfn in (0..start_info().nr_pages).step_by(511) {
        let Some(mfn) = memory::machine_frame(pfn).filter(|mfn| *mfn < end) else { continue };
        let Some(base) = bases.get(usize::try_from(mfn / STRETCH).unwrap_or(64)) else { continue };
        let frame = base + mfn % STRETCH / ENTRIES;
        if !is_privileged() {
            holds("mapping a frame of the table", map_in_name(DOMID_XEN, frame, READ).is_err())?;
            continue;
        }
        equal("mapping a frame of the table", map_in_name(DOMID_XEN, frame, READ), Ok(0))?;
        // SAFETY: the page was just mapped, and the word is in it.
        let entry = unsafe { ((WINDOW + mfn % ENTRIES * 8) as *const u64).read_volatile() };
        equal(&format!("the entry of frame {mfn:#x}"), entry, pfn)?;
        holds("mapping it to write", map_in_name(DOMID_XEN, frame, WRITE).is_err())?;
        equal("taking it away", map_in_name(DOMID_SELF, 0, 0), Ok(0))?;
        holds("mapping it as one's own", map_in_name(DOMID_SELF, frame, READ).is_err())?;
    }
    if is_privileged() {
        let own = memory::machine_frame(start_info().nr_pages / 2).unwrap_or(0);
        holds("one's own frame in its name", map_in_name(DOMID_XEN, own, READ).is_err())?;
    }
    Ok(())
}
