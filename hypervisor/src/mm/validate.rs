//! Checking whole tables and taking them apart: one loop, an explicit stack, a cursor per table.
//!
//! A table under work is *building* (entries below the cursor hold their references; the cursor goes up) or *closing*
//! (the same, and the cursor goes down). Work can stop at any entry and go on later, because stack and cursors are all
//! the state there is; and a check that fails is undone by turning every table on the stack from building to closing
//! where it stands. The half-built table is nobody else's: its one type reference, not validated, is this stack's.
//!
//! There are no cycles to fall into. An entry takes a table of exactly the level below, so the stack descends; a table
//! that names itself or one above it is refused, because that one already has another type (XSA-182, XSA-240).
//!
//! A vCPU that needs a table another vCPU is checking gets [`Stop::Again`]. These waits end: a vCPU that waits has only
//! tables of higher levels under work than the one it waits for, and closing never waits.

use super::devices::NO_RAM;
use super::entry::Entry;
use super::error::{EntryAt, Refusal, Refused, Stop};
use super::operation::{Operation, PageTableMem, ZEROS};
use super::pending::{Outcome, Table};
use super::state::{FrameType, Level, State};
use super::types::Taken;
use crate::addr::{DomainId, Mfn};

impl<M: PageTableMem> Operation<'_, M> {
    /// Finishes the work that earlier operations began.
    ///
    /// A hypercall calls this last and reports success only after it returned `Ok`, so that a guest finds the tables
    /// it dropped untyped.
    #[inline(always)]
    pub fn drain(&mut self) -> Result<(), Stop> {
        if self.pending.is_drained() { Ok(()) } else { self.finish() }
    }

    #[inline(never)]
    fn finish(&mut self) -> Result<(), Stop> {
        while let Some(&top) = self.pending.stack.last() {
            if top.building { self.build(top)? } else { self.close(top)? }
        }
        Ok(())
    }

    /// Drops whatever this vCPU has begun: a dying domain's first step. [`Operation::drain`] finishes it.
    pub fn give_up(&mut self) -> Result<(), Stop> {
        self.pending.turn_around();
        self.begin()?;
        self.drop_outcome();
        self.drain()
    }

    /// Takes a type reference to a table of the domain, checking it and all below it if nobody did.
    ///
    /// Called again after [`Stop::Again`], it finds the table checked and fetches the reference.
    pub(super) fn acquire_table(&mut self, mfn: Mfn, level: Level) -> Result<(), Stop> {
        self.drain()?;
        match self.pending.outcome {
            Some((m, l, outcome)) if (m, l) == (mfn, level) => return self.fetch(outcome),
            _ => self.drop_outcome(),
        }
        self.drain()?;
        if self.take(mfn, self.space.domain, level.frame_type())? == Taken::First {
            self.pending.push(Table::building(mfn, level));
            self.drain()?;
            if let Some((.., outcome)) = self.pending.outcome {
                return self.fetch(outcome);
            }
        }
        Ok(())
    }

    fn fetch(&mut self, outcome: Outcome) -> Result<(), Stop> {
        self.pending.outcome = None;
        match outcome {
            Outcome::Held => Ok(()),
            Outcome::Failed(refused) => Err(Stop::Refused(refused)),
        }
    }

    /// Forgets a result nobody came back for: the guest did something else instead.
    fn drop_outcome(&mut self) {
        if let Some((mfn, level, Outcome::Held)) = self.pending.outcome.take() {
            self.release(mfn, level.frame_type());
        }
    }

    /// Takes the references of the table on top of the stack until it is complete, or a table below comes first.
    fn build(&mut self, table: Table) -> Result<(), Stop> {
        let mut cursor = table.cursor;
        let result = match table.level {
            // A copy for L1 alone, which saves a tenth.
            Level::L1 => self.build_entries(table.mfn, Level::L1, &mut cursor),
            level => self.build_entries(table.mfn, level, &mut cursor),
        };
        self.pending.set_cursor(cursor);
        match result {
            Ok(Some(below)) => self.pending.push(below),
            Ok(None) => self.complete(table),
            Err(Stop::Refused(refused)) => self.refuse(refused),
            Err(stop) => return Err(stop),
        }
        Ok(())
    }

    /// Takes references from the cursor up. Returns a table that has to be built before the entry at the cursor is done.
    #[inline(always)]
    fn build_entries(&mut self, mfn: Mfn, level: Level, cursor: &mut usize) -> Result<Option<Table>, Stop> {
        while *cursor < M::ENTRIES {
            if is_hypervisor_slot::<M>(level, *cursor) {
                *cursor += 1;
                continue;
            }
            // What is taken can't free anything: that needs no look at each entry.
            self.pay()?;
            // The guest cannot write the table: it has this type, and the flush came before this read.
            let value = Entry(self.mmu.memory.read(mfn, *cursor));
            if value.0 == 0 {
                *cursor = self.zeros_above(mfn, *cursor);
                continue;
            }
            if let Some(below) = self.build_entry(mfn, level, *cursor, value)? {
                return Ok(Some(below));
            }
            *cursor += 1;
        }
        Ok(None)
    }

    /// Checks one entry, takes what it uses and writes the accepted form back.
    #[inline(always)]
    fn build_entry(&mut self, mfn: Mfn, level: Level, index: usize, value: Entry) -> Result<Option<Table>, Stop> {
        let about = |stop: Stop| stop.about(EntryAt { table: mfn, level, index, value });
        let entry = self.accept(value, level).map_err(about)?;
        if !entry.is_present() {
            return Ok(None);
        }
        let below = match level.below() {
            None => self.take_leaf(entry, self.space.domain).map(|()| None),
            Some(below) => match self.take(entry.frame(), self.space.domain, below.frame_type()) {
                Ok(Taken::First) => Ok(Some(Table::building(entry.frame(), below))),
                Ok(Taken::Validated) => Ok(None),
                Err(stop) => Err(stop),
            },
        };
        let below = below.map_err(about)?;
        if entry != value {
            self.mmu.memory.write(mfn, index, entry.0);
        }
        Ok(below)
    }

    /// Passes zeros, of which one is at `index`: where to go on. 0 is right at every level and uses nothing, and most tables
    /// consist of it, so that a group of them counts as one entry.
    #[inline(always)]
    fn zeros_above(&mut self, mfn: Mfn, index: usize) -> usize {
        let mut end = index;
        while self.budget > 0 && end + ZEROS <= M::ENTRIES && self.mmu.memory.are_zero(mfn, end) {
            self.budget -= 1;
            end += ZEROS;
        }
        end.max(index + 1)
    }

    /// The same downwards: one of the zeros is right below `index`.
    #[inline(always)]
    fn zeros_below(&mut self, mfn: Mfn, index: usize) -> usize {
        let mut end = index;
        while self.budget > 0 && end >= ZEROS && self.mmu.memory.are_zero(mfn, end - ZEROS) {
            self.budget -= 1;
            end -= ZEROS;
        }
        end.min(index - 1)
    }

    /// Makes the table on top of the stack usable, and moves the one above it past the entry that names it.
    fn complete(&mut self, table: Table) {
        if table.level == Level::L4 {
            self.mmu.memory.write_hypervisor_slots(table.mfn);
        }
        self.confirm(table.mfn);
        self.pending.stack.pop();
        match self.pending.stack.last_mut() {
            Some(parent) => parent.cursor += 1,
            None => self.pending.outcome = Some((table.mfn, table.level, Outcome::Held)),
        }
    }

    fn refuse(&mut self, refused: Refused) {
        if let Some(root) = self.pending.stack.first() {
            self.pending.outcome = Some((root.mfn, root.level, Outcome::Failed(refused)));
        }
        self.pending.turn_around();
    }

    /// Drops the references of the table on top of the stack, and then its type, unless a table below comes first.
    fn close(&mut self, table: Table) -> Result<(), Stop> {
        let mut cursor = table.cursor;
        let depth = self.pending.stack.len();
        let result = match table.level {
            Level::L1 => self.close_entries(table.mfn, Level::L1, &mut cursor),
            level => self.close_entries(table.mfn, level, &mut cursor),
        };
        if let Some(table) = self.pending.stack.get_mut(depth - 1) {
            table.cursor = cursor;
        }
        result?;
        if cursor == 0 && self.pending.stack.len() == depth {
            self.pending.stack.pop();
            self.abandon(table.mfn);
        }
        Ok(())
    }

    /// Drops references from below the cursor down, up to a table that has to be closed first.
    #[inline(always)]
    fn close_entries(&mut self, mfn: Mfn, level: Level, cursor: &mut usize) -> Result<(), Stop> {
        let depth = self.pending.stack.len();
        while *cursor > 0 && self.pending.stack.len() == depth {
            if is_hypervisor_slot::<M>(level, *cursor - 1) {
                *cursor -= 1;
                continue;
            }
            self.spend()?;
            // The entry is what was taken, up to flags that hold no reference: only checked updates wrote to the table.
            let entry = Entry(self.mmu.memory.read(mfn, *cursor - 1));
            if entry.0 == 0 {
                *cursor = self.zeros_below(mfn, *cursor);
                continue;
            }
            *cursor -= 1;
            self.drop_uses(entry, level);
        }
        Ok(())
    }

    /// The accepted form of an entry; the rule of [`Entry::accept`] plus what depends on the machine.
    #[inline]
    pub(super) fn accept(&self, entry: Entry, level: Level) -> Result<Entry, Stop> {
        if !entry.is_present() {
            let leaks = |limit: Mfn| entry.frame() != Mfn(0) && entry.frame() < limit;
            let refused = self.mmu.l1tf_limit.is_some_and(leaks);
            return if refused { Err(Stop::refuse(Refusal::NotPresentNamesMemory)) } else { Ok(entry) };
        }
        // RAM and devices differ in the cache bits only, which are seldom set.
        let device = level == Level::L1 && entry.asks_for_cache_type() && self.mmu.frames.is_device(entry.frame());
        entry.accept(level, device).ok_or_else(|| Stop::refuse(Refusal::Flags))
    }

    /// Takes what a present L1 entry uses: a page of `owner`, writable or not, or a device frame.
    #[inline(always)]
    pub(super) fn take_leaf(&mut self, entry: Entry, owner: DomainId) -> Result<(), Stop> {
        let mfn = entry.frame();
        let taken = if entry.is_writable() { self.take_writable(mfn, owner) } else { self.reference(mfn, owner) };
        // Nobody owns device frames: only a refusal may be about one.
        taken.or_else(|stop| self.permit_device(entry, owner, stop))
    }

    /// A frame could not be taken: that is all right if it is no RAM, and a device of the domain's.
    #[cold]
    fn permit_device(&self, entry: Entry, owner: DomainId, stop: Stop) -> Result<(), Stop> {
        let mfn = entry.frame();
        if !self.mmu.frames.is_device(mfn) {
            return Err(stop);
        }
        // Device frames are never freed: there is nothing to count. They are nobody's, so not another domain's either.
        let is_own = owner == self.space.domain || owner == NO_RAM;
        let permitted = is_own && self.space.devices.permits(mfn, entry.is_writable());
        if permitted { Ok(()) } else { Err(Stop::refuse(Refusal::NotPermitted(mfn))) }
    }

    /// Drops what an entry of a complete table used. The entry must not be in a table any more, or the table not in use.
    #[inline]
    pub(super) fn drop_uses(&mut self, entry: Entry, level: Level) {
        if !entry.is_present() {
            return;
        }
        let mfn = entry.frame();
        match level.below() {
            Some(below) => self.release(mfn, below.frame_type()),
            None => {
                let Some(frame) = self.mmu.frames.ram(mfn) else { return };
                if entry.is_writable() {
                    self.release_frame(frame, mfn, FrameType::Writable);
                } else {
                    self.change(frame, mfn, State::unreferenced);
                }
            }
        }
    }
}

/// Whether an entry is the hypervisor's, whatever the guest has there.
#[inline]
pub(super) fn is_hypervisor_slot<M: PageTableMem>(level: Level, index: usize) -> bool {
    level == Level::L4 && M::HYPERVISOR_SLOTS.contains(&index)
}
