//! Work for all vCPUs: each but the first runs the jobs of its queue, one after the other, and sleeps without any.

use crate::memory::Error;
use crate::sync::Mutex;
use crate::vcpu::{self, LIMIT};
use crate::{event, hypercall};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem::transmute;
use core::sync::atomic::{AtomicU32, Ordering};

/// Something to do on a vCPU, with upcalls unmasked.
pub type Job = Box<dyn FnOnce() + Send>;

struct Worker {
    jobs: Mutex<VecDeque<Job>>,
    /// The port that wakes the vCPU; 0 for one that wasn't started.
    kick: AtomicU32,
}

static WORKERS: [Worker; LIMIT] =
    [const { Worker { jobs: Mutex::new(VecDeque::new()), kick: AtomicU32::new(0) } }; LIMIT];

/// Starts vCPUs until `count` of them run, the first included. Events must be set up ([`event::init`]).
///
/// # Errors
/// When there are no frames for stacks, or the hypervisor refuses.
pub fn start(count: u32) -> Result<(), Error> {
    for id in 1..count {
        let kick = &WORKERS[id as usize].kick;
        if kick.load(Ordering::Relaxed) == 0 {
            kick.store(event::bind_ipi(id, |_| {}).map_err(Error::Refused)?, Ordering::Relaxed);
            vcpu::start(id, work)?;
        }
    }
    Ok(())
}

/// Does all jobs of vCPU `id`, for good.
fn work(id: u32) -> ! {
    let worker = &WORKERS[id as usize];
    loop {
        let job = worker.jobs.lock().pop_front();
        match job {
            Some(job) => {
                event::enable();
                job();
            }
            // Upcalls are masked: a kick that comes between the look and the sleep ends the sleep.
            None => _ = hypercall::block(),
        }
        event::disable();
    }
}

/// Gives a vCPU that was started a job.
///
/// # Panics
/// When it was not.
pub fn run_on(id: u32, job: impl FnOnce() + Send + 'static) {
    queue(id, Box::new(job));
}

fn queue(id: u32, job: Job) {
    let worker = &WORKERS[id as usize];
    worker.jobs.lock().push_back(job);
    hypercall::send(worker.kick.load(Ordering::Relaxed)).expect("work for a vCPU that wasn't started");
}

/// Runs `work` on the first `count` vCPUs at once, this one among them as the first, and waits for all. The answers are
/// in the order of their numbers.
///
/// # Panics
/// On another vCPU than the first, which would wait for itself.
pub fn everywhere<T: Send>(count: u32, work: impl Fn(u32) -> T + Sync) -> Vec<T> {
    assert_eq!(vcpu::current(), 0);
    let answers: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let left = AtomicU32::new(count);
    let part = |id: u32| {
        *answers[id as usize].lock() = Some(work(id));
        left.fetch_sub(1, Ordering::Release);
    };
    for id in 1..count {
        let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || part(id));
        // SAFETY: only the lifetime changes. The jobs use nothing of this function after their `fetch_sub`, and it
        // doesn't return before that.
        queue(id, unsafe { transmute::<Box<dyn FnOnce() + Send + '_>, Job>(job) });
    }
    part(0);
    while left.load(Ordering::Acquire) > 0 {
        let _ = hypercall::yield_now();
    }
    answers.into_iter().filter_map(|answer| answer.into_inner()).collect()
}
