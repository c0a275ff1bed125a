//! Makes the boot archive of a machine.

use crate::{
    build::Built,
    machine::{Domain, Machine},
    symbols,
};
use anyhow::{Context, Result};
use boot_archive::{ArchiveWriter, BootConfig, ConsoleConfig, DomainConfig};
use std::{fs, path::Path};

/// Reads the files that `machine` names and packs them with its settings.
///
/// # Errors
/// When a file can't be read.
pub fn make(machine: &Machine, built: &Built) -> Result<Vec<u8>> {
    let mut writer = ArchiveWriter::new();
    let domains = machine.domains.iter().map(|domain| pack(domain, &mut writer)).collect::<Result<_>>()?;
    let symbols = symbols::table(&read(&built.hypervisor)?).context("symbols of the hypervisor")?;
    let config = BootConfig {
        console: ConsoleConfig { log_level: machine.log_level },
        when_all_stopped: machine.when_all_stopped,
        domains,
        symbols: Some(writer.add(&symbols)),
    };
    Ok(writer.finish(config)?)
}

fn pack(domain: &Domain, writer: &mut ArchiveWriter) -> Result<DomainConfig> {
    let kernel = read(&domain.kernel.path())?;
    let ramdisk = domain.ramdisk.as_deref().map(read).transpose()?;
    Ok(DomainConfig {
        name: domain.name.clone(),
        control: domain.control,
        command_line: domain.command_line.clone(),
        memory_pages: domain.memory.pages(),
        vcpus: domain.vcpus,
        scheduling: domain.scheduling,
        kernel: writer.add(&kernel),
        ramdisk: ramdisk.map(|bytes| writer.add(&bytes)),
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
