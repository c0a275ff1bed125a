//! A step of the rules together with its effects: the one way in which the rest of the hypervisor calls them.

use super::error::{Refused, Stop};
use super::flush::CpuSet;
use super::operation::{Freed, Mmu, Operation, PageTableMem, Space};
use super::owner::DomainFrames;
use super::pending::Pending;

/// The lock around a domain's lists of frames. Nothing is flushed or retired while it is held.
pub trait FramesLock {
    /// Runs `work` with the lock held.
    fn with(&self, work: &mut dyn FnMut(&mut DomainFrames));
}

impl dyn FramesLock + '_ {
    /// [`FramesLock::with`], for work that has a result.
    pub fn run<T>(&self, mut work: impl FnMut(&mut DomainFrames) -> T) -> T {
        let mut result = None;
        self.with(&mut |frames| result = Some(work(frames)));
        result.expect("the lock has run the work")
    }
}

/// What carries out the effects of the rules, on behalf of one domain.
pub trait Effects {
    /// The contents of frames.
    type Tables: PageTableMem;

    /// The machine.
    fn mmu(&self) -> &Mmu<'_, Self::Tables>;

    /// The domain.
    fn space(&self) -> Space<'_>;

    /// The domain's frames.
    fn frames(&self) -> &dyn FramesLock;

    /// Empties the list: each frame goes to its owner's [`DomainFrames::retire`].
    fn retire(&mut self, freed: &mut Freed);

    /// Makes these CPUs flush everything, each posted to the clock, and returns when all have done so.
    fn flush(&mut self, cpus: CpuSet);
}

/// Why a step is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfinished {
    /// To be called again, with a new budget, after interrupts and other vCPUs had their turn.
    Again,
    /// Refused for good.
    Refused(Refused),
}

/// Carries out one step of the rules: flushes where it asks for that and goes on, and retires what it freed.
///
/// `budget` is what is left of the caller's work for this time ([`Operation::budget`]); every round spends of it, since
/// each rule does so first.
#[inline]
pub fn perform<E: Effects, T>(
    effects: &mut E,
    pending: &mut Pending,
    budget: &mut u32,
    mut step: impl FnMut(&mut Operation<'_, E::Tables>, &dyn FramesLock) -> Result<T, Stop>,
) -> Result<T, Unfinished> {
    loop {
        let mut op = Operation::new(effects.mmu(), effects.space(), pending, *budget);
        let result = step(&mut op, effects.frames());
        *budget = op.budget;
        let freed = !pending.freed.is_empty();
        if freed {
            effects.retire(&mut pending.freed);
        }
        match result {
            Ok(value) => return Ok(value),
            Err(stop) => answer(effects, stop, freed && *budget > 0)?,
        }
    }
}

/// What follows from a step that stopped: another round, or the end. `room`: it may have stopped just because the list of
/// freed frames was full.
#[cold]
#[inline(never)]
fn answer<E: Effects>(effects: &mut E, stop: Stop, room: bool) -> Result<(), Unfinished> {
    match stop {
        Stop::Flush(cpus) => effects.flush(cpus),
        Stop::Again if room => {}
        Stop::Again => return Err(Unfinished::Again),
        Stop::Refused(refused) => return Err(Unfinished::Refused(refused)),
    }
    Ok(())
}
