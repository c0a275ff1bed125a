//! A guest's LDT: its pages are looked up when the CPU first reads a descriptor in them, as the ABI has it.
//!
//! The CPU reads descriptors in the running CPU's window ([`GuestTables`]); a page that is not shown there faults. Pages
//! stay until the guest sets another LDT or root, or is gone.

use super::Domain;
use super::memory::Memory;
use crate::addr::PAGE_SIZE;
use crate::arch::descriptors::GuestTables;
use crate::domain::vcpu::Vcpu;
use crate::mm::entry::Entry;
use crate::mm::error::{Refusal, Stop};
use crate::mm::operation::PageTableMem;
use crate::mm::pending::Pending;
use crate::mm::perform::Unfinished;

/// What became of a page that was wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filled {
    /// It is shown now.
    Yes,
    /// Not yet; what needed it is to be done again.
    Again,
    /// There is none, or it holds a descriptor that guests may not have.
    No,
}

/// Looks up the page at `offset` bytes into the vCPU's LDT, holds it as a descriptor page, and shows it.
pub fn fill(domain: &Domain, vcpu: &mut Vcpu, tables: &mut GuestTables, offset: u64) -> Filled {
    let Vcpu { roots, ldt, .. } = vcpu;
    let address = ldt.base.filter(|_| offset / 8 < u64::from(ldt.entries)).and_then(|base| base.checked_add(offset));
    let (Some(root), Some(address)) = (roots.kernel, address) else { return Filled::No };
    let page = usize::try_from(offset / PAGE_SIZE as u64).unwrap_or(usize::MAX);
    let Some(slot) = ldt.pages.get_mut(page) else { return Filled::No };
    if slot.is_some() {
        return Filled::Yes;
    }
    // Not the vCPU's own list: work that was left there is not finished here, since it may be long, and wait for another vCPU.
    // A descriptor page leaves none.
    let found = Memory(domain).step(&mut Pending::new(), |op, _| {
        let at = op.find_l1(root, address)?;
        let entry = Entry(op.memory().read(at.page, at.index));
        if !entry.is_present() {
            return Err(Stop::refuse(Refusal::NotMapped));
        }
        op.take_descriptors(entry.frame())?;
        Ok(entry.frame())
    });
    match found {
        Ok(mfn) => {
            *slot = Some(mfn);
            tables.show_ldt(ldt);
            Filled::Yes
        }
        Err(Unfinished::Again) => Filled::Again,
        Err(Unfinished::Refused(_)) => Filled::No,
    }
}

/// Sees to it that loading `selector` finds its descriptor, if it is in the LDT and can be found.
pub fn touch(domain: &Domain, vcpu: &mut Vcpu, tables: &mut GuestTables, selector: u16) {
    const IN_LDT: u16 = 4;
    if selector & IN_LDT != 0 {
        // Where it isn't found, loading the selector faults, which is foreseen.
        fill(domain, vcpu, tables, u64::from(selector & !7));
    }
}
