//! Suite `lint`: the checks of `./x lint`.

use crate::{
    context::write_log,
    suite::{Ending, Test},
};
use anyhow::{Result, bail};
use xtask::commands::lint;

/// Lines shown of what a check found.
const SHOWN: usize = 60;

/// One test for each check.
pub fn tests() -> Vec<Test> {
    let test = |(index, check): (usize, lint::Check)| Test::host("lint", check.name, move |_| run(index));
    lint::checks().into_iter().enumerate().map(test).collect()
}

/// Runs a check by its place in the list: a check is used up by running it, and a test may run again.
fn run(index: usize) -> Result<Ending> {
    let Some(mut check) = lint::checks().into_iter().nth(index) else { bail!("the list of checks got shorter") };
    let Err(error) = check.run() else { return Ok(Ending::Passed) };
    let found = format!("{error:#}");
    let log = write_log(&format!("lint/{}", check.name), &found)?;
    let shown = found.lines().take(SHOWN).collect::<Vec<_>>().join("\n");
    bail!("{shown}\nall of it: {log}")
}
