//! The self-test on Debian's Xen.

use crate::{guest::Verdict, scenario::LIMIT};
use anyhow::Result;
use std::path::Path;
use xtask::{build, qemu::Hardware, xen::Xen};

/// Boots the self-test as the first domain of Xen and lets it tell `story`.
///
/// # Errors
/// When QEMU can't be started.
pub fn tell(xen: &Xen, story: &str, hardware: &Hardware, log: &Path) -> Result<Verdict> {
    let command_line = format!("story={story}");
    let mut session = xen.boot(&build::guest("selftest"), &command_line, hardware, &[], log, LIMIT)?;
    let ended = session.wait_exit();
    let verdict = Verdict::find(story, &session.text());
    Ok(verdict.explained(|| format!("Xen ended with {ended:?}; {}", session.last_words())))
}
