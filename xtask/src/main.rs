//! The command line behind `./x`.
#![forbid(unsafe_code)]

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::{
    commands::{bench, build, image, lint, run, test},
    machine::Mistakes,
};

/// Pavise: build, run and test the hypervisor
#[derive(Parser)]
#[command(name = "./x", bin_name = "./x", arg_required_else_help = true, disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Build(build::BuildArgs),
    Image(image::ImageArgs),
    Test(test::TestArgs),
    Bench(bench::BenchArgs),
    Lint(lint::LintArgs),
}

fn main() -> ExitCode {
    match dispatch(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<Mistakes>() {
                Some(mistakes) => eprintln!("{mistakes}"),
                None => eprintln!("error: {error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Build(args) => build::build(args),
        Command::Image(args) => image::image(args),
        Command::Test(args) => test::test(args),
        Command::Bench(args) => bench::bench(args),
        Command::Lint(args) => lint::lint(args),
    }
}
