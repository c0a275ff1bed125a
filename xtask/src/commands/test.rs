//! `./x test`: hands over to the program of `tests/`.

use crate::{build::cargo, paths, step};
use anyhow::{Context, Result};
use clap::Args;
use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

/// Run the test suites: all, or those named
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct TestArgs {
    /// Passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Does it. On success the program of the suites takes the place of this one.
///
/// # Errors
/// When it can't be built or started.
pub fn test(args: &TestArgs) -> Result<()> {
    step::run("building the test suites", cargo().args(["build", "-p", "pavise-tests"]))?;
    let program = paths::target().join("debug/pavise-tests");
    Err(Command::new(&program).args(&args.args).exec()).with_context(|| format!("cannot start {}", program.display()))
}
