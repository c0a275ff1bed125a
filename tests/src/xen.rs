//! The self-test on Debian's Xen.

use crate::{guest::Verdict, scenario::LIMIT, telling::Shape};
use anyhow::Result;
use std::path::Path;
use xtask::{
    build,
    qemu::Hardware,
    xen::{FirstDomain, Xen, hardware},
};

/// Stories that a CPU with SMAP spoils here: QEMU before 9 uses the stack for `iret` and far calls in ring 3 with the rights
/// of ring 0. Pavise helps with `iretq`.
const WITHOUT_SMAP: [&str; 2] = ["iret-native", "attack-gates"];

/// Boots the self-test as the first domain of Xen and lets it tell `story`.
///
/// # Errors
/// When QEMU can't be started.
pub fn tell(xen: &Xen, story: &str, shape: Shape, log: &Path) -> Result<Verdict> {
    let cpu = if WITHOUT_SMAP.contains(&story) { "max,-smap" } else { "max" };
    let hardware = Hardware { cpus: shape.cpus, ..hardware(cpu) };
    let kernel = build::guest("selftest");
    let domain = FirstDomain {
        kernel,
        ramdisk: None,
        command_line: &format!("story={story}"),
        memory: FirstDomain::MEMORY,
        vcpus: shape.vcpus,
    };
    let mut session = xen.boot(&domain, &hardware, &[], log, LIMIT)?;
    let ended = session.wait_exit();
    let verdict = Verdict::find(story, &session.text());
    Ok(verdict.explained(|| format!("Xen ended with {ended:?}; {}", session.last_words())))
}
