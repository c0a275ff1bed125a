//! The system calls of tasks: `syscall` with a number in `rax` and arguments in `rdi` and `rsi`. The result comes back in
//! `rax`, an error as its negated number; `rcx` and `r11` are lost.

use super::Task;
use super::roster::{Ended, Pid, Wait};
use super::run::{End, Event, Tasks};
use crate::memory::{self, Denied, Error};
use crate::paging::PAGE_SIZE;
use pv_abi::errno::Errno;

/// The numbers of the calls.
pub mod number {
    /// Ends the task with the status in `rdi`.
    pub const EXIT: u64 = 0;
    /// Says the text at `rdi`, `rsi` bytes. The result is how many were said, at least one if there are any.
    pub const WRITE: u64 = 1;
    /// Makes a copy of the task. The result is the copy's number, and 0 in the copy.
    pub const FORK: u64 = 2;
    /// The result is the task's number.
    pub const GETPID: u64 = 3;
    /// Makes the heap larger by `rdi` pages. The result is the address of the first new one.
    pub const GROW: u64 = 4;
    /// Lets the other tasks run first.
    pub const YIELD: u64 = 5;
    /// Waits until a child has ended. The result is its number, and in `rdx` its status: all bits set if it was killed.
    pub const WAIT: u64 = 6;
}

/// The most bytes that one call says.
const SAID: usize = 256;

/// What follows from a call or a trap.
pub(super) enum Turn {
    /// The task goes on.
    Stay,
    /// The others run first.
    Yield,
    /// The task sleeps.
    Sleep,
    /// The task has ended.
    End(End),
}

impl Tasks {
    /// Makes the system call that `pid` asks for.
    pub(super) fn call(&mut self, pid: Pid, observe: &mut dyn FnMut(Pid, Event<'_>)) -> Result<Turn, Error> {
        self.counts.calls += 1;
        let task = self.roster.task(pid);
        let (arguments, call) = ([task.registers.rdi, task.registers.rsi], task.registers.rax);
        let result = match call {
            number::EXIT => return Ok(Turn::End(End::Exited(arguments[0]))),
            number::WRITE => {
                let mut text = [0; SAID];
                let said = read(task, arguments, &mut text)?;
                said.map(|said| {
                    observe(pid, Event::Said(&text[..said]));
                    said as u64
                })
            }
            number::FORK => match task.fork(&mut *memory::lock()?) {
                Ok(child) => {
                    self.counts.forks += 1;
                    let child = self.roster.add(Some(pid), child);
                    Ok(u64::from(child.0))
                }
                Err(Error::OutOfFrames) => Err(Errno::ENOMEM),
                Err(error) => return Err(error),
            },
            number::GETPID => Ok(u64::from(pid.0)),
            number::GROW => task.grow(arguments[0]).ok_or(Errno::ENOMEM),
            number::YIELD => {
                task.registers.rax = 0;
                return Ok(Turn::Yield);
            }
            number::WAIT => match self.roster.wait(pid) {
                Wait::For(ended) => {
                    self.roster.task(pid).told(ended);
                    return Ok(Turn::Stay);
                }
                Wait::Sleep => return Ok(Turn::Sleep),
                Wait::NoChild => Err(Errno::ECHILD),
            },
            _ => Err(Errno::ENOSYS),
        };
        self.roster.task(pid).registers.rax = result.unwrap_or_else(|errno| errno.code().cast_unsigned());
        Ok(Turn::Stay)
    }
}

impl Task {
    /// Gives the task the answer to its `WAIT`.
    pub(super) fn told(&mut self, ended: Ended) {
        (self.registers.rax, self.registers.rdx) = (u64::from(ended.pid.0), ended.status);
    }

    /// Makes the heap larger.
    fn grow(&mut self, pages: u64) -> Option<u64> {
        self.space.grow(super::HEAP, pages.checked_mul(PAGE_SIZE)?).ok()
    }
}

/// Reads what a task wants to say, up to the buffer's length. The inner error is for the task.
fn read(task: &mut Task, [address, len]: [u64; 2], text: &mut [u8]) -> Result<Result<usize, Errno>, Error> {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(text.len());
    match task.space.read(&mut *memory::lock()?, address, &mut text[..len]) {
        Ok(()) => Ok(Ok(len)),
        Err(Denied::Memory(error)) if error != Error::OutOfFrames => Err(error),
        Err(_) => Ok(Err(Errno::EFAULT)),
    }
}
