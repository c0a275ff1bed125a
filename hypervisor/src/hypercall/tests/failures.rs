//! A call in which a guest copy or an allocation fails, wherever that is, does a part of its work, and what it did is
//! sound.

use super::fake::Failing;
use super::scenarios::{SCENARIOS, Scenario};
use super::world::FIRST;
use super::*;

/// Lets the nth of something fail, for all n there are; gives each result to `judge`, with that of the call that
/// nothing failed in.
fn at_every_point(
    fail: impl Fn(&mut World<'_>, u32),
    failed: impl Fn(&World<'_>) -> bool,
    judge: impl Fn(&Scenario, i64, i64),
) -> u32 {
    let mut points = 0;
    for scenario in &SCENARIOS {
        let attempt = |n: Option<u32>| {
            let machine = machine();
            let mut world = World::new(&machine);
            world.run(FIRST);
            let (number, args) = (scenario.prepare)(&mut world);
            if let Some(n) = n {
                fail(&mut world, n);
            }
            let (_, result) = world.call(number, &args);
            let failed = failed(&world);
            (world.fake.copies, world.fake.allocations) = Default::default();
            // The guest tries again; much of it may be done already.
            let _ = world.call(number, &args);
            world.end();
            (result, failed)
        };
        let (whole, _) = attempt(None);
        for n in 0.. {
            let (result, failed) = attempt(Some(n));
            if !failed {
                assert_eq!(result, whole);
                break;
            }
            judge(scenario, result, whole);
            points += 1;
        }
    }
    points
}

#[test]
fn copies_that_fail_from_some_point_on() {
    let points = at_every_point(
        |world, n| world.fake.copies = Failing::after(n),
        |world| world.fake.copies.failed,
        |scenario, result, whole| {
            let counts = scenario.name.ends_with("reservation") || scenario.name == "populate_physmap";
            let refused = if counts { (0..whole).contains(&result) } else { [EFAULT, EINVAL].contains(&result) };
            assert!(refused, "{}: {result}", scenario.name);
        },
    );
    assert!(points > 60, "{points}");
}

#[test]
fn a_copy_that_fails_once() {
    let points = at_every_point(
        |world, n| world.fake.copies = Failing::once_after(n),
        |world| world.fake.copies.failed,
        |scenario, result, whole| {
            assert!([EFAULT, EINVAL].contains(&result) || (0..=whole).contains(&result), "{}: {result}", scenario.name);
        },
    );
    assert!(points > 60, "{points}");
}

#[test]
fn allocations_that_fail_from_some_point_on() {
    let points = at_every_point(
        |world, n| world.fake.allocations = Failing::after(n),
        |world| world.fake.allocations.failed,
        |scenario, result, whole| match scenario.name {
            "exchange" => assert_eq!(result, Errno::ENOMEM.code()),
            "multicall" => assert_eq!(result, 0),
            name => assert!((0..whole).contains(&result), "{name}: {result}"),
        },
    );
    // Three each of those that add extents, and two in the multicall.
    assert_eq!(points, 3 * 3 + 2);
}
