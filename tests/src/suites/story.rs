//! The suites of stories: one boot each, one verdict line, exit through the debug-exit device.

use super::prompt::{CLEAN, CRASHED, answers, ends_with, greeted, halt};
use crate::{
    ending::{self, Ending},
    run::Test,
    stories::Story,
    tally::Outcome,
    workshop::{self, Workshop},
};
use anyhow::{Result, ensure};

/// The test of a story that ends with a verdict.
pub fn verdict_test(story: Story) -> Test {
    Test::on_machine(&story.suite.clone(), story.name.clone(), move |workshop| {
        Ok(match tell(workshop, &story)? {
            Ending::Pass => Outcome::Pass,
            Ending::Skip(why) => Outcome::Skip(why),
            other => Outcome::Fail(other.to_string()),
        })
    })
}

/// The test of a story that ends with its domain stopped, and its neighbour alive.
pub fn crash_test(story: Story) -> Test {
    Test::on_machine(&story.suite.clone(), story.name.clone(), move |workshop| {
        let ending = tell_beside_neighbour(workshop, &story)?;
        Ok(if story.is_as_told(&ending) {
            Outcome::Pass
        } else {
            Outcome::Fail(format!("the victim ended with '{ending}'"))
        })
    })
}

/// Tells a story on a machine of its own.
pub fn tell(workshop: &Workshop, story: &Story) -> Result<Ending> {
    let name = &story.name;
    let machine = workshop::machine(vec![workshop::teller("test", name)]);
    let mut session = workshop.boot(&format!("story {name}"), &machine)?;
    let end = |log: &str| ending::verdict(log, name).or_else(|| ending::on_pavise(log, 0));
    let Some(ending) = session.wait_until(end) else {
        return Ok(Ending::Nothing(session.last_words()));
    };
    workshop.remember(name, &ending);
    let clean = matches!(ending, Ending::Pass | Ending::Skip(_) | Ending::Stopped("power-off" | "reboot"));
    ends_with(&mut session, if clean { CLEAN } else { CRASHED })?;
    let verdicts = session.text().lines().filter(|line| line.contains("VERDICT ")).count();
    ensure!(verdicts <= 1, "{verdicts} verdict lines in one boot");
    Ok(ending)
}

/// Tells a story in a domain beside another, which must answer afterwards.
pub fn tell_beside_neighbour(workshop: &Workshop, story: &Story) -> Result<Ending> {
    let name = &story.name;
    let machine = workshop::machine(vec![workshop::demo("neighbour", 1), workshop::teller("victim", name)]);
    let mut session = workshop.boot(&format!("story {name}"), &machine)?;
    let end = |log: &str| ending::on_pavise(log, 1).or_else(|| ending::verdict(log, name));
    let Some(ending) = session.wait_until(end) else {
        return Ok(Ending::Nothing(session.last_words()));
    };
    workshop.remember(name, &ending);
    greeted(&session, "neighbour")?;
    answers(&mut session, "neighbour")?;
    halt(&mut session)?;
    let clean = matches!(ending, Ending::Stopped("power-off" | "reboot"));
    ends_with(&mut session, if clean { CLEAN } else { CRASHED })?;
    Ok(ending)
}
