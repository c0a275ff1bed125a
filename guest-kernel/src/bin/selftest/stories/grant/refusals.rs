//! Mappings that are refused, and that nothing is in use after it.

use super::*;
use crate::check::{HYPERVISOR, NON_CANONICAL, holds};
use guest_kernel::hypercall::mmuext::{pin, unpin};

/// Places, references, grants and frames that are no good.
pub fn maps() -> Told {
    let tree = Tree::hooked()?;
    let page = patterned(1);
    let own = own_id()?;
    let grant = granted(page, Access::Write)?;
    let good = grant.reference();
    for (what, address, flags, reference, status) in [
        ("for nothing", page_at(1), 0, good, GNTST_BAD_GNTREF),
        ("for reading alone", page_at(1), READ_ONLY, good, GNTST_BAD_GNTREF),
        ("beyond the table", page_at(1), HOST, 0x00ff_ffff, GNTST_BAD_GNTREF),
        ("the last number", page_at(1), HOST, u32::MAX, GNTST_BAD_GNTREF),
        ("no grant", page_at(1), HOST, good + 300, GNTST_GENERAL_ERROR),
        ("no table there", 0x7000_0000_0000, HOST, good, GNTST_GENERAL_ERROR),
        ("not canonical", NON_CANONICAL, HOST, good, GNTST_GENERAL_ERROR),
        ("in the hypervisor", HYPERVISOR, HOST, good, GNTST_GENERAL_ERROR),
        ("no table there, for a device too", 0x7000_0000_0000, HOST | DEVICE, good, GNTST_GENERAL_ERROR),
    ] {
        equal(what, map_status(address, flags, reference)?, status)?;
    }
    let mut request = GnttabMapGrantRef { host_addr: page_at(1), flags: HOST, gref: good, ..Default::default() };
    for dom in [STRANGER, pv_abi::domid::DOMID_SELF, 0xffff] {
        request.dom = dom;
        equal("call", op(GNTTABOP_MAP_GRANT_REF, &mut request), Ok(0))?;
        equal("no such domain", request.status, GNTST_BAD_DOMAIN)?;
    }
    let word = entry(good)?;
    let is = word.load(SeqCst);
    let domain = u64::from(own) << 16;
    for (what, value, status) in [
        ("nothing", 0, GNTST_GENERAL_ERROR),
        ("a transfer", is & !3 | 2, GNTST_GENERAL_ERROR),
        ("transitive", is | 3, GNTST_GENERAL_ERROR),
        ("a part of the page", is | 1 << 8, GNTST_GENERAL_ERROR),
        ("another domain", is ^ 1 << 16, GNTST_GENERAL_ERROR),
        ("a frame that isn't there", 0xffff_ff00 << 32 | domain | 1, GNTST_BAD_PAGE),
    ] {
        word.store(value, SeqCst);
        equal(what, map_status(page_at(1), HOST, good)?, status)?;
        equal(&format!("{what}: the entry"), word.load(SeqCst), value)?;
    }
    word.store(is, SeqCst);
    holds("no entry in the table", (1..512).all(|index| tree.l1.read(index) == 0))?;
    let handle = mapped(page_at(1), HOST, good)?;
    unmapped(page_at(1), handle)?;
    ended(grant)
}

/// Tables and descriptor pages are mapped for reading at most, and what is mapped writable becomes neither.
pub fn types() -> Told {
    let _tree = Tree::hooked()?;
    let table = Page::read_only(&[])?;
    let grant = granted(table, Access::Write)?;
    equal("pin", operate(pin(1, table.mfn)), Ok(0))?;
    for flags in [HOST, DEVICE, HOST | DEVICE] {
        equal("writable", map_status(page_at(1), flags, grant.reference())?, GNTST_GENERAL_ERROR)?;
    }
    equal("in use", flags(&grant)? & GTF_READING, 0)?;
    let reader = mapped(page_at(1), HOST | READ_ONLY, grant.reference())?;
    equal("unpin", operate(unpin(table.mfn)), Ok(0))?;
    equal("pin with a reader", operate(pin(1, table.mfn)), Ok(0))?;
    equal("unpin", operate(unpin(table.mfn)), Ok(0))?;
    unmapped(page_at(1), reader)?;
    for flags in [HOST, DEVICE] {
        let done = map_at(page_at(1), flags, grant.reference())?;
        equal("writable", done.status, GNTST_OKAY)?;
        holds("pin what is writable", operate(pin(1, table.mfn)).is_err())?;
        equal("unmap", unmap(page_at(1), done.dev_bus_addr, done.handle)?, GNTST_OKAY)?;
    }
    equal("pin", operate(pin(1, table.mfn)), Ok(0))?;
    ended(grant)
}
