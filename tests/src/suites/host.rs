//! Suite `host`: unit and property tests of everything that runs on the host, by `cargo test`.

use crate::{
    context::log_file,
    libtest,
    suite::{Ending, Test},
};
use anyhow::{Context, Result};
use std::fs;
use xtask::{build, paths, step};

/// What is tested: packages, and for those of bare-metal programs the part that compiles for the host.
const PARTS: [(&str, &[&str]); 6] = [
    ("pv-abi", &[]),
    ("boot-archive", &[]),
    ("pavise", &["--lib"]),
    ("guest-kernel", &[]),
    ("xtask", &[]),
    ("pavise-tests", &[]),
];

/// Lines shown of a failure.
const SHOWN: usize = 60;

/// One test for each package, which counts as many as it has.
pub fn tests() -> Vec<Test> {
    PARTS.iter().map(|(package, args)| Test::host("host", *package, |_| cargo_test(package, args))).collect()
}

fn cargo_test(package: &str, args: &[&str]) -> Result<Ending> {
    let mut command = build::cargo();
    command.args(["test", "--no-fail-fast", "-p", package]).args(args);
    let output = command.output().with_context(|| format!("cannot run {}", step::shown(&command)))?;
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    let log = log_file(&format!("host/{package}"));
    fs::create_dir_all(log.parent().unwrap_or(&log))?;
    fs::write(&log, text.as_bytes()).with_context(|| format!("cannot write {}", log.display()))?;

    let results = libtest::count(&text, output.status.success());
    Ok(Ending::Counted(results.tally, details(&results, &text, &paths::shown(&log))))
}

/// Names of the failed tests and what they, or the compiler, had to say.
fn details(results: &libtest::Results, output: &str, log: &str) -> String {
    let said: Vec<&str> = output.lines().skip_while(|line| !is_complaint(line)).take(SHOWN).collect();
    let failed: String = results.failed.iter().map(|name| format!("failed: {name}\n")).collect();
    format!("{failed}{}\nall of it: {log}", said.join("\n"))
}

/// Where a failed test's output, or the compiler's first error, begins.
fn is_complaint(line: &str) -> bool {
    line == "failures:" || line.starts_with("error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_what_was_said() {
        let output = "running 1 test\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\nboom\n";
        let details = details(&libtest::count(output, false), output, "x.log");
        assert_eq!(details, "failed: a\nfailures:\n\n---- a stdout ----\nboom\nall of it: x.log");
    }
}
