//! Requests that wait to be made together: one `mmu_update`, one `mmuext_op`, or a multicall of several.
//!
//! They are made in the order in which they came. A full batch makes itself.

use crate::hypercall::{Owner, mmu_update, mmuext_op, multicall, multicall_entry, multicall_result};
use crate::paging::{Mfn, PAGE_SIZE};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::hypercall::{MMU_UPDATE, MMUEXT_OP, MulticallEntry};
use pv_abi::mmu::{MMU_NORMAL_PT_UPDATE, MmuUpdate, MmuextOp};

const UPDATES: usize = 256;
const OPERATIONS: usize = 16;
const RUNS: usize = 8;

/// Requests of one kind that follow each other.
#[derive(Clone, Copy)]
enum Run {
    Updates(usize),
    Operations(usize),
}

/// What waits.
pub(super) struct Batch {
    updates: [MmuUpdate; UPDATES],
    operations: [MmuextOp; OPERATIONS],
    runs: [Run; RUNS],
    counts: Counts,
}

/// How much of each array is in use.
#[derive(Clone, Copy, Default)]
struct Counts {
    updates: usize,
    operations: usize,
    runs: usize,
}

impl Batch {
    pub(super) const fn new() -> Batch {
        Batch {
            updates: [MmuUpdate { ptr: 0, val: 0 }; UPDATES],
            operations: [MmuextOp { cmd: 0, _pad: 0, arg1: 0, arg2: 0 }; OPERATIONS],
            runs: [Run::Updates(0); RUNS],
            counts: Counts { updates: 0, operations: 0, runs: 0 },
        }
    }

    /// Adds the change of an entry of a live table.
    pub(super) fn update(&mut self, table: Mfn, index: usize, entry: u64) -> Result<(), Errno> {
        if self.counts.updates == UPDATES || self.counts.runs == RUNS {
            self.commit()?;
        }
        let address = PAGE_SIZE * table.0 + 8 * index as u64;
        let ptr = address | MMU_NORMAL_PT_UPDATE;
        self.updates[self.counts.updates] = MmuUpdate { ptr, val: entry };
        self.counts.updates += 1;
        match self.last_run() {
            Some(Run::Updates(count)) => *count += 1,
            _ => self.begin(Run::Updates(1)),
        }
        Ok(())
    }

    /// Adds an operation.
    pub(super) fn operation(&mut self, operation: MmuextOp) -> Result<(), Errno> {
        if self.counts.operations == OPERATIONS || self.counts.runs == RUNS {
            self.commit()?;
        }
        self.operations[self.counts.operations] = operation;
        self.counts.operations += 1;
        match self.last_run() {
            Some(Run::Operations(count)) => *count += 1,
            _ => self.begin(Run::Operations(1)),
        }
        Ok(())
    }

    /// Makes what waits. After a refusal nothing waits any more.
    pub(super) fn commit(&mut self) -> Result<(), Errno> {
        let counts = core::mem::take(&mut self.counts);
        let (mut updates, mut operations) = (&self.updates[..counts.updates], &self.operations[..counts.operations]);
        // SAFETY, for all calls below: the lists live in `self` until the call is back. What they ask for changes
        // mappings of frames that this module gives out, in the ways that its functions promise.
        match &self.runs[..counts.runs] {
            [] => return Ok(()),
            // SAFETY: see above.
            [Run::Updates(_)] => unsafe { mmu_update(updates, None, Owner::SELF) }?,
            // SAFETY: see above.
            [Run::Operations(_)] => unsafe { mmuext_op(operations, None, Owner::SELF) }?,
            runs => {
                let mut calls = [MulticallEntry::default(); RUNS];
                for (call, run) in calls.iter_mut().zip(runs) {
                    *call = match *run {
                        Run::Updates(count) => call_with(MMU_UPDATE, take(&mut updates, count)),
                        Run::Operations(count) => call_with(MMUEXT_OP, take(&mut operations, count)),
                    };
                }
                let calls = &mut calls[..runs.len()];
                // SAFETY: see above.
                unsafe { multicall(calls) }?;
                return calls.iter().try_for_each(|call| multicall_result(call).map(|_| ()));
            }
        };
        Ok(())
    }

    fn last_run(&mut self) -> Option<&mut Run> {
        self.runs[..self.counts.runs].last_mut()
    }

    fn begin(&mut self, run: Run) {
        self.runs[self.counts.runs] = run;
        self.counts.runs += 1;
    }
}

/// A call with a list for the calling domain.
fn call_with<T>(number: u32, list: &[T]) -> MulticallEntry {
    let args = [list.as_ptr() as u64, list.len() as u64, 0, u64::from(DOMID_SELF), 0, 0];
    multicall_entry(number, args)
}

/// Splits `count` elements off the front.
fn take<'a, T>(list: &mut &'a [T], count: usize) -> &'a [T] {
    let (front, rest) = list.split_at(count);
    *list = rest;
    front
}
