//! Compiles the bare-metal crates, with their own target and a `core` built for it.

use crate::{paths, step};
use anyhow::{Context, Result, ensure};
use std::{env, ffi::OsString, fs, path::PathBuf, process::Command};

/// The Rust guest kernels that machine files can name as `guest:NAME`.
pub const GUESTS: [&str; 6] = ["bench", "demo", "devices", "direct", "dom0", "selftest"];

/// Those of them that are built with the profile `dom0`, so that a panic can be unwound: the package dom0's.
const UNWINDING: [&str; 3] = ["devices", "direct", "dom0"];

/// The hypervisor's binary.
const HYPERVISOR: &str = "pavise-hv";

/// What [`bare_metal`] built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The hypervisor with its symbols, for GDB and for the archive's symbol table.
    pub hypervisor: PathBuf,
    /// The hypervisor as it boots, without symbols.
    pub hypervisor_stripped: PathBuf,
}

/// The stripped ELF file of one of the [`GUESTS`].
pub fn guest(name: &str) -> PathBuf {
    paths::stripped().join(name)
}

/// The ELF file with symbols of one of the [`GUESTS`], or of the hypervisor.
pub fn with_symbols(name: &str) -> PathBuf {
    paths::bare_metal(if UNWINDING.contains(&name) { "dom0" } else { "release" }).join(name)
}

/// The cargo that runs this, or the first on the path.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(paths::root());
    command
}

/// Adds what every bare-metal cargo command needs: the packages, the profile, the target, and the standard library from
/// source.
pub fn add_bare_metal_args(command: &mut Command, packages: &[&str], profile: &str) {
    packages.iter().for_each(|package| _ = command.args(["-p", package]));
    command.args(["--bins", "--profile", profile, "--target", "x86_64-hv.json"]);
    command.args(["-Zjson-target-spec", "-Zbuild-std=core,alloc,compiler_builtins"]);
    command.arg("-Zbuild-std-features=compiler-builtins-mem");
}

/// Builds the hypervisor and the guests, and makes the stripped copies.
///
/// # Errors
/// When a build fails; the message has the compiler's output.
pub fn bare_metal() -> Result<Built> {
    let parts: [(&str, &[&str], &str); 2] = [
        ("building the hypervisor and its guests", &["pavise", "guest-kernel"], "release"),
        ("building dom0", &["dom0"], "dom0"),
    ];
    for (what, packages, profile) in parts {
        let mut command = cargo();
        command.arg("build");
        add_bare_metal_args(&mut command, packages, profile);
        step::run(what, &mut command)?;
    }

    let objcopy = objcopy()?;
    fs::create_dir_all(paths::stripped())?;
    for name in GUESTS.into_iter().chain([HYPERVISOR]) {
        let (from, to) = (with_symbols(name), paths::stripped().join(name));
        let status = Command::new(&objcopy).arg("--strip-all").args([&from, &to]).status();
        let ok = status.with_context(|| format!("cannot run {}", objcopy.display()))?.success();
        ensure!(ok, "{} --strip-all failed on {}", objcopy.display(), from.display());
    }
    Ok(Built { hypervisor: with_symbols(HYPERVISOR), hypervisor_stripped: paths::stripped().join(HYPERVISOR) })
}

/// Builds one of the programs for Linux guests, without libraries and symbols.
///
/// # Errors
/// When the build fails; the message has the compiler's output.
pub fn linux_program(name: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["rustc", "-p", "linux-programs", "--bin", name, "--release", "--"]);
    command.args(["-Ctarget-feature=+crt-static", "-Cstrip=symbols"]);
    step::run(&format!("building {name}"), &mut command)?;
    Ok(paths::target().join("release").join(name))
}

/// The toolchain's own `llvm-objcopy`.
fn objcopy() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).current_dir(paths::root()).output();
    let output = output.context("cannot run rustc: use ./x, which sets up the toolchain")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let objcopy = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/llvm-objcopy");
    ensure!(
        objcopy.exists(),
        "{} is missing: use ./x, which sets up the toolchain, or `rustup component add llvm-tools`",
        objcopy.display()
    );
    Ok(objcopy)
}
