//! Makes the boot archive of a machine.

use crate::{
    build::Built,
    debian::KernelPackage,
    initramfs, kernel,
    machine::{DOM0, Dom0, Domain, DomainDisk, DomainNetwork, Kernel, Machine, Memory, Ramdisk, Source},
    symbols,
};
use anyhow::{Context, Result, ensure};
use boot_archive::{
    ArchiveWriter, BootConfig, ConsoleConfig, DiskConfig, DiskSource, DomainConfig, NetworkConfig, WhenAllStopped,
};
use std::{fs, path::Path};

/// What the control domain needs for itself, beside its RAM disk.
const DOM0_ITSELF: Memory = Memory::mib(16);

/// Reads the files that `machine` names and packs them with its settings.
///
/// # Errors
/// When a file can't be read.
pub fn make(machine: &Machine, built: &Built) -> Result<Vec<u8>> {
    let mut writer = ArchiveWriter::new();
    let (domains, when_all_stopped) = match (&machine.dom0, machine.when_all_stopped) {
        (None, end) => (pack_all(machine, &mut writer)?, end),
        // Whether to stay when the others have stopped is left to dom0. Its own end is the machine's.
        (Some(dom0), WhenAllStopped::Stay) => (vec![pack_dom0(dom0, machine, &mut writer)?], WhenAllStopped::PowerOff),
        (Some(dom0), end) => (vec![pack_dom0(dom0, machine, &mut writer)?], end),
    };
    let symbols = symbols::table(&read(&built.hypervisor)?).context("symbols of the hypervisor")?;
    let config = BootConfig {
        console: ConsoleConfig { log_level: machine.log_level },
        when_all_stopped,
        domains,
        symbols: Some(writer.add(&symbols)),
    };
    Ok(writer.finish(config)?)
}

fn pack_all(machine: &Machine, writer: &mut ArchiveWriter) -> Result<Vec<DomainConfig>> {
    machine.domains.iter().map(|domain| pack(domain, writer)).collect()
}

fn pack(domain: &Domain, writer: &mut ArchiveWriter) -> Result<DomainConfig> {
    let kernel = kernel::elf(&domain.kernel.path()?)?;
    let ramdisk = domain.ramdisk.as_ref().map(|ramdisk| read_ramdisk(ramdisk, &domain.kernel)).transpose()?;
    Ok(DomainConfig {
        name: domain.name.clone(),
        control: domain.control,
        command_line: domain.command_line.clone(),
        memory_pages: domain.memory.pages(),
        vcpus: domain.vcpus,
        scheduling: domain.scheduling,
        kernel: writer.add(&kernel),
        ramdisk: ramdisk.map(|bytes| writer.add(&bytes)),
        disks: domain.disks.iter().map(pack_disk).collect(),
        networks: domain.networks.iter().map(pack_network).collect(),
    })
}

fn pack_disk(disk: &DomainDisk) -> DiskConfig {
    let source = match &disk.source {
        Source::Disk(name) => DiskSource::Disk(name.clone()),
        Source::Partition(label) => DiskSource::Partition(label.clone()),
        Source::Domain(name) => DiskSource::Domain(name.clone()),
    };
    DiskConfig { name: disk.name.clone(), source, read_only: disk.read_only }
}

fn pack_network(network: &DomainNetwork) -> NetworkConfig {
    let DomainNetwork { mac, rate, any_source, backend } = network.clone();
    NetworkConfig { mac, rate, any_source, backend }
}

/// The control domain, whose RAM disk is an archive of the other domains.
fn pack_dom0(dom0: &Dom0, machine: &Machine, writer: &mut ArchiveWriter) -> Result<DomainConfig> {
    let mut inner = ArchiveWriter::new();
    let config = BootConfig {
        console: ConsoleConfig { log_level: dom0.log_level },
        when_all_stopped: machine.when_all_stopped,
        domains: pack_all(machine, &mut inner)?,
        symbols: None,
    };
    let ramdisk = inner.finish(config)?;
    let needed = Memory::mib((ramdisk.len() as u64).div_ceil(1 << 20) + DOM0_ITSELF.as_mib());
    ensure!(
        dom0.memory >= needed,
        "dom0.memory: {} is too little: the kernels and RAM disks of the other domains are in there; expected at least \
         \"{needed}\"",
        dom0.memory
    );
    Ok(DomainConfig {
        name: DOM0.to_owned(),
        control: true,
        command_line: dom0.command_line.clone(),
        memory_pages: dom0.memory.pages(),
        vcpus: 1,
        scheduling: dom0.scheduling,
        kernel: writer.add(&kernel::elf(&dom0.kernel.path()?)?),
        ramdisk: Some(writer.add(&ramdisk)),
        disks: Vec::new(),
        networks: Vec::new(),
    })
}

/// The bytes of a RAM disk for a kernel.
fn read_ramdisk(ramdisk: &Ramdisk, kernel: &Kernel) -> Result<Vec<u8>> {
    match (ramdisk, kernel) {
        (Ramdisk::File(path), _) => read(path),
        (Ramdisk::Busybox(extras), Kernel::Debian(name)) => initramfs::make(Some(&KernelPackage::get(name)?), extras),
        (Ramdisk::Busybox(extras), _) => initramfs::make(None, extras),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
