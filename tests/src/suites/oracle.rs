//! Suite `oracle`: the stories of the suites `abi`, `mmu`, `events`, `grants` and `sched` on Debian's Xen, the same ELF file as its
//! first domain. The verdicts agree with those on Pavise, or the difference is in `docs/differences-from-xen.md` with its
//! reason.

use super::{abi, events, grants, mmu, sched};
use crate::{
    context::{Context, log_file},
    differences,
    guest::stories,
    suite::{Ending, Test},
    telling::{Shape, Tell},
    xen,
};
use anyhow::{Context as _, Result, ensure};

const SUITE: &str = "oracle";

/// One test for the table of differences, and one for each story.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests() -> Result<Vec<Test>> {
    let suites: [(&str, Shape, Tell); 5] = [
        (abi::SUITE, Shape::SINGLE, abi::verdict),
        (mmu::SUITE, Shape::SINGLE, mmu::verdict),
        (events::SUITE, Shape::SEVERAL, events::verdict),
        (grants::SUITE, Shape::SEVERAL, grants::verdict),
        (sched::SUITE, Shape::SEVERAL, sched::verdict),
    ];
    let mut known = Vec::new();
    let mut tests = Vec::new();
    for (suite, shape, tell) in suites {
        for story in stories::of_suite(suite)? {
            known.push(story.clone());
            tests.push(Test::machine(SUITE, story.clone(), move |context| compare(&story, shape, tell, context)));
        }
    }
    tests.insert(0, Test::host(SUITE, "table-of-differences", move |_| names_only(&known)));
    Ok(tests)
}

/// Every row of the table is about a story that is there.
fn names_only(known: &[String]) -> Result<Ending> {
    let differences = differences::read()?;
    let unknown: Vec<_> = differences.iter().map(|row| &row.story).filter(|story| !known.contains(story)).collect();
    ensure!(unknown.is_empty(), "{} has rows for stories that don't exist: {unknown:?}", differences::FILE);
    Ok(Ending::Passed)
}

fn compare(story: &str, shape: Shape, tell: Tell, context: &Context) -> Result<Ending> {
    let xen = match context.xen() {
        Ok(xen) => xen,
        Err(reason) => return Ok(Ending::Skipped(format!("{reason:#}"))),
    };
    let on_xen = xen::tell(xen, story, shape, &log_file(&format!("{SUITE}/{story}")))?;
    let on_pavise = tell(story, context);
    differences::judge(differences::of_story(story)?.as_ref(), on_pavise.outcome, on_xen.outcome)
        .with_context(|| format!("Pavise: {on_pavise}\nXen: {on_xen}\n"))?;
    Ok(Ending::Passed)
}
