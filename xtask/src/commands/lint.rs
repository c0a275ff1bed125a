//! `./x lint`: formatting, and clippy with its warnings as errors.

use crate::{
    build::{add_bare_metal_args, cargo},
    step,
};
use anyhow::{Error, Result};
use clap::Args;
use std::process::Command;

/// Check formatting, and run clippy with warnings as errors
#[derive(Args, Debug)]
pub struct LintArgs {}

/// One check.
pub struct Check {
    /// What it is called.
    pub name: &'static str,
    command: Command,
}

impl Check {
    /// Runs it.
    ///
    /// # Errors
    /// What was found.
    pub fn run(&mut self) -> Result<()> {
        step::run(self.name, &mut self.command)
    }
}

/// All checks.
pub fn checks() -> Vec<Check> {
    let cargo_with = |args: &[&str]| {
        let mut command = cargo();
        command.args(args);
        command
    };
    let mut bare_metal = cargo_with(&["clippy"]);
    add_bare_metal_args(&mut bare_metal, &["pavise", "guest-kernel", "dom0"], "release");
    bare_metal.args(["--", "-D", "warnings"]);
    // The image maker is built and checked alone: see its Cargo.toml.
    let host = ["clippy", "--workspace", "--exclude", "imager", "--all-targets", "--", "-D", "warnings"];
    let imager = ["clippy", "-p", "imager", "--", "-D", "warnings"];
    vec![
        Check { name: "format", command: cargo_with(&["fmt", "--all", "--check"]) },
        Check { name: "clippy for the host", command: cargo_with(&host) },
        Check { name: "clippy for bare metal", command: bare_metal },
        Check { name: "clippy for the image maker", command: cargo_with(&imager) },
    ]
}

/// Runs all checks, and says at the end whether any failed.
///
/// # Errors
/// The first failure; the others are printed.
pub fn lint(_args: &LintArgs) -> Result<()> {
    let mut failures: Vec<Error> = checks().iter_mut().filter_map(|check| check.run().err()).collect();
    let last = failures.pop();
    for failure in failures {
        eprintln!("{failure:#}");
    }
    last.map_or(Ok(()), Err)
}
