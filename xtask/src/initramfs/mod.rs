//! A RAM disk for Linux guests: Debian's busybox, kernel modules for the guest's devices, and the files of the folder
//! `initramfs` of the repository.
//!
//! The same packages and files make the same bytes.

mod modules;

use crate::{debian, debian::KernelPackage, paths};
use anyhow::{Context, Result, ensure};
use cpio::newc::{self, ModeFileType};
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The folder of files that are taken as they are.
const FILES: &str = "initramfs";

/// Folders that are there from the start.
const FOLDERS: [&str; 14] =
    ["bin", "dev", "etc", "lib", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "usr/bin", "usr/sbin"];

/// Modules that are loaded at the start, with those that they depend on. The file system asks for its checksum by name,
/// which nobody answers in a RAM disk.
const MODULES: [&str; 4] = ["xen-blkfront", "xen-netfront", "crc32c_generic", "ext4"];

/// Where the modules are, and the list of them in the order in which they can be loaded.
const MODULE_FOLDER: &str = "lib/modules";
const MODULE_ORDER: &str = "lib/modules/order";

/// A file that is put into the RAM disk beside what all of them have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extra {
    /// Where it goes: a path without a slash in front, in a folder that is there.
    pub to: String,
    /// The file, which is executable there if it is here.
    pub from: PathBuf,
}

/// Makes the RAM disk. `modules` are a kernel's; a kernel without some has the drivers built in, or none.
///
/// # Errors
/// When a package can't be fetched or a file can't be read.
pub fn make(kernel: Option<&KernelPackage>, extras: &[Extra]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder)?;
    }
    // The kernel opens it for the first program, which mounts the others.
    archive.entry("dev/console", ModeFileType::Char, 0o600, (5, 1), &[])?;
    archive.file("bin/busybox", 0o755, &read(&debian::busybox()?)?)?;
    archive.add_tree(&paths::root().join(FILES), "")?;
    archive.folder(MODULE_FOLDER)?;
    let modules = kernel.map(|kernel| modules::with_dependencies(&kernel.modules()?, &MODULES)).transpose()?;
    let mut order = String::new();
    for module in modules.unwrap_or_default() {
        let path = format!("{MODULE_FOLDER}/{}.ko", module.name);
        archive.file(&path, 0o644, &module.bytes)?;
        order.push_str(&format!("/{path}\n"));
    }
    archive.file(MODULE_ORDER, 0o644, order.as_bytes())?;
    for extra in extras {
        archive.copy(&extra.from, &extra.to)?;
    }
    archive.finish()
}

/// A cpio archive in the form that Linux unpacks (`Documentation/driver-api/early-userspace/buffer-format.rst`).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    /// Entries so far: files with the same number would be links to each other.
    entries: u32,
}

impl Archive {
    fn entry(
        &mut self,
        path: &str,
        kind: ModeFileType,
        rights: u32,
        device: (u32, u32),
        contents: &[u8],
    ) -> Result<()> {
        self.entries += 1;
        let header = newc::Builder::new(path).ino(self.entries).nlink(1).mode(rights).set_mode_file_type(kind);
        let header = header.rdev_major(device.0).rdev_minor(device.1);
        let mut entry = header.write(&mut self.bytes, u32::try_from(contents.len())?);
        entry.write_all(contents)?;
        entry.finish()?;
        Ok(())
    }

    fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(path, ModeFileType::Directory, 0o755, (0, 0), &[])
    }

    fn file(&mut self, path: &str, rights: u32, contents: &[u8]) -> Result<()> {
        self.entry(path, ModeFileType::Regular, rights, (0, 0), contents)
    }

    /// A file of the host's, executable if it is there.
    fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let executable = fs::metadata(from).is_ok_and(|metadata| metadata.permissions().mode() & 0o100 != 0);
        self.file(to, if executable { 0o755 } else { 0o644 }, &read(from)?)
    }

    /// All files of a folder, by name. `to` is where they go, with a slash behind unless it is the top.
    fn add_tree(&mut self, folder: &Path, to: &str) -> Result<()> {
        for path in debian::entries(folder)? {
            let name = path.file_name().and_then(|name| name.to_str()).context("a file name that is no text")?;
            let place = format!("{to}{name}");
            if path.is_dir() {
                if !FOLDERS.contains(&place.as_str()) {
                    self.folder(&place)?;
                }
                self.add_tree(&path, &format!("{place}/"))?;
            } else {
                self.copy(&path, &place)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        let bytes = newc::trailer(self.bytes)?;
        ensure!(bytes.len().is_multiple_of(4), "a cpio archive of {} bytes", bytes.len());
        Ok(bytes)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn an_archive_has_what_was_put_in() {
        let mut archive = Archive::default();
        archive.folder("etc").unwrap();
        archive.file("etc/motd", 0o644, b"hello").unwrap();
        archive.entry("dev/console", ModeFileType::Char, 0o600, (5, 1), &[]).unwrap();
        let bytes = archive.finish().unwrap();

        let mut rest = &bytes[..];
        let mut found = Vec::new();
        loop {
            let mut entry = newc::Reader::new(rest).unwrap();
            if entry.entry().is_trailer() {
                break;
            }
            let (name, mode, device) =
                (entry.entry().name().to_owned(), entry.entry().mode(), entry.entry().rdev_major());
            let mut contents = String::new();
            entry.read_to_string(&mut contents).unwrap();
            found.push((name, mode, device, contents));
            rest = entry.finish().unwrap();
        }
        assert_eq!(
            found,
            [
                ("etc".to_owned(), 0o040_755, 0, String::new()),
                ("etc/motd".to_owned(), 0o100_644, 0, "hello".to_owned()),
                ("dev/console".to_owned(), 0o020_600, 5, String::new()),
            ]
        );
    }
}
