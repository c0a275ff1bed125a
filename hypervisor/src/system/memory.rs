//! Memory of domains: the machine for the rules of [`mm`](crate::mm), and what carries out their effects.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::addr::{GuestVa, Mfn, PAGE_SIZE, Pfn};
use crate::arch::cpu_features;
use crate::arch::guest_frames::{self, Tables};
use crate::arch::percpu;
use crate::event::fifo::EventMemory;
use crate::mm::devices::DeviceFrames;
use crate::mm::error::Stop;
use crate::mm::flush::{CpuSet, FlushClock};
use crate::mm::m2p;
use crate::mm::operation::{Freed, Mmu, Operation, Space};
use crate::mm::owner::DomainFrames;
use crate::mm::pending::Pending;
use crate::mm::perform::{Effects, FramesLock, Unfinished, perform};
use crate::sync::{Once, SpinLock};

use super::remove::forget_if_gone;
use super::{Domain, control, flush, machine, nudge};

static CLOCK: FlushClock = FlushClock::new();
static MMU: Once<Mmu<'static, Tables>> = Once::new();

/// When CPUs flushed.
pub fn clock() -> &'static FlushClock {
    &CLOCK
}

/// Sets the rules up for a machine on which `running` CPUs run, and no more will.
pub fn init(running: u32) {
    let frames = machine().frames;
    MMU.call_once(|| Mmu {
        frames,
        clock: &CLOCK,
        memory: &Tables,
        online: CpuSet::first(running),
        // All cacheable memory is below the end of RAM.
        l1tf_limit: cpu_features::exposure().l1tf.then(|| frames.end()),
    });
}

/// The machine as the rules see it.
#[inline]
pub fn mmu() -> &'static Mmu<'static, Tables> {
    MMU.get().expect("boot sets the rules up before there is a domain")
}

impl FramesLock for SpinLock<DomainFrames> {
    fn with(&self, work: &mut dyn FnMut(&mut DomainFrames)) {
        work(&mut self.lock());
    }
}

impl Domain {
    /// The domain as the rules see it.
    #[inline]
    pub fn space(&self) -> Space<'_> {
        let devices = match &self.hardware {
            Some(hardware) => &hardware.frames,
            None => DeviceFrames::none(),
        };
        Space { domain: self.id, cpus: &self.cpus, devices }
    }
}

/// A domain's memory.
#[derive(Clone, Copy)]
pub struct Memory<'a>(pub &'a Domain);

impl Effects for Memory<'_> {
    type Tables = Tables;

    #[inline]
    fn mmu(&self) -> &Mmu<'_, Tables> {
        mmu()
    }

    #[inline]
    fn space(&self) -> Space<'_> {
        self.0.space()
    }

    #[inline]
    fn frames(&self) -> &dyn FramesLock {
        &self.0.frames
    }

    fn retire(&mut self, freed: &mut Freed) {
        for mfn in freed.drain(..) {
            let owner = mmu().frames.get(mfn).and_then(|frame| frame.owner());
            if owner == Some(self.0.id) {
                retire(&self.0.frames, mfn);
            } else if let Some(domain) = owner.and_then(control::find) {
                retire(&domain.frames, mfn);
                if forget_if_gone(&domain) {
                    let mut attention = false;
                    control::announce(&mut attention);
                    if attention {
                        nudge(percpu::cpu());
                    }
                }
            }
        }
    }

    fn flush(&mut self, cpus: CpuSet) {
        flush::flush(cpus);
    }
}

impl Memory<'_> {
    /// Carries out a step of the rules with a budget of its own.
    #[inline(always)]
    pub fn step<T>(
        mut self,
        pending: &mut Pending,
        step: impl FnMut(&mut Operation<'_, Tables>, &dyn FramesLock) -> Result<T, Stop>,
    ) -> Result<T, Unfinished> {
        perform(&mut self, pending, &mut { STEP }, step)
    }

    /// [`Operation::change_mapped_table`], if it can be done at once, without a flush and without waiting for anybody. Else
    /// nothing has changed: false.
    ///
    /// Not by [`Memory::step`], whose loop and results would be a tenth of the work.
    #[inline(always)]
    pub fn change_mapped_table(
        mut self,
        pending: &mut Pending,
        root: Mfn,
        address: GuestVa,
        make: impl FnMut(u64) -> Option<u64>,
    ) -> bool {
        let mut op = Operation::new(mmu(), self.0.space(), pending, STEP);
        let done = op.change_mapped_table(root, address, make).is_ok();
        if !pending.freed.is_empty() {
            self.retire(&mut pending.freed);
        }
        done
    }

    /// Takes `2^order` frames from the allocator for the domain, zeroed; `None` if there are none, or if the domain may
    /// not have so many more. The machine-to-physical table knows them from `pfn` on, if the domain has numbers for them.
    pub fn populate(self, order: u8, pfn: Option<Pfn>) -> Option<Mfn> {
        let count = 1 << order;
        if self.is_above_limit(count) {
            return None;
        }
        let (frames, allocator) = (machine().frames, machine().allocator);
        let block = allocator.lock().alloc(&frames, order)?;
        flush::flush(clock().stale(block.last_use, mmu().online));
        if block.dirty {
            (0..count).for_each(|n| guest_frames::clear(&frames, block.mfn.offset(n)));
        }
        let mut owned = self.0.frames.lock();
        if owned.allocated() + count > self.0.max_pages.load(Ordering::Relaxed) {
            // Another vCPU was faster.
            drop(owned);
            allocator.lock().free(&frames, block.mfn, order, false);
            return None;
        }
        // Before another vCPU can give them back, and another domain have them.
        if let Some(pfn) = pfn {
            m2p::set_all(&Tables, block.mfn, pfn, count);
        }
        (0..count).for_each(|n| owned.assign(&frames, block.mfn.offset(n)));
        Some(block.mfn)
    }

    fn is_above_limit(self, count: u64) -> bool {
        self.0.frames.lock().allocated() + count > self.0.max_pages.load(Ordering::Relaxed)
    }
}

impl Memory<'_> {
    /// Takes a frame from the allocator for the domain to map, but not to give back; the hypervisor has a reference to it.
    /// It is full of zeros. `None` if there is none.
    pub fn share(self) -> Option<Mfn> {
        let (frames, allocator) = (machine().frames, machine().allocator);
        let block = allocator.lock().alloc(&frames, 0)?;
        flush::flush(clock().stale(block.last_use, mmu().online));
        guest_frames::clear(&frames, block.mfn);
        self.0.frames.lock().share(&frames, block.mfn);
        m2p::mark_shared(&Tables, block.mfn);
        Some(block.mfn)
    }

    /// Gives a frame that [`Operation::reclaim`] took from the domain to the allocator.
    pub fn free_reclaimed(self, mfn: Mfn) {
        m2p::clear(&Tables, mfn);
        machine().allocator.lock().free(&mmu().frames, mfn, 0, true);
    }
}

/// Page-table entries that one step may look at: some ten thousand instructions, the time that interrupts may wait.
pub const STEP: u32 = 1024;

/// Frames that are left to others when a guest's call takes some for the hypervisor's own use: the heap grows by a quarter of
/// this at once.
const SPARE: u64 = 64;

/// May a guest's call take so many bytes of the hypervisor's memory?
pub fn can_spare(bytes: usize) -> bool {
    machine().allocator.lock().free_frames() >= SPARE + bytes.div_ceil(PAGE_SIZE) as u64
}

/// Memory as events need it.
pub struct ForEvents;

impl EventMemory for ForEvents {
    #[inline]
    fn word(&self, mfn: Mfn, index: usize) -> &AtomicU32 {
        guest_frames::event_word(mfn, index)
    }

    fn has_to_spare(&self, bytes: usize) -> bool {
        can_spare(bytes)
    }
}

fn retire(frames: &SpinLock<DomainFrames>, mfn: Mfn) {
    let mut frames = frames.lock();
    let mut allocator = machine().allocator.lock();
    frames.retire(&mmu().frames, &CLOCK, &Tables, &mut allocator, mfn);
}
