//! One task: registers and an address space with text, heap and stack.

use super::Program;
use crate::memory::{Denied, Error, Memory, Space};
use crate::paging::{PAGE_SIZE, Rights};
use crate::trap::TrapFrame;
use core::ops::Range;

/// Where a program's code is.
pub const TEXT: u64 = 0x40_0000;
/// Where its heap starts: a program and a small heap share a level 1 table.
pub const HEAP: u64 = 0x48_0000;
/// Its stack, which starts at the upper end.
pub const STACK: Range<u64> = 0x3fff_0000..0x4000_0000;

/// A task that doesn't run at the moment. One that is dropped keeps its frames: [`end`](Task::end) returns them.
#[derive(Debug)]
pub struct Task {
    /// The registers to go on with.
    pub registers: TrapFrame,
    /// The address space.
    pub space: Space,
}

impl Task {
    /// A task at the start of a program, with `arguments` in `rdi`, `rsi` and `rdx`.
    ///
    /// # Errors
    /// When memory fails.
    pub fn new(memory: &mut Memory, program: &Program, arguments: [u64; 3]) -> Result<Task, Error> {
        let mut space = Space::new(memory)?;
        if let Err(error) = fill(&mut space, memory, program) {
            space.destroy(memory)?;
            return Err(error);
        }
        space.pin(memory)?;
        let mut registers = TrapFrame::user(TEXT, STACK.end);
        [registers.rdi, registers.rsi, registers.rdx] = arguments;
        Ok(Task { registers, space })
    }

    /// A copy, whose result register is 0.
    ///
    /// # Errors
    /// When memory fails.
    pub fn fork(&mut self, memory: &mut Memory) -> Result<Task, Error> {
        let mut child = Task { registers: self.registers, space: self.space.fork(memory)? };
        child.registers.rax = 0;
        Ok(child)
    }

    /// Gives back all that the task has. Its address space must not be active.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    pub fn end(self, memory: &mut Memory) -> Result<(), Error> {
        self.space.destroy(memory)
    }
}

/// Adds a program's regions, and loads its code.
fn fill(space: &mut Space, memory: &mut Memory, program: &Program) -> Result<(), Error> {
    let text = TEXT..TEXT + (program.code.len() as u64).next_multiple_of(PAGE_SIZE);
    let heap = HEAP..HEAP + program.heap_pages * PAGE_SIZE;
    for (range, rights) in [(text, Rights::Execute), (heap, Rights::Write), (STACK, Rights::Write)] {
        space.add(range, rights).expect("a program that is too large");
    }
    space.load(memory, TEXT, program.code).map_err(|denied| match denied {
        Denied::Memory(error) => error,
        Denied::NoRegion | Denied::NoRight => unreachable!("the text has a region"),
    })
}
