//! The accepted differences from Xen: the table of `docs/differences-from-xen.md`.

use crate::guest::Outcome;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use xtask::paths;

/// Where the table is, from the top of the repository.
pub const FILE: &str = "docs/differences-from-xen.md";

/// The first cells of the table's header.
const HEADER: [&str; 4] = ["story", "pavise", "xen", "reason"];

/// One row of the table: a story that ends differently, on purpose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The story's name.
    pub story: String,
    /// How it ends on Pavise. More than one outcome: that depends on the version of QEMU.
    pub pavise: Vec<Outcome>,
    /// How it ends on Xen.
    pub xen: Vec<Outcome>,
    /// Why that is accepted.
    pub reason: String,
}

/// Reads the file.
///
/// # Errors
/// When it can't be read or has a mistake.
pub fn read() -> Result<Vec<Difference>> {
    parse(&fs::read_to_string(paths::root().join(FILE)).with_context(|| format!("cannot read {FILE}"))?)
}

/// The row of a story, if it has one.
///
/// # Errors
/// When the file can't be read or has a mistake.
pub fn of_story(story: &str) -> Result<Option<Difference>> {
    Ok(read()?.into_iter().find(|row| row.story == story))
}

/// Reads the table. The rest of the document is for people; a row is a line that starts with `|`.
///
/// # Errors
/// When a row has the wrong number of cells, an unknown outcome, or no difference or reason; when a story has two rows.
fn parse(document: &str) -> Result<Vec<Difference>> {
    let mut differences: Vec<Difference> = Vec::new();
    for (line, cells) in rows(document) {
        let [story, pavise, xen, reason] = cells[..] else {
            bail!("{FILE}:{line}: {} cells, expected | story | pavise | xen | reason |", cells.len());
        };
        let (Some(pavise), Some(xen)) = (outcomes(pavise), outcomes(xen)) else {
            bail!("{FILE}:{line}: '{pavise}' and '{xen}', expected pass, fail, skip or silence");
        };
        ensure!(pavise != xen, "{FILE}:{line}: both are '{}': that is no difference", cells[1]);
        ensure!(!reason.is_empty(), "{FILE}:{line}: a reason is missing");
        ensure!(differences.iter().all(|row| row.story != story), "{FILE}:{line}: a second row for '{story}'");
        differences.push(Difference { story: story.to_owned(), pavise, xen, reason: reason.to_owned() });
    }
    Ok(differences)
}

/// `pass`, or `pass or skip`.
fn outcomes(cell: &str) -> Option<Vec<Outcome>> {
    cell.split(" or ").map(Outcome::from_word).collect()
}

/// Line number and cells of each row below the header.
fn rows(document: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let numbered = (1..).zip(document.lines());
    let rows = numbered.filter_map(|(line, text)| {
        let inner = text.trim().strip_prefix('|')?;
        Some((line, inner.strip_suffix('|').unwrap_or(inner).split('|').map(str::trim).collect::<Vec<_>>()))
    });
    rows.filter(|(_, cells)| cells[..] != HEADER && !cells.iter().all(|cell| is_rule(cell)))
}

/// A cell of the line between header and rows.
fn is_rule(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| matches!(c, '-' | ':'))
}

/// Whether a story that ended so is as it should be; if not, why.
///
/// # Errors
/// A difference that isn't listed, a listed one that isn't there, or two silences, which can't be compared.
pub fn judge(listed: Option<&Difference>, pavise: Outcome, xen: Outcome) -> Result<()> {
    let found = format!("Pavise says {}, Xen says {}", pavise.word(), xen.word());
    match listed {
        Some(row) if row.pavise.contains(&pavise) && row.xen.contains(&xen) => Ok(()),
        Some(_) => bail!("{found}, and the row in {FILE} has it otherwise"),
        None if pavise != xen => bail!("{found}, and {FILE} has no row for it"),
        None if pavise == Outcome::Silence => bail!("{found}, so there is nothing to compare"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Fail, Pass, Silence, Skip};

    const TABLE: &str = "# Differences\ntext\n\n| story | pavise | xen | reason |\n|---|:--|---|---|\n";

    fn parsed(row: &str) -> Result<Vec<Difference>> {
        parse(&format!("{TABLE}{row}\n\nmore text\n"))
    }

    #[test]
    fn a_row_is_a_difference() {
        let reason = "Pavise checks more".to_owned();
        let row = Difference { story: "poll".to_owned(), pavise: vec![Pass], xen: vec![Fail, Skip], reason };
        assert_eq!(parsed("| poll | pass | fail or skip | Pavise checks more |").unwrap(), [row]);
        assert_eq!(parse(TABLE).unwrap(), []);
    }

    #[test]
    fn mistakes_have_their_line() {
        for (row, complaint) in [
            ("| poll | pass | fail |", ":6: 3 cells"),
            ("| poll | pass | perhaps | x |", "'pass' and 'perhaps'"),
            ("| poll | pass | pass | x |", "no difference"),
            ("| poll | pass | fail | |", "a reason is missing"),
            ("| poll | pass | fail | x |\n| poll | pass | skip | x |", ":7: a second row for 'poll'"),
        ] {
            let error = parsed(row).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn only_listed_differences_are_accepted() {
        let listed = parsed("| poll | pass | fail or skip | x |").unwrap().remove(0);
        assert!(judge(None, Pass, Pass).is_ok());
        assert!(judge(Some(&listed), Pass, Fail).is_ok());
        assert!(judge(Some(&listed), Pass, Skip).is_ok());
        let complaint = |listed, pavise, xen| judge(listed, pavise, xen).unwrap_err().to_string();
        assert!(complaint(None, Fail, Pass).starts_with("Pavise says fail, Xen says pass, and docs"));
        assert!(complaint(None, Silence, Silence).ends_with("nothing to compare"));
        assert!(complaint(Some(&listed), Pass, Pass).ends_with("has it otherwise"));
        assert!(complaint(Some(&listed), Skip, Fail).ends_with("has it otherwise"));
    }
}
