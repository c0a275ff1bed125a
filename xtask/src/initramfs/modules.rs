//! Kernel modules, and in which order they can be loaded.

use crate::debian;
use anyhow::{Context, Result, bail};
use elf::{ElfBytes, endian::LittleEndian};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// A kernel module.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// Its ELF file.
    pub bytes: Vec<u8>,
}

/// The modules named `wanted` that are in the folder of a kernel's modules, each behind those that it depends on. One that
/// isn't there is built into the kernel.
///
/// # Errors
/// When a module can't be read.
pub fn with_dependencies(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    find(folder, &mut files)?;
    let mut found = Vec::new();
    for name in wanted {
        add(&name.replace('-', "_"), &files, &mut found)?;
    }
    Ok(found)
}

/// Adds a module behind its dependencies. A kernel's modules depend on each other without a circle.
fn add(name: &str, files: &BTreeMap<String, PathBuf>, found: &mut Vec<Module>) -> Result<()> {
    if found.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let Some(path) = files.get(name) else { return Ok(()) };
    let bytes = read(path).with_context(|| format!("cannot read {}", path.display()))?;
    for needed in dependencies(&bytes).with_context(|| format!("{} is no kernel module", path.display()))? {
        add(&needed, files, found)?;
    }
    found.push(Module { name: name.to_owned(), bytes });
    Ok(())
}

/// The modules below a folder, by name.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for path in debian::entries(folder)? {
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some((name, _)) = path.file_name().and_then(|name| name.to_str()?.split_once(".ko")) {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// A module's file, unpacked: newer packages have them compressed.
fn read(path: &Path) -> Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(fs::read(path)?),
        Some("xz") => {
            let mut bytes = Vec::new();
            xz4rust::XzReader::new(File::open(path)?).read_to_end(&mut bytes)?;
            Ok(bytes)
        }
        _ => bail!("is in a form that is not known"),
    }
}

/// The names in a module's field `depends`.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(module)?;
    let section = file.section_header_by_name(".modinfo")?.context("no section .modinfo")?;
    let (info, _) = file.section_data(&section)?;
    let mut fields = info.split(|&byte| byte == 0);
    let depends = fields.find_map(|field| field.strip_prefix(b"depends=")).unwrap_or_default();
    let names = str::from_utf8(depends)?.split(',').filter(|name| !name.is_empty());
    Ok(names.map(|name| name.replace('-', "_")).collect())
}
