//! Calls of every kind that touches memory, each with much to do, for the tests that cut them short.

use super::fake::PARKED;
use super::requests::*;
use super::world::*;
use super::*;
use crate::domain::vcpu::{Gdt, Ldt};
use crate::mm::operation::PageTableMem;
use crate::mm::root::Roots;
use pv_abi::grant::{
    GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GTF_PERMIT_ACCESS, GnttabMapGrantRef, GnttabUnmapGrantRef,
};
use pv_abi::hypercall::MulticallEntry;
use pv_abi::memory::{
    MemoryExchange, XENMEM_DECREASE_RESERVATION, XENMEM_EXCHANGE, XENMEM_INCREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP,
};
use pv_abi::mmu::*;
use pv_abi::vcpu::{VCPUOP_INITIALISE, VCPUOP_REGISTER_VCPU_INFO};
use std::vec;
use std::vec::Vec;
use zerocopy::IntoBytes;

/// A call that succeeds.
pub struct Scenario {
    pub name: &'static str,
    /// The least budget with which it gets on at all.
    pub least: u32,
    /// Prepares it; its number and arguments.
    pub prepare: fn(&mut World<'_>) -> (u32, Vec<u64>),
}

pub const SCENARIOS: [Scenario; 14] = [
    Scenario { name: "mmu_update", least: 2, prepare: updates },
    Scenario { name: "mmuext_op", least: 2, prepare: operations },
    Scenario { name: "update_va_mapping", least: 2, prepare: mapping },
    Scenario { name: "set_gdt", least: 4, prepare: gdt },
    Scenario { name: "update_descriptor", least: 2, prepare: descriptor },
    Scenario { name: "decrease_reservation", least: 1, prepare: decrease },
    Scenario { name: "increase_reservation", least: 32, prepare: increase },
    Scenario { name: "populate_physmap", least: 32, prepare: populate },
    Scenario { name: "exchange", least: 3, prepare: exchange },
    Scenario { name: "map_grant_ref", least: 2, prepare: map_grants },
    Scenario { name: "unmap_grant_ref", least: 2, prepare: unmap_grants },
    Scenario { name: "multicall", least: 32, prepare: multicall },
    Scenario { name: "vcpu initialise", least: 5, prepare: initialise },
    Scenario { name: "register_vcpu_info", least: 2, prepare: register_info },
];

/// Updates of every kind: plain pages, numbers, mappings, a tree of tables that is linked and unlinked.
fn updates(world: &mut World<'_>) -> (u32, Vec<u64>) {
    let data = |n| world.mfn(DATA + n);
    let mut list: Vec<(u64, u64)> = (0..9).map(|n| (world.at(DATA + 6, n), 100 + n)).collect();
    list.extend((0..3).map(|n| (data(n).base().0 | MMU_MACHPHYS_UPDATE, 500 + n)));
    list.extend([
        (world.at(L1, 0), entry(data(1), P)),
        (world.at(L1, 1) | MMU_PT_UPDATE_PRESERVE_AD, entry(data(0), P | RW)),
        (world.at(L4, 1), entry(world.mfn(OTHER_L3), P | RW)),
        (world.at(OTHER_L1, 2), entry(data(3), P | RW)),
        (world.at(L4, 2), entry(world.mfn(OTHER_L3), P | RW)),
        (world.at(L4, 1), 0),
        (world.at(L4, 2), 0),
    ]);
    world.put_updates(&list);
    (number::MMU_UPDATE, vec![REQUEST, list.len() as u64, DONE, OWN])
}

/// All operations, with pins and roots of the other tree.
fn operations(world: &mut World<'_>) -> (u32, Vec<u64>) {
    let mfn = |pfn| world.mfn(pfn).0;
    let (l4, other) = (mfn(L4), mfn(OTHER_L4));
    world.fake.put_words(BITMAP, &[3]);
    world.put_operations(&[
        operation(MMUEXT_PIN_L1_TABLE, world.mfn(OTHER_L1).0, 0),
        operation(MMUEXT_PIN_L4_TABLE, other, 0),
        operation(MMUEXT_UNPIN_TABLE, world.mfn(OTHER_L1).0, 0),
        operation(MMUEXT_SET_LDT, 0x1000, 9),
        operation(MMUEXT_NEW_BASEPTR, other, 0),
        operation(MMUEXT_NEW_USER_BASEPTR, l4, 0),
        operation(MMUEXT_TLB_FLUSH_MULTI, 0, BITMAP),
        operation(MMUEXT_INVLPG_ALL, 0x1000, 0),
        operation(MMUEXT_COPY_PAGE, world.mfn(DATA + 6).0, l4),
        operation(MMUEXT_NEW_BASEPTR, l4, 0),
        operation(MMUEXT_UNPIN_TABLE, other, 0),
        operation(MMUEXT_NEW_USER_BASEPTR, other, 0),
        operation(MMUEXT_CLEAR_PAGE, world.mfn(DATA + 7).0, 0),
        operation(MMUEXT_NEW_USER_BASEPTR, 0, 0),
    ]);
    (number::MMUEXT_OP, vec![REQUEST, 14, DONE, OWN])
}

/// A page that was a table becomes a mapped one, and some CPUs are to be flushed.
fn mapping(world: &mut World<'_>) -> (u32, Vec<u64>) {
    let table = world.mfn(OTHER_L1);
    assert_eq!(world.operate(MMUEXT_PIN_L1_TABLE, table.0, 0), 0);
    assert_eq!(world.operate(MMUEXT_UNPIN_TABLE, table.0, 0), 0);
    world.fake.put_words(BITMAP, &[3]);
    (number::UPDATE_VA_MAPPING, vec![0x1000, entry(table, P | RW), UVMF_TLB_FLUSH | BITMAP])
}

/// Three pages take the place of one.
fn gdt(world: &mut World<'_>) -> (u32, Vec<u64>) {
    world.fake.put_words(REQUEST, &[world.mfn(DATA + 6).0]);
    assert_eq!(world.result(number::SET_GDT, &[REQUEST, 512]), 0);
    world.write(DATA + 7, 3, 0x00af_9b00_0000_ffff);
    world.fake.put_words(REQUEST, &[7, 6, 8].map(|n| world.mfn(DATA + n).0));
    (number::SET_GDT, vec![REQUEST, 1025])
}

fn descriptor(world: &mut World<'_>) -> (u32, Vec<u64>) {
    (number::UPDATE_DESCRIPTOR, vec![world.at(DATA + 6, 3), 0x00af_9b00_0000_ffff])
}

/// Single frames and a pinned tree.
fn decrease(world: &mut World<'_>) -> (u32, Vec<u64>) {
    let other = world.mfn(OTHER_L4).0;
    assert_eq!(world.operate(MMUEXT_PIN_L4_TABLE, other, 0), 0);
    let list = [world.mfn(DATA + 6).0, other, world.mfn(DATA).0, world.mfn(DATA + 7).0];
    world.put_extents(extents(INPUTS, 4, 0), &list);
    (number::MEMORY_OP, vec![XENMEM_DECREASE_RESERVATION.into(), REQUEST])
}

fn increase(world: &mut World<'_>) -> (u32, Vec<u64>) {
    world.put_extents(extents(INPUTS, 3, 1), &[]);
    (number::MEMORY_OP, vec![XENMEM_INCREASE_RESERVATION.into(), REQUEST])
}

fn populate(world: &mut World<'_>) -> (u32, Vec<u64>) {
    world.put_extents(extents(INPUTS, 3, 1), &[0x100, 0x200, 0x300]);
    (number::MEMORY_OP, vec![XENMEM_POPULATE_PHYSMAP.into(), REQUEST])
}

fn exchange(world: &mut World<'_>) -> (u32, Vec<u64>) {
    let request = MemoryExchange { input: extents(INPUTS, 6, 0), output: extents(OUTPUTS, 3, 1), ..Default::default() };
    let given: Vec<u64> = (6..12).map(|n| world.mfn(DATA + n).0).collect();
    world.put_exchange(request, &given, &[0x40, 0x50, 0x60]);
    (number::MEMORY_OP, vec![XENMEM_EXCHANGE.into(), REQUEST])
}

/// Grants of the other domain and of its own, mapped in all ways.
fn map_grants(world: &mut World<'_>) -> (u32, Vec<u64>) {
    let other = world.fake.domains[0].first[DATA as usize + 6];
    let own = world.mfn(OTHER_L1);
    for (domain, mfn) in [(0, other), (1, own)] {
        let page = world.fake.domains[domain].grants.frame(0).unwrap();
        let grant = mfn.0 << 32 | 1 << 16 | u64::from(GTF_PERMIT_ACCESS);
        world.fake.machine.memory.write(page, 9, grant);
    }
    let by_entry = world.at(L1, 3);
    for (n, (dom, flags, host_addr)) in (0..).zip([(0, 2, 0x1000), (0, 7, 0x2000), (1, 3, 0x3000), (1, 18, by_entry)]) {
        let request = GnttabMapGrantRef { host_addr, flags, gref: 9, dom, ..Default::default() };
        world.fake.put(REQUEST + 32 * n, request.as_bytes());
    }
    (number::GRANT_TABLE_OP, vec![GNTTABOP_MAP_GRANT_REF.into(), REQUEST, 4])
}

/// The same mappings end, one in two steps.
fn unmap_grants(world: &mut World<'_>) -> (u32, Vec<u64>) {
    let (number, args) = map_grants(world);
    assert_eq!(world.result(number, &args), 0);
    let by_entry = world.at(L1, 3);
    let device = world.fake.domains[0].first[DATA as usize + 6].base().0;
    let own = world.mfn(OTHER_L1).base().0;
    let list = [(0, 0x1000, 0), (1, 0x2000, 0), (1, 0, device), (3, by_entry, 0), (2, 0, own)];
    for (n, (handle, host_addr, dev_bus_addr)) in (0..).zip(list) {
        let request = GnttabUnmapGrantRef { host_addr, dev_bus_addr, handle, ..Default::default() };
        world.fake.put(REQUEST + 24 * n, request.as_bytes());
    }
    (number::GRANT_TABLE_OP, vec![GNTTABOP_UNMAP_GRANT_REF.into(), REQUEST, 5])
}

/// A vCPU with two roots and two pages of descriptors.
fn initialise(world: &mut World<'_>) -> (u32, Vec<u64>) {
    let mut context = super::vcpu::context(world);
    context.ctrlreg[1] = world.mfn(OTHER_L4).base().0;
    context.gdt_frames[1] = world.mfn(DATA + 7).0;
    context.gdt_ents = 513;
    world.fake.put(REQUEST, context.as_bytes());
    (number::VCPU_OP, vec![VCPUOP_INITIALISE.into(), PARKED.into(), REQUEST])
}

/// Event flags move to a page that was a table.
fn register_info(world: &mut World<'_>) -> (u32, Vec<u64>) {
    let table = world.mfn(OTHER_L1);
    assert_eq!(world.operate(MMUEXT_PIN_L1_TABLE, table.0, 0), 0);
    assert_eq!(world.operate(MMUEXT_UNPIN_TABLE, table.0, 0), 0);
    world.fake.put_words(REQUEST, &[table.0, 64]);
    (number::VCPU_OP, vec![VCPUOP_REGISTER_VCPU_INFO.into(), PARKED.into(), REQUEST])
}

/// Where the list of a multicall is, and how many entries it has.
const LIST: u64 = BASE + 0x4000;
const ENTRIES: u64 = 6;

/// Lists in a list, around frames that come and go.
fn multicall(world: &mut World<'_>) -> (u32, Vec<u64>) {
    let (number, updates) = updates(world);
    let other = world.mfn(OTHER_L4).0;
    let operations = BASE + 0x2000;
    for (n, operation) in (0..).zip([operation(MMUEXT_PIN_L4_TABLE, other, 0), operation(MMUEXT_UNPIN_TABLE, other, 0)])
    {
        world.fake.put(operations + 24 * n, operation.as_bytes());
    }
    let reservation = BASE + 0x3000;
    world.fake.put(reservation, extents(INPUTS, 2, 0).as_bytes());
    world.fake.put_words(INPUTS, &[0x100, 0x200]);
    let calls = [
        (number, updates),
        (number::MMUEXT_OP, vec![operations, 2, DONE + 4, OWN]),
        (number::MEMORY_OP, vec![XENMEM_POPULATE_PHYSMAP.into(), reservation]),
        (number::UPDATE_VA_MAPPING, vec![0x2000, 0, UVMF_INVLPG | UVMF_ALL]),
        (number::MEMORY_OP, vec![XENMEM_DECREASE_RESERVATION.into(), reservation]),
        (number::MMU_UPDATE, vec![REQUEST, 3, 0, 0]),
    ];
    for (n, (op, mut args)) in (0..).zip(calls) {
        args.resize(6, 0);
        let entry = MulticallEntry { op: op.into(), result: 77, args: args.try_into().unwrap() };
        world.fake.put(LIST + 64 * n, entry.as_bytes());
    }
    (number::MULTICALL, vec![LIST, ENTRIES])
}

/// All that a call may leave behind.
#[derive(PartialEq, Debug)]
pub struct Trace {
    pub result: i64,
    frames: Vec<(State, Option<DomainId>, u64)>,
    contents: Vec<u64>,
    memory: Vec<u8>,
    roots: Roots,
    gdt: Gdt,
    ldt: (Option<u64>, u32),
    parked: (Roots, Gdt),
}

impl Trace {
    pub fn of(world: &mut World<'_>, result: i64) -> Trace {
        let machine = world.fake.machine;
        let numbers = 0..machine.frames.len();
        let frames = numbers.clone().map(|n| {
            let frame = &machine.frames[n];
            (frame.state(), frame.owner(), machine.memory.known_as(Mfn(n as u64)))
        });
        let contents =
            numbers.clone().flat_map(|n| (0..512).map(move |index| machine.memory.read(Mfn(n as u64), index)));
        let (frames, contents) = (frames.collect(), contents.collect());
        let mut memory = world.fake.memory.clone();
        // The entries of a multicall hold what is left of them.
        for n in 0..ENTRIES as usize {
            memory[0x4000 + 64 * n + 16..0x4000 + 64 * (n + 1)].fill(0);
        }
        let other = &world.fake.parked[0].vcpu;
        let parked = (other.roots, other.gdt.clone());
        let Vcpu { roots, gdt, ldt: Ldt { base, entries, .. }, .. } = world.vcpu();
        Trace {
            result,
            frames,
            contents,
            memory,
            roots: *roots,
            gdt: gdt.clone(),
            ldt: (base.map(GuestVa::get), *entries),
            parked,
        }
    }
}

/// Makes the call on a world of its own, each time with the next budget; what it left behind.
pub fn carry_out(scenario: &Scenario, budget: impl FnMut() -> u32) -> Trace {
    let machine = machine();
    let mut world = World::new(&machine);
    world.run(FIRST + 1);
    world.run(FIRST);
    let (number, args) = (scenario.prepare)(&mut world);
    let (_, result) = world.call_within(number, &args, budget);
    let trace = Trace::of(&mut world, result);
    world.end();
    trace
}
