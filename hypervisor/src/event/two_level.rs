//! 2-level delivery: a bit for each port in the shared-info page says that it is pending, another that it is masked. A
//! vCPU's selector has a bit for each word of 64 pending bits that is worth a look (`xen.h`, `struct shared_info`).
//!
//! The order is what guests rely on: pending, then masked, then selector, then the vCPU's upcall. A guest that unmasks
//! goes the same way, from the mask: it clears that, then looks at pending.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::domain::shared::{SharedInfo, VcpuInfo};

/// A port's place in the bitmaps.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    pending: &'a AtomicU64,
    mask: &'a AtomicU64,
    /// The number of the word.
    word: u32,
    /// Its number in the word.
    bit: u32,
}

impl<'a> Bits<'a> {
    /// `None` for a port that 2-level delivery doesn't have.
    #[inline]
    pub fn of(shared: &'a SharedInfo, port: u32) -> Option<Bits<'a>> {
        let (word, bit) = (port / u64::BITS, port % u64::BITS);
        let pending = shared.evtchn_pending.get(word as usize)?;
        Some(Bits { pending, mask: shared.evtchn_mask.get(word as usize)?, word, bit })
    }

    /// Makes the port pending. True if it wasn't.
    #[inline]
    pub fn set_pending(self) -> bool {
        let bit = 1 << self.bit;
        self.pending.fetch_or(bit, Ordering::SeqCst) & bit == 0
    }

    /// Makes it not pending. True if it was.
    pub fn clear_pending(self) -> bool {
        let bit = 1 << self.bit;
        self.pending.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    /// Is it pending?
    pub fn is_pending(self) -> bool {
        self.pending.load(Ordering::SeqCst) >> self.bit & 1 != 0
    }

    /// Is it masked?
    #[inline]
    pub fn is_masked(self) -> bool {
        self.mask.load(Ordering::SeqCst) >> self.bit & 1 != 0
    }

    /// Unmasks it. True if it was masked.
    pub fn unmask(self) -> bool {
        let bit = 1 << self.bit;
        self.mask.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    /// Tells a vCPU that the port is worth a look. True if its upcall became pending by that.
    #[inline]
    pub fn select(self, info: &VcpuInfo) -> bool {
        let bit = 1 << self.word;
        info.pending_sel.fetch_or(bit, Ordering::SeqCst) & bit == 0 && info.set_upcall_pending()
    }
}
