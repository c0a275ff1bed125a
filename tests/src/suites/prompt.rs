//! Conversations with the demo guest: the proof that a domain lives.

use anyhow::{Context, Result, ensure};
use xtask::qemu::{Ended, Session};

/// Waits for the demo guest `name` to greet.
pub fn greeted(session: &Session, name: &str) -> Result<()> {
    session.wait_for(&format!("Hello from {name},")).map(drop)
}

/// Types a command at the demo guest `name`, which has the keys, and waits for the answer.
pub fn answers(session: &mut Session, name: &str) -> Result<()> {
    session.wait_for(&format!("{name}> "))?;
    let word = format!("{name}-is-alive");
    session.send(&format!("echo {word}\r"))?;
    // The command itself shows too, behind the prompt.
    let answered = |log: &str| log.lines().any(|line| line.contains(&word) && !line.contains("echo")).then_some(());
    session.wait_until(answered).with_context(|| format!("{name} does not answer: {}", session.last_words()))
}

/// Asks the demo guest that has the keys to power its domain off.
pub fn halt(session: &mut Session) -> Result<()> {
    session.send("halt\r")
}

/// Waits until the keys go to the domain `name`.
pub fn has_keys(session: &Session, name: &str) -> Result<()> {
    let moved =
        |log: &str| log.lines().any(|line| line.contains("keys now go to") && line.contains(name)).then_some(());
    session.wait_until(moved).with_context(|| format!("{name} does not get the keys: {}", session.last_words()))
}

/// Exit status of QEMU when all domains ended in order.
pub const CLEAN: i32 = 0x10 * 2 + 1;

/// Exit status of QEMU when some domain crashed.
pub const CRASHED: i32 = 0x11 * 2 + 1;

/// Exit status of QEMU when the hypervisor panicked.
const PANICKED: i32 = 0x12 * 2 + 1;

/// Waits for the end of the machine, which should be of this status.
pub fn ends_with(session: &mut Session, status: i32) -> Result<()> {
    let ended = session.wait_exit();
    ensure!(ended != Ended::Status(PANICKED), "the hypervisor panicked: {}", session.last_words());
    ensure!(
        ended == Ended::Status(status),
        "the machine ended with {ended:?}, should be {:?}: {}",
        Ended::Status(status),
        session.last_words()
    );
    Ok(())
}
