//! Suite `boot`, machine files with mistakes: `./x` answers each with file, line, field and what was expected, and
//! boots nothing.

use super::boot::SUITE;
use crate::suite::{Ending, Test};
use anyhow::{Context, Result, ensure};
use std::fs;
use xtask::build;

/// A file without a mistake, up to its domains.
const MACHINE: &str = "[machine]\nmemory = \"256 MiB\"\ncpus = 1\n";
/// A domain without a mistake: lines 4 to 7 behind [`MACHINE`].
const DOMAIN: &str = "[[domain]]\nname = \"alpha\"\nkernel = \"guest:demo\"\nmemory = \"32 MiB\"\n";

/// A mistake: its name, the lines after [`MACHINE`], and what the answer must contain behind the file's name.
type Mistake = (&'static str, &'static [&'static str], &'static [&'static str]);

const MISTAKES: [Mistake; 8] = [
    ("unknown-field", &[DOMAIN, "colour = \"red\"\n"], &[":8: domain.colour: "]),
    (
        "kernel-missing",
        &[DOMAIN, "[[domain]]\nname = \"b\"\nmemory = \"8 MiB\"\nkernel = \"no-such\"\n"],
        &[":11: domain.kernel: ", "no-such does not exist"],
    ),
    (
        "kernel-no-elf",
        &["[[domain]]\nname = \"a\"\nmemory = \"8 MiB\"\nkernel = \"machine.toml\"\n"],
        &[":7: domain.kernel: ", "is not an ELF file"],
    ),
    ("two-names", &[DOMAIN, DOMAIN], &[":9: domain.name: ", "line 5"]),
    (
        "too-much-memory",
        &["[[domain]]\nname = \"a\"\nkernel = \"guest:demo\"\nmemory = \"255 MiB\"\n"],
        &[":2: machine.memory: ", "256 MiB"],
    ),
    ("wrong-type", &[DOMAIN, "vcpus = \"two\"\n"], &[":8: domain.vcpus: ", "expected"]),
    ("no-domain", &[], &["domain: missing", "expected"]),
    ("no-toml", &["[[domain]\n"], &[":4: "]),
];

/// One test for each mistake.
pub fn tests() -> Vec<Test> {
    let mistakes = MISTAKES.iter();
    mistakes.map(|mistake| Test::host(SUITE, format!("machine-file-{}", mistake.0), |_| is_answered(mistake))).collect()
}

fn is_answered((_, lines, expected): &Mistake) -> Result<Ending> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("machine.toml");
    fs::write(&file, format!("{MACHINE}{}", lines.concat()))?;
    let mut command = build::cargo();
    command.args(["run", "-q", "-p", "xtask", "--", "image"]).arg(&file);
    let output = command.output().context("cannot run cargo")?;
    let answer = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "the file was accepted");
    let missing: Vec<_> = expected.iter().filter(|part| !answer.contains(**part)).collect();
    ensure!(answer.contains("machine.toml:") && missing.is_empty(), "no {missing:?} in the answer:\n{answer}");
    Ok(Ending::Passed)
}
