//! Lists of requests: `mmu_update` and `mmuext_op`. The common part of their arguments is
//! `(list, unsigned int count, unsigned int *done, unsigned int foreigndom)`.
//!
//! Requests are carried out in order, until one fails. `done`, if there is one, gets how many were. A restart goes on
//! behind those: the list's address and count are those of the rest, bit 31 of the count says that it is a restart, and
//! `done` holds the count so far. A guest that changes it meanwhile misleads itself.

use core::slice::Iter;

use pv_abi::errno::Errno;
use pv_abi::mmu::MMU_UPDATE_PREEMPTED;
use zerocopy::{FromBytes, IntoBytes};

use super::{Call, Platform, Reply};
use crate::mm::error::{Refused, Stop};
use crate::mm::perform::Unfinished;

/// Requests copied in at a time.
const CHUNK: usize = 32;
/// As many as a list of a switch between processes has: room for [`CHUNK`] would be filled with zeros for nothing.
const FEW: usize = 4;

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
#[derive(Clone, Copy)]
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
        // The guest may have said any number.
        self.done = self.done.wrapping_add(requests);
    }
}

impl<P: Platform> Call<'_, P> {
    /// Pays for a request that the memory rules don't take anything for.
    #[inline]
    pub(super) fn spend(&mut self) -> Result<(), Halt> {
        self.budget = self.budget.checked_sub(1).ok_or(Halt::Again)?;
        Ok(())
    }
}

/// Carries out a list: with `one` if it is a list of one, else with `some`, which gets a few requests at a time. That carries
/// out all of them, or halts, and takes those off that are done.
#[inline]
pub(super) fn run<P: Platform, T: FromBytes + IntoBytes + Copy>(
    call: &mut Call<'_, P>,
    what: &str,
    one: impl FnMut(&mut Call<'_, P>, T) -> Result<(), Halt>,
    mut some: impl FnMut(&mut Call<'_, P>, &mut Iter<'_, T>) -> Result<(), Halt>,
) -> Reply {
    // Most lists have one request, and nobody asks how many were done: 150 instructions less than for any list.
    if call.u32(1) == 1 && call.word(2) == 0 { alone(call, what, one) } else { list(call, what, &mut some) }
}

#[inline]
fn alone<P: Platform, T: FromBytes + IntoBytes + Copy>(
    call: &mut Call<'_, P>,
    what: &str,
    mut one: impl FnMut(&mut Call<'_, P>, T) -> Result<(), Halt>,
) -> Reply {
    let mut progress = Progress { at: call.word(0), left: 1, done: 0 };
    let request = call.read(progress.at)?;
    let mut result = one(call, request);
    if result.is_ok() {
        progress.advance::<T>(1);
        result = drain(call);
    }
    flush_if_due(call);
    match result {
        Ok(()) => Ok(0),
        Err(halt) => halted(call, what, halt, progress),
    }
}

/// Carries out some requests, see [`run`].
pub(super) type RunSome<'a, 'b, P, T> = &'a mut dyn FnMut(&mut Call<'b, P>, &mut Iter<'_, T>) -> Result<(), Halt>;

/// [`run`], for a list of any length.
#[inline(never)]
pub(super) fn list<'a, P: Platform, T: FromBytes + IntoBytes + Copy>(
    call: &mut Call<'a, P>,
    what: &str,
    some: RunSome<'_, 'a, P, T>,
) -> Reply {
    let count = call.u32(1);
    let done_at = call.word(2);
    let mut progress = Progress { at: call.word(0), left: count & !MMU_UPDATE_PREEMPTED, done: 0 };
    if count & MMU_UPDATE_PREEMPTED != 0 && done_at != 0 {
        progress.done = call.read(done_at)?;
    }
    let done = match progress.left as usize {
        0..=FEW => chunks::<P, T, FEW>(call, &mut progress, some),
        _ => chunks::<P, T, CHUNK>(call, &mut progress, some),
    };
    let result = done.and_then(|()| drain(call));
    flush_if_due(call);
    if done_at != 0 {
        call.write(done_at, &progress.done)?;
    }
    match result {
        Ok(()) => Ok(0),
        Err(halt) => halted(call, what, halt, progress),
    }
}

fn chunks<'a, P: Platform, T: FromBytes + IntoBytes + Copy, const SIZE: usize>(
    call: &mut Call<'a, P>,
    progress: &mut Progress,
    some: RunSome<'_, 'a, P, T>,
) -> Result<(), Halt> {
    let mut chunk = [T::new_zeroed(); SIZE];
    while progress.left > 0 {
        let wanted = SIZE.min(progress.left as usize);
        let requests = read_some(call, progress.at, &mut chunk[..wanted])?;
        let mut rest = requests.iter();
        let result = some(call, &mut rest);
        progress.advance::<T>(requests.len() - rest.len());
        result?;
    }
    Ok(())
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

/// Finishes what the requests have begun.
#[inline]
fn drain<P: Platform>(call: &mut Call<'_, P>) -> Result<(), Halt> {
    if call.vcpu.pending.is_drained() { Ok(()) } else { drain_some(call) }
}

#[inline(never)]
fn drain_some<P: Platform>(call: &mut Call<'_, P>) -> Result<(), Halt> {
    Ok(call.memory(|op, _| op.drain())?)
}

/// Flushes if an entry above L1 has changed: see [`Pending`](crate::mm::pending::Pending::upper_changed).
#[inline]
fn flush_if_due<P: Platform>(call: &mut Call<'_, P>) {
    if call.vcpu.pending.upper_changed {
        call.vcpu.pending.upper_changed = false;
        let cpus = call.platform.space().cpus.load();
        call.platform.flush(cpus);
    }
}

/// The reply to a list that did not come to its end.
#[cold]
fn halted<P: Platform>(call: &mut Call<'_, P>, what: &str, halt: Halt, progress: Progress) -> Reply {
    match halt {
        Halt::Again => {
            let left = progress.left | MMU_UPDATE_PREEMPTED;
            Err(call.again([progress.at, left.into()]))
        }
        Halt::Code(errno) => Err(errno.into()),
        Halt::Refused(refused) => Err(call.refuse(what, refused).into()),
    }
}
