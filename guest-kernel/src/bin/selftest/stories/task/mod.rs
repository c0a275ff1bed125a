//! Programs in user mode: registers, system calls, pages on demand, forks, and ends by force.

pub mod calls;
pub mod families;
pub mod killed;
pub mod pages;
pub mod registers;

use crate::check::{Ending, equal};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_kernel::memory::{self, Error};
use guest_kernel::task::roster::Pid;
use guest_kernel::task::{Counts, End, Event, Program, Tasks};

/// What is not as the memory promises.
fn refusal(error: Error) -> Ending {
    Ending::Fail(format!("memory: {error}"))
}

/// How many frames are free.
fn free_frames() -> Result<u32, Ending> {
    Ok(memory::lock().map_err(refusal)?.free_frames())
}

/// What became of the tasks of a story.
struct Lives {
    said: Vec<(Pid, String)>,
    ends: Vec<(Pid, End)>,
    counts: Counts,
}

/// Runs a program and all its children to their ends. All frames must be back then.
fn live(program: &Program, arguments: [u64; 3]) -> Result<Lives, Ending> {
    let before = free_frames()?;
    let mut tasks = Tasks::new();
    tasks.spawn(program, arguments).map_err(refusal)?;
    let (mut said, mut ends) = (Vec::new(), Vec::new());
    let ran = tasks.run(&mut |pid, event| match event {
        Event::Said(text) => said.push((pid, String::from_utf8_lossy(text).into_owned())),
        Event::Ended(end) => ends.push((pid, end)),
    });
    ran.map_err(refusal)?;
    equal("free frames after all ends", free_frames()?, before)?;
    Ok(Lives { said, ends, counts: tasks.counts() })
}
