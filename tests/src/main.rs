//! Command line of the test suites. `./x test` starts it.
#![forbid(unsafe_code)]

use clap::Parser;
use pavise_tests::{
    run::{Place, Test, run_on_host, run_on_machines},
    suites,
    tally::{Outcome, Tally, report},
    workshop::Workshop,
};
use std::{process::ExitCode, time::Duration};

/// Run the test suites
#[derive(Parser)]
#[command(name = "./x test")]
struct Cli {
    /// Suites to run: all, if none is named
    suites: Vec<String>,
    /// Run the whole boot matrix
    #[arg(long)]
    full: bool,
    /// List the tests and run none
    #[arg(long)]
    list: bool,
    /// Run only tests that have this in their name
    #[arg(long)]
    only: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let known = suites::names();
    if let Some(unknown) = cli.suites.iter().find(|name| !known.contains(name)) {
        eprintln!("error: there is no suite '{unknown}'; there are {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let wanted = |test: &Test| {
        (cli.suites.is_empty() || cli.suites.contains(&test.suite))
            && cli.only.as_ref().is_none_or(|text| test.name.contains(text.as_str()))
    };
    let tests: Vec<Test> = suites::all(cli.full).into_iter().filter(wanted).collect();
    if cli.list {
        tests.iter().for_each(|test| println!("{:<8} {}", test.suite, test.name));
        return ExitCode::SUCCESS;
    }
    let tally = run(tests);
    println!("{tally}");
    if tally.failed == 0 && tally.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(tests: Vec<Test>) -> Tally {
    let (on_host, on_machines): (Vec<_>, Vec<_>) =
        tests.into_iter().partition(|test| matches!(test.place, Place::Host(_)));
    let mut tally = run_on_host(on_host);
    if on_machines.is_empty() {
        return tally;
    }
    match Workshop::build() {
        Ok(workshop) => tally.add(run_on_machines(on_machines, &workshop)),
        Err(error) => {
            tally.add(report("build", "bare metal", &Outcome::Fail(format!("{error:#}")), Duration::ZERO));
            eprintln!("{} tests on machines were not run", on_machines.len());
        }
    }
    tally
}
