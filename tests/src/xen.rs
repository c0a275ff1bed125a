//! The self-test on Debian's Xen.

use crate::{
    guest::Verdict,
    scenario::LIMIT,
    telling::{Shape, cpu},
};
use anyhow::Result;
use std::path::Path;
use xtask::{
    build,
    qemu::Hardware,
    xen::{FirstDomain, Xen, hardware},
};

/// Boots the self-test as the first domain of Xen and lets it tell `story`.
///
/// # Errors
/// When QEMU can't be started.
pub fn tell(xen: &Xen, story: &str, shape: Shape, log: &Path) -> Result<Verdict> {
    let hardware = Hardware { cpus: shape.cpus, ..hardware(cpu(story)) };
    let kernel = build::guest("selftest");
    let domain = FirstDomain { kernel, command_line: &format!("story={story}"), vcpus: shape.vcpus };
    let mut session = xen.boot(&domain, &hardware, &[], log, LIMIT)?;
    let ended = session.wait_exit();
    let verdict = Verdict::find(story, &session.text());
    Ok(verdict.explained(|| format!("Xen ended with {ended:?}; {}", session.last_words())))
}
