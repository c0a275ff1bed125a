//! The library of the guest kernel.

use super::*;
use crate::check::{fail, holds};
use alloc::vec::Vec;
use guest_kernel::grant::{End, Error, copy, map as map_grants, map_list, unmap_list};
use guest_kernel::paging::PAGE_BYTES;

/// More grants than a frame of the table has, mapped side by side, and copied.
pub fn uses() -> Told {
    const COUNT: usize = 600;
    let own = own_id()?;
    let pages: Vec<Page> = (0..4).map(patterned).collect();
    let mut grants = Vec::new();
    for n in 0..COUNT {
        grants.push(granted(pages[n % 4], Access::Write)?);
    }
    let references: Vec<u32> = grants.iter().map(Grant::reference).collect();
    let mapping = map_grants(own, &references, Access::Write).map_err(failed)?;
    equal("pages", mapping.len(), COUNT)?;
    for n in 0..COUNT {
        // SAFETY: the page is mapped.
        let word = unsafe { mapping.address().add(n * PAGE_BYTES + 8).cast::<u64>().read_volatile() };
        equal("word", word, ((n as u64 % 4) << 32) | 1)?;
        let machine = mapping.machine_address(n);
        equal("machine address", machine, Some(pages[n % 4].mfn * PAGE_SIZE))?;
    }
    holds("in use", grants.iter().all(Grant::is_used))?;
    drop(mapping);
    holds("in use then", !grants.iter().any(Grant::is_used))?;

    // Some good ones and a bad one: nothing stays.
    match map_grants(own, &[references[0], references[1], 0xff_ffff], Access::Read) {
        Err(Error::Status(2, GNTST_BAD_GNTREF)) => {}
        other => fail(&format!("{other:?}"))?,
    }
    holds("nothing stays", !grants.iter().any(Grant::is_used))?;
    let mut mappings = Vec::new();
    let list = [(own, &references[..3], Access::Read), (own, &references[3..70], Access::Write)];
    map_list(list, |mapping| mappings.push(mapping)).map_err(failed)?;
    equal("lengths", mappings.iter().map(|mapping| mapping.len()).collect(), alloc::vec![3, 67])?;
    unmap_list(mappings);
    holds("nothing stays", !grants.iter().any(Grant::is_used))?;

    let end = |reference, offset| End::Grant { domain: own, reference, offset };
    // SAFETY: the pages are the story's.
    unsafe { copy(end(references[1], 0), end(references[2], 8), 8) }.map_err(failed)?;
    equal("copied", pages[2].read(1), 1 << 32)?;
    grants.into_iter().try_for_each(ended)?;
    // All references can be given out again.
    let again = granted(pages[0], Access::Read)?;
    holds("a reference as before", u64::from(again.reference()) < 2 * 512)?;
    ended(again)
}
