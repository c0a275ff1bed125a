//! Frames of others: the hypervisor's, the neighbour's, devices', and numbers beyond all memory.

use crate::check::{Told, call, equal, fail, holds, skip};
use crate::stories::mmu::descriptors::{describe, gdt};
use crate::stories::mmu::ground::*;
use crate::stories::mmu::reservation::give;
use alloc::collections::BTreeSet;
use alloc::format;
use guest_kernel::hypercall::mmuext::{clear_page, copy_page, new_base, new_user_base, pin, unpin};
use guest_kernel::hypercall::{self, Answer};
use guest_kernel::memory;
use guest_kernel::paging::PAGE_SIZE;
use guest_kernel::start::start_info;
use pv_abi::domid::{DOMID_IO, DOMID_SELF, DOMID_XEN};
use pv_abi::hypercall::{MEMORY_OP, MMU_UPDATE, UPDATE_VA_MAPPING_OTHERDOMAIN};
use pv_abi::memory::XENMEM_MAXIMUM_RAM_PAGE;
use pv_abi::mmu::{MMU_MACHPHYS_UPDATE, MmuUpdate, UVMF_INVLPG};

/// Every frame of the machine that isn't the domain's, nor shared with it: the shared info, and the frame with which its grant
/// table begins. Xen writes a line for each refusal, so there only some are tried.
fn others() -> impl Iterator<Item = u64> {
    let own: BTreeSet<u64> = (0..start_info().nr_pages).filter_map(memory::machine_frame).collect();
    let mut grants = [0];
    let table = hypercall::grant_setup_table(DOMID_SELF, &mut grants);
    let shared = [start_info().shared_info / PAGE_SIZE, table.map_or(u64::MAX, |()| grants[0])];
    let last = call(MEMORY_OP, [u64::from(XENMEM_MAXIMUM_RAM_PAGE), 0]).unwrap_or(0);
    let step = if is_privileged() { 997 } else { 1 };
    (0..=last).step_by(step).filter(move |mfn| !shared.contains(mfn) && !own.contains(mfn))
}

/// Numbers where there are devices, or nothing.
const BEYOND: [u64; 8] = [0xa0, 0xb8, 0xf_ec00, 0xf_ee00, 0xf_fff0, 0xb_0000, 0xfe_0000, 0xff_ffff_ffff];

/// Builds the text only when it is needed: there are very many frames.
fn is_refused(what: &str, mfn: u64, answer: Answer) -> Told {
    if answer.is_err() { Ok(()) } else { fail(&format!("{what}: frame {mfn:#x} was accepted")) }
}

/// Mapping them, to read or to write, by both calls.
pub fn mappings() -> Told {
    if is_privileged() {
        return skip("this domain has devices");
    }
    let tree = Tree::hooked()?;
    let mut tried = 0;
    for mfn in others().chain(BEYOND) {
        for flags in [READ, WRITE] {
            let entry = mfn << 12 | flags;
            is_refused("mapping", mfn, set(tree.l1.slot(0), entry))?;
            is_refused("mapping by address", mfn, map(WINDOW, entry))?;
        }
        tried += 1;
    }
    holds("too few frames", tried > 1000)?;
    equal("the entry", tree.l1.read(0) >> 12 & 0xff_ffff_ffff, tree.data.mfn)
}

/// Mapping them in the name of those who own them.
pub fn in_others_names() -> Told {
    if is_privileged() {
        return skip("this domain has devices");
    }
    let tree = Tree::hooked()?;
    let domains = (0..8).chain([DOMID_IO, DOMID_XEN]);
    let own_frames = tree.data.mfn;
    for domain in domains {
        // The domain's own number is no secret, and a good name.
        for mfn in others().step_by(61).chain(BEYOND) {
            let update = MmuUpdate { ptr: tree.l1.slot(0), val: mfn << 12 | READ };
            let list = (&raw const update) as u64;
            holds("update", call(MMU_UPDATE, [list, 1, 0, u64::from(domain)]).is_err())?;
            let map = [WINDOW, mfn << 12 | WRITE, UVMF_INVLPG, u64::from(domain)];
            holds("mapping", call(UPDATE_VA_MAPPING_OTHERDOMAIN, map).is_err())?;
            // Changing their tables.
            let update = MmuUpdate { ptr: mfn * PAGE_SIZE, val: 0 };
            let tables = (u64::from(domain) + 1) << 16 | u64::from(DOMID_SELF);
            holds("their tables", call(MMU_UPDATE, [(&raw const update) as u64, 1, 0, tables]).is_err())?;
        }
    }
    equal("the entry", tree.l1.read(0) >> 12 & 0xff_ffff_ffff, own_frames)
}

/// Everything else that names a frame: stores, descriptors, tables, pins, roots, copies, giving it away.
pub fn uses() -> Told {
    let tree = Tree::hooked()?;
    let page = Page::new();
    for mfn in others().chain(BEYOND) {
        let address = mfn * PAGE_SIZE;
        let attempts = [
            ("store", set(address, 0x5a)),
            ("number", set(address | MMU_MACHPHYS_UPDATE, 1)),
            ("descriptor", describe(address, 0)),
            ("level 2 entry", set(tree.l2.slot(9), address | TABLE)),
            ("level 3 entry", set(tree.l3.slot(9), address | TABLE)),
            ("level 4 entry", set(root_slot(300), address | TABLE)),
            ("pin as level 1", operate(pin(1, mfn))),
            ("pin as level 4", operate(pin(4, mfn))),
            ("unpin", operate(unpin(mfn))),
            ("clear", operate(clear_page(mfn))),
            ("copy to", operate(copy_page(mfn, page.mfn))),
            ("copy from", operate(copy_page(page.mfn, mfn))),
            ("as GDT", gdt(&[mfn], 512)),
            ("as root", operate(new_base(mfn))),
        ];
        for (what, answer) in attempts {
            is_refused(what, mfn, answer)?;
        }
        // 0 here means none.
        holds("as user root", mfn == 0 || operate(new_user_base(mfn)).is_err())?;
        equal("giving it away", give(&[mfn]), Ok(0))?;
    }
    equal("the page", (0..512).all(|index| page.read(index) == 0), true)
}
