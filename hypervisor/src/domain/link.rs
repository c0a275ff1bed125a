//! What other CPUs may know and change of a vCPU at any moment, wherever it is: its event flags, whether it sleeps, and
//! where. Everything else of a vCPU belongs to the one place that owns it ([`Vcpu`](super::vcpu::Vcpu)).
//!
//! **No wake-up is lost.** A waker first publishes the reason (an event flag, [`VcpuLink::hit_poll`], an NMI), then reads
//! [`VcpuLink::activity`]. A vCPU that goes to sleep first publishes that it sleeps ([`VcpuLink::fall_asleep`], with its
//! queue's lock held), then looks for reasons to stay awake. One that is put on a CPU does the same with
//! [`Activity::Running`], and looks at its flags on the way to the guest. What is published is stored with sequential
//! consistency, a full barrier before the reads that follow, so at least one side sees the other.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use alloc::sync::Arc;

use pv_abi::vcpu::VcpuRunstateInfo;
use spin::{Mutex, Once};

use super::runstate::{RunState, RunStates};
use super::shared::VcpuInfo;
use crate::addr::{CpuId, DomainId, Mfn, VcpuId};
use crate::mm::flush::{AtomicCpuSet, CpuSet};

/// What a vCPU is doing, as far as others need to know to reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Activity {
    /// Waiting for a CPU, on the way from one place to another, or down: it will look at its flags when it next runs.
    Elsewhere = 0,
    /// Running: its CPU must be interrupted, to look at its flags at once.
    Running = 1,
    /// Asleep in the run queue of [`VcpuLink::cpu`], or about to be.
    Asleep = 2,
}

/// See [`VcpuLink::ask_for_period`].
const NO_PERIOD: u64 = u64::MAX;
/// The periodic timer is to stop.
const STOP: u64 = 0;

/// The part of a vCPU that all CPUs share.
pub struct VcpuLink {
    /// The domain it belongs to.
    pub domain: DomainId,
    /// Its number in the domain.
    pub id: VcpuId,
    /// Its part of the shared-info page.
    first_info: &'static VcpuInfo,
    /// Where the guest wants it instead (`VCPUOP_register_vcpu_info`).
    own_info: Once<(Mfn, &'static VcpuInfo)>,
    /// An [`Activity`].
    activity: AtomicU8,
    /// The CPU that runs it, or in whose queue it is. Changed only while it is in no queue and on no CPU, or with the lock of
    /// the queue that it leaves.
    cpu: AtomicU32,
    /// The CPUs that it may use.
    affinity: Arc<AtomicCpuSet>,
    /// Those that the control domain would rather have it use, which changes nothing.
    soft_affinity: AtomicCpuSet,
    /// The period that another vCPU wants its timer to have: [`STOP`], or [`NO_PERIOD`] if nobody wants anything.
    period: AtomicU64,
    /// It waits in `sched_op(poll)`, or is about to.
    polling: AtomicBool,
    /// The port that it waits for; 0: any of several.
    polled: AtomicU32,
    /// An event that it polls for became pending.
    poll_hit: AtomicBool,
    /// It has a state to start from: the builder's, or that of `VCPUOP_initialise`.
    initialised: AtomicBool,
    /// It may run, as far as `vcpu_op` up and down are concerned. Only one that is initialised is ever brought up.
    up: AtomicBool,
    /// An NMI waits for it.
    nmi: AtomicBool,
    run_states: Mutex<RunStates>,
    /// Where the guest wants its run states written; 0: nowhere (`VCPUOP_register_runstate_memory_area`).
    runstate_area: AtomicU64,
    /// Where the guest wants a copy of its clock record; 0: nowhere (`VCPUOP_register_vcpu_time_memory_area`).
    time_area: AtomicU64,
}

impl VcpuLink {
    /// A vCPU that is down and has its event flags in the shared-info page.
    pub fn new(domain: DomainId, id: VcpuId, info: &'static VcpuInfo) -> VcpuLink {
        VcpuLink {
            domain,
            id,
            first_info: info,
            own_info: Once::new(),
            activity: AtomicU8::new(Activity::Elsewhere as u8),
            cpu: AtomicU32::new(0),
            affinity: Arc::default(),
            soft_affinity: AtomicCpuSet::of(CpuSet::from_bits(u64::MAX)),
            period: AtomicU64::new(NO_PERIOD),
            polling: AtomicBool::new(false),
            polled: AtomicU32::new(0),
            poll_hit: AtomicBool::new(false),
            initialised: AtomicBool::new(false),
            up: AtomicBool::new(false),
            nmi: AtomicBool::new(false),
            run_states: Mutex::new(RunStates::default()),
            runstate_area: AtomicU64::new(0),
            time_area: AtomicU64::new(0),
        }
    }

    /// Its event flags. The sender of an event looks here *after* it has set the event's pending bit: when the flags move,
    /// those in the new place are set as if everything were pending, and so nothing is lost.
    #[inline]
    pub fn info(&self) -> &'static VcpuInfo {
        self.own_info.get().map_or(self.first_info, |&(_, info)| info)
    }

    /// Moves its event flags to `info`, which lies in frame `mfn`, for good. False if they have been moved before. The vCPU
    /// is the calling one, or down, so nobody but senders of events looks at the flags meanwhile.
    pub fn move_info(&self, mfn: Mfn, info: &'static VcpuInfo) -> bool {
        let mut moved = false;
        self.own_info.call_once(|| {
            moved = true;
            info.take_over(self.first_info);
            (mfn, info)
        });
        if moved {
            info.set_all_pending();
        }
        moved
    }

    /// The frame to which its event flags were moved, if they were; it is held as writable.
    pub fn info_frame(&self) -> Option<Mfn> {
        self.own_info.get().map(|&(mfn, _)| mfn)
    }

    /// Asks for its run states at `address`; 0: nowhere.
    pub fn set_runstate_area(&self, address: u64) {
        self.runstate_area.store(address, Ordering::Relaxed);
    }

    /// Asks for a copy of its clock record at `address`; 0: nowhere.
    pub fn set_time_area(&self, address: u64) {
        self.time_area.store(address, Ordering::Relaxed);
    }

    /// Where the guest wants its run states, and a copy of its clock record.
    #[inline]
    pub fn areas(&self) -> [Option<u64>; 2] {
        [&self.runstate_area, &self.time_area].map(|area| Some(area.load(Ordering::Relaxed)).filter(|&at| at != 0))
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

    /// The CPUs that it may use. Whoever changes them then looks at what the vCPU is doing, to make it leave its CPU.
    pub fn affinity(&self) -> &Arc<AtomicCpuSet> {
        &self.affinity
    }

    /// The CPUs that the control domain would rather have it use. It is remembered, and nobody goes by it.
    pub fn soft_affinity(&self) -> &AtomicCpuSet {
        &self.soft_affinity
    }

    /// What it is doing.
    #[inline]
    pub fn activity(&self) -> Activity {
        match self.activity.load(Ordering::SeqCst) {
            0 => Activity::Elsewhere,
            1 => Activity::Running,
            _ => Activity::Asleep,
        }
    }

    /// Says what it is doing.
    #[inline]
    pub fn set_activity(&self, activity: Activity) {
        self.activity.store(activity as u8, Ordering::SeqCst);
    }

    /// Says that it sleeps. False if there is a reason to stay awake: then it doesn't.
    pub fn fall_asleep(&self) -> bool {
        self.set_activity(Activity::Asleep);
        let sleeps = !self.has_reason_to_wake();
        if !sleeps {
            self.set_activity(Activity::Elsewhere);
        }
        sleeps
    }

    /// Is there something that a sleeper must wake for, its deadline apart?
    pub fn has_reason_to_wake(&self) -> bool {
        self.info().upcall_due()
            || self.poll_hit.load(Ordering::SeqCst)
            || self.nmi.load(Ordering::SeqCst)
            || self.period.load(Ordering::SeqCst) != NO_PERIOD
    }

    /// Another vCPU wants its periodic timer to have this period, or to stop. It wakes for that, if it sleeps, as if for no
    /// reason: timers belong to the vCPU, which sets its own on its CPU.
    pub fn ask_for_period(&self, period: Option<u64>) {
        self.period.store(period.unwrap_or(STOP), Ordering::SeqCst);
    }

    /// Takes what was asked for last: a period, or that the timer stops.
    #[inline]
    pub fn take_period(&self) -> Option<Option<u64>> {
        if self.period.load(Ordering::SeqCst) == NO_PERIOD {
            return None;
        }
        let period = self.period.swap(NO_PERIOD, Ordering::SeqCst);
        (period != NO_PERIOD).then_some((period != STOP).then_some(period))
    }

    /// Begins to wait for a port to become pending, or with `None` for any. Then the caller looks at the ports.
    pub fn begin_poll(&self, port: Option<u32>) {
        self.poll_hit.store(false, Ordering::SeqCst);
        self.polled.store(port.unwrap_or(0), Ordering::SeqCst);
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

    /// Does it wait for this port, or for several, which this may be one of? A poll for several ports ends with any, as on
    /// Xen: the guest looks again.
    pub fn polls_for(&self, port: u32) -> bool {
        self.is_polling() && [0, port].contains(&self.polled.load(Ordering::SeqCst))
    }

    /// A port that it waits for became pending.
    pub fn hit_poll(&self) {
        self.poll_hit.store(true, Ordering::SeqCst);
    }

    /// Has it a state to start from?
    pub fn is_initialised(&self) -> bool {
        self.initialised.load(Ordering::Acquire)
    }

    /// It has a state to start from, now and for good.
    pub fn set_initialised(&self) {
        self.initialised.store(true, Ordering::Release);
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

    /// Says what it does from `now` on, in nanoseconds of system time.
    pub fn change_run_state(&self, state: RunState, now: u64) {
        self.run_states.lock().change(state, now);
    }

    /// How long it did what, up to `now`.
    pub fn run_states(&self, now: u64) -> VcpuRunstateInfo {
        self.run_states.lock().info(now)
    }

    /// Sends it an NMI. False if one is waiting already.
    pub fn send_nmi(&self) -> bool {
        !self.nmi.swap(true, Ordering::SeqCst)
    }

    /// Does an NMI wait for it?
    #[inline]
    pub fn has_nmi(&self) -> bool {
        self.nmi.load(Ordering::SeqCst)
    }

    /// Takes the NMI that waits for it, if any.
    pub fn take_nmi(&self) -> bool {
        self.has_nmi() && self.nmi.swap(false, Ordering::SeqCst)
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
        assert!(link.fall_asleep());
        assert_eq!(link.activity(), Activity::Asleep);
        link.set_activity(Activity::Running);
        link.begin_poll(Some(3));
        assert!(link.polls_for(3) && !link.polls_for(4));
        link.hit_poll();
        assert!(!link.fall_asleep());
        assert_eq!(link.activity(), Activity::Elsewhere);
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
        assert!(link.move_info(Mfn(5), new));
        assert!(core::ptr::eq(link.info(), new));
        assert_eq!(link.info_frame(), Some(Mfn(5)));
        assert_eq!((new.cr2(), new.upcall_mask()), (0x1234, 1));
        assert!(new.upcall_pending());
        assert_eq!(new.pending_sel.load(Ordering::Relaxed), u64::MAX);
        assert!(!link.move_info(Mfn(6), Box::leak(Box::default())));
    }
}
