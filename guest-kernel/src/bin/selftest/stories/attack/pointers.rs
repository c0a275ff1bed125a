//! Results go where the guest says, and must never go to memory that it can't write itself.
//!
//! Two kinds of such memory the guest can read, to see whether a store went through: a word of the machine-to-physical
//! table, and a page of its own, where it lies in the hypervisor's mapping of all memory.

use crate::check::{BAD_POINTERS, HYPERVISOR, Told, call, equal, reads};
use crate::stories::mmu::ground::*;
use crate::stories::mmu::reservation::{list, owned};
use alloc::format;
use guest_kernel::hypercall::mmuext;
use guest_kernel::paging::PAGE_SIZE;
use guest_kernel::{memory, probe};
use pv_abi::console::CONSOLEIO_READ;
use pv_abi::domid::DOMID_SELF;
use pv_abi::hypercall::*;
use pv_abi::memory::*;
use pv_abi::mmu::{MMU_UPDATE_PREEMPTED, MmuUpdate};
use pv_abi::version::*;

/// The address of a page's word in the machine-to-physical table.
fn entry_of(page: Page) -> u64 {
    MACH2PHYS_VIRT_START + 8 * page.mfn
}

/// Where a page is in the hypervisor's mapping of all memory: Pavise's, and Xen's.
fn aliases(page: Page) -> [u64; 2] {
    [0xffff_8200_0000_0000, 0xffff_8300_0000_0000].map(|all_memory| all_memory + page.mfn * PAGE_SIZE)
}

/// Places that no result may go to: the page's aliases and its word in the table, with what is around it; tables; what
/// the hypervisor has elsewhere.
fn forbidden(page: Page, tree: &Tree) -> alloc::vec::Vec<u64> {
    let word = entry_of(page);
    let mut places = alloc::vec![word, word - 4, word + 4, word - 8, word & !4095, HYPERVISOR, 0xffff_8080_0000_0000];
    places.extend(BAD_POINTERS);
    places.extend(aliases(page).map(|alias| alias + 64));
    places.extend([0xffff_87ff_ffff_fffc, 0xffff_7fff_ffff_fffc, 0x7fff_ffff_fffc, u64::MAX - 3]);
    places.extend(tree.tables().map(|table| table.address + 0x800));
    places
}

/// Every call that writes a result, with every forbidden place.
pub fn results() -> Told {
    let tree = super::writable::tables_in_use()?;
    let page = Page::new();
    let own = u64::from(DOMID_SELF);
    let updates = [MmuUpdate { ptr: page.slot(0), val: 1 }; 2];
    let flushes = [mmuext::flush_here(); 2];
    let watched = Page::new();
    for place in forbidden(watched, &tree) {
        let word = || (memory::pseudo_physical_frame(watched.mfn), (0..512).find(|index| watched.read(*index) != 0));
        let tables = || tree.tables().map(|table| table.read(256));
        let (before, tables_before, frames) = (word(), tables(), owned());
        let calls: [(&str, u32, [u64; 4]); 12] = [
            ("mmu_update", MMU_UPDATE, [reads(&updates), 2, place, own]),
            ("mmu_update again", MMU_UPDATE, [reads(&updates), 2 | u64::from(MMU_UPDATE_PREEMPTED), place, own]),
            ("mmu_update of nothing", MMU_UPDATE, [reads(&updates), 0, place, own]),
            ("mmuext_op", MMUEXT_OP, [reads(&flushes), 2, place, own]),
            ("mmuext_op again", MMUEXT_OP, [reads(&flushes), 2 | u64::from(MMU_UPDATE_PREEMPTED), place, own]),
            ("multicall", MULTICALL, [place, 1, 0, 0]),
            ("extra version", XEN_VERSION, [u64::from(XENVER_EXTRAVERSION), place, 0, 0]),
            ("capabilities", XEN_VERSION, [u64::from(XENVER_CAPABILITIES), place, 0, 0]),
            ("features", XEN_VERSION, [u64::from(XENVER_GET_FEATURES), place, 0, 0]),
            ("command line", XEN_VERSION, [u64::from(XENVER_COMMANDLINE), place, 0, 0]),
            ("machphys mapping", MEMORY_OP, [u64::from(XENMEM_MACHPHYS_MAPPING), place, 0, 0]),
            ("keys", CONSOLE_IO, [u64::from(CONSOLEIO_READ), 8, place, 0]),
        ];
        for (what, number, arguments) in calls {
            let what = format!("{what} to {place:#x}");
            let _ = call(number, arguments);
            equal(&what, word(), before)?;
            equal(&what, tables(), tables_before)?;
        }
        // Lists of frames to be written.
        for command in [XENMEM_INCREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP] {
            let argument = MemoryReservation { extent_start: place, ..list(&mut [0]) };
            let _ = call(MEMORY_OP, [u64::from(command), reads(&argument)]);
            equal("list of frames", word(), before)?;
        }
        let map = MemoryMap { nr_entries: 8, _pad: 0, buffer: place };
        let _ = call(MEMORY_OP, [u64::from(XENMEM_MEMORY_MAP), reads(&map)]);
        equal("memory map", word(), before)?;
        equal("tables", tables(), tables_before)?;
        // A frame that came and could not be reported is the domain's all the same.
        equal("frames", owned().saturating_sub(frames) <= 2, true)?;
    }
    Ok(())
}

/// `exchange` with lists whose start is good but whose later elements are not, reached by the count of those done
/// (XSA-212): by carry-over around the top of the address space, and into the hypervisor.
pub fn exchange() -> Told {
    let page = Page::new();
    let word = || (memory::pseudo_physical_frame(page.mfn), (0..512).find(|index| page.read(*index) != 0));
    let before = word();
    let target = entry_of(page);
    let [pavise, xen] = aliases(page);
    for done in [1u64, 2, 1 << 20, 1 << 31, 1 << 32, 1 << 60, (1 << 61) - 1, 1 << 61, u64::MAX >> 1, u64::MAX] {
        for place in [pavise, xen, target, HYPERVISOR, u64::MAX - 7] {
            // A frame that could be exchanged, for the calls to come as far as to write about it. Each may cost it.
            let spare = Page::new();
            equal("unmap", map(spare.address, 0), Ok(0))?;
            let mut frames = [spare.mfn; 4];
            for wanted in [done.saturating_add(1), done, u64::MAX] {
                let good = list(&mut frames);
                let before_start = |start: u64| start.wrapping_sub(8u64.wrapping_mul(done));
                let input =
                    MemoryReservation { extent_start: before_start(good.extent_start), nr_extents: wanted, ..good };
                let output = MemoryReservation { extent_start: before_start(place), nr_extents: wanted, ..good };
                let mut argument = MemoryExchange { input, output, nr_exchanged: done };
                let _ = call(MEMORY_OP, [u64::from(XENMEM_EXCHANGE), (&raw mut argument) as u64]);
                equal("the word", word(), before)?;
            }
        }
    }
    // The structure itself lies partly where nothing can be written.
    for place in [target, target - 64, HYPERVISOR - 64, 0xffff_7fff_ffff_ffc0, u64::MAX - 63, u64::MAX - 71] {
        let _ = call(MEMORY_OP, [u64::from(XENMEM_EXCHANGE), place]);
        equal("the word", word(), before)?;
    }
    equal("the page", map(page.address, page.entry(WRITE)), Ok(0))?;
    equal("its word", page.read(0), 0)
}

/// The word can't be written by plain means either: not by a store, and not by mapping the table's own frames.
pub fn machine_to_physical() -> Told {
    let page = Page::new();
    let word = entry_of(page);
    let before = probe::read(word);
    // SAFETY: the store must fault.
    equal("store", unsafe { probe::write(word, 0) }.is_err(), true)?;
    equal("map", map(word, page.entry(WRITE)).is_err(), true)?;
    equal("the word", probe::read(word), before)?;
    // The first entry of the hypervisor's first slot leads to the table's own tables: their frames are not ours.
    let Some(root_address) = memory::address_of_frame(root()) else { return Ok(()) };
    let tree = super::writable::tables_in_use()?;
    for slot in 256..272 {
        let entry = probe::read(root_address + 8 * slot).unwrap_or(0);
        let mfn = entry >> 12 & 0xff_ffff_ffff;
        if entry & 1 == 0 || memory::address_of_frame(mfn).is_some() {
            continue;
        }
        for flags in [READ, WRITE] {
            equal("map a table of the hypervisor", set(tree.l1.slot(9), mfn << 12 | flags).is_err(), true)?;
        }
        equal("enter it elsewhere", set(root_slot(300), mfn << 12 | TABLE).is_err(), true)?;
        equal("store to it", set(mfn * PAGE_SIZE, 0).is_err(), true)?;
    }
    Ok(())
}
