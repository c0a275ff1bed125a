//! Updates of single entries.

use super::*;
use crate::addr::{GuestVa, MachineAddr};
use crate::mm::root::{Mode, Roots};
use crate::mm::state::FrameType;
use crate::mm::tests::machine::HYPERVISOR_ENTRY;
use crate::mm::update::Update;
use std::vec::Vec;

const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const KERNEL: u64 = 1 << 52;
const GLOBAL: u64 = 1 << 8;

#[test]
fn entries_are_stored_in_accepted_form() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.pin(L4, Level::L4).unwrap();
    assert_eq!(bench.read(L1, 7), entry(DATA, P | RW | US | KERNEL));
    assert_eq!(bench.read(L2, 7), entry(L1, P | RW | US));
    assert_eq!(bench.read(L4, 7), entry(L3, P | RW | US | ACCESSED));
    bench.set(L1, 7, entry(DATA, P | US)).unwrap();
    assert_eq!(bench.read(L1, 7), entry(DATA, P | US | GLOBAL));
    bench.check(&[L4]);
}

#[test]
fn an_l1_table_may_be_shared_and_is_counted_each_time() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.pin(L4, Level::L4).unwrap();
    bench.set(L2, 0, entry(L1, P)).unwrap();
    bench.set(L2, 1, entry(L1, P)).unwrap();
    assert_eq!(bench.state(L1).type_references(), 3);
    for index in [0, 1, 7] {
        bench.set(L2, index, 0).unwrap();
    }
    bench.call(UNLIMITED, |op| op.drain()).unwrap();
    assert_eq!(bench.state(L1).type_references(), 0);
    bench.check(&[L4]);
}

#[test]
fn accessed_and_dirty_bits_survive_if_asked_for() {
    let mut bench = Bench::new();
    bench.pin(L1, Level::L1).unwrap();
    bench.set(L1, 0, entry(DATA, P | RW | US)).unwrap();
    let slot = Slot { page: L1, index: 0 };
    bench.machine.memory.write(L1, 0, bench.read(L1, 0) | ACCESSED | DIRTY);
    let keep = |op: &mut Operation<'_, _>| op.update(slot, entry(DATA, P | US), Change::KeepAccessedDirty, OWN);
    assert_eq!(bench.call(UNLIMITED, keep), Ok(()));
    assert_eq!(bench.read(L1, 0), entry(DATA, P | US | GLOBAL | ACCESSED | DIRTY));
    bench.set(L1, 0, entry(DATA, P | US)).unwrap();
    assert_eq!(bench.read(L1, 0), entry(DATA, P | US | GLOBAL));
    bench.check(&[L1]);
}

#[test]
fn an_emulated_compare_exchange_sees_what_is_there() {
    let mut bench = Bench::new();
    bench.pin(L1, Level::L1).unwrap();
    let slot = Slot { page: L1, index: 0 };
    let mut swap = |old, new| bench.call(UNLIMITED, |op| op.update_l1(slot, new, Change::IfEqual(old), OWN)).unwrap();
    assert_eq!(swap(1, entry(DATA, P | US)), Changed::No(0));
    assert_eq!(swap(0, entry(DATA, P | RW | US)), Changed::Yes);
    let there = entry(DATA, P | RW | US | GLOBAL);
    assert_eq!(swap(0, 0), Changed::No(there));
    assert_eq!(swap(there, entry(SPARE, P | RW)), Changed::Yes);
    bench.check(&[L1]);
}

#[test]
fn an_untyped_page_is_just_memory_but_not_while_it_is_a_table() {
    let mut bench = Bench::new();
    bench.set(SPARE, 3, u64::MAX).unwrap();
    assert_eq!(bench.read(SPARE, 3), u64::MAX);
    assert_eq!(bench.state(SPARE).frame_type(), FrameType::Writable);
    assert_eq!(bench.state(SPARE).type_references(), 0);
    let not_l1 = bench.call(UNLIMITED, |op| op.update_l1(Slot { page: SPARE, index: 0 }, 0, Change::Set, OWN));
    assert_eq!(why(not_l1), Refusal::NotMapped);
    bench.check(&[]);
}

#[test]
fn changes_above_l1_are_reported_when_a_cpu_may_have_seen_the_old_entry() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.pin(L4, Level::L4).unwrap();
    let mut changed = |page, index, value| {
        bench
            .call(UNLIMITED, |op| {
                op.update(Slot { page, index }, value, Change::Set, OWN)?;
                Ok(core::mem::take(&mut op.pending.upper_changed))
            })
            .unwrap()
    };
    assert!(!changed(L2, 0, entry(L1, P)));
    assert!(changed(L2, 0, 0));
    assert!(changed(L4, 7, entry(L3, P)));
    assert!(!changed(L1, 7, 0));
}

#[test]
fn an_address_is_found_through_four_levels_or_not_at_all() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.pin(L4, Level::L4).unwrap();
    let address =
        |indices: [u64; 4]| GuestVa::new(indices.iter().fold(0, |sum, index| sum << 9 | index) << 12).unwrap();
    let find = |indices| bench.machine_find(address(indices));
    assert_eq!(find([7, 7, 7, 3]), Ok(Slot { page: L1, index: 3 }));
    for indices in [[0, 7, 7, 3], [7, 0, 7, 3], [7, 7, 0, 3]] {
        assert_eq!(why(find(indices)), Refusal::NotMapped);
    }
    assert_eq!(why(Slot::at(MachineAddr(0x5004))), Refusal::Misaligned);
    assert_eq!(Slot::at(MachineAddr(0x5ff8)), Ok(Slot { page: Mfn(5), index: 511 }));
}

#[test]
fn an_instruction_that_stores_to_a_mapped_table_goes_by_the_entry_as_it_is() {
    const AGAIN: u64 = 0x1000;
    let mut bench = Bench::new();
    bench.build_tree();
    bench.set(L1, 3, entry(L1, P | US)).unwrap();
    bench.pin(L4, Level::L4).unwrap();
    let tables = 7 << 39 | 7 << 30 | 7 << 21;
    let at = |page: u64, index: u64| GuestVa::new(tables | page << 12 | (index * 8)).unwrap();
    // Another vCPU stores the values of `others` meanwhile, one at each look.
    let mut store = |address, others: &[u64], new: fn(u64) -> Option<u64>| {
        let mut seen = Vec::new();
        let result = bench.call(UNLIMITED, |op| {
            let memory = op.memory();
            op.change_mapped_table(L4, address, |old| {
                if let Some(&other) = others.get(seen.len()) {
                    memory.write(L1, 2, other);
                }
                seen.push(old);
                new(old)
            })
        });
        (result, seen, bench.read(L1, 2))
    };
    let add = |old| Some(old + 0x10);
    assert_eq!(store(at(3, 2), &[], add), (Ok(()), std::vec![0], 0x10));
    assert_eq!(store(at(3, 2), &[AGAIN, 0], add), (Ok(()), std::vec![0x10, AGAIN, 0], 0x10));
    assert_eq!(store(at(3, 2), &[], |_| None), (Ok(()), std::vec![0x10], 0x10));
    let changing = [0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0];
    assert_eq!(
        store(at(3, 2), &changing, add),
        (Err(Stop::Again), std::vec![0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80], 0x90)
    );
    // A frame of nobody's, a page that is no table, nothing.
    let (refused, seen, value) = store(at(3, 2), &[], |_| Some(entry(Mfn(33), P)));
    assert_eq!((why(refused), seen.len(), value), (Refusal::NotOwned(Mfn(33)), 1, 0x90));
    for page in [7, 1] {
        let (refused, seen, _) = store(at(page, 2), &[], add);
        assert_eq!((why(refused), seen.len()), (Refusal::NotMapped, 0));
    }
    bench.check(&[L4]);
}

#[test]
fn roots_are_held_until_no_cpu_has_them() {
    let mut bench = Bench::new();
    bench.build_tree();
    let mut roots = Roots::default();
    let mut set = |bench: &mut Bench, mode, root, hide| {
        let old = bench.call(UNLIMITED, |op| op.set_root(&mut roots, mode, root, hide))?;
        // Until the new root is loaded, the old one is still a table.
        let was_same = old.is_none();
        bench.call(UNLIMITED, |op| op.drain())?;
        if let Some(old) = old {
            let mut old = Some(old);
            bench.call(UNLIMITED, |op| {
                op.drop_root(old.take().unwrap());
                op.drain()
            })?;
        }
        Ok(was_same)
    };
    assert_eq!(set(&mut bench, Mode::Kernel, Some(L4), false), Ok(false));
    assert_eq!(set(&mut bench, Mode::Kernel, Some(L4), false), Ok(true));
    assert_eq!(bench.state(L4).type_references(), 1);
    assert_eq!(bench.read(L4, 4), HYPERVISOR_ENTRY);
    assert_eq!(set(&mut bench, Mode::User, Some(L4), true), Ok(false));
    assert_eq!((bench.state(L4).type_references(), bench.read(L4, 4)), (2, 0));
    assert!(matches!(set(&mut bench, Mode::Kernel, Some(L3), false), Err(Stop::Refused(_))));
    assert_eq!(bench.state(L4).type_references(), 2);
    assert_eq!(set(&mut bench, Mode::User, None, false), Ok(false));
    assert_eq!(set(&mut bench, Mode::Kernel, None, false), Ok(false));
    assert_eq!(bench.state(L4).type_references(), 0);
    bench.check(&[]);
}

/// Another vCPU unlinks the table in the middle of a store to it: then the store's reference is the last, and what is left to
/// do goes to the vCPU that made it.
#[test]
fn a_table_that_is_unlinked_during_a_store_is_taken_apart_by_the_one_who_stores() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.set(L1, 3, entry(L1, P | US)).unwrap();
    bench.pin(L4, Level::L4).unwrap();
    let at = GuestVa::new(7 << 39 | 7 << 30 | 7 << 21 | 3 << 12 | 16).unwrap();
    let mmu = bench.machine.mmu();
    let (mut others, mut own) = (Pending::new(), Pending::new());
    let mut other = Operation::new(&mmu, bench.machine.space(1), &mut others, UNLIMITED);
    let done = Operation::new(&mmu, bench.machine.space(1), &mut own, UNLIMITED).change_mapped_table(L4, at, |old| {
        let unlinked = other.update(Slot { page: L2, index: 7 }, 0, Change::Set, OWN);
        assert_eq!(unlinked, Ok(()));
        Some(old + 0x10)
    });
    assert_eq!(done, Ok(()));
    assert!(others.is_empty() && !own.is_drained());
    assert_eq!((bench.state(L1).type_references(), bench.state(L1).is_validated()), (1, false));
    bench.pending.adopt(&mut own);
    assert!(own.is_empty());
    bench.call(UNLIMITED, |op| op.drain()).unwrap();
    assert_eq!(bench.state(L1).type_references(), 0);
    bench.check(&[L4]);
}

impl Bench {
    fn machine_find(&self, address: GuestVa) -> Result<Slot, Stop> {
        let mmu = self.machine.mmu();
        let mut pending = Pending::new();
        Operation::new(&mmu, self.machine.space(1), &mut pending, 0).find_l1(L4, address)
    }
}

#[test]
fn a_list_goes_on_where_it_stopped_and_ends_at_the_first_refusal() {
    let update = |page, index, value| Update { slot: Slot { page, index }, value, change: Change::Set };
    let list = [
        update(L1, 0, entry(DATA, P | RW)),
        update(L1, 1, entry(SPARE, P)),
        update(SPARE, 3, u64::MAX),
        update(L2, 0, entry(L1, P)),
        update(L2, 7, 0),
        update(L1, 0, 0),
        update(L1, 7, entry(SPARE, P | RW)),
        update(L1, 2, entry(Mfn(33), P)),
        update(L1, 3, entry(DATA, P)),
    ];
    for budget in 1..9 {
        let mut bench = Bench::new();
        bench.build_tree();
        bench.pin(L4, Level::L4).unwrap();
        let (mut rest, mut stops) = (list.iter(), 0);
        let result = loop {
            match bench.call(budget, |op| op.update_list(&mut rest, Some, OWN)) {
                Err(Stop::Again) => stops += 1,
                result => break result,
            }
            bench.check(&[L4]);
        };
        assert_eq!((why(result), rest.len(), stops), (Refusal::NotOwned(Mfn(33)), 2, 7 / budget));
        bench.check(&[L4]);
        let done = [(L1, 0), (SPARE, 3), (L2, 7), (L1, 2), (L1, 3)].map(|(page, index)| bench.read(page, index));
        assert_eq!(done, [0, u64::MAX, 0, 0, 0]);
        assert_eq!(bench.state(L1).type_references(), 1);
    }
}
