//! Checks and teardowns that are cut short after every possible number of entries.

use super::*;

/// Calls again until it ends; at each stop everything must add up.
fn to_the_end(
    bench: &mut Bench,
    budget: u32,
    pins: &[Mfn],
    rules: impl Fn(&mut Operation<'_, Memory<false>>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    for _ in 0..200 {
        match bench.call(budget, &rules) {
            Err(Stop::Again) => bench.check(pins),
            result => return result,
        }
    }
    panic!("no end with a budget of {budget}");
}

#[test]
fn a_check_goes_on_where_it_stopped() {
    for budget in 1..80 {
        let mut bench = Bench::new();
        bench.build_tree();
        to_the_end(&mut bench, budget, &[], |op| op.pin(L4, Level::L4)).unwrap();
        bench.check(&[L4]);
        bench.call(UNLIMITED, |op| op.unpin(L4)).unwrap();
        to_the_end(&mut bench, budget, &[], |op| op.drain()).unwrap();
        bench.check(&[]);
        assert_eq!(bench.state(L1).type_references(), 0);
    }
}

#[test]
fn a_failed_check_is_undone_and_reported_once_it_is() {
    for budget in 1..80 {
        for (table, index) in [(L1, 6), (L1, 0), (L2, 0), (L3, 6), (L4, 7)] {
            let mut bench = Bench::new();
            bench.build_tree();
            bench.set(table, index, entry(Mfn(33), P)).unwrap();
            let result = to_the_end(&mut bench, budget, &[], |op| op.pin(L4, Level::L4));
            assert_eq!(why(result), Refusal::NotOwned(Mfn(33)));
            assert!(bench.pending.is_empty());
            bench.check(&[]);
        }
    }
}

#[test]
fn a_dying_domain_drops_what_it_had_begun() {
    for budget in 1..40 {
        let mut bench = Bench::new();
        bench.build_tree();
        let _ = bench.call(budget, |op| op.pin(L4, Level::L4));
        to_the_end(&mut bench, 3, &[], |op| op.give_up()).unwrap();
        assert!(bench.pending.is_empty());
        if !bench.state(L4).is_pinned() {
            bench.check(&[]);
        }
    }
}

/// What another vCPU has under work is neither used nor undone by this one.
#[test]
fn a_table_that_another_vcpu_checks_has_to_be_waited_for() {
    let mut bench = Bench::new();
    bench.build_tree();
    assert_eq!(bench.call(3, |op| op.pin(L2, Level::L2)), Err(Stop::Again));
    let other = core::mem::take(&mut bench.pending);
    assert_eq!(bench.call(UNLIMITED, |op| op.pin(L4, Level::L4)), Err(Stop::Again));
    assert_eq!(bench.call(UNLIMITED, |op| op.pin(L4, Level::L4)), Err(Stop::Again));
    let waiting = core::mem::replace(&mut bench.pending, other);
    bench.pin(L2, Level::L2).unwrap();
    bench.pending = waiting;
    bench.pin(L4, Level::L4).unwrap();
    bench.check(&[L2, L4]);
}

/// The guest does something else instead of calling again: the table does not stay checked for nothing.
#[test]
fn a_result_nobody_comes_back_for_is_dropped() {
    let mut bench = Bench::new();
    bench.build_tree();
    assert_eq!(bench.call(3, |op| op.pin(L2, Level::L2)), Err(Stop::Again));
    bench.call(UNLIMITED, |op| op.drain()).unwrap();
    assert_eq!(bench.state(L2).type_references(), 1);
    bench.pin(SPARE, Level::L3).unwrap();
    assert_eq!(bench.state(L2).type_references(), 0);
    bench.check(&[SPARE]);
}

#[test]
fn everything_comes_back_from_a_dead_domain() {
    for budget in 1..60 {
        let mut bench = Bench::new();
        bench.build_tree();
        bench.set(L1, 0, entry(L1, P)).unwrap();
        bench.set(L2, 0, entry(L1, P)).unwrap();
        bench.pin(L4, Level::L4).unwrap();
        bench.pin(L1, Level::L1).unwrap();
        let dead = (0..400).any(|_| bench.on_frames(budget, |op, frames| op.tear_down(frames)) == Ok(()));
        assert!(dead && bench.frames.is_empty(), "with a budget of {budget}");
        assert_eq!(bench.allocator.free_frames(), 12);
    }
}
