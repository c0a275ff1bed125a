//! Updates of single page-table entries, at every level, by every path: `mmu_update`, `update_va_mapping`, and the
//! emulated store to a page-table page.
//!
//! No lock is taken. The table is held by a type reference, so it stays a checked table of its level for the time of
//! the update, or of several in a row; and each entry changes by compare-exchange, so that whoever replaces a value drops
//! what exactly that value used, once. The references for the new value are taken before it can be seen, those of the
//! old one are dropped after it is gone.

use core::slice::Iter;

use super::entry::Entry;
use super::error::{EntryAt, Refusal, Stop};
use super::operation::{Operation, PageTableMem};
use super::state::{FrameType, Level};
use super::validate::is_hypervisor_slot;
use crate::addr::{DomainId, GuestVa, MachineAddr, Mfn};

/// Where an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// The page.
    pub page: Mfn,
    /// The entry's number in it.
    pub index: usize,
}

impl Slot {
    /// The entry at a machine address (`mmu_update`'s `ptr`, command bits cleared).
    pub fn at(address: MachineAddr) -> Result<Slot, Stop> {
        if !address.0.is_multiple_of(8) {
            return Err(Stop::refuse(Refusal::Misaligned));
        }
        Ok(Slot { page: address.frame(), index: address.page_offset() / 8 })
    }
}

/// How an entry is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Whatever is there is replaced. ABI: `MMU_NORMAL_PT_UPDATE`.
    Set,
    /// The accessed and dirty bits of what is there are kept. ABI: `MMU_PT_UPDATE_PRESERVE_AD`.
    KeepAccessedDirty,
    /// Only this value is replaced; for emulated read-modify-write instructions.
    IfEqual(u64),
}

/// A change that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Update {
    /// Which entry.
    pub slot: Slot,
    /// What is to be there.
    pub value: u64,
    /// How.
    pub change: Change,
}

/// What became of a [`Change`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Changed {
    /// The new value is in place.
    Yes,
    /// The entry was not what [`Change::IfEqual`] asked for, but this.
    No(u64),
}

impl<M: PageTableMem> Operation<'_, M> {
    /// Carries out requests in order, as `mmu_update` does: each checked by the rules of what the page is at that moment.
    /// It goes on as far as `parse` makes updates of them, or until one stops; what is done is taken off the list. A
    /// [`Change::IfEqual`] that finds another value is done.
    ///
    /// `page_owner` owns the pages that L1 entries may map; the caller has checked that it may name it.
    #[inline(never)]
    pub fn update_list<R: Copy>(
        &mut self,
        requests: &mut Iter<'_, R>,
        parse: impl Fn(R) -> Option<Update>,
        page_owner: DomainId,
    ) -> Result<(), Stop> {
        while let Some(update) = first(requests, &parse) {
            self.begin()?;
            let page = update.slot.page;
            if let Some(table) = self.take_validated(page, self.space.domain, FrameType::L1)? {
                let result = self.update_run(update, requests, &parse, page_owner);
                self.release_validated(table, page, FrameType::L1);
                result?;
            } else {
                self.update_other(update, page_owner)?;
                requests.next();
            }
        }
        Ok(())
    }

    /// Carries out one request: [`Operation::update_list`] for a list of one.
    #[inline(never)]
    pub fn update_one(&mut self, update: Update, page_owner: DomainId) -> Result<(), Stop> {
        self.begin()?;
        let page = update.slot.page;
        let Some(table) = self.take_validated(page, self.space.domain, FrameType::L1)? else {
            return self.update_other(update, page_owner);
        };
        let result = self.change_entry(Level::L1, update, page_owner);
        self.release_validated(table, page, FrameType::L1);
        result.map(drop)
    }

    /// Carries out the first request of a list, which is `update`, and those that follow it as long as they are for the
    /// same L1 table. Holding it once for the run saves a third of the cost of each update.
    #[inline]
    fn update_run<R: Copy>(
        &mut self,
        mut update: Update,
        requests: &mut Iter<'_, R>,
        parse: &impl Fn(R) -> Option<Update>,
        page_owner: DomainId,
    ) -> Result<(), Stop> {
        loop {
            let _ = self.change_entry(Level::L1, update, page_owner)?;
            requests.next();
            match first(requests, parse) {
                Some(next) if next.slot.page == update.slot.page => update = next,
                Some(_) | None => return Ok(()),
            }
            // Entries of L1 tables leave no work behind that had to be finished first.
            self.spend()?;
        }
    }

    /// Carries out a request, whatever the page is.
    #[inline(never)]
    fn update_other(&mut self, update: Update, page_owner: DomainId) -> Result<(), Stop> {
        let page = update.slot.page;
        match self.level_of(page)? {
            Some(level) => {
                let kind = level.frame_type();
                // It was in use when we looked: another vCPU changes it, and a second look will tell what it became.
                let table = self.take_validated(page, self.space.domain, kind)?.ok_or(Stop::Again)?;
                let result = self.change_entry(level, update, page_owner);
                self.release_validated(table, page, kind);
                let _ = result?;
            }
            None => self.store(update)?,
        }
        Ok(())
    }

    /// The level of a table of the domain; `None` for a page that may be written without checks.
    fn level_of(&self, page: Mfn) -> Result<Option<Level>, Stop> {
        let state = self.owned(page, self.space.domain)?.state();
        let is = state.frame_type();
        match (state.type_references(), is) {
            (0, _) | (_, FrameType::Writable | FrameType::None) => Ok(None),
            (_, FrameType::Descriptors) => {
                Err(Stop::refuse(Refusal::InUse { mfn: page, is, wanted: FrameType::Writable }))
            }
            _ => Ok(is.level()),
        }
    }

    /// Changes the L1 entry that maps `address`, in the address space of `root`, an L4 table the caller holds.
    #[inline(never)]
    pub fn update_mapping(
        &mut self,
        root: Mfn,
        address: GuestVa,
        value: u64,
        page_owner: DomainId,
    ) -> Result<(), Stop> {
        let slot = self.find_l1(root, address)?;
        self.update_l1(slot, value, Change::Set, page_owner).map(drop)
    }

    /// Changes an L1 entry; refuses if the page is no L1 table.
    #[inline(always)]
    pub fn update_l1(&mut self, slot: Slot, value: u64, change: Change, page_owner: DomainId) -> Result<Changed, Stop> {
        self.begin()?;
        let domain = self.space.domain;
        let Some(table) = self.take_validated(slot.page, domain, FrameType::L1)? else {
            return Err(self.no_l1(slot.page));
        };
        let result = self.change_entry(Level::L1, Update { slot, value, change }, page_owner);
        self.release_validated(table, slot.page, FrameType::L1);
        result
    }

    /// Changes the entry of an L1 table that lies at `address`, where the guest has mapped the table's own page, in the address
    /// space of `root`, an L4 table the caller holds: to what `make` makes of the entry's value, or not if that is `None`.
    ///
    /// `make` is asked again if the entry changes meanwhile; [`Stop::Again`] if it goes on changing. Refuses if no L1 table
    /// is there.
    ///
    /// May leave the table in [`Pending`](super::pending::Pending): it is the last to hold it if others let it go meanwhile.
    #[inline(always)]
    pub fn change_mapped_table(
        &mut self,
        root: Mfn,
        address: GuestVa,
        make: impl FnMut(u64) -> Option<u64>,
    ) -> Result<(), Stop> {
        self.begin()?;
        let at = self.find_l1(root, address)?;
        let mapping = Entry(self.mmu.memory.read(at.page, at.index));
        if !mapping.is_present() {
            return Err(Stop::refuse(Refusal::NotMapped));
        }
        let slot = Slot { page: mapping.frame(), index: (address.get() & 0xfff) as usize / size_of::<Entry>() };
        let domain = self.space.domain;
        let Some(table) = self.take_validated(slot.page, domain, FrameType::L1)? else {
            return Err(self.no_l1(slot.page));
        };
        let result = self.remake(slot, make);
        self.release_validated(table, slot.page, FrameType::L1);
        result
    }

    /// Changes an entry of an L1 table that is held, see [`Operation::change_mapped_table`].
    #[inline(always)]
    fn remake(&mut self, slot: Slot, mut make: impl FnMut(u64) -> Option<u64>) -> Result<(), Stop> {
        /// Then interrupts and other vCPUs have their turn.
        const ATTEMPTS: usize = 8;
        for _ in 0..ATTEMPTS {
            let old = self.mmu.memory.read(slot.page, slot.index);
            let Some(value) = make(old) else { return Ok(()) };
            let update = Update { slot, value, change: Change::IfEqual(old) };
            if self.change_entry(Level::L1, update, self.space.domain)? == Changed::Yes {
                return Ok(());
            }
        }
        Err(Stop::Again)
    }

    /// Why a page can't be held as an L1 table.
    #[cold]
    pub(super) fn no_l1(&self, page: Mfn) -> Stop {
        match self.level_of(page) {
            Ok(Some(Level::L1)) => Stop::Again,
            Ok(_) => Stop::refuse(Refusal::NotMapped),
            Err(stop) => stop,
        }
    }

    /// Changes an entry of a table that is held.
    ///
    /// Always inline: where the level is known to be L1, half of it goes away.
    #[inline(always)]
    pub(super) fn change_entry(&mut self, level: Level, update: Update, page_owner: DomainId) -> Result<Changed, Stop> {
        let Update { slot, value, change } = update;
        let entry = self.check_entry(slot, level, Entry(value), page_owner);
        let result = entry.and_then(|entry| self.replace(slot, level, entry, change, page_owner));
        result.map_err(|stop| stop.about(EntryAt { table: slot.page, level, index: slot.index, value: Entry(value) }))
    }

    #[inline(always)]
    fn check_entry(&self, slot: Slot, level: Level, value: Entry, page_owner: DomainId) -> Result<Entry, Stop> {
        if is_hypervisor_slot::<M>(level, slot.index) {
            return Err(Stop::refuse(Refusal::HypervisorSlot));
        }
        if level != Level::L1 && page_owner != self.space.domain {
            return Err(Stop::refuse(Refusal::ForeignTable));
        }
        self.accept(value, level)
    }

    /// Puts `entry`, which is in accepted form, in the place of what is there, in a table that is held.
    #[inline(always)]
    fn replace(
        &mut self,
        slot: Slot,
        level: Level,
        entry: Entry,
        change: Change,
        page_owner: DomainId,
    ) -> Result<Changed, Stop> {
        let old = Entry(self.mmu.memory.read(slot.page, slot.index));
        if old.same_uses(entry, level) {
            // Only flags change: the references that the old value held are the new one's.
            match self.exchange(slot, old, entry, change) {
                Exchange::Replaced => {
                    self.note_upper_change(level, old);
                    return Ok(Changed::Yes);
                }
                Exchange::NotEqual(now) => return Ok(Changed::No(now)),
                Exchange::Raced(_) => {}
            }
        }
        self.take_uses(entry, level, page_owner)?;
        let mut old = old;
        loop {
            match self.exchange(slot, old, entry, change) {
                Exchange::Replaced => {
                    self.note_upper_change(level, old);
                    self.drop_uses(old, level);
                    return Ok(Changed::Yes);
                }
                Exchange::NotEqual(now) => {
                    self.drop_uses(entry, level);
                    return Ok(Changed::No(now));
                }
                Exchange::Raced(now) => old = now,
            }
        }
    }

    /// Takes what `entry` uses, checking a table below if it has to be.
    #[inline(always)]
    fn take_uses(&mut self, entry: Entry, level: Level, page_owner: DomainId) -> Result<(), Stop> {
        match level.below() {
            _ if !entry.is_present() => Ok(()),
            None => self.take_leaf(entry, page_owner),
            Some(below) => self.acquire_table(entry.frame(), below),
        }
    }

    /// One compare-exchange of `old` for `entry`. The CPU may set accessed and dirty bits meanwhile, and other vCPUs
    /// may store what they like; then the caller tries again with what is there.
    #[inline(always)]
    fn exchange(&self, slot: Slot, old: Entry, entry: Entry, change: Change) -> Exchange {
        let new = match change {
            Change::Set => entry.0,
            Change::IfEqual(expected) if expected != old.0 => return Exchange::NotEqual(old.0),
            Change::IfEqual(_) => entry.0,
            Change::KeepAccessedDirty => keep_accessed_dirty(entry, old),
        };
        match self.mmu.memory.compare_exchange(slot.page, slot.index, old.0, new) {
            Ok(()) => Exchange::Replaced,
            Err(now) => Exchange::Raced(Entry(now)),
        }
    }

    fn note_upper_change(&mut self, level: Level, old: Entry) {
        self.pending.upper_changed |= level != Level::L1 && old.is_present();
    }

    /// A store to a page that is no table.
    #[inline(never)]
    fn store(&mut self, Update { slot, value, change }: Update) -> Result<(), Stop> {
        self.take_writable(slot.page, self.space.domain)?;
        match change {
            Change::Set | Change::KeepAccessedDirty => self.mmu.memory.write(slot.page, slot.index, value),
            Change::IfEqual(old) => _ = self.mmu.memory.compare_exchange(slot.page, slot.index, old, value),
        }
        self.put_writable(slot.page);
        Ok(())
    }
}

/// What is first on a list, if that is an update.
#[inline]
fn first<R: Copy>(requests: &Iter<'_, R>, parse: &impl Fn(R) -> Option<Update>) -> Option<Update> {
    requests.as_slice().first().and_then(|&request| parse(request))
}

/// `entry` with the flags that the CPU has set in `old`, if the new one is present too.
///
/// Not inline, because the compiler would compute it for every entry and then not use it.
#[inline(never)]
fn keep_accessed_dirty(entry: Entry, old: Entry) -> u64 {
    if entry.is_present() { entry.0 | old.accessed_dirty() } else { entry.0 }
}

enum Exchange {
    Replaced,
    /// [`Change::IfEqual`] does not apply: the entry is this.
    NotEqual(u64),
    /// The entry has changed to this since it was read.
    Raced(Entry),
}
