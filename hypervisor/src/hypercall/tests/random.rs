//! Random memory calls by four vCPUs of two domains, with random budgets: each is restarted, or forgotten for another
//! call, wherever it stopped; copies and allocations fail at every point of some; CPUs walk the tables and guests store
//! through what their CPUs remember. After every step everything is counted again, and at the end both domains die.

use super::fake::{CPUS, Failing};
use super::guess::{Guess, Subject};
use super::world::{VCPUS, World, domain_of, machine};
use super::*;
use crate::mm::tests::{Random, config};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::vec::Vec;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Call(Subject),
    FillLdt,
    /// A domain writes in its grant table.
    WriteGrant,
    Walk,
    Store,
}

/// How often each kind comes, out of all.
const WEIGHTS: [(Kind, usize); 17] = [
    (Kind::Call(Subject::Updates), 24),
    (Kind::Call(Subject::Operations), 24),
    (Kind::Call(Subject::Mapping), 10),
    (Kind::Call(Subject::OtherMapping), 3),
    (Kind::Call(Subject::Gdt), 5),
    (Kind::Call(Subject::Descriptor), 4),
    (Kind::Call(Subject::Decrease), 4),
    (Kind::Call(Subject::Increase), 2),
    (Kind::Call(Subject::Populate), 5),
    (Kind::Call(Subject::Exchange), 6),
    (Kind::Call(Subject::Assist), 1),
    (Kind::Call(Subject::Grants), 40),
    (Kind::Call(Subject::Multicall), 8),
    (Kind::FillLdt, 4),
    (Kind::WriteGrant, 20),
    (Kind::Walk, 24),
    (Kind::Store, 8),
];

/// What an action does in detail follows from its number.
#[derive(Clone, Copy, Debug)]
struct Action {
    kind: Kind,
    vcpu: usize,
    number: u64,
}

fn action() -> impl Strategy<Value = Action> {
    let kinds: Vec<Kind> = WEIGHTS.iter().flat_map(|&(kind, weight)| core::iter::repeat_n(kind, weight)).collect();
    (0..kinds.len(), 0..VCPUS, any::<u64>()).prop_map(move |(kind, vcpu, number)| Action {
        kind: kinds[kind],
        vcpu,
        number,
    })
}

/// A call with as many of its registers as are arguments.
type Begun = (GuestRegisters, usize);

#[derive(Default)]
struct Run {
    /// The call that each vCPU has to make again.
    unfinished: [Option<Begun>; VCPUS],
    done: u32,
    refused: u32,
    restarts: u32,
    failures: u32,
}

impl Run {
    fn perform(&mut self, world: &mut World<'_>, Action { kind, vcpu, number }: Action) {
        let random = &mut Random::new(number);
        world.run(vcpu);
        let which = random.next(64) as usize;
        match kind {
            Kind::Call(subject) => self.call(world, vcpu, subject, random),
            Kind::WriteGrant => Guess { world, random }.write_grant(),
            Kind::FillLdt => world.fill_ldt(random.next(2) as usize),
            Kind::Walk => {
                let index = Guess { world, random }.index();
                world.fake.cpus[vcpu % CPUS].tlb.walk(world.fake.machine, which, index as usize);
            }
            Kind::Store => {
                let mut guess = Guess { world, random };
                let (index, value) = (guess.index(), guess.any_entry());
                world.fake.cpus[vcpu % CPUS].tlb.store(world.fake.machine, which, index as usize, value);
            }
        }
        world.check();
    }

    fn call(&mut self, world: &mut World<'_>, vcpu: usize, subject: Subject, random: &mut Random) {
        let going_on = self.unfinished[vcpu].take().filter(|_| random.next(8) != 0);
        let (regs, args) = going_on.unwrap_or_else(|| {
            let (number, args) = Guess { world, random }.call(subject);
            (World::registers(number, &args), args.len())
        });
        let budget = match random.next(8) {
            0 => random.next(4) as u32,
            1..4 => random.next(64) as u32,
            4 => random.next(1000) as u32,
            _ => BUDGET,
        };
        let fail: Option<fn(&mut World<'_>, u32)> = match random.next(12) {
            0 => Some(|world, n| world.fake.copies = Failing::after(n)),
            1 => Some(|world, n| world.fake.copies = Failing::once_after(n)),
            2 => Some(|world, n| world.fake.allocations = Failing::after(n)),
            _ => None,
        };
        // As often as it takes until nothing failed, each time at a later point.
        for n in 0..40 {
            let mut attempt = regs;
            if let Some(fail) = fail {
                fail(world, n);
            }
            let next = world.step(&mut attempt, args, budget);
            let failed = world.fake.copies.failed || world.fake.allocations.failed;
            (world.fake.copies, world.fake.allocations) = Default::default();
            if failed {
                self.failures += 1;
            } else {
                self.count(vcpu, next, (attempt, args));
                break;
            }
        }
    }

    fn count(&mut self, vcpu: usize, next: Option<Next>, (regs, args): Begun) {
        if next.is_none() {
            self.unfinished[vcpu] = Some((regs, args));
            self.restarts += 1;
        } else if regs.rax.cast_signed() < 0 {
            self.refused += 1;
        } else {
            self.done += 1;
        }
    }
}

/// Carries out a list, checking after each step.
fn carry_out(actions: &[Action]) -> Run {
    let machine = machine();
    let mut world = World::new(&machine);
    let mut run = Run::default();
    for &action in actions {
        run.perform(&mut world, action);
    }
    assert_eq!(domain_of(world.current), world.fake.domain);
    world.end();
    run
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn counts_stay_exact_whatever_is_called_and_whatever_fails(actions in prop::collection::vec(action(), 150)) {
        carry_out(&actions);
    }
}

/// The random lists are no good if most calls are refused, or none is ever restarted.
#[test]
fn random_lists_get_somewhere() {
    let strategy = prop::collection::vec(action(), 3000);
    let mut runner = TestRunner::new(config(1));
    let Run { done, refused, restarts, failures, .. } = carry_out(&strategy.new_tree(&mut runner).unwrap().current());
    std::eprintln!("{done} calls done, {refused} refused, {restarts} restarts, {failures} failures");
    assert!(done > 300 && refused > 100 && restarts > 100 && failures > 100);
}
