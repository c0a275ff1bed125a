//! Running tasks to their ends, in turns.

use super::calls::Turn;
use super::roster::{Ended, Pid, Roster};
use super::{Program, Task};
use crate::hypercall::fpu_taskswitch;
use crate::memory::{self, Access, Denied, Error, Memory, Space, Touched};
use crate::shared::fault_address;
use crate::trap::{Caught, TrapFrame, user};
use core::fmt;

/// #NM: the FPU is used while `CR0.TS` is set.
const NO_FPU: u8 = 7;
const PAGE_FAULT: u8 = 14;
/// In a page fault's error code: the access was a write, an entry was malformed, the access was a fetch.
const WRITE: u32 = 1 << 1;
const MALFORMED: u32 = 1 << 3;
const FETCH: u32 = 1 << 4;

/// The status that a parent is told of a child that was killed.
const KILLED: u64 = u64::MAX;

/// Why a task was killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// An access to an address where it has nothing, or without the right to.
    Access(Access, u64, Denied),
    /// A trap that has no better name.
    Trap(Caught),
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// On its own, with a status.
    Exited(u64),
    /// By the kernel.
    Killed(Death),
}

/// What happens while tasks run.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A task says something.
    Said(&'a [u8]),
    /// A task has ended.
    Ended(End),
}

/// What tasks needed so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// System calls.
    pub calls: u64,
    /// Forks.
    pub forks: u64,
    /// Pages that came when they were touched.
    pub filled: u64,
    /// Shared pages that were copied for a write.
    pub copied: u64,
    /// Pages that were shared no more when they were written.
    pub reclaimed: u64,
}

/// Tasks, ready to run.
#[derive(Default, Debug)]
pub struct Tasks {
    pub(super) roster: Roster<Task>,
    pub(super) counts: Counts,
}

impl Tasks {
    /// No tasks.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Adds a task at the start of a program. See [`Task::new`].
    ///
    /// # Errors
    /// When memory fails.
    pub fn spawn(&mut self, program: &Program, arguments: [u64; 3]) -> Result<Pid, Error> {
        let task = Task::new(&mut *memory::lock()?, program, arguments)?;
        Ok(self.roster.add(None, task))
    }

    /// What tasks needed so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Runs all tasks to their ends and tells `observe` what happens.
    ///
    /// # Errors
    /// When the hypervisor refuses something; the frames of tasks are lost then.
    pub fn run(&mut self, observe: &mut dyn FnMut(Pid, Event<'_>)) -> Result<(), Error> {
        prepare()?;
        let mut dead = None;
        while let Some(pid) = self.roster.take_next() {
            let mut memory = memory::lock()?;
            memory.activate(&self.roster.task(pid).space)?;
            bury(&mut memory, &mut dead)?;
            drop(memory);
            match self.turn(pid, observe)? {
                Turn::End(end) => {
                    observe(pid, Event::Ended(end));
                    dead = Some(self.end(pid, end));
                }
                Turn::Yield => self.roster.ready(pid),
                Turn::Sleep | Turn::Stay => {}
            }
        }
        let mut memory = memory::lock()?;
        memory.deactivate()?;
        bury(&mut memory, &mut dead)
    }

    /// Lets a task run until somebody else's turn comes.
    fn turn(&mut self, pid: Pid, observe: &mut dyn FnMut(Pid, Event<'_>)) -> Result<Turn, Error> {
        loop {
            let registers = &mut self.roster.task(pid).registers;
            user::run(registers);
            let turn = if registers.is_system_call() { self.call(pid, observe)? } else { self.trap(pid)? };
            if !matches!(turn, Turn::Stay) {
                return Ok(turn);
            }
        }
    }

    /// Handles a trap: a page that was touched comes, the rest is deadly.
    fn trap(&mut self, pid: Pid) -> Result<Turn, Error> {
        let task = self.roster.task(pid);
        let caught = task.registers.caught();
        let death = match access(&task.registers) {
            Some((access, address)) => match touch(&mut task.space, &mut self.counts, address, access)? {
                Ok(()) => return Ok(Turn::Stay),
                Err(denied) => Death::Access(access, address, denied),
            },
            None => Death::Trap(caught),
        };
        if caught.vector == NO_FPU {
            // The trap cleared the flag.
            forbid_fpu()?;
        }
        Ok(Turn::End(End::Killed(death)))
    }

    /// Takes a task that has ended off the roster. Its address space is still active.
    fn end(&mut self, pid: Pid, end: End) -> Task {
        let status = match end {
            End::Exited(status) => status,
            End::Killed(_) => KILLED,
        };
        let (task, parent) = self.roster.end(pid, status);
        if let Some(parent) = parent {
            self.roster.task(parent).told(Ended { pid, status });
        }
        task
    }
}

/// Makes a page ready for a task, and counts what it took. The inner error is the task's fault.
fn touch(space: &mut Space, counts: &mut Counts, address: u64, access: Access) -> Result<Result<(), Denied>, Error> {
    match space.touch(&mut *memory::lock()?, address, access) {
        Ok(Touched::Present) => {}
        Ok(Touched::Filled) => counts.filled += 1,
        Ok(Touched::Copied) => counts.copied += 1,
        Ok(Touched::Reclaimed) => counts.reclaimed += 1,
        Err(Denied::Memory(error)) if error != Error::OutOfFrames => return Err(error),
        Err(denied) => return Ok(Err(denied)),
    }
    Ok(Ok(()))
}

/// What a page fault was about; `None` if it is none, or one that no page can fix.
fn access(registers: &TrapFrame) -> Option<(Access, u64)> {
    let Caught { vector: PAGE_FAULT, error_code } = registers.caught() else { return None };
    let access = match error_code {
        _ if error_code & MALFORMED != 0 => return None,
        _ if error_code & FETCH != 0 => Access::Execute,
        _ if error_code & WRITE != 0 => Access::Write,
        _ => Access::Read,
    };
    Some((access, fault_address()?))
}

/// Sets up what holds for all tasks.
fn prepare() -> Result<(), Error> {
    user::init().map_err(|_| Error::Unsupported)?;
    forbid_fpu()
}

/// Makes use of the FPU deadly: its registers are nobody's, and would tell one task of another.
fn forbid_fpu() -> Result<(), Error> {
    fpu_taskswitch(true).map(|_| ()).map_err(|_| Error::Unsupported)
}

/// Returns the frames of a task that ended, if there is one. Another address space must be active by now.
fn bury(memory: &mut Memory, dead: &mut Option<Task>) -> Result<(), Error> {
    dead.take().map_or(Ok(()), |dead| dead.end(memory))
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (access, address, denied) = match self {
            Death::Trap(caught) => return write!(f, "{caught}"),
            Death::Access(access, address, denied) => (access, address, denied),
        };
        let verb = match access {
            Access::Read => "read",
            Access::Write => "write",
            Access::Execute => "execute",
        };
        match denied {
            Denied::NoRegion => write!(f, "it may not {verb} at {address:#x}, where it has nothing"),
            Denied::NoRight => write!(f, "it may not {verb} at {address:#x}"),
            Denied::Memory(error) => write!(f, "it can't {verb} at {address:#x}: {error}"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(status) => write!(f, "exits with {status}"),
            End::Killed(death) => write!(f, "is killed: {death}"),
        }
    }
}
