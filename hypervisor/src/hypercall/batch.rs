//! Lists of requests: `mmu_update` and `mmuext_op`. The common part of their arguments is
//! `(list, unsigned int count, unsigned int *done, unsigned int foreigndom)`.
//!
//! Requests are carried out in order, until one fails. `done`, if there is one, gets how many were. A restart goes on
//! behind those: the list's address and count are those of the rest, bit 31 of the count says that it is a restart, and
//! `done` holds the count so far. A guest that changes it meanwhile misleads itself.

use pv_abi::errno::Errno;
use pv_abi::mmu::MMU_UPDATE_PREEMPTED;
use zerocopy::{FromBytes, IntoBytes};

use super::{Call, Platform, Reply};
use crate::mm::error::{Refused, Stop};
use crate::mm::perform::Unfinished;

/// Requests copied in at a time.
const CHUNK: usize = 32;

/// Why a request is not done.
pub(super) enum Halt {
    /// The budget is used up: restart.
    Again,
    /// It failed.
    Code(Errno),
    /// The rules refused it.
    Refused(Refused),
}

impl From<Errno> for Halt {
    fn from(errno: Errno) -> Halt {
        Halt::Code(errno)
    }
}

impl From<Unfinished> for Halt {
    fn from(unfinished: Unfinished) -> Halt {
        match unfinished {
            Unfinished::Again => Halt::Again,
            Unfinished::Refused(refused) => Halt::Refused(refused),
        }
    }
}

impl From<Stop> for Halt {
    /// For refusals that need no step of the rules.
    fn from(stop: Stop) -> Halt {
        match stop {
            Stop::Refused(refused) => Halt::Refused(refused),
            Stop::Flush(_) | Stop::Again => Halt::Again,
        }
    }
}

/// Where a list stands.
struct Progress {
    /// Guest address of the next request.
    at: u64,
    left: u32,
    done: u32,
}

impl Progress {
    /// So many requests are done: no more than were left.
    fn advance<T>(&mut self, requests: usize) {
        self.at = self.at.wrapping_add((requests * size_of::<T>()) as u64);
        let requests = u32::try_from(requests).unwrap_or(self.left);
        self.left -= requests;
        self.done += requests;
    }
}

impl<P: Platform> Call<'_, P> {
    /// Pays for a request that the memory rules don't take anything for.
    pub(super) fn spend(&mut self) -> Result<(), Halt> {
        self.budget = self.budget.checked_sub(1).ok_or(Halt::Again)?;
        Ok(())
    }
}

/// Carries out a list with `some`, which gets a few requests at a time, at least one, and takes those off that are done:
/// one or more, unless it halts.
pub(super) fn run<P: Platform, T: FromBytes + IntoBytes + Copy>(
    call: &mut Call<'_, P>,
    what: &str,
    some: impl FnMut(&mut Call<'_, P>, &mut &[T]) -> Result<(), Halt>,
) -> Reply {
    let count = call.u32(1);
    let done_at = call.word(2);
    let mut progress = Progress { at: call.word(0), left: count & !MMU_UPDATE_PREEMPTED, done: 0 };
    if count & MMU_UPDATE_PREEMPTED != 0 && done_at != 0 {
        progress.done = call.read(done_at)?;
    }
    let result = list(call, &mut progress, some).and_then(|()| drain(call));
    if call.vcpu.pending.upper_changed {
        call.vcpu.pending.upper_changed = false;
        let cpus = call.platform.space().cpus.load();
        call.platform.flush(cpus);
    }
    if done_at != 0 {
        call.write(done_at, &progress.done)?;
    }
    match result {
        Ok(()) => Ok(0),
        Err(Halt::Again) => {
            let left = progress.left | MMU_UPDATE_PREEMPTED;
            Err(call.again([progress.at, left.into()]))
        }
        Err(Halt::Code(errno)) => Err(errno.into()),
        Err(Halt::Refused(refused)) => Err(call.refuse(what, refused).into()),
    }
}

fn list<P: Platform, T: FromBytes + IntoBytes + Copy>(
    call: &mut Call<'_, P>,
    progress: &mut Progress,
    mut some: impl FnMut(&mut Call<'_, P>, &mut &[T]) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let mut single = [T::new_zeroed()];
    let mut chunk;
    // Most lists have one request: clearing a chunk for it would take as long as a hypercall that does nothing.
    let buffer = if progress.left == 1 {
        &mut single[..]
    } else {
        chunk = [T::new_zeroed(); CHUNK];
        &mut chunk[..]
    };
    while progress.left > 0 {
        let wanted = buffer.len().min(progress.left as usize);
        let mut requests = read_some(call, progress.at, &mut buffer[..wanted])?;
        while !requests.is_empty() {
            let before = requests.len();
            let result = some(call, &mut requests);
            progress.advance::<T>(before - requests.len());
            result?;
        }
    }
    Ok(())
}

/// Finishes what the requests have begun.
fn drain<P: Platform>(call: &mut Call<'_, P>) -> Result<(), Halt> {
    if call.vcpu.pending.is_drained() { Ok(()) } else { Ok(call.memory(|op, _| op.drain())?) }
}

/// Copies the next requests in: all that were asked for, or if that faults, the first alone, so that those before the
/// fault are carried out.
fn read_some<'a, P: Platform, T: FromBytes + IntoBytes>(
    call: &mut Call<'_, P>,
    at: u64,
    into: &'a mut [T],
) -> Result<&'a [T], Halt> {
    if call.platform.read_bytes(at, into.as_mut_bytes()).is_ok() {
        return Ok(into);
    }
    let first = &mut into[..1];
    call.platform.read_bytes(at, first.as_mut_bytes()).map_err(|_| Errno::EFAULT)?;
    Ok(first)
}
