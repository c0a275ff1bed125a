//! Calls whose arguments or results lie in the page that the call turns into a table: from then on nobody writes there,
//! the hypervisor on the guest's behalf least of all.

use super::writable::is_sealed;
use crate::check::{Told, call, equal, holds, refused};
use crate::stories::mmu::ground::*;
use guest_kernel::hypercall::mmuext::{clear_page, pin, unpin};
use guest_kernel::hypercall::{self, Flush, multicall_entry};
use guest_kernel::probe;
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::hypercall::{MEMORY_OP, MMUEXT_OP, MULTICALL, MulticallEntry, UPDATE_VA_MAPPING};
use pv_abi::memory::{XENMEM_MACHPHYS_MAPPING, XENMEM_MAXIMUM_RAM_PAGE};
use pv_abi::mmu::UVMF_NONE;

/// A page whose entry allows no writes any more, while the TLB still does.
fn page_with_stale_translation() -> Result<Page, crate::check::Ending> {
    let page = Page::new();
    // SAFETY: the page is the story's.
    equal("store", unsafe { probe::write(page.address, 0) }, Ok(()))?;
    // SAFETY: as above.
    let protected = unsafe { hypercall::update_va_mapping(page.address, page.entry(READ), Flush::None) };
    equal("read-only, without a flush", protected, Ok(0))?;
    Ok(page)
}

/// The count of operations done, in the page that an operation pins.
pub fn count_in_a_table() -> Told {
    for level in 1..=4 {
        let page = page_with_stale_translation()?;
        let operations = [pin(level, page.mfn), pin(level, page.mfn)];
        let place = page.address + 300 * 8;
        let arguments = [operations.as_ptr() as u64, 1, place, u64::from(DOMID_SELF)];
        let _ = call(MMUEXT_OP, arguments);
        equal("the word", page.read(300), 0)?;
        is_sealed(page)?;
        equal("unpin", operate(unpin(page.mfn)), Ok(0))?;
    }
    Ok(())
}

/// A list of calls in the page that one of them protects and another one pins: results behind it go nowhere.
pub fn list_in_a_table() -> Told {
    const UNTOUCHED: u64 = 0x5a00;
    let page = Page::new();
    let operations = [clear_page(Page::new().mfn), pin(1, page.mfn)];
    let own = u64::from(DOMID_SELF);
    // Seen as entries of a level 1 table these words are harmless: even, so not present, but for the one that maps the
    // page to read.
    let list = [
        multicall_entry(UPDATE_VA_MAPPING, [page.address, page.entry(READ), UVMF_NONE, 0, 0, 0]),
        multicall_entry(MMUEXT_OP, [operations.as_ptr() as u64, 2, 0, own, 0, 0]),
        multicall_entry(MEMORY_OP, [u64::from(XENMEM_MACHPHYS_MAPPING), page.address + 2048, 0, 0, 0, 0]),
        multicall_entry(MEMORY_OP, [u64::from(XENMEM_MAXIMUM_RAM_PAGE), 0, 0, 0, 0, 0]),
    ];
    for (index, entry) in list.into_iter().enumerate() {
        let at = (page.address as *mut MulticallEntry).wrapping_add(index);
        // SAFETY: the page is the story's, and the list fits.
        unsafe { at.write(MulticallEntry { result: UNTOUCHED, ..entry }) };
    }
    let answer = call(MULTICALL, [page.address, list.len() as u64]);
    refused("the list was not stopped", answer, Errno::EFAULT)?;
    // Xen notes the number of a call here that it restarts, while the page is none yet.
    let of_the_pin = page.read(8 + 1);
    holds("the result of the pin", [UNTOUCHED, MMUEXT_OP.into()].contains(&of_the_pin))?;
    equal("results behind the pin", [2, 3].map(|index| page.read(8 * index + 1)), [UNTOUCHED; 2])?;
    equal("words in the table", [256, 257, 258].map(|index| page.read(index)), [0; 3])?;
    is_sealed(page)
}
