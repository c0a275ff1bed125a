//! The page shared with the hypervisor, as what both sides change at any time: atomics at the ABI's offsets.

use crate::clock::{Clock, Scale};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use pv_abi::shared_info::{SharedInfo, VcpuInfo, XEN_LEGACY_MAX_VCPUS};

/// A vCPU's record: `struct vcpu_info`.
#[derive(Default, Debug)]
#[repr(C)]
pub struct Record {
    /// Not 0: an upcall is due.
    pub upcall_pending: AtomicU8,
    /// Not 0: upcalls are masked.
    pub upcall_mask: AtomicU8,
    _pad: [u8; 6],
    /// Which words of [`Page::pending`] have events for this vCPU.
    pub selector: AtomicU64,
    /// The address of the last page fault.
    pub fault_address: AtomicU64,
    _pad2: u64,
    time: [AtomicU64; 4],
}

const _: () = assert!(size_of::<Record>() == size_of::<VcpuInfo>());
const _: () = assert!(offset_of!(Record, fault_address) == offset_of!(VcpuInfo, arch));
const _: () = assert!(offset_of!(Record, time) == offset_of!(VcpuInfo, time));

/// The bits of 2-level ports: a word for 64 ports.
pub type Bits = [AtomicU64; 64];

/// The page: the beginning of `struct shared_info`.
#[derive(Debug)]
#[repr(C)]
pub struct Page {
    /// The first vCPUs' records.
    pub records: [Record; XEN_LEGACY_MAX_VCPUS],
    /// Ports with an event.
    pub pending: Bits,
    /// Ports whose events raise no upcall.
    pub mask: Bits,
}

const _: () = assert!(offset_of!(Page, pending) == offset_of!(SharedInfo, evtchn_pending));
const _: () = assert!(offset_of!(Page, mask) == offset_of!(SharedInfo, evtchn_mask));

impl Record {
    /// The relation of TSC and system time, read under its version protocol: odd or changed means that a write was
    /// under way.
    pub fn clock(&self) -> Clock {
        loop {
            let before = self.time[0].load(Ordering::Acquire);
            let [tsc, system_time, scale] = [1, 2, 3].map(|word| self.time[word].load(Ordering::Acquire));
            let after = self.time[0].load(Ordering::Acquire);
            if low_half(before) == low_half(after) && before.is_multiple_of(2) {
                let shift = scale.to_le_bytes()[4].cast_signed();
                return Clock { scale: Scale { multiplier: low_half(scale), shift }, tsc, system_time };
            }
            core::hint::spin_loop();
        }
    }
}

/// The low half of a word.
const fn low_half(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_from_its_words() {
        let record = Record::default();
        for (word, value) in [(0, 6), (1, 500), (2, 1000), (3, 0xff_8000_0000)] {
            record.time[word].store(value, Ordering::Relaxed);
        }
        let clock = record.clock();
        assert_eq!(clock, Clock { scale: Scale { multiplier: 1 << 31, shift: -1 }, tsc: 500, system_time: 1000 });
    }
}
