//! `set_trap_table`: what it accepts, and what becomes of the table.

use crate::check::{NON_CANONICAL, Told, UNMAPPED, call, equal, reads, refused, trapped};
use guest_kernel::{probe, trap};
use pv_abi::errno::Errno;
use pv_abi::hypercall::SET_TRAP_TABLE;
use pv_abi::trap::TrapInfo;

/// Good and bad tables.
pub fn arguments() -> Told {
    // A null pointer is not bad here: it clears the table.
    for pointer in [UNMAPPED, NON_CANONICAL, 0xffff_8300_0000_0000, 0xffff_8000_0000_0000, u64::MAX - 2] {
        refused("bad pointer", call(SET_TRAP_TABLE, [pointer]), Errno::EFAULT)?;
    }
    for address in [NON_CANONICAL, 0xffff_7fff_ffff_ffff, 1 << 63] {
        let table = [TrapInfo { address, ..trap::gate(0x20, 0) }, TrapInfo::default()];
        refused("handler off the map", call(SET_TRAP_TABLE, [reads(&table)]), Errno::EINVAL)?;
    }
    let empty = [TrapInfo::default()];
    equal("empty table", call(SET_TRAP_TABLE, [reads(&empty)]), Ok(0))?;
    trapped("after the refusals", probe::ud2(), 6, 0)
}

/// An entry that sends `int 0x80` to the stub of `vector`, so that the handler tells which entry is in force.
fn int80_to(vector: u8) -> TrapInfo {
    TrapInfo { address: trap::stub_address(vector), ..trap::gate(0x80, 3) }
}

/// Registering adds to the table; a null pointer empties it.
pub fn replace() -> Told {
    trapped("at start", probe::int80(), 0x80, 0)?;
    trap::install(&[int80_to(0x81), TrapInfo::default()]);
    trapped("replaced", probe::int80(), 0x81, 0)?;
    trapped("a gate not named", probe::ud2(), 6, 0)?;

    equal("null table", call(SET_TRAP_TABLE, [0]), Ok(0))?;
    // No trap can be tried here: without a handler it would be the domain's end. (The story `crash-no-handler`.)
    trap::install(&trap::default_table());
    trapped("after clearing", probe::int80(), 0x80, 0)?;

    // The last of two entries for a vector counts, and entries behind the end don't.
    trap::install(&[int80_to(0x81), int80_to(0x82), TrapInfo::default(), int80_to(0x83), TrapInfo::default()]);
    trapped("the last entry", probe::int80(), 0x82, 0)
}

/// Entries before a bad one stay registered.
pub fn partial() -> Told {
    let bad = TrapInfo { address: NON_CANONICAL, ..trap::gate(6, 3) };
    let table = [int80_to(0x81), bad, int80_to(0x82), TrapInfo::default()];
    refused("second entry bad", call(SET_TRAP_TABLE, [table.as_ptr() as u64]), Errno::EINVAL)?;
    trapped("first entry", probe::int80(), 0x81, 0)
}
