//! A new domain, before it has memory: its place among the others, and its part of the CPUs.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use boot_archive::Scheduling;
use spin::Mutex;

use super::memory::{self, Memory};
use super::park::ParkedList;
use super::runner::Runner;
use super::{Domain, console, flush, machine, queues, remove};
use crate::addr::DomainId;
use crate::arch::{guest_frames, time};
use crate::domain::shared::SharedInfo;
use crate::domain::vcpu::Vcpu;
use crate::event::{Events, Rights};
use crate::grant::{Grants, Limits};
use crate::mm::flush::{AtomicCpuSet, CpuSet};
use crate::mm::m2p;
use crate::mm::owner::DomainFrames;
use crate::sched::Share;
use crate::sync::{Once, Rank, SpinLock};
use crate::time::Allowance;

/// The control domain's number.
pub const CONTROL: DomainId = DomainId(0);
/// The other domains of the machine file count from here.
pub const FIRST_ID: u16 = 1;

/// What is decided about a domain before it has memory.
pub struct New {
    /// Its number, which no other has.
    pub id: DomainId,
    /// Its name in the log and on the console.
    pub name: String,
    /// Most frames it may have.
    pub max_pages: u64,
    /// Its vCPUs, 1 to [`MAX_VCPUS`](crate::domain::MAX_VCPUS).
    pub vcpus: u32,
    /// Its UUID-like handle.
    pub handle: [u8; 16],
    /// It is the control domain.
    pub privileged: bool,
    /// It is the control domain that creates it.
    pub supervised: bool,
    /// What it may have of grants.
    pub grants: Limits,
    /// Its part of the CPUs.
    pub sharing: Sharing,
    /// Its ports have numbers below this.
    pub max_ports: u32,
}

/// A domain's part of the CPUs.
pub struct Sharing {
    /// Its weight, see [`Share`].
    pub weight: u16,
    /// The most CPU time it gets, in percent of one CPU; 0: no limit.
    pub cap: u16,
    /// The CPUs that it may use.
    pub allowed: CpuSet,
    /// These are its own, one for each vCPU.
    pub dedicated: bool,
}

impl Default for Sharing {
    /// A domain like any other, on all CPUs that are nobody's own.
    fn default() -> Sharing {
        let Scheduling { weight, cap, dedicated, .. } = Scheduling::default();
        Sharing { weight, cap, allowed: shared_cpus(), dedicated }
    }
}

/// All CPUs that run.
pub fn running_cpus() -> CpuSet {
    CpuSet::first(machine().running.load(Ordering::Relaxed))
}

/// The CPUs that are nobody's own.
pub fn shared_cpus() -> CpuSet {
    running_cpus().difference(queues::board().dedicated())
}

/// A domain that owns nothing yet but the page it shares with the hypervisor and a frame for grants. Its vCPUs are down.
/// `None` if there are no frames for these.
pub fn new_domain(new: New) -> Option<Arc<Domain>> {
    let (table, allocator) = (machine().frames, machine().allocator);
    let page = allocator.lock().alloc(&table, 0)?;
    flush::flush(memory::clock().stale(page.last_use, memory::mmu().online));
    let shared = guest_frames::shared_info(&table, page.mfn);
    prepare_shared(shared);
    let mut frames = DomainFrames::new(new.id);
    frames.share(&table, page.mfn);
    m2p::mark_shared(&guest_frames::Tables, page.mfn);
    let rights = Rights { privileged: new.privileged, max_ports: new.max_ports };
    let domain = Arc::new(Domain {
        id: new.id,
        name: new.name,
        privileged: new.privileged,
        supervised: new.supervised,
        max_pages: AtomicU64::new(new.max_pages),
        handle: Mutex::new(new.handle),
        events: Arc::new(Events::new(new.id, shared, new.vcpus, rights, &memory::ForEvents)),
        grants: Arc::new(Grants::new(new.id, new.grants)),
        assists: Arc::default(),
        parked: SpinLock::new(Rank::Parked, ParkedList::with_capacity(new.vcpus)),
        paused: AtomicU32::new(0),
        pauses: AtomicU32::new(0),
        shared_mfn: page.mfn,
        frames: SpinLock::new(Rank::Domain, frames),
        share: Arc::new(Share::new(new.sharing.weight, new.sharing.cap)),
        allowed: new.sharing.allowed,
        dedicated: new.sharing.dedicated,
        cpus: AtomicCpuSet::new(),
        complaints: Allowance::default(),
        printed: Allowance::default(),
        hardware: (new.id == CONTROL && new.privileged).then(|| Arc::new(machine().own.others())),
        shutdown: Once::new(),
        end: Once::new(),
        dismantled: AtomicBool::new(false),
        awaited: AtomicBool::new(false),
        live: AtomicU32::new(new.vcpus),
    });
    if let Some(hardware) = &domain.hardware {
        hardware.interrupts.give_to(&domain.events);
    }
    for link in domain.events.vcpus() {
        link.affinity().store(domain.cpus_of(link.id));
        let vcpu = Vcpu::new(link, domain.assists.clone());
        domain.parked.lock().add(Box::new(Runner::new(vcpu, domain.clone())));
    }
    if !Memory(&domain).share().is_some_and(|mfn| domain.grants.add_frame(0, mfn)) {
        remove::discard(&domain);
        return None;
    }
    Some(domain)
}

/// Upcalls start masked, and the clock is right before the first instruction: Linux divides by its scale.
fn prepare_shared(shared: &SharedInfo) {
    let record = time::clock().guest_record(time::tsc());
    for info in &shared.vcpus {
        info.set_upcall_mask(true);
        info.set_time(&record);
    }
    shared.set_wall_clock(machine().wall_clock, 0);
}

/// Puts a new domain on the list of all. Its vCPUs are dealt out to CPUs one by one.
pub fn enlist(domain: &Arc<Domain>) {
    let links = domain.events.vcpus();
    queues::make_room(links.len());
    for link in links {
        link.set_cpu(link.affinity().load().cycle(domain.turn(link.id)));
    }
    machine().untold.fetch_add(1, Ordering::Relaxed);
    machine().domains.lock().push(domain.clone());
    console::domain_started(domain.id);
}
