//! Trees in a machine of maps, with a hypervisor that knows the two kinds of tables, against a map of addresses.

use super::super::{PRESENT, Rights, WRITABLE, leaf_table, user_page};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::vec::Vec;

/// Tables with the requests that wait.
struct Machine {
    tables: BTreeMap<u64, [u64; 512]>,
    plain: BTreeSet<u64>,
    live: BTreeSet<u64>,
    waiting: VecDeque<Request>,
    free: usize,
}

enum Request {
    Seal(u64),
    Entry(u64, usize, u64),
}

#[derive(PartialEq, Eq, Debug)]
struct OutOfFrames;

const ROOT: u64 = 0;

impl Machine {
    /// A root of its own, live or plain.
    fn new(live: bool) -> Machine {
        let root = BTreeSet::from([ROOT]);
        let (plain, live) = if live { (BTreeSet::new(), root) } else { (root, BTreeSet::new()) };
        Machine { tables: BTreeMap::from([(ROOT, [0; 512])]), plain, live, waiting: VecDeque::new(), free: 10_000 }
    }

    fn root(&self) -> Root {
        Root { table: Mfn(ROOT), level: 4, live: self.live.contains(&ROOT) }
    }

    /// The hypervisor's part: a request is checked and granted.
    fn grant_all(&mut self) {
        while let Some(request) = self.waiting.pop_front() {
            match request {
                Request::Seal(table) => assert!(self.plain.remove(&table), "sealed twice"),
                Request::Entry(table, index, entry) => {
                    assert!(self.live.contains(&table), "a request for a table that isn't live");
                    self.tables.get_mut(&table).unwrap()[index] = entry;
                    if let Some(child) = target(entry).filter(|child| self.tables.contains_key(&child.0)) {
                        self.validate(child.0);
                    }
                }
            }
        }
    }

    fn validate(&mut self, table: u64) {
        assert!(!self.plain.contains(&table), "a table with a writable mapping");
        self.live.insert(table);
        let entries = self.tables[&table];
        for child in entries.iter().filter_map(|entry| target(*entry)) {
            if self.tables.contains_key(&child.0) {
                self.validate(child.0);
            }
        }
    }

    fn lookup(&self, root: u64, address: u64) -> u64 {
        let read = |table: Mfn, index: usize| self.tables.get(&table.0).map(|table| table[index]);
        let entry = leaf_table(Mfn(root), 4, address, read).and_then(|table| read(table, index(address, 1)));
        entry.filter(|entry| entry & PRESENT != 0).unwrap_or(0)
    }
}

impl Tables for Machine {
    type Error = OutOfFrames;

    fn read(&self, table: Mfn, index: usize) -> u64 {
        let queued = |request: &Request| matches!(request, Request::Entry(t, i, _) if (*t, *i) == (table.0, index));
        assert!(!self.waiting.iter().any(queued), "an entry is read while a change of it waits");
        self.tables[&table.0][index]
    }

    fn store(&mut self, table: Mfn, index: usize, entry: u64) {
        assert!(self.plain.contains(&table.0), "a store to a read-only page");
        self.tables.get_mut(&table.0).unwrap()[index] = entry;
    }

    fn request(&mut self, table: Mfn, index: usize, entry: u64) -> Result<(), OutOfFrames> {
        self.waiting.push_back(Request::Entry(table.0, index, entry));
        Ok(())
    }

    fn allocate(&mut self) -> Result<Mfn, OutOfFrames> {
        self.free = self.free.checked_sub(1).ok_or(OutOfFrames)?;
        let table = self.tables.len() as u64;
        self.tables.insert(table, [0; 512]);
        self.plain.insert(table);
        Ok(Mfn(table))
    }

    fn seal(&mut self) -> Result<(), OutOfFrames> {
        let sealed: BTreeSet<_> =
            self.waiting.iter().filter_map(|r| if let Request::Seal(t) = r { Some(*t) } else { None }).collect();
        let plain: Vec<_> = self.plain.difference(&sealed).copied().collect();
        self.waiting.extend(plain.into_iter().map(Request::Seal));
        Ok(())
    }
}

/// Data frames have numbers that no table has.
const DATA: u64 = 1 << 20;

/// Pages on both sides of the borders between tables of each level.
fn page() -> impl Strategy<Value = u64> {
    let border = prop_oneof![Just(0x20_0000u64), Just(0x4000_0000), Just(0x80_0000_0000), Just(0xffff_ffff_8020_0000)];
    (border, -5..5i64).prop_map(|(border, pages)| border.wrapping_add_signed(pages * 4096))
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Map(u64, u64),
    Unmap(u64, u64),
    Protect(u64, u64),
}

fn action() -> impl Strategy<Value = Action> {
    (page(), 0..6u64, 0..3).prop_map(|(page, pages, kind)| match kind {
        0 => Action::Map(page, pages),
        1 => Action::Unmap(page, pages),
        _ => Action::Protect(page, pages),
    })
}

fn entry_for(address: u64) -> u64 {
    user_page(Mfn(DATA + (address >> 12 & 0xf_ffff)), Rights::Write)
}

fn act(machine: &mut Machine, model: &mut BTreeMap<u64, u64>, action: Action) {
    let root = machine.root();
    let pages = |start: u64, count: u64| (0..count).map(move |page| start + page * 4096);
    match action {
        Action::Map(start, count) => {
            let before = machine.tables.len() as u64;
            let range = start..start + count * 4096;
            let mut map = |_: &mut Machine, at, _| Ok(Some(entry_for(at)));
            edit(machine, root, range.clone(), Missing::Make, &mut map).unwrap();
            assert!(machine.tables.len() as u64 - before <= tables_for(&range));
            model.extend(pages(start, count).map(|page| (page, entry_for(page))));
        }
        Action::Unmap(start, count) => {
            let mut unmap = |_: &mut Machine, _, _| Ok(Some(0));
            edit(machine, root, start..start + count * 4096, Missing::Skip, &mut unmap).unwrap();
            pages(start, count).for_each(|page| {
                model.remove(&page);
            });
        }
        Action::Protect(start, count) => {
            let mut protect = |_: &mut Machine, _, old: u64| Ok(target(old).map(|_| old & !WRITABLE));
            edit(machine, root, start..start + count * 4096, Missing::Skip, &mut protect).unwrap();
            pages(start, count).for_each(|page| {
                model.entry(page).and_modify(|entry| *entry &= !WRITABLE);
            });
        }
    }
    machine.grant_all();
}

/// All pages that a test may touch.
fn all_pages() -> impl Iterator<Item = u64> {
    let borders = [0x20_0000u64, 0x4000_0000, 0x80_0000_0000, 0xffff_ffff_8020_0000];
    borders.into_iter().flat_map(|border| (-6..12i64).map(move |pages| border.wrapping_add_signed(pages * 4096)))
}

proptest! {
    #[test]
    fn a_tree_maps_what_it_was_told(live: bool, actions in prop::collection::vec(action(), 0..24)) {
        let (mut machine, mut model) = (Machine::new(live), BTreeMap::new());
        for action in actions {
            act(&mut machine, &mut model, action);
            for page in all_pages() {
                prop_assert_eq!(machine.lookup(ROOT, page), model.get(&page).copied().unwrap_or(0));
            }
        }
        let tables = machine.tables.len();
        prop_assert_eq!(if live { machine.live.len() } else { machine.plain.len() }, tables);
    }

    #[test]
    fn a_copy_has_the_pages_of_its_range(
        live: bool,
        actions in prop::collection::vec(action(), 0..24),
        (start, pages) in (page(), 0..10u64),
    ) {
        let (mut machine, mut model) = (Machine::new(live), BTreeMap::new());
        actions.into_iter().for_each(|action| act(&mut machine, &mut model, action));
        let (root, to) = (machine.root(), machine.allocate().unwrap());
        let range = start..start + pages * 4096;
        let mut share = |_: &mut Machine, old: u64| Ok(Copied { original: old & !WRITABLE, copy: old | 1 << 9 });
        // In two parts, as for regions that share tables.
        let middle = start + pages / 2 * 4096;
        for part in [start..middle, middle..range.end] {
            copy(&mut machine, root, to, part, &mut share).unwrap();
        }
        machine.grant_all();
        for page in all_pages() {
            let old = model.get(&page).copied().unwrap_or(0);
            let copied = range.contains(&page) && old != 0;
            prop_assert_eq!(machine.lookup(to.0, page), if copied { old | 1 << 9 } else { 0 });
            prop_assert_eq!(machine.lookup(ROOT, page), if copied { old & !WRITABLE } else { old });
        }
    }
}

#[test]
fn a_refusal_comes_back() {
    let mut machine = Machine::new(false);
    machine.free = 2;
    let root = machine.root();
    let mut map = |_: &mut Machine, at, _| Ok(Some(entry_for(at)));
    assert_eq!(edit(&mut machine, root, 0..4096, Missing::Make, &mut map), Err(OutOfFrames));
}

#[test]
fn tables_a_range_can_need() {
    let tables = |start: u64, end: u64| tables_for(&(start..end));
    assert_eq!(tables(0, 4096), 3);
    assert_eq!(tables(0x1f_f000, 0x20_1000), 4);
    assert_eq!(tables(0x3fff_f000, 0x4000_1000), 5);
    assert_eq!(tables(0, 1 << 39), (512 * 512) + 512 + 1);
}
