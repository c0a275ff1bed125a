//! Suite `lint`: the checks of `./x lint`, a test each.

use crate::{run::Test, tally::Outcome};
use xtask::commands::lint::checks;

/// The tests.
pub fn tests() -> Vec<Test> {
    let test = |mut check: xtask::commands::lint::Check| {
        Test::on_host("lint", check.name, move || check.run().map(|()| Outcome::Pass))
    };
    checks().into_iter().map(test).collect()
}
