//! The accepted differences between Pavise and Xen: the table in `docs/differences-from-xen.md`.

use std::fs;
use xtask::paths;

/// A row of the table: a story that ends differently, and why that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The story.
    pub story: String,
    /// Its ending on Pavise, as [`Ending::word`](crate::ending::Ending::word) has it.
    pub pavise: String,
    /// Its ending on Xen.
    pub xen: String,
}

/// The rows of the document; none if there is no document.
pub fn accepted() -> Vec<Difference> {
    let path = paths::root().join("docs/differences-from-xen.md");
    parse(&fs::read_to_string(path).unwrap_or_default())
}

/// Reads the rows `| story | pavise | xen | reason |`. Heads and rules of tables name no story, and don't matter.
fn parse(document: &str) -> Vec<Difference> {
    let row = |line: &str| {
        let cells = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        let mut cells = cells.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        let (story, pavise, xen, reason) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
        let is_rule = story.starts_with('-') || story == "story";
        (!is_rule && !reason.is_empty()).then_some(Difference { story, pavise, xen })
    };
    document.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        let document = "# Title\n\n| story | pavise | xen | reason |\n|---|---|---|---|\n\
            | `tsc` | pass | crashed | because |\n| no-reason | pass | fail | |\ntext | with | bars\n";
        let tsc = Difference { story: "tsc".into(), pavise: "pass".into(), xen: "crashed".into() };
        assert_eq!(parse(document), [tsc]);
    }
}
