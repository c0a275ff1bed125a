//! Frames of another domain that it granted: mapped, held for devices, copied. The rules of grants are in
//! [`grant`](crate::grant); here is what they do to frames and page-table entries.
//!
//! A page-table entry for a granted frame is like any other: it holds a reference to the frame, and a type reference if it
//! is writable. What is special is that the frame may be another domain's. Such a frame is mapped here, or by a privileged
//! caller that names its owner (`page_owner` in [`update`](super::update)); any other update is refused
//! ([`Refusal::NotOwned`]). Overwriting the entry, unlinking its table or ending the domain drops what it holds, as for any
//! entry. So no count depends on whether a guest unmaps as it should.

use super::entry::Entry;
use super::error::{Refusal, Refused, Stop};
use super::operation::{Operation, PageTableMem};
use super::state::{FrameType, Level};
use super::types::Validated;
use super::update::{Change, Slot, Update};
use crate::addr::{DomainId, GuestVa, Mfn};

/// Where the page-table entry of a mapping is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It maps this address, in the address space of this root, an L4 table that the caller holds.
    Address(Mfn, GuestVa),
    /// Here, if that is in an L1 table of the domain.
    Entry(Slot),
}

/// A frame, and who must own it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The frame.
    pub mfn: Mfn,
    /// The domain that grants it.
    pub owner: DomainId,
}

/// What is to be done with a granted frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The frame.
    pub granted: Granted,
    /// It may be written.
    pub writable: bool,
    /// Devices may use it: it is held until [`Operation::put_granted`].
    pub device: bool,
    /// It is mapped here, by an entry of this value.
    pub host: Option<(Place, u64)>,
}

impl<'a, M: PageTableMem> Operation<'a, M> {
    /// Maps a granted frame, holds it for devices, or both.
    ///
    /// # Errors
    /// [`Refusal::NotOwned`] about the frame alone if it isn't the granter's; others if the place is no place for it, or if
    /// it can't be writable. Nothing has changed then.
    pub fn map_granted(&mut self, mapping: &Mapping) -> Result<(), Stop> {
        self.begin()?;
        let Mapping { granted: Granted { mfn, owner }, writable, device, host } = *mapping;
        self.reference(mfn, owner)?;
        let held = match device && writable {
            true => self.take_writable(mfn, owner),
            false => Ok(()),
        };
        let mapped = held.and_then(|()| match host {
            Some((place, value)) => self.install(place, value, owner).inspect_err(|_| {
                if device && writable {
                    self.put_writable(mfn);
                }
            }),
            None => Ok(()),
        });
        // The reference is what devices hold that only read.
        if mapped.is_err() || !device || writable {
            self.put(mfn);
        }
        mapped
    }

    /// Ends what a mapping for devices held.
    pub fn put_granted(&mut self, mfn: Mfn, writable: bool) {
        if writable { self.put_writable(mfn) } else { self.put(mfn) }
    }

    /// Clears the page-table entry of a mapping, if it maps that frame, with those rights (XSA-234). With `from`, the entry
    /// there moves to its place.
    ///
    /// CPUs may go on using the mapping until they have flushed.
    ///
    /// # Errors
    /// If the entry is another. What was to move is gone then.
    pub fn unmap_granted(&mut self, place: Place, mfn: Mfn, writable: bool, from: Option<Place>) -> Result<(), Stop> {
        self.begin()?;
        let (slot, table) = self.hold_place(place)?;
        let result = match from.map(|from| self.hold_place(from)).transpose() {
            Ok(None) => self.take_out(slot, mfn, writable, Entry(0)),
            Ok(Some((from, other))) => {
                let moved = self.steal(from);
                let result = self.take_out(slot, mfn, writable, moved);
                if result.is_err() {
                    self.drop_uses(moved, Level::L1);
                }
                self.release_validated(other, from.page, FrameType::L1);
                result
            }
            Err(stop) => Err(stop),
        };
        self.release_validated(table, slot.page, FrameType::L1);
        result
    }

    /// Holds two frames, the second one as writable, while `copy` is at work.
    ///
    /// # Errors
    /// [`Refusal::NotOwned`] and those of a frame that can't be writable.
    pub fn copy_granted<T>(&mut self, from: Granted, to: Granted, copy: impl FnOnce(&M) -> T) -> Result<T, Stop> {
        self.begin()?;
        self.reference(from.mfn, from.owner)?;
        let result = self.take_writable(to.mfn, to.owner).map(|()| {
            let copied = copy(self.mmu.memory);
            self.put_writable(to.mfn);
            copied
        });
        self.put(from.mfn);
        result
    }

    fn install(&mut self, place: Place, value: u64, owner: DomainId) -> Result<(), Stop> {
        let (slot, table) = self.hold_place(place)?;
        let result = self.change_entry(Level::L1, Update { slot, value, change: Change::Set }, owner);
        self.release_validated(table, slot.page, FrameType::L1);
        result.map(drop)
    }

    /// Finds an entry, and holds its table.
    fn hold_place(&mut self, place: Place) -> Result<(Slot, Validated<'a>), Stop> {
        let slot = match place {
            Place::Address(root, address) => self.find_l1(root, address)?,
            Place::Entry(slot) => slot,
        };
        match self.take_validated(slot.page, self.space.domain, FrameType::L1) {
            Ok(Some(table)) => Ok((slot, table)),
            Ok(None) => Err(self.no_l1(slot.page)),
            // Not to be taken for one about the granted frame.
            Err(Stop::Refused(Refused { why: Refusal::NotOwned(_), .. })) => Err(Stop::refuse(Refusal::NotMapped)),
            Err(stop) => Err(stop),
        }
    }

    /// Replaces an entry of a table that is held, if it maps this frame with these rights, and drops what it used.
    fn take_out(&mut self, slot: Slot, mfn: Mfn, writable: bool, new: Entry) -> Result<(), Stop> {
        let mut old = Entry(self.mmu.memory.read(slot.page, slot.index));
        loop {
            if !old.is_present() || old.frame() != mfn || old.is_writable() != writable {
                return Err(Stop::refuse(Refusal::NotMapped));
            }
            match self.mmu.memory.compare_exchange(slot.page, slot.index, old.0, new.0) {
                Ok(()) => break,
                // The CPU has set a flag, or another vCPU was faster.
                Err(now) => old = Entry(now),
            }
        }
        self.drop_uses(old, Level::L1);
        Ok(())
    }

    /// Clears an entry of a table that is held; what it used is the caller's.
    fn steal(&self, slot: Slot) -> Entry {
        let mut old = self.mmu.memory.read(slot.page, slot.index);
        while let Err(now) = self.mmu.memory.compare_exchange(slot.page, slot.index, old, 0) {
            old = now;
        }
        Entry(old)
    }
}
