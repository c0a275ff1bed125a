//! The shared-info page: `struct shared_info` of `xen/xen.h`, seen from our side.
//!
//! The guest may write every byte of it at any moment, so all fields are atomics, each decision reads a field once,
//! and nothing read here is ever trusted for anything but the guest itself.

use core::sync::atomic::{AtomicI8, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

use super::MAX_VCPUS;
use crate::time::GuestRecord;

/// `struct vcpu_info`: event flags, CR2 and the clock record of one vCPU.
#[derive(Default)]
#[repr(C)]
pub struct VcpuInfo {
    upcall_pending: AtomicU8,
    upcall_mask: AtomicU8,
    _pad: [AtomicU8; 6],
    /// Selector of the words of the pending bitmap that may hold a pending event.
    pub pending_sel: AtomicU64,
    cr2: AtomicU64,
    _arch: AtomicU64,
    time: VcpuTime,
}

/// `struct vcpu_time_info`.
#[derive(Default)]
#[repr(C)]
struct VcpuTime {
    version: AtomicU32,
    _pad: AtomicU32,
    tsc_timestamp: AtomicU64,
    system_time: AtomicU64,
    tsc_to_system_mul: AtomicU32,
    tsc_shift: AtomicI8,
    _flags: AtomicU8,
    _pad1: [AtomicU8; 2],
}

/// `struct shared_info`.
#[repr(C, align(4096))]
pub struct SharedInfo {
    /// One for each of the first 32 vCPUs.
    pub vcpus: [VcpuInfo; MAX_VCPUS as usize],
    /// A bit for each port that is pending, in 2-level delivery.
    pub evtchn_pending: [AtomicU64; 64],
    /// A bit for each port that is masked, in 2-level delivery.
    pub evtchn_mask: [AtomicU64; 64],
    wc_version: AtomicU32,
    wc_sec: AtomicU32,
    wc_nsec: AtomicU32,
    wc_sec_hi: AtomicU32,
    _arch_and_padding: [AtomicU64; 126],
}

const _: () = assert!(size_of::<VcpuInfo>() == 64);
const _: () = assert!(size_of::<SharedInfo>() == 4096);
const _: () = assert!(core::mem::offset_of!(SharedInfo, wc_version) == 0xc00);

impl VcpuInfo {
    /// Is an upcall to be delivered now: pending and not masked?
    #[inline]
    pub fn upcall_due(&self) -> bool {
        self.upcall_pending.load(Ordering::SeqCst) != 0 && self.upcall_mask.load(Ordering::SeqCst) == 0
    }

    /// Is an upcall pending, masked or not?
    pub fn upcall_pending(&self) -> bool {
        self.upcall_pending.load(Ordering::Acquire) != 0
    }

    /// Makes an upcall pending. True if none was.
    #[inline]
    pub fn set_upcall_pending(&self) -> bool {
        self.upcall_pending.swap(1, Ordering::SeqCst) == 0
    }

    /// What a guest does at the start of an upcall: nothing is pending any more. True if something was.
    #[cfg(test)]
    pub fn take_upcall(&self) -> bool {
        self.upcall_pending.swap(0, Ordering::SeqCst) != 0
    }

    /// Makes it look as if any event might be pending, after the flags have moved here.
    pub fn set_all_pending(&self) {
        self.pending_sel.store(u64::MAX, Ordering::SeqCst);
        self.set_upcall_pending();
    }

    /// Takes over what `old` holds, the clock record apart, which is written anew.
    pub fn take_over(&self, old: &VcpuInfo) {
        self.upcall_mask.store(old.upcall_mask(), Ordering::Relaxed);
        self.cr2.store(old.cr2(), Ordering::Relaxed);
    }

    /// The guest's interrupt flag, inverted: the byte as the guest left it.
    pub fn upcall_mask(&self) -> u8 {
        self.upcall_mask.load(Ordering::Relaxed)
    }

    /// Masks or unmasks upcalls, as the CPU changes IF at an interrupt and at `iret`.
    ///
    /// Whoever unmasks looks at *pending* next, and a sender sets that and then looks at the mask, to see whether to
    /// interrupt the vCPU's CPU: one of them has to see the other's, or the upcall would wait for the guest's next entry.
    pub fn set_upcall_mask(&self, masked: bool) {
        self.upcall_mask.store(masked.into(), if masked { Ordering::Release } else { Ordering::SeqCst });
    }

    /// Leaves the address of a page fault for the guest's handler.
    pub fn set_cr2(&self, address: u64) {
        self.cr2.store(address, Ordering::Relaxed);
    }

    /// The address of the guest's latest page fault, or what it wrote there since.
    pub fn cr2(&self) -> u64 {
        self.cr2.load(Ordering::Relaxed)
    }

    /// Publishes a clock record under its version protocol: odd while it changes.
    pub fn set_time(&self, record: &GuestRecord) {
        let time = &self.time;
        let version = time.version.load(Ordering::Relaxed) | 1;
        time.version.store(version, Ordering::Relaxed);
        fence(Ordering::Release);
        time.tsc_timestamp.store(record.tsc_timestamp, Ordering::Relaxed);
        time.system_time.store(record.system_time, Ordering::Relaxed);
        time.tsc_to_system_mul.store(record.scale.mul, Ordering::Relaxed);
        time.tsc_shift.store(record.scale.shift, Ordering::Relaxed);
        time.version.store(version.wrapping_add(1), Ordering::Release);
    }
}

impl SharedInfo {
    /// A page of zeros, for tests.
    #[cfg(test)]
    pub fn zeroed() -> std::boxed::Box<SharedInfo> {
        std::boxed::Box::new(SharedInfo {
            vcpus: core::array::from_fn(|_| VcpuInfo::default()),
            evtchn_pending: core::array::from_fn(|_| AtomicU64::new(0)),
            evtchn_mask: core::array::from_fn(|_| AtomicU64::new(0)),
            wc_version: AtomicU32::new(0),
            wc_sec: AtomicU32::new(0),
            wc_nsec: AtomicU32::new(0),
            wc_sec_hi: AtomicU32::new(0),
            _arch_and_padding: core::array::from_fn(|_| AtomicU64::new(0)),
        })
    }

    /// Publishes the wall clock: UTC at system time 0, in seconds and nanoseconds.
    pub fn set_wall_clock(&self, seconds: u64, nanoseconds: u32) {
        let version = self.wc_version.load(Ordering::Relaxed) | 1;
        self.wc_version.store(version, Ordering::Relaxed);
        fence(Ordering::Release);
        let [low, high] = halves(seconds);
        self.wc_sec.store(low, Ordering::Relaxed);
        self.wc_sec_hi.store(high, Ordering::Relaxed);
        self.wc_nsec.store(nanoseconds, Ordering::Relaxed);
        self.wc_version.store(version.wrapping_add(1), Ordering::Release);
    }

    /// Is this event port pending? `None` for a port that the 2-level ABI doesn't have.
    pub fn is_pending(&self, port: u32) -> Option<bool> {
        let word = self.evtchn_pending.get(port as usize / 64)?;
        Some(word.load(Ordering::Acquire) >> (port % 64) & 1 != 0)
    }
}

/// Low and high half.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_end_even_even_if_the_guest_left_them_odd() {
        let page = SharedInfo::zeroed();
        page.wc_version.store(7, Ordering::Relaxed);
        page.set_wall_clock(0x1_0000_0002, 3);
        assert_eq!(page.wc_version.load(Ordering::Relaxed), 8);
        assert_eq!(page.wc_sec.load(Ordering::Relaxed), 2);
        assert_eq!(page.wc_sec_hi.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn ports_beyond_the_bitmap_do_not_exist() {
        let page = SharedInfo::zeroed();
        page.evtchn_pending[63].store(1 << 63, Ordering::Relaxed);
        assert_eq!(page.is_pending(4095), Some(true));
        assert_eq!(page.is_pending(0), Some(false));
        assert_eq!(page.is_pending(4096), None);
    }

    #[test]
    fn an_upcall_is_due_only_when_pending_and_unmasked() {
        let info = VcpuInfo::default();
        assert!(!info.upcall_due());
        info.upcall_pending.store(1, Ordering::Relaxed);
        assert!(info.upcall_due());
        info.set_upcall_mask(true);
        assert!(!info.upcall_due());
        assert!(info.upcall_pending());
    }

    /// On two CPUs at once, many times over: either the one that unmasks finds the upcall pending, or its sender finds that
    /// it is not masked.
    #[test]
    fn an_upcall_that_becomes_pending_while_it_is_unmasked_is_seen_by_somebody() {
        const ROUNDS: u32 = 20_000;
        let info = VcpuInfo::default();
        // Rounds that each of them has begun, and ended.
        let (begun, ended) = ([AtomicU32::new(0), AtomicU32::new(0)], [AtomicU32::new(0), AtomicU32::new(0)]);
        let meet = |counts: &[AtomicU32; 2], me: usize, round: u32| {
            counts[me].store(round, Ordering::SeqCst);
            let mut looks = 0;
            while counts[1 - me].load(Ordering::SeqCst) != round {
                looks += 1;
                // There may be one CPU only.
                if looks % 1000 == 0 { std::thread::yield_now() } else { core::hint::spin_loop() }
            }
        };
        let seen: [std::vec::Vec<bool>; 2] = std::thread::scope(|scope| {
            let run = |me: usize, act: fn(&VcpuInfo) -> bool| {
                let (info, begun, ended) = (&info, &begun, &ended);
                scope.spawn(move || {
                    let round = |round| {
                        if me == 0 {
                            info.set_upcall_mask(true);
                            info.upcall_pending.store(0, Ordering::SeqCst);
                        }
                        meet(begun, me, round);
                        let saw = act(info);
                        meet(ended, me, round);
                        saw
                    };
                    (1..=ROUNDS).map(round).collect()
                })
            };
            let unmasks = run(0, |info| {
                info.set_upcall_mask(false);
                info.upcall_due()
            });
            let sends = run(1, |info| {
                info.set_upcall_pending();
                info.upcall_mask() == 0
            });
            [unmasks, sends].map(|thread| thread.join().unwrap())
        });
        assert!(seen[0].iter().zip(&seen[1]).all(|(unmasks, sends)| *unmasks || *sends));
    }
}
