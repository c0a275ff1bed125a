//! `memory_op`: the queries.

use crate::check::{M2P, Told, UNMAPPED, call, equal, fail, holds, reads, refused, refuses_bad_pointers, writes};
use guest_kernel::hypercall::Answer;
use guest_kernel::memory;
use guest_kernel::start::start_info;
use pv_abi::domid::{DOMID_INVALID, DOMID_SELF};
use pv_abi::errno::Errno;
use pv_abi::hypercall::MEMORY_OP;
use pv_abi::memory::*;

fn memory_op(command: u32, argument: u64) -> Answer {
    call(MEMORY_OP, [u64::from(command), argument])
}

/// How much memory there is, and who asks.
pub fn queries() -> Told {
    let Ok(last) = memory_op(XENMEM_MAXIMUM_RAM_PAGE, 0) else { return fail("maximum_ram_page") };
    let own = (0..start_info().nr_pages).filter_map(memory::machine_frame).filter(|mfn| *mfn != u64::MAX);
    holds("a frame above the last", own.max().is_some_and(|highest| highest <= last))?;

    let me = MemoryDomain { domid: DOMID_SELF };
    let current = memory_op(XENMEM_CURRENT_RESERVATION, reads(&me)).unwrap_or(0);
    holds("fewer frames than start_info says", current >= start_info().nr_pages)?;
    let limit = memory_op(XENMEM_MAXIMUM_RESERVATION, reads(&me));
    holds("limit below current", limit.is_ok_and(|limit| limit >= current))?;
    let nobody = MemoryDomain { domid: DOMID_INVALID };
    refused("nobody's reservation", memory_op(XENMEM_CURRENT_RESERVATION, reads(&nobody)), Errno::ESRCH)?;
    refused("nobody's limit", memory_op(XENMEM_MAXIMUM_RESERVATION, reads(&nobody)), Errno::ESRCH)
}

/// Where the machine-to-physical table is.
pub fn machphys_mapping() -> Told {
    let mut mapping = MachphysMapping { v_start: 0, v_end: 0, max_mfn: 0 };
    equal("machphys_mapping", memory_op(XENMEM_MACHPHYS_MAPPING, writes(&mut mapping)), Ok(0))?;
    equal("start", mapping.v_start, MACH2PHYS_VIRT_START)?;
    equal("end", mapping.v_end, MACH2PHYS_VIRT_END)?;
    // Xen's "maximum page" is the number of the first one that isn't there.
    let pages = memory_op(XENMEM_MAXIMUM_RAM_PAGE, 0).unwrap_or(u64::MAX);
    holds("table ends before RAM", mapping.max_mfn + 1 >= pages)
}

/// The domain's memory map, where it has one: RAM up to at least its pages.
pub fn memory_map() -> Told {
    let mut entries = [E820Entry { addr: 0, size: 0, kind: 0 }; 128];
    let mut map = MemoryMap { nr_entries: 128, _pad: 0, buffer: entries.as_mut_ptr() as u64 };
    match memory_op(XENMEM_MEMORY_MAP, writes(&mut map)) {
        // Kernels then take the map to be one range of `nr_pages`. Xen answers so to the domain it builds itself.
        Err(Errno::ENOSYS) => return Ok(()),
        answer => equal("memory_map", answer, Ok(0))?,
    }
    let count = usize::try_from(map.nr_entries).unwrap_or(usize::MAX);
    holds("number of entries", (1..=128).contains(&count))?;
    let ram: u64 = entries[..count].iter().filter(|entry| entry.kind == E820_RAM).map(|entry| entry.size).sum();
    holds("less RAM than pages", ram >= start_info().nr_pages * 4096)?;

    let wild = MemoryMap { nr_entries: 128, _pad: 0, buffer: UNMAPPED };
    refused("buffer nowhere", memory_op(XENMEM_MEMORY_MAP, reads(&wild)), Errno::EFAULT)?;
    let hostile = MemoryMap { nr_entries: 128, _pad: 0, buffer: M2P };
    refused("buffer in the hypervisor", memory_op(XENMEM_MEMORY_MAP, reads(&hostile)), Errno::EFAULT)
}

/// Bad pointers and unknown commands.
pub fn bad() -> Told {
    for command in [XENMEM_CURRENT_RESERVATION, XENMEM_MAXIMUM_RESERVATION, XENMEM_MACHPHYS_MAPPING] {
        refuses_bad_pointers("query", |pointer| memory_op(command, pointer))?;
    }
    for command in [8, 60, 63] {
        refused("unknown command", memory_op(command, 0), Errno::ENOSYS)?;
    }
    Ok(())
}
