//! Shares of the CPUs and affinities that change while children run. The machine has two CPUs.

use super::{child, done, info, wait};
use crate::check::{Ending, Told, equal, holds};
use alloc::format;
use guest_kernel::control::calls;
use guest_kernel::{println, time};
use pv_abi::errno::Errno;

const BOTH: u64 = 0b11;
const MS: u64 = 1_000_000;

fn pin(id: u16, cpus: u64) -> Told {
    equal("the CPUs that it may use then", calls::set_affinity(id, 0, cpus), Ok(cpus))?;
    equal("and when asked", calls::affinity(id, 0), Ok(cpus))
}

/// CPU time of each domain in the next second, in percent of one CPU.
fn shares<const N: usize>(ids: [u16; N]) -> Result<[u64; N], Ending> {
    const WINDOW: u64 = 1_000 * MS;
    let times = || -> Result<[u64; N], Ending> {
        let mut times = [0; N];
        for (time, id) in times.iter_mut().zip(ids) {
            *time = info(id)?.cpu_time;
        }
        Ok(times)
    };
    let (started, before) = (time::now().unwrap_or(0), times()?);
    time::sleep(WINDOW);
    let (passed, after) = (time::now().unwrap_or(0) - started, times()?);
    Ok(core::array::from_fn(|n| (after[n] - before[n]) * 100 / passed.max(1)))
}

/// A child that runs, one that sleeps and one that is paused go to the CPUs that they may use, and so do we.
pub fn affinity() -> Told {
    let (busy, sleeper, paused) = (child("child-busy")?, child("child-sleeper")?, child("child-busy")?);
    for id in [busy, sleeper, paused, 0] {
        equal("the CPUs of a new one", calls::affinity(id, 0), Ok(BOTH))?;
    }
    for id in [busy, sleeper] {
        done("unpause", calls::unpause_domain(id))?;
        wait("ran", id, |info| info.cpu_time > 0)?;
    }
    for turn in 0..20 {
        let (cpu, cpus) = (turn % 2, 1 << (turn % 2));
        pin(busy, cpus)?;
        pin(sleeper, cpus)?;
        pin(paused, BOTH & !cpus)?;
        // Sometimes all are on one CPU, and the other is idle.
        pin(0, if turn % 4 < 2 { cpus } else { BOTH })?;
        // The CPU where it ran may take its time to hear of it.
        wait("moved", busy, |_| calls::vcpu_info(busy, 0).is_ok_and(|info| info.cpu == cpu))?;
        let before = info(busy)?.cpu_time;
        wait("ran on", busy, |info| info.cpu_time > before + 20 * MS)?;
        let vcpu = |id| calls::vcpu_info(id, 0).map_err(|errno| Ending::Fail(format!("getvcpuinfo: {errno:?}")));
        equal("the CPU of the busy one", vcpu(busy)?.cpu, cpu)?;
        if turn % 4 < 2 {
            equal("our CPU", vcpu(0)?.cpu, cpu)?;
        }
    }
    done("unpause", calls::unpause_domain(paused))?;
    wait("ran", paused, |info| info.cpu_time > 20 * MS)?;
    let cpu = calls::vcpu_info(paused, 0).map(|info| info.cpu);
    equal("the CPU of the one that was paused", cpu, Ok(0))?;

    equal("CPUs that aren't there", calls::set_affinity(busy, 0, !BOTH), Err(Errno::EINVAL))?;
    equal("all that there could be", calls::set_affinity(busy, 0, u64::MAX), Ok(BOTH))?;
    equal("a vCPU that isn't there", calls::set_affinity(busy, 1, BOTH), Err(Errno::EINVAL))?;
    pin(0, BOTH)?;
    [busy, sleeper, paused].into_iter().try_for_each(|id| done("destroy", calls::destroy_domain(id)))
}

/// Two busy children on one CPU share it by weights that change while they run, and a cap holds from when it is set.
pub fn weights_and_caps() -> Told {
    let ids = [child("child-busy")?, child("child-busy")?];
    for id in ids {
        equal("the share of a new one", calls::share(id), Ok((256, 0)))?;
        pin(id, 0b10)?;
        done("unpause", calls::unpause_domain(id))?;
        wait("ran", id, |info| info.cpu_time > 0)?;
    }
    pin(0, 0b01)?;
    let near = |what: &str, got: u64, expected: u64| {
        holds(&format!("{what}: {got} %, expected {expected} %"), got.abs_diff(expected) <= 6)
    };
    let [one, other] = shares(ids)?;
    println!("even: {one} % and {other} %");
    near("one of two", one, 50)?;

    done("weight", calls::set_share(ids[0], 768, 0))?;
    equal("the new weight", calls::share(ids[0]), Ok((768, 0)))?;
    // What they owe each other from before is paid first.
    time::sleep(500 * MS);
    let [heavy, light] = shares(ids)?;
    println!("3 to 1: {heavy} % and {light} %");
    near("three quarters", heavy, 75)?;

    done("cap", calls::set_share(ids[0], 0, 20))?;
    equal("the cap, and the weight as it was", calls::share(ids[0]), Ok((768, 20)))?;
    let [capped, rest] = shares(ids)?;
    println!("capped: {capped} % and {rest} %");
    near("a cap of 20 %", capped, 20)?;

    // Alone on its CPU, where nothing interrupts it.
    done("no cap", calls::set_share(ids[0], 0, 0))?;
    done("pause", calls::pause_domain(ids[1]))?;
    time::sleep(100 * MS);
    done("cap", calls::set_share(ids[0], 0, 10))?;
    let [alone] = shares([ids[0]])?;
    println!("alone with a cap: {alone} %");
    near("a cap of 10 %", alone, 10)?;
    pin(0, BOTH)?;
    ids.into_iter().try_for_each(|id| done("destroy", calls::destroy_domain(id)))
}
