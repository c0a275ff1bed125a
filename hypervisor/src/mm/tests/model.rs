//! The naive model: every count, from scratch, from what is in the tables and who holds what.

use std::vec::Vec;

use super::machine::{Machine, Memory};
use crate::addr::{DomainId, GuestVa, Mfn};
use crate::mm::entry::Entry;
use crate::mm::operation::PageTableMem;
use crate::mm::pending::Pending;
use crate::mm::root::Roots;
use crate::mm::state::{FrameType, Level, Usage};
use crate::mm::update::Slot;
use crate::mm::walk::Access;

/// What a frame's state should say.
#[derive(Clone, Debug, Default)]
struct Expected {
    references: u64,
    type_references: u64,
    kind: Option<FrameType>,
    /// Somebody has the table under work: it must not be validated.
    under_work: bool,
}

/// The recount.
pub struct Model<'a, const REAL: bool> {
    machine: &'a Machine<REAL>,
    expected: Vec<Expected>,
}

impl<'a, const REAL: bool> Model<'a, REAL> {
    /// Counts what the live tables hold.
    pub fn new(machine: &'a Machine<REAL>) -> Model<'a, REAL> {
        let expected = machine.frames.iter().map(|_| Expected::default()).collect();
        let mut model = Model { machine, expected };
        for (n, frame) in machine.frames.iter().enumerate() {
            let state = frame.state();
            if frame.is_owned_by(DomainId::HYPERVISOR) {
                // Shown to the control domain: held for good, and checked as nothing.
                model.type_reference(Mfn(n as u64), FrameType::None);
                model.expected[n].under_work = true;
            }
            if let Some(level) = state.frame_type().level()
                && state.usage() == Usage::InUse
                && state.type_references() > 0
                && state.is_validated()
            {
                model.entries(Mfn(n as u64), level, Memory::<REAL>::ENTRIES);
            }
        }
        model
    }

    /// A general reference that somebody holds.
    pub fn reference(&mut self, mfn: Mfn) {
        self.expected[mfn.0 as usize].references += 1;
    }

    /// A type reference, and the general one that goes with it.
    pub fn type_reference(&mut self, mfn: Mfn, kind: FrameType) {
        self.reference(mfn);
        let expected = &mut self.expected[mfn.0 as usize];
        expected.type_references += 1;
        let first = *expected.kind.get_or_insert(kind);
        assert_eq!(first, kind, "{mfn:?} is two things at once");
    }

    /// What a vCPU holds.
    pub fn vcpu(&mut self, pending: &Pending, roots: &Roots) {
        for root in [roots.kernel, roots.user].into_iter().flatten() {
            self.type_reference(root, FrameType::L4);
        }
        for (mfn, level, complete) in pending.tables() {
            self.type_reference(mfn, level.frame_type());
            assert!(!self.expected[mfn.0 as usize].under_work, "{mfn:?} is under work twice");
            self.expected[mfn.0 as usize].under_work = true;
            self.entries(mfn, level, complete);
        }
        if let Some((mfn, level)) = pending.held() {
            self.type_reference(mfn, level.frame_type());
        }
    }

    /// What the first `count` entries of a table hold.
    fn entries(&mut self, table: Mfn, level: Level, count: usize) {
        for index in 0..count {
            let entry = Entry(self.machine.memory.read(table, index));
            let hypervisor = level == Level::L4 && Memory::<REAL>::HYPERVISOR_SLOTS.contains(&index);
            if hypervisor || !entry.is_present() || self.machine.table().is_device(entry.frame()) {
                continue;
            }
            match level.below() {
                Some(below) => self.type_reference(entry.frame(), below.frame_type()),
                None if entry.is_writable() => self.type_reference(entry.frame(), FrameType::Writable),
                None => self.reference(entry.frame()),
            }
        }
    }

    /// Compares with the frame table.
    pub fn check(self) {
        for (n, expected) in self.expected.iter().enumerate() {
            let state = self.machine.frames[n].state();
            if state.usage() != Usage::InUse {
                assert_eq!(expected.references, 0, "frame {n:#x} is {state:?}");
                continue;
            }
            assert_eq!(state.references(), expected.references, "frame {n:#x}: {state:?}");
            assert_eq!(state.type_references(), expected.type_references, "frame {n:#x}: {state:?}");
            if let Some(kind) = expected.kind {
                assert_eq!(state.frame_type(), kind, "frame {n:#x}");
                assert_eq!(state.is_validated(), !expected.under_work, "frame {n:#x}: {state:?}");
            }
        }
    }
}

/// What all entries on the way to a page have in common.
#[derive(Clone, Copy)]
pub struct Rights {
    present: bool,
    write: bool,
    fetch: bool,
}

impl Rights {
    /// Whether the CPU would make the access.
    pub fn allow(self, access: Access) -> bool {
        self.present && (self.write || !access.write) && (self.fetch || !access.fetch)
    }
}

/// Follows four levels of tables as the CPU does; `None` if it ends above L1.
pub fn walk<const REAL: bool>(machine: &Machine<REAL>, root: Mfn, address: GuestVa) -> Option<(Slot, Rights)> {
    let mut rights = Rights { present: true, write: true, fetch: true };
    let mut page = root;
    for shift in [39, 30, 21, 12] {
        let index = (address.get() >> shift & 511) as usize;
        let entry = Entry(machine.memory.read(page, index));
        rights.present &= entry.is_present();
        rights.write &= entry.is_writable();
        rights.fetch &= !entry.is_no_execute();
        if shift == 12 {
            return Some((Slot { page, index }, rights));
        }
        if !entry.is_present() {
            return None;
        }
        page = entry.frame();
    }
    None
}
