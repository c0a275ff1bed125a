//! Guest kernels as files: what a file is, and the ELF file that is booted.
//!
//! Only what a person gets wrong is looked for here: the hypervisor checks it all.

mod bzimage;
mod payload;
#[cfg(test)]
mod tests;

use crate::{paths, step};
use anyhow::{Context, Result};
use elf::{ElfBytes, abi, endian::LittleEndian, file::Class};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a kernel's file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind<'a> {
    /// A 64-bit x86-64 ELF file with something to load.
    Elf,
    /// A Linux bzImage with such a file inside, compressed.
    BzImage(payload::Payload<'a>),
}

/// Checks the file; an answer other than `Ok` says what it is instead of a 64-bit x86-64 ELF file or a bzImage.
///
/// # Errors
/// A sentence without its subject, such as "is not an ELF file".
pub fn check(path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    })?;
    kind(&bytes).map(|_| ()).map_err(|problem| format!("{} {problem}", path.display()))
}

/// The bytes of the ELF file that is inside the bzImage at `path`; those of any other file as they are, which the reader of
/// the machine file has [checked](check). What is unpacked is kept under `target/kernels`.
///
/// # Errors
/// When what is inside a bzImage is broken, or no kernel.
pub fn elf(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let problem = |problem| anyhow::anyhow!("{} {problem}", path.display());
    let Some(payload) = bzimage::payload(&bytes).map_err(problem)? else { return Ok(bytes) };
    let payload = payload::Payload::of(payload).map_err(problem)?;
    let kept = kept(&bytes);
    if let Ok(elf) = fs::read(&kept) {
        return Ok(elf);
    }
    let elf = step::compute(&format!("unpacking {}", paths::shown(path)), || payload.unpack())
        .with_context(|| format!("{} can't be unpacked", path.display()))?;
    check_elf(&elf).map_err(|problem| anyhow::anyhow!("what is packed in {} {problem}", path.display()))?;
    keep(&kept, &elf).with_context(|| format!("cannot write {}", kept.display()))?;
    Ok(elf)
}

/// Where the unpacked form of a file with these contents is kept.
fn kept(bytes: &[u8]) -> PathBuf {
    paths::target().join("kernels").join(format!("{:08x}-{:x}.elf", crc32fast::hash(bytes), bytes.len()))
}

/// Writes a file so that it is there whole or not at all.
fn keep(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file without a folder")?;
    fs::create_dir_all(folder)?;
    let part = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(part.path(), bytes)?;
    part.persist(path)?;
    Ok(())
}

fn kind(bytes: &[u8]) -> Result<Kind<'_>, String> {
    match bzimage::payload(bytes)? {
        Some(payload) => Ok(Kind::BzImage(payload::Payload::of(payload)?)),
        None => check_elf(bytes).map(|()| Kind::Elf).map_err(str::to_owned),
    }
}

fn check_elf(bytes: &[u8]) -> Result<(), &'static str> {
    if bytes.get(abi::EI_CLASS) == Some(&abi::ELFCLASS32) && bytes.starts_with(&abi::ELFMAGIC) {
        return Err("is a 32-bit ELF file");
    }
    let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|_| "is not an ELF file")?;
    if file.ehdr.class != Class::ELF64 || file.ehdr.e_machine != abi::EM_X86_64 {
        return Err("is an ELF file for another kind of CPU");
    }
    if file.segments().is_none_or(|segments| segments.is_empty()) {
        return Err("is an ELF file with nothing to load, perhaps an object file");
    }
    Ok(())
}
