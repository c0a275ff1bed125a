//! Finds public items that no row covers, by reading the crate's sources.
//!
//! It knows the sources' format, not Rust: an item of interest is a line that starts with `pub const`, `pub struct`,
//! `pub type` or `pub enum`, possibly indented (by a macro around it); rustfmt keeps it that way. Associated constants
//! are told apart by their indentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::table::Table;

/// Items without a row, and entries of `no_row` that are not items. An item is `module::NAME`, with the last part of
/// the module's path.
pub fn gaps(table: &Table, no_row: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let mut items = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut items);
    assert!(items.len() > 400, "found only {} items: have the sources changed their format?", items.len());
    let excused = |item: &str| no_row.iter().any(|(name, _)| item == *name);
    let stale = no_row.iter().map(|(name, _)| name.to_string()).filter(|name| !items.contains(name)).collect();
    let missing = items.into_iter().filter(|item| !table.covers(item) && !excused(item)).collect();
    (missing, stale)
}

/// Adds the items of all files at and below `directory`.
fn collect(directory: &Path, items: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("can't list the sources") {
        let path = entry.expect("can't list the sources").path();
        if path.is_dir() {
            collect(&path, items);
            continue;
        }
        let module = path.file_stem().expect("a source file has a name").to_string_lossy();
        let text = fs::read_to_string(&path).expect("can't read a source file");
        for name in text.lines().filter_map(item) {
            assert!(items.insert(format!("{module}::{name}")), "two items are called {module}::{name}");
        }
    }
}

/// The name of the item that starts on this line.
fn item(line: &str) -> Option<&str> {
    let constant = line.strip_prefix("pub const ").filter(|rest| !rest.starts_with("fn "));
    let named =
        ["pub struct ", "pub type ", "pub enum "].into_iter().find_map(|word| line.trim_start().strip_prefix(word));
    constant.or(named)?.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}
