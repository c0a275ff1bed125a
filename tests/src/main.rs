//! The test suites behind `./x test`: chooses tests, runs them, and ends with `N passed, N failed, N skipped`.
//!
//! A suite is a function in [`suites`] that lists [`suite::Test`]s. Most tests are a [`scenario::Scenario`]: a machine
//! that Pavise boots on in QEMU, and what is expected and typed in it step by step.
#![forbid(unsafe_code)]

mod context;
mod damage;
mod differences;
mod guest;
mod libtest;
mod monitor;
mod outside;
mod pattern;
mod report;
mod running;
mod scenario;
mod suite;
mod suites;
mod telling;
mod together;
mod write_log;
mod xen;

use anyhow::Result;
use clap::Parser;
use context::Context;
use std::{num::NonZeroUsize, process::ExitCode};

/// Run the test suites: all, or those named
///
/// The closing line is `N passed, N failed, N skipped`. What a machine said is in target/tests.
#[derive(Parser)]
#[command(name = "./x test", disable_version_flag = true)]
struct Cli {
    /// Suites to run [default: all]
    #[arg(value_name = "SUITE")]
    suites: Vec<String>,
    /// Also what takes minutes: all machines of the suites that have many, and the long tests
    #[arg(long)]
    full: bool,
    /// List the names of the tests, and run nothing
    #[arg(long)]
    list: bool,
    /// Run only tests that have this in their name
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Number of machines that run side by side
    #[arg(long, value_name = "N", default_value = "2")]
    jobs: NonZeroUsize,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let tests = suite::choose(suites::all(cli.full)?, &cli.suites, cli.only.as_deref())?;
    if cli.list {
        tests.iter().for_each(|test| println!("{}", test.full_name()));
        return Ok(ExitCode::SUCCESS);
    }
    let tally = report::run(tests, &Context::default(), cli.jobs);
    println!("{tally}");
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
