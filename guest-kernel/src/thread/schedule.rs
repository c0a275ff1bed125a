//! Which thread runs next: one queue for all vCPUs, and what becomes of threads that wait. Pure; the caller has the lock.
//!
//! Nothing here allocates: a thread can be made ready by an event's handler, which may have interrupted the allocator.
//!
//! A thread that is made ready while it isn't waiting keeps that as its *token*: its next wait ends at once. So a wake-up
//! between a look at what is waited for and the wait isn't lost.

use super::deadlines::Deadlines;

/// A thread's number while it lives.
pub type Id = u16;

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// There is no such thread.
    Free,
    /// It is in the queue.
    Ready,
    /// It is on a vCPU.
    Running,
    /// It waits for a wake-up, perhaps with a deadline.
    Waiting,
}

#[derive(Clone, Copy, Debug)]
struct Thread {
    state: State,
    token: bool,
}

/// vCPUs that sleep and are to be woken, by their bits. They count as awake from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Kicks(pub u32);

impl Kicks {
    /// Nobody.
    pub const NONE: Kicks = Kicks(0);
}

/// What a vCPU is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Run this thread.
    Run(Id),
    /// Sleep, until this time at most.
    Sleep(Option<u64>),
    /// Nothing any more: all threads have ended.
    Stop,
}

/// The threads of all vCPUs, `N` at most.
#[derive(Debug)]
pub struct Schedule<const N: usize> {
    threads: [Thread; N],
    /// The ready ones, in the order in which they became so: a ring. Each is in it once at most.
    ready: [Id; N],
    head: usize,
    count: usize,
    waiting: Deadlines<N>,
    alive: usize,
    /// vCPUs that sleep, by their bits.
    sleeping: u32,
    /// Until when each of them does; `u64::MAX` for good.
    alarms: [u64; u32::BITS as usize],
}

impl<const N: usize> Schedule<N> {
    /// No threads.
    pub const fn new() -> Schedule<N> {
        Schedule {
            threads: [Thread { state: State::Free, token: false }; N],
            ready: [0; N],
            head: 0,
            count: 0,
            waiting: Deadlines::new(),
            alive: 0,
            sleeping: 0,
            alarms: [u64::MAX; u32::BITS as usize],
        }
    }

    /// How many threads there are.
    pub const fn alive(&self) -> usize {
        self.alive
    }

    /// Takes the number of a thread that is not there; the caller [starts](Schedule::start) it when it can run.
    pub fn reserve(&mut self) -> Option<Id> {
        let id = self.threads.iter().position(|thread| thread.state == State::Free)?;
        self.threads[id] = Thread { state: State::Running, token: false };
        self.alive += 1;
        // Below N, which `Deadlines` limits.
        Some(id as Id)
    }

    /// A thread with a new number is ready.
    pub fn start(&mut self, id: Id) -> Kicks {
        self.make_ready(id)
    }

    /// What a vCPU does next. When it is to sleep, it counts as sleeping from now on.
    pub fn next(&mut self, vcpu: u32, now: u64) -> (Next, Kicks) {
        self.sleeping &= !(1 << vcpu);
        while let Some(id) = self.waiting.expired(now) {
            let _ = self.queue(id);
        }
        if self.count == 0 {
            if self.alive == 0 {
                return (Next::Stop, Kicks::NONE);
            }
            self.sleeping |= 1 << vcpu;
            let until = self.waiting.first();
            self.alarms[vcpu as usize] = until.unwrap_or(u64::MAX);
            return (Next::Sleep(until), Kicks::NONE);
        }
        let id = self.ready[self.head];
        self.head = (self.head + 1) % N;
        self.count -= 1;
        self.threads[usize::from(id)].state = State::Running;
        // If there are more, another vCPU may do them; it looks the same way.
        let kicks = if self.count > 0 { self.kick() } else { self.watch() };
        (Next::Run(id), kicks)
    }

    /// A running thread lets others run first.
    pub fn yielded(&mut self, id: Id) -> Kicks {
        self.make_ready(id)
    }

    /// A running thread waits for a wake-up, until a time at most. With a token it goes on instead.
    pub fn wait(&mut self, id: Id, until: Option<u64>) -> Kicks {
        let thread = &mut self.threads[usize::from(id)];
        debug_assert!(thread.state == State::Running, "{id} doesn't run");
        if core::mem::take(&mut thread.token) {
            return self.make_ready(id);
        }
        thread.state = State::Waiting;
        let Some(until) = until else { return Kicks::NONE };
        self.waiting.add(id, until);
        self.watch()
    }

    /// Ends a thread's wait, or leaves it a token.
    pub fn wake(&mut self, id: Id) -> Kicks {
        let thread = &mut self.threads[usize::from(id)];
        match thread.state {
            State::Waiting => {
                self.waiting.remove(id);
                self.make_ready(id)
            }
            State::Ready | State::Running => {
                thread.token = true;
                Kicks::NONE
            }
            State::Free => Kicks::NONE,
        }
    }

    /// A running thread has ended. With the last one all vCPUs are woken, to stop.
    pub fn ended(&mut self, id: Id) -> Kicks {
        self.threads[usize::from(id)].state = State::Free;
        self.alive -= 1;
        if self.alive == 0 { Kicks(core::mem::take(&mut self.sleeping)) } else { Kicks::NONE }
    }

    fn make_ready(&mut self, id: Id) -> Kicks {
        self.queue(id);
        self.kick()
    }

    fn queue(&mut self, id: Id) {
        self.threads[usize::from(id)].state = State::Ready;
        self.ready[(self.head + self.count) % N] = id;
        self.count += 1;
    }

    /// If all vCPUs that sleep would oversleep the first deadline, one of them, to look again.
    fn watch(&mut self) -> Kicks {
        let Some(first) = self.waiting.first() else { return Kicks::NONE };
        let mut sleeping = (0..u32::BITS).filter(|vcpu| self.sleeping >> vcpu & 1 != 0);
        if sleeping.any(|vcpu| self.alarms[vcpu as usize] <= first) { Kicks::NONE } else { self.kick() }
    }

    /// A vCPU that sleeps, if there is one.
    fn kick(&mut self) -> Kicks {
        let kicked = self.sleeping & self.sleeping.wrapping_neg();
        self.sleeping &= !kicked;
        Kicks(kicked)
    }
}

#[cfg(test)]
mod tests;
