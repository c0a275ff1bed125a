//! Suite `oracle`: Debian's Xen boots the same self-test as its first domain, and must tell each story alike.
//!
//! A difference that is not listed in `docs/differences-from-xen.md` fails, and so does one that is listed and gone.

use super::{
    differences::{self, Difference},
    story,
};
use crate::{
    ending::{self, Ending},
    run::Test,
    stories::{CRASH_SUITE, Story},
    tally::Outcome,
    workshop::{self, LIMIT, Workshop},
};
use anyhow::{Context, Result, bail};
use std::{path::PathBuf, process::Command, sync::OnceLock};
use xtask::{
    build, paths,
    qemu::{Accel, Hardware, Session},
};

/// Xen's command line: console, a small first domain, and the only boot of the machine.
const XEN_COMMAND_LINE: &str = "console=com1 com1=115200,8n1 dom0_mem=64M,max:64M loglvl=warning guest_loglvl=none";

/// The tests: one per story.
pub fn tests(stories: Vec<Story>) -> Vec<Test> {
    let test = |story: Story| {
        Test::on_machine("oracle", story.name.clone(), move |workshop| match xen() {
            Ok(xen) => compare(workshop, &story, xen),
            Err(why) => Ok(Outcome::Skip(why.clone())),
        })
    };
    stories.into_iter().map(test).chain([stale_test()]).collect()
}

/// Rows of the table that name no story.
fn stale_test() -> Test {
    Test::on_machine("oracle", "every listed difference names a story", |_| {
        let stories = crate::stories::all();
        let known = |row: &Difference| stories.iter().any(|story| story.name == row.story);
        match differences::accepted().iter().find(|row| !known(row)) {
            None => Ok(Outcome::Pass),
            Some(row) => bail!("docs/differences-from-xen.md lists '{}', which is no story", row.story),
        }
    })
}

/// Debian's Xen, fetched by the first who asks; else why it can't be had.
fn xen() -> Result<&'static PathBuf, &'static String> {
    static XEN: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let fetch = || {
        let output = Command::new(paths::root().join("scripts/fetch-xen")).output();
        let output = output.map_err(|error| format!("scripts/fetch-xen: {error}"))?;
        if output.status.success() {
            Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        } else {
            let messages = String::from_utf8_lossy(&output.stderr);
            let last = messages.lines().last().unwrap_or("no message");
            Err(format!("no Xen to compare with: {}", last.trim_start_matches("error: ")))
        }
    };
    XEN.get_or_init(fetch).as_ref()
}

fn compare(workshop: &Workshop, story: &Story, xen: &PathBuf) -> Result<Outcome> {
    let on_xen = tell_on_xen(story, xen)?;
    let on_pavise = match workshop.remembered(&story.name) {
        Some(ending) => ending,
        None if story.suite == CRASH_SUITE => story::tell_beside_neighbour(workshop, story)?,
        None => story::tell(workshop, story)?,
    };
    Ok(judge(&story.name, &on_pavise, &on_xen, &differences::accepted()))
}

fn judge(story: &str, on_pavise: &Ending, on_xen: &Ending, accepted: &[Difference]) -> Outcome {
    let both = format!("Pavise: {on_pavise}\nXen: {on_xen}");
    let listed = accepted.iter().find(|row| row.story == story);
    let as_listed = |row: &Difference| row.pavise == on_pavise.word() && row.xen == on_xen.word();
    match listed {
        _ if matches!(on_xen, Ending::Nothing(_)) => Outcome::Fail(both),
        None if on_pavise.word() == on_xen.word() => Outcome::Pass,
        None => Outcome::Fail(format!("an unlisted difference\n{both}")),
        Some(row) if as_listed(row) => Outcome::Pass,
        Some(row) => Outcome::Fail(format!("listed as {} on Pavise, {} on Xen\n{both}", row.pavise, row.xen)),
    }
}

fn tell_on_xen(story: &Story, xen: &PathBuf) -> Result<Ending> {
    let name = &story.name;
    let hardware = Hardware::of(&workshop::machine(Vec::new()), Accel::Tcg);
    let kernel = build::guest("selftest");
    let modules = format!("{} story={name}", kernel.to_str().context("the path of the self-test is not UTF-8")?);
    let qemu = hardware.boot_kernel(xen, XEN_COMMAND_LINE, &modules)?;
    let session = Session::start(&qemu, &workshop::file(&format!("xen {name}"), "log"), LIMIT)?;
    let end = |log: &str| ending::verdict(log, name).or_else(|| ending::on_xen(log));
    Ok(session.wait_until(end).unwrap_or_else(|| Ending::Nothing(session.last_words())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_must_be_listed_and_real() {
        let row = |pavise: &str, xen: &str| Difference { story: "s".into(), pavise: pavise.into(), xen: xen.into() };
        let crashed = Ending::Crashed("why".to_owned());
        let passes = |xen: &Ending, accepted: &[Difference]| judge("s", &Ending::Pass, xen, accepted) == Outcome::Pass;
        assert!(passes(&Ending::Pass, &[]));
        assert!(!passes(&crashed, &[]));
        assert!(passes(&crashed, &[row("pass", "crashed")]));
        assert!(!passes(&Ending::Pass, &[row("pass", "crashed")]));
        assert!(!passes(&Ending::Nothing("log".to_owned()), &[]));
    }
}
