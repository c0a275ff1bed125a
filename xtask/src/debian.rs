//! Debian's packages: kernels, what an initramfs is made of, and whole root file systems. They are fetched with apt and
//! unpacked under `target/debian`; nothing is installed.

use crate::{machine::Memory, paths, step};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Fetches a package where it isn't there yet, and prints the folder with its files.
const FETCH: &str = "scripts/fetch-debian";

/// The kernels that machine files can name as `debian:NAME`: Debian's package for the newest one is `linux-image-NAME`, for
/// those that begin with [`BACKPORTS`] that of the suite with newer ones than Debian's release has.
pub const KERNELS: [&str; 4] = ["amd64", "cloud-amd64", "rt-amd64", "backports-amd64"];

/// What the names of backported kernels begin with, and the suite with their packages.
const BACKPORTS: &str = "backports-";
const BACKPORTS_SUITE: &str = "bookworm-backports";

/// Makes an image with the root file system of a release where it isn't there yet.
const MAKE_ROOT: &str = "scripts/make-debian-root";

/// The releases whose root file system machine files can name as `debian:NAME`.
pub const RELEASES: [&str; 1] = ["bookworm"];

/// The size of the images of root file systems as they are made, and so the least of a disk with one.
pub const LEAST_DISK: Memory = Memory::gib(1);

/// What is unpacked of a kernel's package: the kernel, its symbols and configuration, and modules for a guest's devices
/// and file systems.
const KERNEL_FILES: [&str; 5] =
    ["./boot/*", "*/kernel/drivers/*/xen-*.ko*", "*/kernel/fs/*.ko*", "*/kernel/lib/*.ko*", "*/kernel/crypto/*.ko*"];

/// A kernel and its modules.
#[derive(Clone, Debug)]
pub struct KernelPackage {
    folder: PathBuf,
}

impl KernelPackage {
    /// One of the [`KERNELS`].
    ///
    /// # Errors
    /// When it can't be fetched, with the reason in one line.
    pub fn get(name: &str) -> Result<Self> {
        let package = match name.strip_prefix(BACKPORTS) {
            Some(name) => format!("linux-image-{name}@{BACKPORTS_SUITE}"),
            None => format!("linux-image-{name}"),
        };
        Ok(Self { folder: fetch(&package, &KERNEL_FILES)? })
    }

    /// The kernel, a bzImage.
    ///
    /// # Errors
    /// When the package has none.
    pub fn image(&self) -> Result<PathBuf> {
        let boot = self.folder.join("boot");
        let is_image = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("vmlinuz-"))
        };
        let found = entries(&boot)?.into_iter().find(is_image);
        found.with_context(|| format!("no kernel in {}", boot.display()))
    }

    /// The folder of its modules, named by the kernel's release.
    ///
    /// # Errors
    /// When the package has none.
    pub fn modules(&self) -> Result<PathBuf> {
        // Newer packages have everything below `usr`.
        for parent in ["lib/modules", "usr/lib/modules"] {
            let parent = self.folder.join(parent);
            if parent.is_dir()
                && let Some(folder) = entries(&parent)?.into_iter().next()
            {
                return Ok(folder);
            }
        }
        bail!("no modules in {}", self.folder.display())
    }
}

/// The program that has all others in one file, without libraries.
///
/// # Errors
/// When it can't be fetched.
pub fn busybox() -> Result<PathBuf> {
    let folder = fetch("busybox-static", &["*bin/busybox"])?;
    let found = ["bin/busybox", "usr/bin/busybox"].map(|path| folder.join(path)).into_iter().find(|path| path.exists());
    found.with_context(|| format!("no busybox in {}", folder.display()))
}

/// The ext4 image with the root file system of one of the [`RELEASES`], of [`LEAST_DISK`]: systemd, udev, apt, a shell for
/// root on `hvc0`, and `eth0` by DHCP. It is nobody's disk: it is copied.
///
/// # Errors
/// When a package can't be fetched or the image can't be made, with the output of what failed.
pub fn root(release: &str) -> Result<PathBuf> {
    let image = paths::target().join("debian").join(format!("root-{release}.ext4"));
    if !image.exists() {
        let mut command = Command::new(paths::root().join(MAKE_ROOT));
        command.args([release, &format!("{}M", LEAST_DISK.as_mib())]).arg(&image);
        step::run(&format!("making a root file system of Debian's {release}"), &mut command)?;
    }
    Ok(image)
}

/// The folder with the files of a package that match the patterns. `package` may name a suite of Debian's: `NAME@SUITE`.
fn fetch(package: &str, patterns: &[&str]) -> Result<PathBuf> {
    let folder = paths::target().join("debian").join(package);
    if !folder.exists() {
        let mut command = Command::new(paths::root().join(FETCH));
        step::run(&format!("fetching Debian's {package}"), command.arg(package).args(patterns))?;
    }
    Ok(folder)
}

/// What is in a folder, by name.
///
/// # Errors
/// When it can't be read.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
