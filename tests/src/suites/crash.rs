//! Suite `crash`: a domain dies, in every way that the self-test knows. The hypervisor says why, its memory comes back,
//! and its neighbour has noticed nothing.

use crate::{
    guest::stories,
    pattern::{Pattern, logged, regex, said_by},
    scenario::{End, Scenario, Step, domain, machine},
    suite::Test,
};
use anyhow::{Context, Result, ensure};
use regex::Regex;
use xtask::machine::Memory;

/// The suite.
pub const SUITE: &str = "crash";

/// Memory of the domain that dies: more than what may be missing in the end.
const VICTIM: Memory = Memory::mib(64);
const NEIGHBOUR: Memory = Memory::mib(32);

/// Memory that the hypervisor itself may use when both domains are there, in MiB.
const OVERHEAD: u64 = 4;

/// What the hypervisor says of a story's end (a regular expression).
const REASONS: [(&str, &str); 22] = [
    ("crash-no-handler", r"crashed: exception 6 \(#UD\) has no handler"),
    ("crash-page-fault-no-handler", r"crashed: exception 14 \(#PF\) has no handler"),
    ("crash-jump-to-nothing", r"crashed: exception 14 \(#PF\) has no handler"),
    ("crash-iret-frame-unmapped", "crashed: iret frame at 0x1000 can't be read"),
    ("crash-iret-frame-in-hypervisor", "crashed: iret frame at 0xffff830000000000 can't be read"),
    ("crash-iret-to-user-without-tables", "crashed: iret to user mode without user page tables"),
    ("crash-stack-unmapped", "crashed: no stack at 0x[0-9a-f]+ to deliver"),
    ("crash-stack-in-hypervisor", "crashed: no stack at 0xffff82f[0-9a-f]+ to deliver"),
    ("crash-stack-not-canonical", "crashed: no stack at 0x[0-9a-f]+ to deliver"),
    ("crash-handler-faults", "crashed: no stack at 0x[0-9a-f]+ to deliver"),
    ("crash-panic", "shut down: crash reported by its kernel"),
    ("crash-user-stack-unmapped", "crashed: no stack at 0x[0-9a-f]+ to deliver"),
    ("crash-user-stack-in-hypervisor", "crashed: no stack at 0xffff82f[0-9a-f]+ to deliver"),
    ("crash-user-stack-not-canonical", "crashed: no stack at 0x[0-9a-f]+ to deliver"),
    ("crash-user-stack-in-table", "crashed: no stack at 0x[0-9a-f]+ to deliver"),
    ("crash-root-without-kernel", "crashed: no stack at 0x[0-9a-f]+ to deliver"),
    ("crash-kernel-unmapped", "crashed: no stack at 0x[0-9a-f]+ to deliver"),
    ("crash-with-everything", "shut down: crash reported by its kernel"),
    ("shutdown-poweroff", "shut down: power-off"),
    ("shutdown-reboot", "shut down: reboot"),
    ("shutdown-crash", "shut down: crash reported by its kernel"),
    ("shutdown-watchdog", "shut down: watchdog"),
];

/// One test for each story of the suite.
///
/// # Errors
/// When the list of stories can't be read, or has one of which the end isn't known here.
pub fn tests() -> Result<Vec<Test>> {
    let stories = stories::of_suite(SUITE)?;
    stories.iter().map(|story| test(story)).collect()
}

fn test(story: &str) -> Result<Test> {
    let (_, reason) =
        REASONS.iter().find(|(name, _)| *name == story).with_context(|| format!("how does {story} end?"))?;
    let domains = vec![
        domain("neighbour", "demo", "name=neighbour", NEIGHBOUR),
        domain("victim", "selftest", &format!("story={story}"), VICTIM),
    ];
    let mut expected = vec![
        "neighbour> ".into(),
        logged(&format!(r"d2(:| \(victim\)) {reason}")),
        logged(r"d2: removed; \d+ MiB of \d+ MiB free"),
    ];
    if reason.starts_with("crashed") {
        expected.extend(crash_report());
    }
    let steps = vec![
        Step::Expect(expected),
        Step::Absent("VERDICT".into()),
        Step::check(memory_came_back),
        Step::Type("echo still here\r".to_owned()),
        Step::Expect(vec![said_by("neighbour", "still here")]),
        Step::Type("halt\r".to_owned()),
        Step::Expect(vec![logged(r"d1 \(neighbour\) shut down: power-off"), logged("all domains have stopped")]),
        Step::End(if is_in_order(story) { End::Clean } else { End::Crashed }),
    ];
    Ok(Scenario::new(machine(domains), steps).test(SUITE, story))
}

/// Power-off and restart are ends as they should be.
fn is_in_order(story: &str) -> bool {
    matches!(story, "shutdown-poweroff" | "shutdown-reboot")
}

/// Registers, code bytes and backtrace.
fn crash_report() -> [Pattern; 4] {
    [
        regex("^rip [0-9a-f]{16} cs [0-9a-f]{4} rflags [0-9a-f]{8}$"),
        regex("^r13 [0-9a-f]{16} r14 [0-9a-f]{16} r15 [0-9a-f]{16}$"),
        logged("d2: code at rip:(( [0-9a-f]{2})+| not readable)"),
        regex("^backtrace:"),
    ]
}

/// Once the victim is gone, nothing is missing but the neighbour's memory and what the hypervisor needs.
fn memory_came_back(output: &str) -> Result<()> {
    let (free, total) = free_memory(output).context("no free memory in the log")?;
    let missing = total.saturating_sub(free + NEIGHBOUR.as_mib());
    ensure!(missing <= OVERHEAD, "{missing} MiB are missing after the removal");
    Ok(())
}

/// Free and total memory, in MiB, of the line that reports the victim's removal.
fn free_memory(output: &str) -> Option<(u64, u64)> {
    let line = Regex::new(r"d2: removed; (\d+) MiB of (\d+) MiB free").ok()?;
    let (_, [free, total]) = line.captures(output)?.extract();
    Some((free.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_memory_is_noticed() {
        let removed = |free| format!("[    1.000000] cpu0 INFO  d2: removed; {free} MiB of 240 MiB free\n");
        assert!(memory_came_back(&removed(208)).is_ok());
        assert!(memory_came_back(&removed(204)).is_ok());
        assert!(memory_came_back(&removed(203)).is_err());
        assert!(memory_came_back("").is_err());
    }
}
