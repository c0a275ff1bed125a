//! What other CPUs may know and change of a vCPU at any moment, wherever it is: its event flags, whether it sleeps, and
//! where. Everything else of a vCPU belongs to the one place that owns it ([`Vcpu`](super::vcpu::Vcpu)).
//!
//! **No wake-up is lost.** Who has something for the vCPU writes that first (an event flag, [`VcpuLink::hit_poll`], an NMI)
//! and looks at [`VcpuLink::is_asleep`] afterwards. The vCPU that goes to sleep says so first
//! ([`VcpuLink::fall_asleep`], with its queue's lock held) and looks for a reason to stay awake afterwards. All four are
//! sequentially consistent, so at least one of the two sees the other.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use spin::Once;

use super::shared::VcpuInfo;
use crate::addr::{CpuId, DomainId, VcpuId};

/// The part of a vCPU that all CPUs share.
pub struct VcpuLink {
    /// The domain it belongs to.
    pub domain: DomainId,
    /// Its number in the domain.
    pub id: VcpuId,
    /// Its part of the shared-info page.
    first_info: &'static VcpuInfo,
    /// Where the guest wants it instead (`VCPUOP_register_vcpu_info`).
    own_info: Once<&'static VcpuInfo>,
    /// It sleeps in the run queue of `cpu`, or is about to.
    asleep: AtomicBool,
    /// The CPU that runs it, or in whose queue it is. Changed only with the locks of the queues that it leaves and enters.
    cpu: AtomicU32,
    /// It waits in `sched_op(poll)`, or is about to.
    polling: AtomicBool,
    /// An event that it polls for became pending.
    poll_hit: AtomicBool,
    /// It may run, as far as `vcpu_op` up and down are concerned.
    up: AtomicBool,
    /// An NMI waits for it.
    nmi: AtomicBool,
    /// Where the guest wants its run states written; 0: nowhere (`VCPUOP_register_runstate_memory_area`).
    pub runstate_area: AtomicU64,
    /// Where the guest wants a copy of its clock record; 0: nowhere (`VCPUOP_register_vcpu_time_memory_area`).
    pub time_area: AtomicU64,
}

impl VcpuLink {
    /// A vCPU that is down and has its event flags in the shared-info page.
    pub fn new(domain: DomainId, id: VcpuId, info: &'static VcpuInfo) -> VcpuLink {
        VcpuLink {
            domain,
            id,
            first_info: info,
            own_info: Once::new(),
            asleep: AtomicBool::new(false),
            cpu: AtomicU32::new(0),
            polling: AtomicBool::new(false),
            poll_hit: AtomicBool::new(false),
            up: AtomicBool::new(false),
            nmi: AtomicBool::new(false),
            runstate_area: AtomicU64::new(0),
            time_area: AtomicU64::new(0),
        }
    }

    /// Its event flags. Who delivers an event looks here *after* it has set the event's pending bit: when the flags move,
    /// those in the new place are set as if everything were pending, and so nothing is lost.
    #[inline]
    pub fn info(&self) -> &'static VcpuInfo {
        self.own_info.get().copied().unwrap_or(self.first_info)
    }

    /// Moves its event flags to `info`, for good. False if they have been moved before. The vCPU is the calling one, or
    /// down, so nobody but senders of events looks at the flags meanwhile.
    pub fn move_info(&self, info: &'static VcpuInfo) -> bool {
        let mut moved = false;
        self.own_info.call_once(|| {
            moved = true;
            info.take_over(self.first_info);
            info
        });
        if moved {
            info.set_all_pending();
        }
        moved
    }

    /// Have its event flags been moved out of the shared-info page?
    pub fn has_moved_info(&self) -> bool {
        self.own_info.is_completed()
    }

    /// The CPU that runs it, or in whose queue it is.
    #[inline]
    pub fn cpu(&self) -> CpuId {
        CpuId(self.cpu.load(Ordering::Acquire))
    }

    /// Says that it is `cpu`'s from now on.
    #[inline]
    pub fn set_cpu(&self, cpu: CpuId) {
        self.cpu.store(cpu.0, Ordering::Release);
    }

    /// Does it sleep?
    #[inline]
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::SeqCst)
    }

    /// Says that it sleeps. True if there is no reason to stay awake; else it doesn't.
    pub fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let sleeps = !self.has_reason_to_wake();
        if !sleeps {
            self.wake_up();
        }
        sleeps
    }

    /// Says that it doesn't sleep.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Is there something that a sleeper must wake for, its deadline apart?
    pub fn has_reason_to_wake(&self) -> bool {
        self.info().upcall_due() || self.poll_hit.load(Ordering::SeqCst) || self.nmi.load(Ordering::SeqCst)
    }

    /// Begins to wait for some port to become pending. Then the caller looks at the ports.
    pub fn begin_poll(&self) {
        self.poll_hit.store(false, Ordering::SeqCst);
        self.polling.store(true, Ordering::SeqCst);
    }

    /// Doesn't wait any more.
    pub fn end_poll(&self) {
        self.polling.store(false, Ordering::SeqCst);
        self.poll_hit.store(false, Ordering::SeqCst);
    }

    /// Does it wait for some port? Asked after the port's pending bit was set.
    #[inline]
    pub fn is_polling(&self) -> bool {
        self.polling.load(Ordering::SeqCst)
    }

    /// Some port became pending. A poll that waits for other ports ends too, as on Xen: the guest looks again.
    pub fn hit_poll(&self) {
        self.poll_hit.store(true, Ordering::SeqCst);
    }

    /// May it run, as far as `vcpu_op` up and down are concerned?
    #[inline]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// Brings it up or down; what it was.
    pub fn set_up(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::SeqCst)
    }

    /// Sends it an NMI. False if one is waiting already.
    pub fn send_nmi(&self) -> bool {
        !self.nmi.swap(true, Ordering::SeqCst)
    }

    /// Takes the NMI that waits for it, if any.
    pub fn take_nmi(&self) -> bool {
        self.nmi.load(Ordering::Relaxed) && self.nmi.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::*;

    fn link() -> VcpuLink {
        VcpuLink::new(DomainId(1), VcpuId(0), Box::leak(Box::default()))
    }

    #[test]
    fn a_reason_to_wake_keeps_it_awake() {
        let link = link();
        assert!(link.fall_asleep() && link.is_asleep());
        link.wake_up();
        link.begin_poll();
        link.hit_poll();
        assert!(!link.fall_asleep() && !link.is_asleep());
        link.end_poll();
        assert!(link.send_nmi() && !link.send_nmi());
        assert!(!link.fall_asleep());
        assert!(link.take_nmi() && !link.take_nmi());
        assert!(link.fall_asleep());
    }

    #[test]
    fn event_flags_move_once_and_nothing_is_lost() {
        let link = link();
        link.info().set_cr2(0x1234);
        link.info().set_upcall_mask(true);
        let new: &'static VcpuInfo = Box::leak(Box::default());
        assert!(link.move_info(new));
        assert!(core::ptr::eq(link.info(), new));
        assert_eq!((new.cr2(), new.upcall_mask()), (0x1234, 1));
        assert!(new.upcall_pending());
        assert_eq!(new.pending_sel.load(Ordering::Relaxed), u64::MAX);
        assert!(!link.move_info(Box::leak(Box::default())));
    }
}
