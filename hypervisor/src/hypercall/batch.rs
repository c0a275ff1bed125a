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
const CHUNK: usize = 8;

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

/// Carries out a list with `one`, which gets each request in turn.
pub(super) fn run<P: Platform, T: FromBytes + IntoBytes + Copy>(
    call: &mut Call<'_, P>,
    what: &str,
    mut one: impl FnMut(&mut Call<'_, P>, T) -> Result<(), Halt>,
) -> Reply {
    let count = call.u32(1);
    let done_at = call.word(2);
    let mut progress = Progress { at: call.word(0), left: count & !MMU_UPDATE_PREEMPTED, done: 0 };
    if count & MMU_UPDATE_PREEMPTED != 0 && done_at != 0 {
        progress.done = call.read(done_at)?;
    }
    let result = list(call, &mut progress, &mut one).and_then(|()| Ok(call.memory(|op, _| op.drain())?));
    if core::mem::take(&mut call.vcpu.pending.upper_changed) {
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
    one: &mut impl FnMut(&mut Call<'_, P>, T) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let mut requests = [T::new_zeroed(); CHUNK];
    while progress.left > 0 {
        let wanted = CHUNK.min(progress.left as usize);
        for &request in read_some(call, progress.at, &mut requests[..wanted])? {
            call.budget = call.budget.checked_sub(1).ok_or(Halt::Again)?;
            one(call, request)?;
            progress.at = progress.at.wrapping_add(size_of::<T>() as u64);
            progress.left -= 1;
            progress.done += 1;
        }
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
