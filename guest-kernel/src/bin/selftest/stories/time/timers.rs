//! One-shot and periodic timers.

use crate::check::{Told, equal, holds, refused, skip};
use crate::stories::event::{refusal, start};
use crate::stories::smp::wait_until;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use guest_kernel::{event, hypercall, println, smp, time, timer, vcpu};
use pv_abi::errno::Errno;
use pv_abi::vcpu::SingleshotFlags;

const MICROSECOND: u64 = 1000;
const MILLISECOND: u64 = 1_000_000;
/// Xen lets timers that lie so close to each other expire together.
const SLOP: u64 = 50 * MICROSECOND;
/// This is late on any host. A busy one may hold a CPU up for half a second and more.
const LATE: u64 = 10_000 * MILLISECOND;

fn now() -> u64 {
    time::now().unwrap_or(0)
}

fn none() -> SingleshotFlags {
    SingleshotFlags::empty()
}

/// Takes the events that are pending. Upcalls are masked before and after.
fn take_events() {
    event::enable();
    event::disable();
}

/// Sets a timer by `set`, and sleeps until it fires; says how late that was.
fn lateness(at: u64, set: impl Fn(u64) -> hypercall::Answer) -> Result<u64, crate::check::Ending> {
    let before = timer::fired();
    set(at).map_err(refusal)?;
    while timer::fired() == before {
        hypercall::block().map_err(refusal)?;
        event::disable();
    }
    let fired = now();
    holds("early", fired + SLOP >= at)?;
    Ok(fired.saturating_sub(at))
}

fn accuracy(set: impl Fn(u64) -> hypercall::Answer) -> Told {
    start(1)?;
    timer::init().map_err(refusal)?;
    let mut worst = 0;
    for delay in [1, 20, 100, 1000, 5000, 20_000, 100_000, 1000, 300] {
        let late = lateness(now() + delay * MICROSECOND, &set)?;
        println!("{delay} us: {late} ns late");
        worst = worst.max(late);
    }
    holds("late", worst < LATE)?;
    let before = timer::fired();
    hypercall::poll(&[], now() + 30 * MILLISECOND).map_err(refusal)?;
    take_events();
    equal("fired again", timer::fired(), before)
}

/// `set_singleshot_timer` fires once, not early and not much later.
pub fn singleshot() -> Told {
    accuracy(|at| hypercall::set_singleshot_timer(0, at, none()))
}

/// So does `set_timer_op`.
pub fn set_timer_op() -> Told {
    accuracy(hypercall::set_timer)
}

/// A time that has passed fires at once.
pub fn past() -> Told {
    start(1)?;
    timer::init().map_err(refusal)?;
    for at in [now(), now().saturating_sub(1000 * MILLISECOND).max(1), 1] {
        let start = now();
        lateness(at, |at| hypercall::set_singleshot_timer(0, at, none()))?;
        lateness(at, hypercall::set_timer)?;
        holds("slept", now() - start < LATE)?;
    }
    // "Only in the future" was an error once; today's Xen fires here too.
    let late = lateness(now() - MILLISECOND, |at| hypercall::set_singleshot_timer(0, at, SingleshotFlags::FUTURE));
    holds("a time that has passed", late.is_ok() || timer::fired() == 6)
}

/// A timer that is stopped, or set again, doesn't fire.
pub fn stop() -> Told {
    start(1)?;
    timer::init().map_err(refusal)?;
    let stops: [fn() -> hypercall::Answer; 2] = [|| hypercall::stop_singleshot_timer(0), || hypercall::set_timer(0)];
    for stop in stops {
        quiet_after(|| {
            equal("stop", stop(), Ok(0))?;
            equal("stop again", stop(), Ok(0))
        })?;
    }
    let far = now() + 1_000_000 * MILLISECOND;
    quiet_after(|| equal("set later", hypercall::set_singleshot_timer(0, far, none()), Ok(0)))
}

/// A timer that is set and changed before its time doesn't fire then.
fn quiet_after(change: impl Fn() -> Told) -> Told {
    loop {
        let at = now() + 20 * MILLISECOND;
        equal("set", hypercall::set_singleshot_timer(0, at, none()), Ok(0))?;
        change()?;
        if now() + SLOP < at {
            let before = timer::fired();
            hypercall::poll(&[], at + 20 * MILLISECOND).map_err(refusal)?;
            take_events();
            return equal("fired", timer::fired(), before);
        }
        // The host held us up, and it may have fired before the change. Once more.
        take_events();
    }
}

/// Timers are set by their own vCPU, for vCPUs that are there.
pub fn refusals() -> Told {
    for id in [vcpu::count(), 8191, u32::MAX] {
        refused("nobody's", hypercall::set_singleshot_timer(id, 1, none()), Errno::ENOENT)?;
        refused("nobody's", hypercall::stop_singleshot_timer(id), Errno::ENOENT)?;
        refused("nobody's", hypercall::set_periodic_timer(id, MILLISECOND), Errno::ENOENT)?;
        refused("nobody's", hypercall::stop_periodic_timer(id), Errno::ENOENT)?;
    }
    for period in [0, 1, MILLISECOND - 1, u64::MAX, 1 << 63] {
        refused("not a period", hypercall::set_periodic_timer(0, period), Errno::EINVAL)?;
    }
    if vcpu::count() < 2 {
        return skip("one vCPU");
    }
    refused("another's", hypercall::set_singleshot_timer(1, now() + MILLISECOND, none()), Errno::EINVAL)?;
    refused("another's", hypercall::stop_singleshot_timer(1), Errno::EINVAL)
}

/// Ticks come at their rate, until they are stopped.
pub fn periodic() -> Told {
    start(1)?;
    timer::init().map_err(refusal)?;
    let start = now();
    equal("set", hypercall::set_periodic_timer(0, 5 * MILLISECOND), Ok(0))?;
    event::enable();
    wait_until("ticks", || timer::fired() >= 20)?;
    let took = now() - start;
    println!("20 ticks of 5 ms in {took} ns");
    holds("too fast", took >= 19 * 5 * MILLISECOND - SLOP)?;
    equal("stop", hypercall::stop_periodic_timer(0), Ok(0))?;
    event::disable();
    // One may have come just before.
    take_events();
    let fired = timer::fired();
    hypercall::poll(&[], now() + 50 * MILLISECOND).map_err(refusal)?;
    take_events();
    equal("ticks after the stop", timer::fired(), fired)
}

/// A domain starts with ticks of 10 ms.
pub fn initial_ticks() -> Told {
    start(1)?;
    let port = hypercall::bind_virq(pv_abi::event::VIRQ_TIMER, 0).map_err(refusal)?;
    for _ in 0..5 {
        let start = now();
        hypercall::poll(&[port], start + 2000 * MILLISECOND).map_err(refusal)?;
        holds("a tick", event::clear_pending(port))?;
    }
    Ok(())
}

/// All vCPUs sleep at once, each for another time, and wake in time.
pub fn sleepers() -> Told {
    let count = vcpu::count().min(8);
    start(count)?;
    let late = smp::everywhere(count, |id| {
        timer::init()?;
        let mut worst = 0;
        for round in 1..=10 {
            let at = now() + (round * (u64::from(id) + 1)) * 300 * MICROSECOND;
            timer::sleep_until(at)?;
            worst = worst.max(now() - at);
        }
        Ok(worst)
    });
    for late in late {
        let late = late.map_err(refusal)?;
        println!("{late} ns late at most");
        holds("late", late < LATE)?;
    }
    Ok(())
}

/// A vCPU sets the periodic timer of another one, while that runs and while it sleeps; and stops it. On Xen it only ticks while
/// its vCPU runs, so one that slept is woken.
pub fn periodic_of_another() -> Told {
    static READY: AtomicBool = AtomicBool::new(false);
    static FIRED: AtomicU32 = AtomicU32::new(0);
    static BUSY: AtomicBool = AtomicBool::new(false);
    static STOP: AtomicBool = AtomicBool::new(false);
    if vcpu::count() < 2 {
        return skip("one vCPU");
    }
    start(2)?;
    smp::run_on(1, || {
        // It stops the timer, too.
        let ready = timer::init().is_ok();
        READY.store(ready, SeqCst);
        while ready && !STOP.load(SeqCst) {
            FIRED.store(timer::fired(), SeqCst);
            // A word that comes after the look ends the sleep.
            event::disable();
            if BUSY.load(SeqCst) {
                event::enable();
            } else {
                let _ = hypercall::block();
            }
        }
    });
    wait_until("the other's port", || READY.load(SeqCst))?;
    for busy in [false, true, false, true] {
        BUSY.store(busy, SeqCst);
        time::sleep(20 * MILLISECOND);
        let before = FIRED.load(SeqCst);
        equal("set", hypercall::set_periodic_timer(1, 5 * MILLISECOND), Ok(0))?;
        BUSY.store(true, SeqCst);
        smp::run_on(1, || {});
        wait_until("its ticks", || FIRED.load(SeqCst) >= before + 10)?;
        equal("stop", hypercall::stop_periodic_timer(1), Ok(0))?;
        // The other's CPU may take its time to hear of it.
        wait_until("the end of its ticks", || {
            let before = FIRED.load(SeqCst);
            time::sleep(100 * MILLISECOND);
            FIRED.load(SeqCst) == before
        })?;
    }
    STOP.store(true, SeqCst);
    smp::everywhere(2, |_| ());
    Ok(())
}
