//! What must hold, over many machines and mixes.

use std::string::String;
use std::vec;
use std::vec::Vec;

use super::report::{HEADING, Mix, Outcome};
use super::{Domain, Load, Simulator};
use crate::addr::CpuId;
use crate::mm::flush::CpuSet;

/// No share is further than this from its weight's, and no cap exceeded by more, in percent.
const MOST_ERROR: f64 = 2.0;

/// No vCPU waits longer for a CPU, in milliseconds, with up to 16 vCPUs for each CPU.
const LONGEST_WAIT: f64 = 100.0;

fn mix(name: impl Into<String>, cpus: u32, seconds: u64, domains: Vec<Domain>) -> Mix {
    Mix { name: name.into(), cpus, domains, seconds }
}

fn batch(weight: u16, vcpus: u32) -> Domain {
    Domain::new(weight, vcpus, Load::Batch)
}

/// `count` times the same.
fn times(count: u32, domain: &Domain) -> Vec<Domain> {
    vec![domain.clone(); count as usize]
}

/// CPU-bound mixes with few vCPUs for each CPU, where shares are hard to keep.
fn sparse(cpus: u32) -> Vec<Mix> {
    let doubling = |n: u32| batch(128 << (n % 4), 1);
    let wide = vec![batch(256, cpus), batch(512, cpus), batch(1024, 2 * cpus)];
    let capped = vec![batch(256, cpus).capped(25), batch(512, cpus).capped(60), batch(256, 2 * cpus)];
    vec![
        mix("equal, one vCPU too many", cpus, 10, times(cpus + 1, &batch(256, 1))),
        mix("equal, 1.5 per CPU", cpus, 10, times(cpus + cpus.div_ceil(2), &batch(256, 1))),
        mix("1:2:4:8, 4 per CPU", cpus, 10, (0..4 * cpus).map(doubling).collect()),
        mix("1:2:4, a vCPU for each CPU", cpus, 10, wide),
        mix("caps 25 % and 60 %", cpus, 10, capped),
    ]
}

/// CPU-bound mixes with 16 vCPUs for each CPU, where waits are.
fn dense(cpus: u32, seconds: u64) -> Vec<Mix> {
    let doubling = |n: u32| batch(128 << (n % 4), 1);
    vec![
        mix("equal, 16 per CPU", cpus, seconds, times(16 * cpus, &batch(256, 1))),
        mix("1:2:4:8, 16 per CPU", cpus, seconds, (0..16 * cpus).map(doubling).collect()),
    ]
}

/// Mixes in which not all domains can use their share.
fn uneven() -> Vec<Mix> {
    vec![
        mix("too heavy for one vCPU", 4, 10, vec![batch(2048, 1), batch(256, 4), batch(256, 4)]),
        mix("a cap above one CPU", 4, 10, vec![batch(256, 4).capped(250), batch(256, 4)]),
        mix("alone with a cap of 10 %", 1, 10, vec![batch(256, 1).capped(10)]),
        mix("a cap of 1 % on 8 CPUs", 8, 10, vec![batch(256, 8).capped(1), batch(256, 8)]),
    ]
}

/// Mixes of everything.
fn mixed(cpus: u32, seconds: u64) -> Vec<Mix> {
    let kinds = |n: u32| match n % 4 {
        0 => batch(256, 1),
        1 | 2 => Domain::new(256, 1, Load::Interactive),
        _ => Domain::new(256, 1, Load::Bursty),
    };
    let mut shells = times(15 * cpus, &Domain::new(256, 1, Load::Interactive));
    shells.extend(times(cpus, &batch(256, 1)));
    vec![
        mix("batch, interactive, bursty", cpus, seconds, (0..4 * cpus).map(kinds).collect()),
        mix("the same, 16 per CPU", cpus, seconds, (0..16 * cpus).map(kinds).collect()),
        mix("1 batch, 15 interactive per CPU", cpus, seconds, shells),
        mix("3 yielding per CPU", cpus, 1, times(3 * cpus, &Domain::new(256, 1, Load::Yielding))),
    ]
}

/// Whether a bar is broken.
fn breaks_a_bar(outcome: &Outcome) -> bool {
    outcome.share_error.is_some_and(|error| error > MOST_ERROR)
        || outcome.cap_error.is_some_and(|error| error > MOST_ERROR)
        || (outcome.vcpus <= 16 * outcome.cpus as usize && outcome.longest_wait > LONGEST_WAIT)
}

fn hold(mixes: &[Mix], seeds: core::ops::Range<u64>) {
    for mix in mixes {
        for seed in seeds.clone() {
            let outcome = mix.run(seed);
            assert!(!breaks_a_bar(&outcome), "seed {seed}\n{HEADING}\n{outcome}");
        }
    }
}

#[test]
fn shares_follow_weights_with_few_vcpus() {
    [1, 2, 3, 4, 8].into_iter().for_each(|cpus| hold(&sparse(cpus), 0..2));
    hold(&sparse(64)[..2], 0..1);
    hold(&uneven(), 0..4);
}

#[test]
fn shares_follow_weights_with_many_vcpus() {
    hold(&dense(1, 10), 0..2);
    hold(&dense(4, 10), 0..1);
}

#[test]
fn nobody_waits_long_among_a_thousand_vcpus() {
    // Too short for shares to settle.
    let waits = |mix: &Mix| mix.run(7).longest_wait;
    assert!(dense(64, 1).iter().map(waits).all(|wait| wait <= LONGEST_WAIT));
}

#[test]
fn nobody_waits_long_in_mixes() {
    [1, 2, 4, 8].into_iter().for_each(|cpus| hold(&mixed(cpus, 2), 0..2));
}

#[test]
fn shells_are_quick_beside_batch_work() {
    for cpus in [1, 2, 8] {
        let [half, most, _] = mixed(cpus, 4)[2].run(3).latency.expect("they wake");
        assert!(half <= 0.1 && most <= 3.0, "{cpus} CPUs: half {half} ms, 99 % {most} ms");
    }
}

#[test]
fn moves_and_switches_are_few() {
    for cpus in [2, 8] {
        for mix in sparse(cpus).iter().chain(&dense(cpus, 2)) {
            let outcome = mix.run(5);
            assert!(outcome.moves <= 20.0 && outcome.switches <= 350.0, "\n{HEADING}\n{outcome}");
        }
    }
}

#[test]
fn pinned_domains_stay_and_share_what_they_have() {
    let first = CpuSet::first(1);
    let domains = vec![batch(256, 1).pinned(first, false), batch(768, 1).pinned(first, false), batch(256, 4)];
    let outcome = mix("pinned", 4, 10, domains).run(1);
    // The first CPU is the pinned domains', 1:3, as the other one has room elsewhere.
    let [light, heavy, free] = outcome.ran[..] else { panic!("three domains") };
    assert!((heavy / light - 3.0).abs() < 0.06, "{:?}", outcome.ran);
    assert!(light + heavy + free > 39.9 && free > 29.0, "{:?}", outcome.ran);
}

/// CPU time of each domain from `from` to `to`, in milliseconds.
fn ran_between(simulator: &mut Simulator, from: u64, to: u64) -> Vec<f64> {
    let ran = |simulator: &Simulator| {
        let mut ran = vec![0.0; simulator.shares.len()];
        simulator.records.iter().for_each(|record| ran[record.domain] += record.ran as f64 / 1e6);
        ran
    };
    simulator.run_until(from * 1_000_000);
    let before = ran(simulator);
    simulator.run_until(to * 1_000_000);
    ran(simulator).iter().zip(before).map(|(ran, before)| ran - before).collect()
}

fn is_near(value: f64, expected: f64) -> bool {
    (value / expected - 1.0).abs() * 100.0 <= MOST_ERROR
}

#[test]
fn weights_and_caps_change_in_the_middle_of_a_run() {
    for cpus in [1, 2, 4] {
        let all = CpuSet::first(cpus);
        let domains = [batch(256, cpus), batch(256, cpus)];
        let simulator = &mut Simulator::new(cpus, &domains, 3);
        let whole = f64::from(cpus) * 10_000.0;
        let even = ran_between(simulator, 0, 10_000);
        assert!(is_near(even[0], whole / 2.0), "{even:?}");
        simulator.reschedule(0, 768, 0, all);
        // The debts from before are paid after a moment.
        let heavier = ran_between(simulator, 11_000, 21_000);
        assert!(is_near(heavier[0], whole * 0.75), "{cpus} CPUs: {heavier:?}");
        simulator.reschedule(0, 768, 20, all);
        let capped = ran_between(simulator, 21_000, 31_000);
        assert!(is_near(capped[0], 2_000.0), "{cpus} CPUs: {capped:?}");
        simulator.reschedule(0, 1, 0, all);
        let lightest = ran_between(simulator, 32_000, 42_000);
        assert!(lightest[0] < whole * 0.06, "{cpus} CPUs: {lightest:?}");
    }
}

#[test]
fn one_alone_is_held_to_a_new_cap() {
    let simulator = &mut Simulator::new(1, &[batch(256, 1)], 1);
    simulator.run_until(1_000_000_000);
    simulator.reschedule(0, 256, 10, CpuSet::first(1));
    assert!(is_near(ran_between(simulator, 1_000, 11_000)[0], 1_000.0));
    simulator.reschedule(0, 256, 0, CpuSet::first(1));
    assert!(is_near(ran_between(simulator, 11_100, 12_100)[0], 1_000.0));
}

#[test]
fn vcpus_leave_cpus_that_they_may_not_use_any_more() {
    for load in [Load::Batch, Load::Interactive, Load::Bursty, Load::Yielding] {
        let simulator = &mut Simulator::new(4, &[batch(256, 4), Domain::new(256, 8, load)], 5);
        simulator.run_until(1_000_000_000);
        let (left, right) = (CpuSet::from_bits(0b0011), CpuSet::from_bits(0b1100));
        for (its, others) in [(left, right), (right, left), (CpuSet::only(CpuId(2)), CpuSet::first(4))] {
            simulator.reschedule(1, 256, 0, its);
            simulator.reschedule(0, 256, 0, others);
            let (now, waiting) = (simulator.now / 1_000_000, 1_000);
            simulator.run_until((now + waiting) * 1_000_000);
            for (domain, allowed) in [(0, others), (1, its)] {
                let misplaced = simulator.cpus.iter().zip(0..).any(|(cpu, number)| {
                    cpu.current.as_ref().is_some_and(|vcpu| simulator.records[vcpu.id].domain == domain)
                        && !allowed.contains(CpuId(number))
                });
                assert!(!misplaced, "domain {domain}, {load:?}");
            }
            let ran = ran_between(simulator, now + waiting, now + 2 * waiting);
            let cpus = |set: CpuSet| set.iter().count() as f64 * 1_000.0;
            assert!(
                ran[0] > 0.4 * cpus(others) && ran[0] < cpus(others) + 1.0 && ran[1] < cpus(its) + 1.0,
                "{load:?}: {ran:?}"
            );
            if load == Load::Batch {
                assert!(is_near(ran.iter().sum(), 4_000.0), "no CPU is idle: {ran:?}");
            }
        }
    }
}

#[test]
fn a_dedicated_cpu_is_left_alone() {
    let own = CpuSet::only(CpuId(1));
    let domains = vec![batch(1, 1).pinned(own, true), batch(1024, 8)];
    let outcome = mix("dedicated", 2, 2, domains).run(1);
    assert_eq!(outcome.ran[0], 2.0);
    assert_eq!(outcome.ran[1], 2.0);
}

#[test]
#[ignore = "prints a table: ./x bench sched"]
fn report() {
    std::println!("{HEADING}");
    let mut mixes = uneven();
    for cpus in [1, 2, 4, 8, 64] {
        mixes.extend(sparse(cpus).into_iter().chain(dense(cpus, 10)).chain(mixed(cpus, 10)));
    }
    mixes.push(mix("1:2:4:8, 64 per CPU", 32, 10, (0..64 * 32).map(|n| batch(128 << (n % 4), 1)).collect()));
    for mix in mixes {
        let outcome = mix.run(1);
        std::println!("{outcome}{}", if breaks_a_bar(&outcome) { "  !" } else { "" });
    }
}
