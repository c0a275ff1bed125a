//! Suite `lint`: the checks of `./x lint`.

use crate::suite::{Ending, Test};
use xtask::commands::lint;

/// One test for each check.
pub fn tests() -> Vec<Test> {
    let test = |(index, check): (usize, lint::Check)| {
        Test::host("lint", check.name, move |_| {
            // Running a check uses it up; a test may run again.
            lint::checks().into_iter().nth(index).map_or(Ok(()), |mut check| check.run())?;
            Ok(Ending::Passed)
        })
    };
    lint::checks().into_iter().enumerate().map(test).collect()
}
