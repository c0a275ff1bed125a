//! Taking and dropping references: the transitions of a frame's counts and type.
//!
//! A *general reference* keeps the frame from being given to anybody else. A *type reference* comes with a general one
//! and keeps the frame in its type. These are all the transitions, each a single compare-exchange:
//!
//! ```text
//!   count 0 ──take──> count 1, not validated ──confirm──> validated ──take/drop──> count n
//!      ^                        │ abandon                     │ drop of the last
//!      └────────────────────────┴─<── (tables) not validated, count 1, entries being dropped ─┘
//! ```
//!
//! A type can only be chosen at count 0. While a frame is not validated its one type reference belongs to the CPU that
//! checks it or takes it apart: nobody else can take the type, so nobody relies on what is not checked yet.
//!
//! Before the contents of a frame that becomes a table or a descriptor page are read, and before a frame that was one
//! is mapped writable, CPUs with possibly stale translations are flushed. The stamp is compared *after* the type was
//! taken: from then on nobody can add a writable mapping, so the stamp cannot move any more (XSA-401).

use super::error::{Refusal, Stop};
use super::flush::CpuSet;
use super::frame::Frame;
use super::operation::{Operation, PageTableMem};
use super::pending::Table;
use super::state::{FrameType, State, TakeError};
use crate::addr::{DomainId, Mfn};

/// What a caller that took a type has to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// Nothing: the frame is checked.
    Validated,
    /// Check the contents, then [`Operation::confirm`] or [`Operation::abandon`].
    First,
}

/// A type reference that [`Operation::take_validated`] took.
pub(super) struct Validated<'a> {
    frame: &'a Frame,
    before: State,
    after: State,
}

impl<'a, M: PageTableMem> Operation<'a, M> {
    /// Takes a general reference to a frame of `owner`.
    #[inline]
    pub fn reference(&mut self, mfn: Mfn, owner: DomainId) -> Result<(), Stop> {
        let frame = self.owned(mfn, owner)?;
        loop {
            let old = frame.state();
            let new = old.referenced(self.is_foreign(owner)).map_err(|why| refuse(why, mfn, FrameType::None, old))?;
            if frame.compare_exchange(old, new).is_ok() {
                break;
            }
        }
        self.check_owner(frame, mfn, owner, Operation::put)
    }

    /// Drops a general reference.
    #[inline]
    pub fn put(&mut self, mfn: Mfn) {
        let frame = self.mmu.frames.known(mfn);
        self.change(frame, mfn, State::unreferenced);
    }

    /// Takes a reference of type writable, as a writable mapping by the guest or a structure shared with it holds.
    ///
    /// # Errors
    /// [`Stop::Flush`] if the frame was a table or descriptor page whose translations may be in use yet.
    #[inline(always)]
    pub fn take_writable(&mut self, mfn: Mfn, owner: DomainId) -> Result<(), Stop> {
        match self.take_validated(mfn, owner, FrameType::Writable)? {
            Some(_) => Ok(()),
            None => self.become_writable(mfn, owner),
        }
    }

    /// The rest of [`Operation::take_writable`], for a page that was something else before.
    #[inline(never)]
    fn become_writable(&mut self, mfn: Mfn, owner: DomainId) -> Result<(), Stop> {
        if self.take(mfn, owner, FrameType::Writable)? == Taken::First {
            // Nothing to check in the contents: flushed is all it has to be.
            self.confirm(mfn);
        }
        Ok(())
    }

    /// Drops a reference of type writable. The mapping must be gone already: the clock is read here.
    pub fn put_writable(&mut self, mfn: Mfn) {
        self.release(mfn, FrameType::Writable);
    }

    /// Takes a type reference together with a general one.
    ///
    /// The first to take a checked type gets [`Taken::First`], and no CPU holds a translation from an earlier use.
    pub(super) fn take(&mut self, mfn: Mfn, owner: DomainId, kind: FrameType) -> Result<Taken, Stop> {
        let frame = self.owned(mfn, owner)?;
        let taken = loop {
            let old = frame.state();
            let (new, taken) = match old.take(kind, self.is_foreign(owner)) {
                Ok(taken) => taken,
                // Only tables stay unvalidated for long; the others are a few instructions away from done.
                Err(TakeError::Changing) if kind.level().is_none() => {
                    core::hint::spin_loop();
                    continue;
                }
                Err(why) => return Err(refuse(why, mfn, kind, old)),
            };
            if frame.compare_exchange(old, new).is_ok() {
                break taken;
            }
        };
        if taken == Taken::Validated {
            self.check_owner(frame, mfn, owner, |this, mfn| this.release(mfn, kind))?;
            return Ok(taken);
        }
        self.check_owner(frame, mfn, owner, Operation::abandon)?;
        let stale = self.stale_cpus(frame);
        if !stale.is_empty() {
            // Keeping the type meanwhile would make others wait for our flush; it is taken again, and compared again.
            self.abandon(mfn);
            return Err(Stop::Flush(stale));
        }
        Ok(taken)
    }

    /// [`Operation::take`] where there is nothing to check: the frame is in use as `kind` now, or is a page that was
    /// writable last. `None`, and nothing is taken, where that is not so.
    #[inline(always)]
    pub(super) fn take_validated(
        &mut self,
        mfn: Mfn,
        owner: DomainId,
        kind: FrameType,
    ) -> Result<Option<Validated<'a>>, Stop> {
        let foreign = self.is_foreign(owner);
        let frame = self.owned(mfn, owner)?;
        let taken = loop {
            let before = frame.state();
            let Some(after) = before.take_validated(kind, foreign) else { return not_validated(mfn, kind, before) };
            if frame.compare_exchange(before, after).is_ok() {
                break Validated { frame, before, after };
            }
        };
        self.check_owner(frame, mfn, owner, |this, mfn| this.release(mfn, kind))?;
        Ok(Some(taken))
    }

    /// Drops a type reference and the general one with it. The last one of a table leaves the table in
    /// [`Pending`](super::pending::Pending), to have its entries dropped by [`Operation::drain`].
    #[inline]
    pub(super) fn release(&mut self, mfn: Mfn, kind: FrameType) {
        self.release_frame(self.mmu.frames.known(mfn), mfn, kind);
    }

    /// [`Operation::release`], with the metadata found.
    #[inline(always)]
    pub(super) fn release_frame(&mut self, frame: &Frame, mfn: Mfn, kind: FrameType) {
        // Every drop stamps, not just the last one: the clock may have moved between this one and the last.
        frame.stamp(self.mmu.clock.now());
        self.release_unstamped(frame, mfn, kind);
    }

    /// [`Operation::release`] for a table that was taken for the time of an update. There is nothing to stamp: no
    /// translation came from this reference, and the end of those that others stood for was stamped by the others.
    #[inline(always)]
    pub(super) fn release_validated(
        &mut self,
        Validated { frame, before, after }: Validated<'_>,
        mfn: Mfn,
        kind: FrameType,
    ) {
        // Mostly nobody else has touched it, and it becomes what it was, which had a reference too.
        if frame.compare_exchange(after, before).is_err() {
            self.release_changed(frame, mfn, kind);
        }
    }

    #[cold]
    #[inline(never)]
    fn release_changed(&mut self, frame: &Frame, mfn: Mfn, kind: FrameType) {
        self.release_unstamped(frame, mfn, kind);
    }

    #[inline(always)]
    fn release_unstamped(&mut self, frame: &Frame, mfn: Mfn, kind: FrameType) {
        let new = self.change(frame, mfn, |state| state.released(kind));
        if !new.is_validated()
            && let Some(level) = kind.level()
        {
            self.pending.push(Table::closing(mfn, level, M::ENTRIES));
        }
    }

    /// Makes a frame whose contents were checked usable by all.
    pub(super) fn confirm(&mut self, mfn: Mfn) {
        let frame = self.mmu.frames.known(mfn);
        self.change(frame, mfn, State::confirmed);
    }

    /// Drops the only type reference of a frame that is not validated.
    pub(super) fn abandon(&mut self, mfn: Mfn) {
        let frame = self.mmu.frames.known(mfn);
        self.change(frame, mfn, State::abandoned);
    }

    /// The metadata of a frame that `owner` owns at this moment.
    #[inline]
    pub(super) fn owned(&self, mfn: Mfn, owner: DomainId) -> Result<&'a Frame, Stop> {
        let frame = self.mmu.frames.get(mfn).filter(|frame| frame.is_owned_by(owner));
        frame.ok_or_else(|| Stop::refuse(Refusal::NotOwned(mfn)))
    }

    /// The owner may have changed between the look and the reference, and can't any more: looks again.
    #[inline]
    fn check_owner(
        &mut self,
        frame: &Frame,
        mfn: Mfn,
        owner: DomainId,
        undo: impl FnOnce(&mut Self, Mfn),
    ) -> Result<(), Stop> {
        if frame.is_owned_by(owner) {
            return Ok(());
        }
        undo(self, mfn);
        Err(Stop::refuse(Refusal::NotOwned(mfn)))
    }

    /// CPUs that may hold translations from an earlier use of a frame whose type was just taken.
    fn stale_cpus(&self, frame: &Frame) -> CpuSet {
        // The domain's CPUs know nothing of mappings that other domains had.
        let candidates = if frame.state().is_foreign() { self.mmu.online } else { self.space.cpus.load() };
        self.mmu.clock.stale(frame.last_use(), candidates)
    }

    /// Applies a transition that can't fail, and notes the frame if it dropped the last reference.
    #[inline]
    pub(super) fn change(&mut self, frame: &Frame, mfn: Mfn, transition: impl Fn(State) -> State) -> State {
        let mut old = frame.state();
        loop {
            let new = transition(old);
            match frame.compare_exchange(old, new) {
                Ok(()) => {
                    if new.references() == 0 {
                        self.pending.note_freed(mfn);
                    }
                    return new;
                }
                Err(now) => old = now,
            }
        }
    }

    fn is_foreign(&self, owner: DomainId) -> bool {
        owner != self.space.domain
    }
}

/// Why a type is not taken.
#[cold]
fn not_validated<'a>(mfn: Mfn, kind: FrameType, state: State) -> Result<Option<Validated<'a>>, Stop> {
    if state.is_live(kind) { Err(refuse(TakeError::Overflow, mfn, kind, state)) } else { Ok(None) }
}

#[cold]
fn refuse(why: TakeError, mfn: Mfn, wanted: FrameType, state: State) -> Stop {
    match why {
        TakeError::Changing => Stop::Again,
        TakeError::NotInUse => Stop::refuse(Refusal::NotOwned(mfn)),
        TakeError::Overflow => Stop::refuse(Refusal::TooManyReferences(mfn)),
        TakeError::OtherType => Stop::refuse(Refusal::InUse { mfn, is: state.frame_type(), wanted }),
    }
}
