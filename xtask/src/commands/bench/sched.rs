//! The group `sched`: the hypervisor's scheduler in the simulator of its host tests, on virtual time.

use crate::build;
use anyhow::{Context, Result, ensure};
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

/// The test that prints the table.
const REPORT: &str = "sched::simulator::bars::report";

/// Prints the table: a line for each mix of domains, with `!` behind those that break a bar.
///
/// # Errors
/// When it can't be built or run, or breaks off.
pub fn simulate() -> Result<()> {
    let mut command = build::cargo();
    command.args(["test", "--quiet", "-p", "pavise", "--lib", REPORT, "--", "--ignored", "--exact", "--nocapture"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = child.stdout.take().context("cargo says nothing")?;
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    lines.filter(|line| is_of_the_table(line)).for_each(|line| println!("{line}"));
    ensure!(child.wait()?.success(), "the simulation failed");
    Ok(())
}

/// Whether it isn't what the test harness says.
fn is_of_the_table(line: &str) -> bool {
    !line.is_empty() && line != "." && !line.starts_with("running ") && !line.starts_with("test result")
}

#[cfg(test)]
mod tests {
    use super::is_of_the_table;

    #[test]
    fn the_harness_is_left_out() {
        let said = ["", "running 1 test", "mix     CPUs", "equal     2", ".", "test result: ok."];
        assert!(said.into_iter().filter(|line| is_of_the_table(line)).eq(["mix     CPUs", "equal     2"]));
    }
}
