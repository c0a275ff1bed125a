//! Suite `host`: unit and property tests of everything that runs on the host, by `cargo test`.

use crate::{
    context::write_log,
    libtest,
    suite::{Ending, Test},
};
use anyhow::{Context, Result};
use xtask::{build, step};

/// What is tested: packages, and for those of bare-metal programs the part that compiles for the host.
const PARTS: [(&str, &[&str]); 9] = [
    ("addresses", &[]),
    ("pv-abi", &[]),
    ("boot-archive", &[]),
    ("domain-builder", &[]),
    ("pavise", &["--lib"]),
    ("guest-kernel", &[]),
    ("dom0", &["--lib"]),
    ("xtask", &[]),
    ("pavise-tests", &[]),
];

/// Lines shown of a failure.
const SHOWN: usize = 60;

/// One test for each package, which counts as many as it has.
pub fn tests() -> Vec<Test> {
    PARTS.iter().map(|(package, args)| Test::host("host", *package, |_| cargo_test(package, args))).collect()
}

fn cargo_test(package: &str, args: &[&str]) -> Result<Ending> {
    eprintln!("- testing {package}");
    let mut command = build::cargo();
    command.args(["test", "--no-fail-fast", "-p", package]).args(args).env("RUST_BACKTRACE", "0");
    let output = command.output().with_context(|| format!("cannot run {}", step::shown(&command)))?;
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    let log = write_log(&format!("host/{package}"), &text)?;
    let results = libtest::count(&text, output.status.success());
    Ok(Ending::Counted(results.tally, details(&results, &text, &log)))
}

/// Names of the failed tests and what they said; or what the compiler said, when no test ran.
fn details(results: &libtest::Results, output: &str, log: &str) -> String {
    let from = |start: fn(&str) -> bool| output.lines().skip_while(move |line| !start(line)).take(SHOWN);
    let mut said: Vec<&str> = from(|line| line == "failures:").collect();
    if said.is_empty() {
        said = from(|line| line.starts_with("error")).collect();
    }
    let failed: String = results.failed.iter().map(|name| format!("failed: {name}\n")).collect();
    format!("{failed}{}\nall of it: {log}", said.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;
    use std::{fs, path::Path};
    use xtask::{debian::entries, paths};

    /// Does a Rust file below this folder, if there is one, have a test?
    fn has_tests(folder: &Path) -> bool {
        entries(folder).unwrap_or_default().iter().any(|path| {
            let is_rust = path.extension().is_some_and(|extension| extension == "rs");
            (path.is_dir() && has_tests(path))
                || (is_rust && fs::read_to_string(path).unwrap().lines().any(|line| line.trim() == "#[test]"))
        })
    }

    #[test]
    fn every_package_with_tests_is_in_the_list() {
        let name = Regex::new("(?m)^name = \"(.*)\"$").unwrap();
        let packages = entries(paths::root()).unwrap().into_iter().filter(|folder| has_tests(&folder.join("src")));
        let mut names: Vec<_> = packages
            .map(|folder| fs::read_to_string(folder.join("Cargo.toml")).unwrap())
            .map(|manifest| name.captures(&manifest).unwrap()[1].to_owned())
            .collect();
        let mut listed = PARTS.map(|(package, _)| package);
        names.sort();
        listed.sort();
        assert_eq!(names, listed);
    }

    #[test]
    fn a_failure_shows_what_was_said() {
        let output = "error: test failed\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\nboom\n";
        let details = details(&libtest::count(output, false), output, "x.log");
        assert_eq!(details, "failed: a\nfailures:\n\n---- a stdout ----\nboom\nall of it: x.log");
    }

    #[test]
    fn without_tests_it_shows_the_compilers_error() {
        let output = "   Compiling x\nerror[E0425]: no such thing\n --> x.rs:1:1\n";
        let details = details(&libtest::count(output, false), output, "x.log");
        assert_eq!(details, "error[E0425]: no such thing\n --> x.rs:1:1\nall of it: x.log");
    }
}
