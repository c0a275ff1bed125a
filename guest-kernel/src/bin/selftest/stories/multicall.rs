//! `multicall`: a list of hypercalls in one.

use crate::check::{Told, call, equal, holds, refused, refuses_bad_pointers};
use guest_kernel::hypercall::Answer;
use guest_kernel::memory;
use guest_kernel::start::start_info;
use pv_abi::errno::Errno;
use pv_abi::hypercall::{MULTICALL, MulticallEntry, SCHED_OP, XEN_VERSION};
use pv_abi::sched::SCHEDOP_YIELD;
use pv_abi::version::{ExtraVersion, XENVER_EXTRAVERSION, XENVER_PAGESIZE, XENVER_VERSION};

fn entry(op: u32, args: [u64; 2]) -> MulticallEntry {
    MulticallEntry { op: u64::from(op), result: 0x5a5a, args: [args[0], args[1], 0, 0, 0, 0] }
}

fn multicall(list: &mut [MulticallEntry]) -> Answer {
    call(MULTICALL, [list.as_mut_ptr() as u64, list.len() as u64])
}

const fn code(errno: Errno) -> u64 {
    errno.code().cast_unsigned()
}

/// Each call's result lands in its entry, errors too, and later entries still run.
pub fn results() -> Told {
    let mut extra: ExtraVersion = [0xaa; 16];
    let version = call(XEN_VERSION, [u64::from(XENVER_VERSION)]);
    let mut list = [
        entry(XEN_VERSION, [u64::from(XENVER_VERSION), 0]),
        entry(63, [0, 0]),
        entry(XEN_VERSION, [99, 0]),
        entry(XEN_VERSION, [u64::from(XENVER_EXTRAVERSION), 0xffff_8300_0000_0000]),
        entry(XEN_VERSION, [u64::from(XENVER_EXTRAVERSION), extra.as_mut_ptr() as u64]),
        entry(SCHED_OP, [u64::from(SCHEDOP_YIELD), 0]),
        entry(XEN_VERSION, [u64::from(XENVER_PAGESIZE), 0]),
    ];
    let far = MulticallEntry { op: u64::MAX, ..list[1] };
    list[2] = far;
    let before = list;
    equal("multicall", multicall(&mut list), Ok(0))?;
    let results = list.map(|entry| entry.result);
    let (enosys, efault) = (code(Errno::ENOSYS), code(Errno::EFAULT));
    equal("results", results, [version.unwrap_or(0), enosys, enosys, efault, 0, 0, 4096])?;
    holds("a call that ran did nothing", extra != [0xaa; 16])?;
    let operations = list.map(|entry| entry.op);
    equal("operations", operations, before.map(|entry| entry.op))?;
    equal("an empty list", multicall(&mut []), Ok(0))?;

    let mut long = [entry(XEN_VERSION, [u64::from(XENVER_PAGESIZE), 0]); 256];
    equal("a long list", multicall(&mut long), Ok(0))?;
    holds("a long list's results", long.iter().all(|entry| entry.result == 4096))
}

/// Lists that can't be read or written.
pub fn bad() -> Told {
    refuses_bad_pointers("list", |pointer| call(MULTICALL, [pointer, 1]))?;
    // The second entry lies where nothing is mapped. The first one may have run by then.
    let last = (memory::mapped_end() - size_of::<MulticallEntry>() as u64) as *mut MulticallEntry;
    // SAFETY: the last mapped bytes are heap that nothing uses.
    unsafe { last.write(entry(XEN_VERSION, [u64::from(XENVER_PAGESIZE), 0])) };
    equal("an entry at the end", call(MULTICALL, [last as u64, 1]), Ok(0))?;
    // SAFETY: as above.
    equal("its result", unsafe { last.read() }.result, 4096)?;
    refused("an entry off the map", call(MULTICALL, [last as u64, 2]), Errno::EFAULT)?;
    refused("a huge count", call(MULTICALL, [last as u64, 0xffff_ffff]), Errno::EFAULT)?;

    // A page table can be read as a list, but no result written to it.
    let table = start_info().pt_base + 0x800;
    refused("a read-only list", call(MULTICALL, [table, 1]), Errno::EFAULT)
}

/// A multicall in a multicall is refused, and the rest of the outer one runs.
pub fn nested() -> Told {
    let mut inner = [entry(XEN_VERSION, [u64::from(XENVER_PAGESIZE), 0])];
    let mut outer =
        [entry(MULTICALL, [inner.as_mut_ptr() as u64, 1]), entry(XEN_VERSION, [u64::from(XENVER_PAGESIZE), 0])];
    equal("outer", multicall(&mut outer), Ok(0))?;
    equal("results", outer.map(|entry| entry.result), [code(Errno::EINVAL), 4096])?;
    equal("inner untouched", inner[0].result, 0x5a5a)
}
