//! What a vCPU does for threads, and what threads ask of it.
//!
//! A thread leaves its vCPU by a switch to the vCPU's own stack, where the worker carries out what it left for: only there,
//! off its stack, may the thread become ready and go on elsewhere.
//!
//! The schedule's lock is held with upcalls masked, and nothing is allocated meanwhile: so handlers of events may take it,
//! whatever they interrupt.

use super::LIMIT;
use super::schedule::{Id, Kicks, Next, Schedule};
use super::stack::{self, Stack};
use super::switch::{first, switch};
use crate::memory::Error;
use crate::sync::Mutex;
use crate::vcpu::{self, LIMIT as VCPUS};
use crate::{event, hypercall, smp, time, timer};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::fmt;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use pv_abi::errno::Errno;
use pv_abi::vcpu::SingleshotFlags;

/// How long a thread runs before [`checkpoint`] yields, in nanoseconds.
const SLICE: u64 = 10_000_000;

static SCHEDULE: Mutex<Schedule<LIMIT>> = Mutex::new(Schedule::new());

/// The threads by their numbers; each pointer holds a reference.
static THREADS: [AtomicPtr<Thread>; LIMIT] = [const { AtomicPtr::new(null_mut()) }; LIMIT];

/// The ports that wake the vCPUs; 0 for none yet.
static KICKS: [AtomicU32; VCPUS] = [const { AtomicU32::new(0) }; VCPUS];

/// Whether [`run`] is under way.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// Why a thread left its vCPU.
#[derive(Clone, Copy)]
enum Leave {
    Yield,
    Wait(Option<u64>),
    End,
}

/// What a vCPU's worker and the thread that it runs have in common.
struct Worker {
    /// Where the worker goes on.
    pointer: UnsafeCell<u64>,
    left: UnsafeCell<Leave>,
    /// When the thread began to run.
    since: AtomicU64,
}

// SAFETY: each vCPU uses its own: the worker, or the thread that it runs while it waits for that.
unsafe impl Sync for Worker {}

static WORKERS: [Worker; VCPUS] =
    [const { Worker { pointer: UnsafeCell::new(0), left: UnsafeCell::new(Leave::Yield), since: AtomicU64::new(0) } };
        VCPUS];

/// A thread, as others see it.
pub struct Thread {
    id: Id,
    /// Where it goes on. Whoever takes its number out of the schedule to run it has it, and then the thread itself.
    pointer: UnsafeCell<u64>,
    /// What it does; taken by the thread when it begins.
    work: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    stack: Stack,
}

// SAFETY: the pointer goes from the worker that runs the thread to the thread and back; the schedule's lock is between two
// workers.
unsafe impl Sync for Thread {}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {}", self.id)
    }
}

impl Thread {
    /// Ends the thread's wait, or lets its next one end at once. Handlers of events may call this too. If the thread has
    /// ended, another one with its number may be woken for no reason.
    pub fn unpark(&self) {
        on_schedule(|schedule| ((), schedule.wake(self.id)));
    }

    /// Its stack's addresses. The page below isn't mapped.
    pub fn stack(&self) -> core::ops::Range<u64> {
        self.stack.range()
    }
}

/// Does something with the schedule, and wakes vCPUs as it says.
fn on_schedule<T>(work: impl FnOnce(&mut Schedule<LIMIT>) -> (T, Kicks)) -> T {
    let were_enabled = event::disable();
    let (answer, Kicks(kicks)) = work(&mut SCHEDULE.lock());
    for vcpu in (0..VCPUS).filter(|vcpu| kicks >> vcpu & 1 != 0) {
        hypercall::send(KICKS[vcpu].load(Ordering::Relaxed)).expect("the port of a vCPU that runs threads");
    }
    if were_enabled {
        event::enable();
    }
    answer
}

/// Runs `root` as a thread on the first `count` vCPUs, and all threads that it spawns, to the end of the last one; what
/// `root` returned. Events must be set up ([`event::init`]).
///
/// # Errors
/// When there is no memory, or the hypervisor refuses.
///
/// # Panics
/// On another vCPU than the first, or when threads run already.
pub fn run<T: Send + 'static>(count: u32, root: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    assert!(!RUNNING.swap(true, Ordering::SeqCst), "threads run already");
    let ran = run_alone(count, root);
    RUNNING.store(false, Ordering::SeqCst);
    ran
}

fn run_alone<T: Send + 'static>(count: u32, root: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    smp::start(count)?;
    for (id, kick) in (0..count).zip(&KICKS) {
        if kick.load(Ordering::Relaxed) == 0 {
            kick.store(event::bind_ipi(id, |_| {}).map_err(Error::Refused)?, Ordering::Relaxed);
        }
    }
    let root = spawn(root)?;
    smp::everywhere(count, work).into_iter().collect::<Result<(), _>>().map_err(Error::Refused)?;
    Ok(root.result.take().expect("all threads have ended"))
}

/// A vCPU's part of [`run`].
///
/// # Errors
/// When it can't have a timer.
fn work(vcpu: u32) -> Result<(), Errno> {
    match timer::init() {
        // It has had one since it first did this.
        Ok(_) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let were_enabled = event::disable();
    loop {
        match on_schedule(|schedule| schedule.next(vcpu, time::now().unwrap_or(0))) {
            Next::Run(id) => enter(vcpu, id),
            Next::Sleep(until) => {
                if let Some(until) = until {
                    hypercall::set_singleshot_timer(vcpu, until, SingleshotFlags::empty())?;
                }
                // Upcalls are masked since before the look: a kick that came meanwhile ends the sleep.
                hypercall::block()?;
                event::disable();
            }
            Next::Stop => break,
        }
    }
    if were_enabled {
        event::enable();
    }
    Ok(())
}

/// Runs a thread until it leaves, and does what it left for. Upcalls are masked, but while it runs.
fn enter(vcpu: u32, id: Id) {
    let worker = &WORKERS[vcpu as usize];
    let thread = THREADS[usize::from(id)].load(Ordering::Acquire);
    worker.since.store(time::now().unwrap_or(0), Ordering::Relaxed);
    // SAFETY: the thread is there until it is ended, below; its stack's top was written by `spawn`. The schedule gave it
    // to this vCPU alone, and its pointer was stored when it last left. It comes back here, on this vCPU.
    let left = unsafe {
        (*(*thread).stack.top()).vcpu.store(vcpu, Ordering::Relaxed);
        switch(worker.pointer.get(), *(*thread).pointer.get());
        *worker.left.get()
    };
    match left {
        Leave::Yield => on_schedule(|schedule| ((), schedule.yielded(id))),
        Leave::Wait(until) => on_schedule(|schedule| ((), schedule.wait(id, until))),
        Leave::End => {
            THREADS[usize::from(id)].store(null_mut(), Ordering::Relaxed);
            // SAFETY: the table's reference, taken back once. The thread is off its stack.
            drop(unsafe { Arc::from_raw(thread) });
            on_schedule(|schedule| ((), schedule.ended(id)));
        }
    }
}

/// Leaves the vCPU; returns when the thread runs again, perhaps on another.
///
/// # Panics
/// If this is no thread.
fn leave(why: Leave) {
    let were_enabled = event::disable();
    let top = stack::current_top().expect("only threads wait and yield");
    let worker = &WORKERS[top.vcpu.load(Ordering::Relaxed) as usize];
    // SAFETY: with upcalls masked and no other thread on this vCPU, its worker's fields are ours. The worker left its stack
    // by the switch that entered ours. The thread is there as long as it runs.
    unsafe {
        *worker.left.get() = why;
        switch((*top.thread.load(Ordering::Relaxed)).pointer.get(), *worker.pointer.get());
    }
    if were_enabled {
        event::enable();
    }
}

/// The first and last code of a thread.
extern "sysv64" fn begin() -> ! {
    event::enable();
    let work = current().work.lock().take();
    if let Some(work) = work {
        work();
    }
    leave(Leave::End);
    unreachable!("a thread that has ended runs")
}

/// What a thread returns, and who waits for it.
struct Outcome<T>(Mutex<(Option<T>, Option<Arc<Thread>>)>);

impl<T> Outcome<T> {
    fn take(&self) -> Option<T> {
        self.0.lock().0.take()
    }
}

/// A thread that was spawned. Without it the thread runs on.
pub struct JoinHandle<T> {
    thread: Arc<Thread>,
    result: Arc<Outcome<T>>,
}

impl<T> JoinHandle<T> {
    /// Waits until the thread returns; what it returned.
    ///
    /// # Panics
    /// If this is no thread.
    pub fn join(self) -> T {
        loop {
            {
                let mut outcome = self.result.0.lock();
                if let Some(result) = outcome.0.take() {
                    return result;
                }
                outcome.1 = Some(current());
            }
            park();
        }
    }

    /// The thread.
    pub fn thread(&self) -> &Arc<Thread> {
        &self.thread
    }
}

/// Starts a thread.
///
/// # Errors
/// When there are [`LIMIT`] threads or no memory for its stack.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Error> {
    let stack = Stack::new()?;
    let result = Arc::new(Outcome(Mutex::new((None, None))));
    let outcome = result.clone();
    let work = Box::new(move || {
        let value = work();
        let waiter = {
            let mut outcome = outcome.0.lock();
            outcome.0 = Some(value);
            outcome.1.take()
        };
        if let Some(waiter) = waiter {
            waiter.unpark();
        }
    });
    let id = on_schedule(|schedule| (schedule.reserve(), Kicks::NONE)).ok_or(Error::OutOfFrames)?;
    // SAFETY: the stack is new.
    let pointer = unsafe { first(&stack, begin) };
    let thread = Arc::new(Thread { id, pointer: UnsafeCell::new(pointer), work: Mutex::new(Some(work)), stack });
    let table = Arc::into_raw(thread.clone()).cast_mut();
    let top = stack::Top { vcpu: AtomicU32::new(0), thread: AtomicPtr::new(table) };
    // SAFETY: the top is in the stack, aligned, and nobody uses it yet.
    unsafe { thread.stack.top().cast_mut().write(top) };
    THREADS[usize::from(id)].store(table, Ordering::Release);
    on_schedule(|schedule| ((), schedule.start(id)));
    Ok(JoinHandle { thread, result })
}

/// The thread that asks.
///
/// # Panics
/// If this is none.
pub fn current() -> Arc<Thread> {
    let thread = stack::current_top().expect("this is no thread").thread.load(Ordering::Relaxed);
    // SAFETY: the pointer came from an `Arc`, and the table has a reference as long as the thread runs.
    unsafe {
        Arc::increment_strong_count(thread);
        Arc::from_raw(thread)
    }
}

/// Lets other threads run first, if there are any.
///
/// # Panics
/// If this is no thread.
pub fn yield_now() {
    leave(Leave::Yield);
}

/// Yields if the thread has run for its time: 10 ms.
///
/// # Panics
/// If this is no thread.
pub fn checkpoint() {
    let vcpu = vcpu::current() as usize;
    let since = WORKERS[vcpu].since.load(Ordering::Relaxed);
    if time::now().is_some_and(|now| now >= since + SLICE) {
        yield_now();
    }
}

/// Waits until somebody [unparks](Thread::unpark) this thread.
///
/// # Panics
/// If this is no thread.
pub fn park() {
    leave(Leave::Wait(None));
}

/// [`park`], until a system time at most.
///
/// # Panics
/// If this is no thread.
pub fn park_until(time: u64) {
    leave(Leave::Wait(Some(time)));
}

/// Lets other threads run for `nanoseconds` at least.
///
/// # Panics
/// If this is no thread, or there is no clock.
pub fn sleep(nanoseconds: u64) {
    let now = || time::now().expect("a clock");
    let until = now().saturating_add(nanoseconds);
    while now() < until {
        park_until(until);
    }
}
