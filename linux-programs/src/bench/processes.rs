//! Making and ending processes.

use super::rounds;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, execv, fork};
use std::ffi::CStr;
use std::fs;
use std::process::{Command, exit};

/// The argument with which this program only ends.
pub const EXIT: &str = "exit";

/// This program.
const SELF: &CStr = c"/proc/self/exe";

const TIMES: u64 = 10;

/// A child that ends at once.
pub fn fork_exit() -> nix::Result<u64> {
    let mut result = Ok(());
    let count = rounds::each(TIMES, || result = result.and_then(|()| child(|| 0)));
    result.map(|()| count)
}

/// A child that becomes another program, as a shell without `vfork` starts one.
pub fn fork_exec() -> nix::Result<u64> {
    let mut result = Ok(());
    let count = rounds::each(TIMES, || result = result.and_then(|()| child(become_exit)));
    result.map(|()| count)
}

/// A child that shares this one's memory until it becomes another program: `posix_spawn`, which [`Command`] uses.
pub fn vfork_exec() -> nix::Result<u64> {
    let mut result = Ok(());
    let count = rounds::each(TIMES, || result = result.and_then(|()| run_exit()));
    result.map(|()| count)
}

/// Many short processes, as in a build: in turn one that ends at once, as a shell's do, and one that computes, uses memory and
/// writes a file, as compilers do. For each pair.
pub fn build_mix() -> nix::Result<u64> {
    const PAIRS: u64 = 3;
    let mut result = Ok(());
    let count = rounds::each(PAIRS, || {
        result = result.and_then(|()| run_exit()).and_then(|()| child(compile));
    });
    result.map(|()| count)
}

/// What a compiler would do, in small; 0 if that worked.
fn compile() -> i32 {
    let path = format!("/tmp/linux-bench-{}", std::process::id());
    // 2 MiB, of which every page is written and read.
    let mut text = vec![1_u8; 2 << 20];
    for index in 1..text.len() {
        text[index] = text[index - 1].wrapping_mul(31).wrapping_add(7);
    }
    let written = fs::write(&path, &text[..256 << 10]).and_then(|()| fs::read(&path));
    let same = written.is_ok_and(|bytes| bytes == text[..256 << 10]);
    i32::from(!same || fs::remove_file(&path).is_err())
}

/// Runs `work` in a child, whose exit code has to be 0.
fn child(work: impl FnOnce() -> i32) -> nix::Result<()> {
    // SAFETY: this process has one thread, so the child may do what the parent may.
    match unsafe { fork()? } {
        ForkResult::Child => exit(work()),
        ForkResult::Parent { child } => match waitpid(child, None)? {
            nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
            _ => Err(nix::Error::ECHILD),
        },
    }
}

/// Becomes this program once more, which only ends. Returns if that fails.
fn become_exit() -> i32 {
    let _ = execv(SELF, &[SELF, c"exit"]);
    1
}

/// Runs this program once more, only to end.
fn run_exit() -> nix::Result<()> {
    let status = Command::new("/proc/self/exe").arg(EXIT).status();
    if status.is_ok_and(|status| status.success()) { Ok(()) } else { Err(nix::Error::ENOEXEC) }
}
