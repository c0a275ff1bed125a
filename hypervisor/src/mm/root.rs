//! The page-table roots of a vCPU: one for its kernel, one for its user mode. ABI: `MMUEXT_NEW_BASEPTR` and
//! `MMUEXT_NEW_USER_BASEPTR`.
//!
//! A root is held by a type reference for as long as a CPU may have it in CR3. So the order of a change is: take the
//! new root, load it, drop the old one. The caller does the middle step; [`OldRoot`] makes sure that it thinks of it.

use super::error::Stop;
use super::operation::{Operation, PageTableMem};
use super::state::{FrameType, Level};
use crate::addr::Mfn;

/// The roots of one vCPU. Each that is there holds an L4 type reference.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Roots {
    /// In use in kernel mode.
    pub kernel: Option<Mfn>,
    /// In use in user mode; a vCPU without one can't go there.
    pub user: Option<Mfn>,
}

/// Which of a guest's two address spaces runs. Both run in ring 3; only this flag tells them apart, never a selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The guest kernel: `syscall` is a hypercall.
    Kernel,
    /// A guest user program: `syscall` goes to the guest kernel.
    User,
}

/// A root that was replaced. The vCPU's CPU may still have it in CR3.
#[derive(Debug)]
#[must_use = "load the new root (if it is the one in use), then pass this to `Operation::drop_root`"]
pub struct OldRoot(Option<Mfn>);

impl Roots {
    fn slot(&mut self, mode: Mode) -> &mut Option<Mfn> {
        match mode {
            Mode::Kernel => &mut self.kernel,
            Mode::User => &mut self.user,
        }
    }
}

impl<M: PageTableMem> Operation<'_, M> {
    /// Makes `root` the vCPU's root for `mode`, checking the tables if nobody did. `None` leaves it without one.
    ///
    /// `Ok(None)`: it was that already; the ABI then asks for a TLB flush and nothing else. On errors nothing changed.
    /// With `hide_m2p` (vm_assist `m2p_strict`) user roots do not show the machine-to-phys table.
    pub fn set_root(
        &mut self,
        roots: &mut Roots,
        mode: Mode,
        root: Option<Mfn>,
        hide_m2p: bool,
    ) -> Result<Option<OldRoot>, Stop> {
        self.begin()?;
        let slot = roots.slot(mode);
        if *slot == root {
            return Ok(None);
        }
        if let Some(mfn) = root {
            self.acquire_table(mfn, Level::L4)?;
            if hide_m2p {
                self.mmu.memory.show_machine_to_phys(mfn, mode == Mode::Kernel);
            }
        }
        Ok(Some(OldRoot(core::mem::replace(slot, root))))
    }

    /// Drops the reference of a root that no CPU has in CR3 on this vCPU's behalf any more.
    pub fn drop_root(&mut self, old: OldRoot) {
        if let OldRoot(Some(mfn)) = old {
            self.release(mfn, FrameType::L4);
        }
    }

    /// Drops both roots of a vCPU that runs nowhere: no CPU has one of them in CR3, not even an idle one.
    pub fn drop_roots(&mut self, roots: &mut Roots) -> Result<(), Stop> {
        for mode in [Mode::Kernel, Mode::User] {
            self.begin()?;
            let old = OldRoot(roots.slot(mode).take());
            self.drop_root(old);
        }
        Ok(())
    }
}
