//! `memory_op(XENMEM_exchange)`.

use super::fake::{FRAMES, Failing};
use super::requests::*;
use super::world::*;
use super::*;
use crate::mm::tests::machine::Machine;
use pv_abi::memory::{MemoryExchange, XENMEM_EXCHANGE, XENMEM_INCREASE_RESERVATION};
use std::vec::Vec;

const ENOMEM: i64 = Errno::ENOMEM.code();

/// So many extents on both sides, of these orders.
fn exchange((inputs, input_order): (u64, u32), (outputs, output_order): (u64, u32)) -> MemoryExchange {
    MemoryExchange {
        input: extents(INPUTS, inputs, input_order),
        output: extents(OUTPUTS, outputs, output_order),
        nr_exchanged: 0,
    }
}

impl World<'_> {
    fn exchange(&mut self, request: MemoryExchange, inputs: &[u64], outputs: &[u64]) -> i64 {
        self.put_exchange(request, inputs, outputs);
        self.result(number::MEMORY_OP, &[XENMEM_EXCHANGE.into(), REQUEST])
    }

    fn exchanged(&self) -> u64 {
        self.fake.word(REQUEST + core::mem::offset_of!(MemoryExchange, nr_exchanged) as u64)
    }

    fn outputs(&self, count: u64) -> Vec<Mfn> {
        (0..count).map(|n| Mfn(self.fake.word(OUTPUTS + 8 * n))).collect()
    }

    fn owner(&self, mfn: Mfn) -> Option<DomainId> {
        self.fake.machine.table().get(mfn).unwrap().owner()
    }

    /// Frames that are in use for nothing.
    fn unused(&self, count: u64) -> Vec<u64> {
        (DATA + 6..DATA + 6 + count).map(|pfn| self.mfn(pfn).0).collect()
    }
}

#[test]
fn single_frames_become_a_contiguous_block() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let (given, free) = (world.unused(4), world.fake.allocator.free_frames());
    assert_eq!(world.exchange(exchange((4, 0), (1, 2)), &given, &[0x40]), 0);
    let block = world.outputs(1)[0];
    assert_eq!(block.0 % 4, 0);
    for n in 0..4 {
        assert_eq!(world.owner(block.offset(n)), Some(DomainId(1)));
        assert_eq!(machine.memory.known_as(block.offset(n)), 0x40 + n);
    }
    assert!(given.iter().all(|&mfn| (block.0..block.0 + 4).contains(&mfn) || world.owner(Mfn(mfn)).is_none()));
    assert_eq!((world.exchanged(), world.fake.allocator.free_frames()), (4, free));
}

#[test]
fn a_block_becomes_single_frames() {
    let machine = machine();
    let world = &mut World::new(&machine);
    assert_eq!(world.exchange(exchange((2, 0), (1, 1)), &world.unused(2), &[0x40]), 0);
    let block = world.outputs(1)[0].0;
    assert_eq!(world.exchange(exchange((1, 1), (2, 0)), &[block], &[0x50, 0x60]), 0);
    let frames = world.outputs(2);
    assert_eq!(frames.iter().map(|&mfn| machine.memory.known_as(mfn)).collect::<Vec<_>>(), [0x50, 0x60]);
    assert_eq!(world.exchanged(), 1);
}

#[test]
fn groups_are_exchanged_one_by_one() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let mut given = world.unused(6);
    given[4] = world.mfn(DATA).0;
    assert_eq!(world.exchange(exchange((6, 0), (3, 1)), &given, &[0x40, 0x50, 0x60]), EINVAL, "mapped");
    assert_eq!(world.exchanged(), 4);
    assert_eq!(world.outputs(3)[2], Mfn(0x60));
    assert_eq!(world.owner(Mfn(given[5])), Some(DomainId(1)), "a group is exchanged wholly or not at all");
    // The guest fixes it and goes on.
    world.fake.put_words(INPUTS + 32, &[world.mfn(DATA + 10).0]);
    assert_eq!(world.result(number::MEMORY_OP, &[XENMEM_EXCHANGE.into(), REQUEST]), 0);
    assert_eq!(world.exchanged(), 6);
}

#[test]
fn a_group_that_fails_is_put_back() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let (given, others) = (world.unused(2), world.fake.domains[0].first[DATA as usize + 6].0);
    let numbers: Vec<u64> = given.iter().map(|&mfn| machine.memory.known_as(Mfn(mfn))).collect();
    for (inputs, errno, what) in [
        ([given[0], given[0]], EINVAL, "one frame twice"),
        ([given[0], world.mfn(L1).0], EINVAL, "a table"),
        ([given[0], others], EINVAL, "another's"),
        ([given[0], 9], EINVAL, "a device"),
        ([given[0], u64::MAX], EINVAL, "above everything"),
    ] {
        assert_eq!(world.exchange(exchange((2, 0), (1, 1)), &inputs, &[0x40]), errno, "{what}");
    }
    world.fake.allocations = Failing::after(0);
    assert_eq!(world.exchange(exchange((2, 0), (1, 1)), &given, &[0x40]), ENOMEM);
    for (mfn, number) in given.iter().zip(numbers) {
        assert_eq!((world.owner(Mfn(*mfn)), machine.memory.known_as(Mfn(*mfn))), (Some(DomainId(1)), number));
    }
    world.fake.allocations = Failing::after(1);
    assert_eq!(world.exchange(exchange((2, 0), (1, 1)), &given, &[0x40]), 0);
    let block = world.outputs(1)[0];
    let free = world.fake.allocator.free_frames();
    for allocations in [0, 1] {
        world.fake.allocations = Failing::after(allocations);
        assert_eq!(world.exchange(exchange((1, 1), (2, 0)), &[block.0], &[0x50, 0x60]), ENOMEM);
        assert_eq!(machine.memory.known_as(block.offset(1)), 0x41);
        assert_eq!(world.fake.allocator.free_frames(), free);
    }
    assert_eq!(world.fake.frames().run(|frames| frames.allocated()), FRAMES);
}

#[test]
fn requests_that_do_not_balance_are_refused() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let given = world.unused(4);
    let good = exchange((4, 0), (2, 1));
    let with = |change: fn(&mut MemoryExchange)| {
        let mut request = good;
        change(&mut request);
        request
    };
    for (request, errno) in [
        (exchange((4, 0), (3, 1)), EINVAL),
        (exchange((3, 0), (1, 1)), EINVAL),
        (exchange((3, 0), (2, 1)), EINVAL),
        (exchange((1, 10), (1, 10)), EPERM),
        (exchange((1 << 63, 0), (1 << 62, 10)), EPERM),
        (exchange((1 << 60, 9), (1 << 60, 9)), EINVAL),
        (exchange((1, 9), (u64::MAX, 9)), EINVAL),
        (with(|request| request.nr_exchanged = 1), EINVAL),
        (with(|request| request.nr_exchanged = 6), EINVAL),
        (with(|request| request.nr_exchanged = u64::MAX - 1), EINVAL),
        (with(|request| request.output.domid = 0), EINVAL),
        (with(|request| (request.input.domid, request.output.domid) = (0, 0)), EPERM),
        (with(|request| (request.input.domid, request.output.domid) = (2, 2)), ESRCH),
        (with(|request| request.nr_exchanged = 4), 0),
        (exchange((0, 0), (0, 0)), 0),
    ] {
        assert_eq!(world.exchange(request, &given, &[0x40, 0x50]), errno, "{request:?}");
    }
    assert_eq!(world.result(number::MEMORY_OP, &[XENMEM_EXCHANGE.into(), BASE - 8]), EFAULT);
    assert_eq!(world.fake.frames().run(|frames| frames.allocated()), FRAMES);
}

/// XSA-212: `nr_exchanged` leads the copies wherever it likes.
#[test]
fn a_forged_position_leads_to_nothing_but_guest_memory() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for position in [4, 1 << 20, 1 << 45, 1 << 60, 1 << 61, 1 << 62, u64::MAX - 1] {
        let request = MemoryExchange { nr_exchanged: position, ..exchange((u64::MAX, 0), (u64::MAX, 0)) };
        let answer = world.exchange(request, &[], &[]);
        assert!([EFAULT, EINVAL].contains(&answer), "{position:#x}: {answer}");
    }
    let request = MemoryExchange { nr_exchanged: 1 << 62, ..exchange((1 << 63, 0), (1 << 62, 1)) };
    assert!([EFAULT, EINVAL].contains(&world.exchange(request, &[], &[])));
}

#[test]
fn frames_are_flushed_before_the_domain_gets_them_back() {
    let machine = machine();
    let world = &mut World::new(&machine);
    // Domain 0 maps a frame of domain 1 on CPU 1 and lets it go; the translation stays.
    world.run(1);
    let mfn = world.fake.domains[1].first[DATA as usize + 6];
    world.put_updates(&[(world.at(L1, 9), entry(mfn, P | RW))]);
    assert_eq!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, 1]), 0);
    for table in (0..4).cycle().take(16) {
        world.fake.cpus[1].tlb.walk(&machine, table, 0);
        world.fake.cpus[1].tlb.walk(&machine, table, 9);
    }
    assert_eq!(world.mmu_update(&[(world.at(L1, 9), 0)]), (0, 1));
    // Domain 1 runs on CPU 0 only. Its exchange fails, and then it makes the frame a table.
    world.run(2);
    assert_eq!(world.exchange(exchange((2, 0), (1, 1)), &[mfn.0, u64::MAX], &[0x40]), EINVAL);
    assert_eq!(world.operate(pv_abi::mmu::MMUEXT_PIN_L1_TABLE, mfn.0, 0), 0);
}

/// The largest extents, on a machine of 3000 frames.
#[test]
fn two_mebibytes_are_one_step() {
    let machine = Machine::<true>::new(3000, fake::CPUS as u32);
    let world = &mut World::new(&machine);
    world.fake.set_max_pages(1, 2000);
    world.put_extents(extents(INPUTS, 1, 9), &[]);
    assert_eq!(world.result(number::MEMORY_OP, &[XENMEM_INCREASE_RESERVATION.into(), REQUEST]), 1);
    let block = world.fake.word(INPUTS);
    assert_eq!(world.exchange(exchange((1, 9), (512, 0)), &[block], &[0; 512]), 0);
    let mut singles: Vec<u64> = world.outputs(512).iter().map(|mfn| mfn.0).collect();
    singles.reverse();
    assert_eq!(world.exchange(exchange((512, 0), (1, 9)), &singles, &[0x200]), 0);
    assert_eq!(world.outputs(1)[0].0 % 512, 0);
}
