//! Signals to this process, to its child and by its timer.

use super::failed;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, raise, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, pause};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

static SEEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_signal: i32) {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

pub fn round(_number: u64, _folder: &Path) -> Result<(), String> {
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only adds to an atomic number, so it may run at any time.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.map_err(failed("sigaction"))?;
    let before = SEEN.load(Ordering::Relaxed);
    for _ in 0..100 {
        raise(Signal::SIGUSR1).map_err(failed("raise"))?;
    }
    let seen = SEEN.load(Ordering::Relaxed) - before;
    if seen != 100 {
        return Err(format!("{seen} of 100 signals to this process arrived"));
    }
    // SAFETY: this process has one thread, so the child may do what the parent may.
    match unsafe { fork() }.map_err(failed("fork"))? {
        ForkResult::Child => loop {
            pause();
        },
        ForkResult::Parent { child } => {
            kill(child, Signal::SIGTERM).map_err(failed("kill"))?;
            match waitpid(child, None) {
                Ok(WaitStatus::Signaled(_, Signal::SIGTERM, _)) => Ok(()),
                other => Err(format!("a child that was told to end: {other:?}")),
            }
        }
    }
}
