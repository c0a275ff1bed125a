//! `./x bench --trace ROW`: where the hypervisor's instructions of one operation are.

use super::{
    bars,
    code::Code,
    guest::Subject,
    report::Share,
    source::{Frame, Source},
    watch::watch,
};
use crate::paths;
use anyhow::{Context, Result, bail};
use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Write,
    fs,
};

/// One operation, or as many as a single call does; few page tables, since each instruction is a line.
const ONE: &str = "operations=1 batches=1 tables=8";

/// Traces a row on Pavise: prints its functions and writes all of its instructions to a file.
///
/// # Errors
/// When there is no such row, Pavise doesn't do the operation, or the run fails.
pub fn trace(row: &str) -> Result<()> {
    let known = bars::GROUPS.iter().flat_map(|(group, bars)| bars.iter().map(move |bar| (*group, bar.name)));
    let group = known.clone().find(|(_, name)| *name == row).map(|(group, _)| group);
    let names = || known.map(|(_, name)| name).collect::<Vec<_>>().join(", ");
    let group = group.with_context(|| format!("no row {row}; there are {}", names()))?;
    let subject = Subject::pavise()?;
    let Subject::Pavise { built, .. } = &subject else { bail!("only Pavise has symbols") };
    let code = subject.code()?.iter().map(Code::range).collect::<Vec<_>>();
    let watched = watch(&subject, group, &format!("row={row} {ONE}"), &code, "trace")?;
    let watched = watched.first().context("the bench guest did nothing")?;
    let figure = watched.line.figure.as_ref();
    let operations = figure.map_err(|error| anyhow::anyhow!("Pavise answers {row} with {error}"))?.operations;

    let file = fs::read(&built.hypervisor)?;
    let source = Source::of(&file)?;
    let mut frames: HashMap<u64, Vec<Frame>> = HashMap::new();
    let mut functions: HashMap<&str, u64> = HashMap::new();
    for &address in &watched.executed {
        if let Entry::Vacant(vacant) = frames.entry(address) {
            vacant.insert(source.frames(address)?);
        }
    }
    for address in &watched.executed {
        let function = responsible(&frames[address]).map_or("?", |frame| &frame.function);
        *functions.entry(function).or_default() += 1;
    }
    print(row, &functions, watched.executed.len() as u64, operations);

    let path = paths::target().join("bench").join(format!("trace-{row}.txt"));
    fs::write(&path, listing(&watched.executed, &frames))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("each instruction, in order: {}", paths::shown(&path));
    Ok(())
}

/// The function that an instruction is counted for: the innermost of our own, so that what `core` does for it is its.
fn responsible(frames: &[Frame]) -> Option<&Frame> {
    frames.iter().find(|frame| frame.is_ours()).or(frames.last())
}

fn print(row: &str, functions: &HashMap<&str, u64>, total: u64, operations: u64) {
    let share = |count| Share { count, operations };
    println!("\n{row}: {} instructions of the hypervisor per operation", share(total));
    let mut functions: Vec<_> = functions.iter().collect();
    functions.sort_by_key(|(function, count)| (u64::MAX - *count, **function));
    for (function, &count) in functions {
        // Nearly all are ours, so that needs no saying.
        let function = function.replace("pavise::", "");
        println!("{:>9}{:>5} %  {function}", share(count), count * 100 / total.max(1));
    }
}

/// A line for each instruction: its address, where it comes from, and the functions around it.
fn listing(executed: &[u64], frames: &HashMap<u64, Vec<Frame>>) -> String {
    let mut text = String::new();
    for address in executed {
        let frames = &frames[address];
        let place = responsible(frames).and_then(|frame| frame.place.as_ref());
        let place = place.map(|(file, line)| format!("{file}:{line}")).unwrap_or_default();
        let functions = frames.iter().map(|frame| frame.function.as_str()).collect::<Vec<_>>().join(" < ");
        // Writing to a string can't fail.
        let _ = writeln!(text, "{address:016x}  {place:<48}  {functions}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, line: u32) -> Frame {
        Frame { function: function.to_owned(), place: Some(("a.rs".to_owned(), line)) }
    }

    #[test]
    fn library_code_counts_for_its_caller() {
        let frames = [frame("core::cmp::min", 7), frame("pavise::f", 8), frame("pavise::g", 9)];
        assert_eq!(responsible(&frames), Some(&frames[1]));
        assert_eq!(responsible(&frames[..1]), Some(&frames[0]));
        let all = HashMap::from([(1, frames.to_vec())]);
        let line = listing(&[1], &all);
        assert!(line.starts_with("0000000000000001  a.rs:8 "), "{line}");
        assert!(line.ends_with("  core::cmp::min < pavise::f < pavise::g\n"), "{line}");
    }
}
