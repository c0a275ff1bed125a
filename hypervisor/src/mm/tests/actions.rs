//! Random lists of actions. Numbers in an action pick from what is there when its turn comes, so that most of them make
//! sense: each frame has a part it mostly plays, and entries mostly name frames of the level below.

use core::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::machine::{DEVICES, DOMAINS, Machine, Memory};
use super::world::{Call, Manner, VCPUS, World, domain_of};
use crate::addr::{GuestVa, Mfn};
use crate::mm::operation::PageTableMem;
use crate::mm::root::{Mode, Roots};
use crate::mm::state::Level;
use crate::mm::update::{Change, Slot};
use crate::mm::walk::Access;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Update,
    UpdateL1,
    Pin,
    Unpin,
    SetRoot,
    TakeDescriptors,
    UpdateDescriptor,
    TakeWritable,
    Reference,
    Put,
    GiveBack,
    Reclaim,
    Find,
    Allows,
    Populate,
    Drain,
    EnterGuest,
    Walk,
    Store,
    Flush,
    Die,
}

#[derive(Clone, Copy, Debug)]
struct Action {
    kind: Kind,
    vcpu: usize,
    page: u32,
    index: usize,
    value: u32,
    odd: u8,
    go_on: bool,
    budget: u32,
}

/// How often each kind comes, out of all.
const WEIGHTS: [(Kind, usize); 21] = [
    (Kind::Update, 30),
    (Kind::UpdateL1, 8),
    (Kind::Pin, 12),
    (Kind::Unpin, 5),
    (Kind::SetRoot, 6),
    (Kind::TakeDescriptors, 2),
    (Kind::UpdateDescriptor, 1),
    (Kind::TakeWritable, 2),
    (Kind::Reference, 2),
    (Kind::Put, 4),
    (Kind::GiveBack, 2),
    (Kind::Reclaim, 1),
    (Kind::Find, 6),
    (Kind::Allows, 6),
    (Kind::Populate, 3),
    (Kind::Drain, 2),
    (Kind::EnterGuest, 12),
    (Kind::Walk, 16),
    (Kind::Store, 6),
    (Kind::Flush, 2),
    (Kind::Die, 1),
];

/// Numbers are drawn in few large pieces: the generator is most of what these tests cost.
fn action() -> impl Strategy<Value = Action> {
    let kinds: Vec<Kind> = WEIGHTS.iter().flat_map(|&(kind, weight)| core::iter::repeat_n(kind, weight)).collect();
    (0..kinds.len(), any::<u64>(), any::<u64>()).prop_map(move |(kind, first, second)| Action {
        kind: kinds[kind],
        vcpu: first as usize % VCPUS,
        page: (first >> 8) as u32,
        index: (first >> 40 & 0xffff) as usize,
        odd: (first >> 56) as u8,
        value: second as u32,
        go_on: second >> 32 & 3 != 0,
        budget: match second >> 40 & 7 {
            0 => (second >> 48 & 3) as u32,
            1..4 => (second >> 48 & 31) as u32,
            _ => 10_000,
        },
    })
}

/// The level of table that a frame mostly is; `None`: data.
fn part(mfn: Mfn) -> Option<Level> {
    match mfn.0 % 7 {
        0 | 1 => Some(Level::L1),
        2 => Some(Level::L2),
        3 => Some(Level::L3),
        4 => Some(Level::L4),
        _ => None,
    }
}

fn pick<const REAL: bool>(
    world: &World<'_, REAL>,
    domain: usize,
    number: u32,
    fits: impl Fn(Mfn) -> bool,
) -> Option<Mfn> {
    let fitting: Vec<_> = world.frames_of(domain).filter(|mfn| fits(*mfn)).collect();
    fitting.get(number as usize % fitting.len().max(1)).copied()
}

impl Action {
    /// One action in so many is not what a sane guest would do.
    fn is_odd(&self, bit: u8) -> bool {
        self.odd >> bit & 7 == 0
    }

    /// An entry for the table; mostly one that is good there.
    fn entry<const REAL: bool>(&self, world: &World<'_, REAL>, table: Mfn, owner: usize) -> u64 {
        let number = self.value >> 8;
        let child = match part(table) {
            Some(level) if !self.is_odd(0) => pick(world, owner, number, |mfn| part(mfn) == level.below()),
            _ => Some(Mfn(u64::from(number) % 72)),
        };
        let mfn = match child {
            Some(_) if self.value & 0xff == 0x55 => Mfn(DEVICES[number as usize % 2].start),
            Some(mfn) => mfn,
            None => Mfn(u64::from(number) % 72),
        };
        // Present, write, user, accessed, dirty, no-execute, and now and then a bit that is not allowed.
        let no_execute = u64::from(self.value >> 7 & 1) << 63;
        let flags = u64::from(self.value & 0x67) | u64::from(!self.is_odd(3)) | no_execute;
        let bad = if self.is_odd(5) { 1 << (self.value & 63) } else { 0 };
        mfn.0 << 12 | flags | bad
    }

    /// An address with a small index at each level, mostly one that is mapped in the tables of `root`; `None` if it is
    /// the hypervisor's.
    fn address<const REAL: bool>(&self, world: &World<'_, REAL>, root: Option<Mfn>) -> Option<GuestVa> {
        let (mut table, mut address) = (root, 0);
        for level in (0..4).rev() {
            let number = (self.page >> (8 * level)) as usize;
            let below = |index| table.and_then(|table| world.names(table, index));
            let used: Vec<usize> = (0..8).filter(|&index| below(index).is_some()).collect();
            let index = match used.get(number % used.len().max(1)) {
                Some(&index) if !self.is_odd(level as u8) => index,
                _ => number % 8,
            };
            if level == 3 && Memory::<REAL>::HYPERVISOR_SLOTS.contains(&index) {
                return None;
            }
            table = below(index);
            address |= (index as u64) << (12 + 9 * level);
        }
        GuestVa::new(address)
    }

    fn call<const REAL: bool>(&self, world: &World<'_, REAL>) -> Option<Call> {
        let domain = domain_of(self.vcpu);
        let other = if self.is_odd(1) { 1 - domain } else { domain };
        // Only domain 0 may name pages of others, or refer to them through grants.
        let page_owner = if domain == 0 { other } else { domain };
        let any = |_: Mfn| true;
        let page = pick(world, other, self.page, |mfn| self.is_odd(4) || part(mfn).is_some())?;
        let slot = Slot { page, index: self.index % Memory::<REAL>::ENTRIES };
        Some(match self.kind {
            Kind::Update => {
                let change = if self.odd & 1 == 0 { Change::Set } else { Change::KeepAccessedDirty };
                Call::Update { slot, value: self.entry(world, page, page_owner), change, page_owner }
            }
            Kind::UpdateL1 => {
                let page = pick(world, domain, self.page, |mfn| part(mfn) == Some(Level::L1))?;
                let value = self.entry(world, page, domain);
                Call::UpdateL1 { slot: Slot { page, ..slot }, value }
            }
            Kind::Pin => {
                let level = part(page).filter(|_| !self.is_odd(2)).unwrap_or(Level::L3);
                Call::Pin { mfn: page, level }
            }
            Kind::Unpin => Call::Unpin { mfn: page },
            Kind::SetRoot => {
                let mode = if self.value & 1 == 0 { Mode::Kernel } else { Mode::User };
                let root = pick(world, domain, self.page, |mfn| self.is_odd(2) || part(mfn) == Some(Level::L4));
                Call::SetRoot { mode, root: root.filter(|_| self.value & 0xe != 0) }
            }
            Kind::TakeDescriptors => Call::TakeDescriptors { mfn: pick(world, domain, self.page, any)? },
            Kind::UpdateDescriptor => Call::UpdateDescriptor { slot, value: u64::from(self.value) << 16 },
            Kind::TakeWritable => Call::TakeWritable { mfn: pick(world, other, self.page, any)?, owner: page_owner },
            Kind::Reference => Call::Reference { mfn: pick(world, page_owner, self.page, any)?, owner: page_owner },
            Kind::GiveBack => Call::GiveBack { mfn: pick(world, other, self.page, any)? },
            Kind::Reclaim => Call::Reclaim { mfn: pick(world, other, self.page, any)? },
            Kind::Find => Call::Find { address: self.address(world, world.roots(self.vcpu).kernel)? },
            Kind::Allows => {
                let access = Access { write: self.value & 1 != 0, fetch: self.value & 2 != 0 };
                Call::Allows { address: self.address(world, world.roots(self.vcpu).user)?, access }
            }
            _ => Call::Drain,
        })
    }

    fn perform<const REAL: bool>(&self, world: &mut World<'_, REAL>) {
        let manner = Manner { budget: self.budget, flushes: self.odd & 15 != 0 };
        let page = self.page as usize;
        match self.kind {
            Kind::Put => world.put(self.vcpu, page),
            Kind::Populate => world.populate(domain_of(self.vcpu)),
            Kind::EnterGuest => {
                let mode = if self.value & 1 == 0 { Mode::Kernel } else { Mode::User };
                let Roots { kernel, user } = world.roots(self.vcpu);
                let address = self.address(world, if mode == Mode::Kernel { kernel } else { user });
                world.enter_guest(self.vcpu, mode, address.filter(|_| self.is_odd(3)));
            }
            Kind::Walk => world.walk(self.vcpu, page, self.index),
            Kind::Store => world.store(self.vcpu, page, self.index, self.entry(world, Mfn(0), 0)),
            Kind::Flush => world.flush_one(self.vcpu),
            Kind::Die if self.is_odd(2) => world.die(domain_of(self.vcpu) % DOMAINS, manner),
            _ => {
                if let Some(call) = self.call(world) {
                    world.call(self.vcpu, call, self.go_on, manner);
                }
            }
        }
    }
}

/// Actions that were carried out by all tests here.
static ACTIONS: AtomicU64 = AtomicU64::new(0);

/// Carries out a list, checking after each action; returns the calls that were done, the calls that were refused,
/// the walks that led somewhere, and how often a guest was entered.
fn carry_out<const REAL: bool>(cpus: u32, actions: &[Action]) -> [u64; 4] {
    let machine = Machine::<REAL>::new(64, cpus);
    let mut world = World::new(&machine);
    for action in actions {
        action.perform(&mut world);
        world.check();
        ACTIONS.fetch_add(1, Ordering::Relaxed);
    }
    let counts = [world.calls_done, world.calls_refused, world.walks_done, world.guests_entered];
    world.end();
    counts
}

proptest! {
    #![proptest_config(super::config(260))]

    fn carry_out_many(cpus in 1..5u32, actions in prop::collection::vec(action(), 400)) {
        carry_out::<false>(cpus, &actions);
    }
}

/// 260 cases of 400 actions each: 104,000, unless the environment asks for another number.
#[test]
fn counts_stay_exact_and_tables_unwritable() {
    carry_out_many();
    let count = ACTIONS.load(Ordering::Relaxed);
    assert!(count >= 100_000 || std::env::var_os("PROPTEST_CASES").is_some(), "just {count} actions");
}

proptest! {
    #![proptest_config(super::config(4))]

    #[test]
    fn the_same_with_tables_of_512_entries(cpus in 1..5u32, actions in prop::collection::vec(action(), 200)) {
        carry_out::<true>(cpus, &actions);
    }
}

/// The random lists are no good if most calls are refused or never get anywhere.
#[test]
fn random_lists_get_somewhere() {
    let strategy = prop::collection::vec(action(), 5000);
    let mut runner = TestRunner::new(super::config(1));
    let actions = strategy.new_tree(&mut runner).unwrap().current();
    let [done, refused, walks, entered] = carry_out::<false>(3, &actions);
    std::eprintln!("{done} calls done, {refused} refused, {walks} walks done, {entered} guests entered");
    assert!(done > 1000 && refused > 100 && walks > 0 && entered > 100);
}
