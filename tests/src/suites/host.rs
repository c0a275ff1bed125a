//! Suite `host`: `cargo test` of every crate, counted by its own tests.

use crate::{
    run::Test,
    tally::{Outcome, Tally},
};
use anyhow::{Context, Result};
use std::process::Stdio;
use xtask::build::cargo;

/// The crates with tests that run on the host.
const CRATES: [&str; 6] = ["pv-abi", "boot-archive", "pavise", "guest-kernel", "xtask", "pavise-tests"];

/// The tests.
pub fn tests() -> Vec<Test> {
    CRATES.iter().map(|name| Test::on_host("host", *name, || cargo_test(name))).collect()
}

fn cargo_test(name: &str) -> Result<Outcome> {
    eprintln!("- cargo test -p {name}");
    let mut command = cargo();
    command.args(["test", "-p", name, "--no-fail-fast"]).stdin(Stdio::null());
    let output = command.output().context("cannot run cargo")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let tally = sum(&stdout);
    if output.status.success() {
        return Ok(Outcome::Many { tally, failures: String::new() });
    }
    // A test that doesn't build has counted nothing.
    let tally = Tally { failed: tally.failed.max(1), ..tally };
    let failures = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    Ok(Outcome::Many { tally, failures })
}

/// The sum of the lines `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn sum(stdout: &str) -> Tally {
    let mut tally = Tally::default();
    for line in stdout.lines().filter(|line| line.starts_with("test result: ")) {
        let count = |word: &str| {
            let numbered = line.split(['.', ';']).find_map(|part| part.trim().strip_suffix(word));
            numbered.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        tally.add(Tally { passed: count("passed"), failed: count("failed"), skipped: count("ignored") });
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed() {
        let stdout = "running 3 tests\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.5s\n\
            test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.5s\n";
        assert_eq!(sum(stdout), Tally { passed: 13, failed: 2, skipped: 1 });
    }
}
