//! Counts and addresses that overflow when they are multiplied or added.

use crate::check::{BAD_POINTERS, HYPERVISOR, NON_CANONICAL, Told, call, equal, holds, reads};
use crate::stories::mmu::ground::*;
use crate::stories::mmu::reservation::{list, owned, reservation};
use guest_kernel::memory;
use pv_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use pv_abi::domid::DOMID_SELF;
use pv_abi::hypercall::*;
use pv_abi::memory::*;
use pv_abi::mmu::{MMU_UPDATE_PREEMPTED, MmuUpdate};
use pv_abi::sched::{SCHEDOP_POLL, SchedPoll};

/// Counts that wrap with one of the ABI's element sizes, or come close.
const COUNTS: [u64; 14] = [
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    (1 << 32) + 1,
    1 << 58,
    1 << 60,
    (1 << 60) + 1,
    1 << 61,
    (1 << 61) + 1,
    1 << 62,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Every call with a list, with counts that overflow and starts from which any count leads out of the guest's memory.
pub fn lists() -> Told {
    let own = u64::from(DOMID_SELF);
    let page = Page::new();
    let before = (owned(), memory::pseudo_physical_frame(page.mfn));
    let starts = [HYPERVISOR, NON_CANONICAL, 0xffff_7fff_ffff_fff0, 0x7fff_ffff_fff0, u64::MAX - 15, u64::MAX, 1];
    for start in starts {
        for count in COUNTS {
            let _ = call(MMU_UPDATE, [start, count, 0, own]);
            let _ = call(MMUEXT_OP, [start, count, 0, own]);
            let _ = call(MULTICALL, [start, count]);
            let _ = call(SET_GDT, [start, count]);
            let _ = call(CONSOLE_IO, [u64::from(CONSOLEIO_READ), count, start]);
            if start != 1 {
                let _ = call(CONSOLE_IO, [u64::from(CONSOLEIO_WRITE), count, start]);
            }
            let ports = SchedPoll { ports: start, nr_ports: u32::MAX, _pad: 0, timeout: 1 };
            let _ = call(SCHED_OP, [u64::from(SCHEDOP_POLL), reads(&ports)]);
            for command in [XENMEM_INCREASE_RESERVATION, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP] {
                let argument = MemoryReservation { extent_start: start, nr_extents: count, ..list(&mut []) };
                let _ = reservation(command, &argument);
            }
        }
    }
    equal("frames", owned().abs_diff(before.0) <= COUNTS.len() as u64 * 7, true)?;
    equal("the word", memory::pseudo_physical_frame(page.mfn), before.1)
}

/// Restart positions that the guest makes up: in the count of updates, and in the command of `memory_op`.
pub fn restarts() -> Told {
    let own = u64::from(DOMID_SELF);
    let page = Page::new();
    let updates = [MmuUpdate { ptr: page.slot(0), val: 3 }];
    for start in [0, 1, 0x7fff_ffff, u32::MAX - 1, u32::MAX] {
        let mut done = start;
        let count = u64::from(1 | MMU_UPDATE_PREEMPTED);
        equal("one update", call(MMU_UPDATE, [reads(&updates), count, (&raw mut done) as u64, own]), Ok(0))?;
        equal("its word", page.read(0), 3)?;
        holds("the count goes on from what it was", done == start.wrapping_add(1) || done == 1)?;
    }
    let before = owned();
    let mut frames = [page.mfn; 2];
    for start in [1u64, 2, 3, 100, (1 << 26) - 1, 1 << 57] {
        for command in [XENMEM_INCREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP, XENMEM_DECREASE_RESERVATION] {
            let empty = MemoryReservation { nr_extents: 1, ..list(&mut frames) };
            let argument = [u64::from(command) | start << 6, reads(&empty)];
            let _ = call(MEMORY_OP, argument);
        }
        let mut exchange = MemoryExchange { input: list(&mut frames), output: list(&mut []), nr_exchanged: 0 };
        let _ = call(MEMORY_OP, [u64::from(XENMEM_EXCHANGE) | start << 6, (&raw mut exchange) as u64]);
    }
    equal("frames", owned(), before)?;
    equal("its word", page.read(0), 3)
}

/// Sizes and widths of extents that nothing has.
pub fn orders() -> Told {
    let before = owned();
    let mut frames = [Page::new().mfn];
    let good = list(&mut frames);
    for order in [10, 18, 20, 52, 63, 64, 65, 128, 1 << 31, u32::MAX] {
        for command in [XENMEM_INCREASE_RESERVATION, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP] {
            if is_privileged() && order < 20 {
                continue;
            }
            let argument = MemoryReservation { extent_order: order, ..good };
            let answer = reservation(command, &argument);
            holds("order", !matches!(answer, Ok(1..)))?;
        }
        let sized = MemoryReservation { extent_order: order, ..good };
        for (input, output) in [(sized, good), (good, sized), (sized, sized)] {
            let mut argument = MemoryExchange { input, output, nr_exchanged: 0 };
            let answer = call(MEMORY_OP, [u64::from(XENMEM_EXCHANGE), (&raw mut argument) as u64]);
            holds("exchange", answer.is_err())?;
        }
    }
    for pointer in BAD_POINTERS {
        let argument =
            MemoryReservation { extent_start: pointer, extent_order: u32::MAX, nr_extents: u64::MAX, ..good };
        let _ = reservation(XENMEM_POPULATE_PHYSMAP, &argument);
    }
    equal("frames", owned(), before)
}
