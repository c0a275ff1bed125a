//! The machine-to-physical table: which pseudo-physical frame of its owner a machine frame is.
//!
//! Part of the guest ABI (`machine_to_phys_mapping`): guests read it at [`layout::M2P`], through a read-only mapping.
//! We write it through a mapping of our own. Large holes in the machine's RAM have no entries: a guest that reads
//! there takes a page fault, which its own exception table expects.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;

use super::layout::M2P_WRITABLE;
use crate::addr::Mfn;
use crate::machine::Ranges;
use crate::mm::m2p::{INVALID_ENTRY, MachineToPhys};

/// What the table holds at first.
pub(super) const INVALID: u64 = INVALID_ENTRY;

/// The RAM that has entries.
static RAM: Once<Ranges> = Once::new();

/// Opens the table for writing, once our own page tables are loaded. `ram` is what they map it for.
pub(in crate::arch) fn init(ram: &Ranges) {
    RAM.call_once(|| ram.clone());
}

/// The machine's one table.
#[derive(Clone, Copy, Debug)]
pub struct M2p;

impl M2p {
    fn entry(self, mfn: Mfn) -> Option<&'static AtomicU64> {
        RAM.get()?.contains(mfn).then(|| {
            // SAFETY: the table is mapped for all RAM, 8 bytes per frame, for as long as the machine runs; guests and
            // all CPUs only ever access it in whole words.
            unsafe { &*((M2P_WRITABLE + mfn.0 * 8) as *const AtomicU64) }
        })
    }
}

impl MachineToPhys for M2p {
    /// Does nothing where there is no RAM.
    #[inline]
    fn store(&self, mfn: Mfn, value: u64) {
        if let Some(entry) = self.entry(mfn) {
            entry.store(value, Ordering::Relaxed);
        }
    }
}
