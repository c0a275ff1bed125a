//! What the archive says: the machine's settings and its domains, as plain data.
//!
//! The field order is the encoding. A change here is a new format [`VERSION`](crate::VERSION).

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Longest domain name, in bytes.
pub const MAX_NAME: usize = 31;

/// Longest command line, in bytes: `start_info.cmd_line` holds 1024 (`MAX_GUEST_CMDLINE` in `xen/xen.h`), the last
/// of them a zero.
pub const MAX_COMMAND_LINE: usize = 1023;

/// Most virtual CPUs of one domain: what `shared_info` holds without `VCPUOP_register_vcpu_info`
/// (`XEN_LEGACY_MAX_VCPUS` in `xen/arch-x86/xen.h`).
pub const MAX_VCPUS: u32 = 32;

/// A span of the archive and the CRC-32 of its bytes. Read it with [`Archive::blob`](crate::Archive::blob).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Offset of the first byte from the start of the archive.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// CRC-32 (IEEE) of the bytes.
    pub crc32: u32,
}

/// The configuration of one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootConfig {
    /// The hypervisor's own console.
    pub console: ConsoleConfig,
    /// What happens once no domain is left running.
    pub when_all_stopped: WhenAllStopped,
    /// Whether guests run with the hypervisor's memory unmapped.
    pub xpti: Xpti,
    /// The domains, built in this order. The control domain is domain 0, the others count up from 1.
    pub domains: Vec<DomainConfig>,
    /// The hypervisor's symbol table ([`Symbols`](crate::Symbols)), for backtraces.
    pub symbols: Option<Blob>,
}

/// Settings of the hypervisor's console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleConfig {
    /// Least important message that is still printed.
    pub log_level: LogLevel,
}

/// Log levels, from the fewest messages to the most; the same steps as the `log` crate's filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// Things that stop a domain or the machine.
    Error,
    /// Things that are not as they should be.
    Warn,
    /// What a user wants to follow.
    Info,
    /// What a developer wants to follow.
    Debug,
    /// Everything.
    Trace,
}

/// What the hypervisor does once every domain has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenAllStopped {
    /// Power the machine off.
    PowerOff,
    /// Stay up, so that the console can be read.
    Stay,
    /// Write a result to QEMU's `isa-debug-exit` device at this I/O port, which ends QEMU: see the test suites.
    DebugExit(u16),
}

/// Page-table isolation (Xen: XPTI), against Meltdown. It costs two changes of CR3 for each entry to the hypervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Xpti {
    /// On CPUs that are exposed to Meltdown.
    #[default]
    Auto,
    /// On any CPU.
    On,
    /// On none: a hostile guest reads all memory of a CPU that is exposed.
    Off,
}

/// One domain as configured. Nothing here has been checked against the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainConfig {
    /// Name, unique on the machine, for messages.
    pub name: String,
    /// It controls the other domains: it may create, build and end them. At most one domain does.
    pub control: bool,
    /// The guest kernel's command line.
    pub command_line: String,
    /// Memory, in 4 KiB pages.
    pub memory_pages: u64,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Its part of the CPUs.
    pub scheduling: Scheduling,
    /// The guest kernel, an ELF file.
    pub kernel: Blob,
    /// An initial RAM disk, handed through as it is.
    pub ramdisk: Option<Blob>,
    /// Its disks, which the control domain gives it.
    pub disks: Vec<DiskConfig>,
    /// Its network devices, which the control domain gives it.
    pub networks: Vec<NetworkConfig>,
}

/// A network device of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Its address.
    pub mac: [u8; 6],
    /// How much it may send, in bytes per second. `None`: any amount.
    pub rate: Option<u64>,
    /// It may send from other addresses too.
    pub any_source: bool,
    /// The domain whose back end serves it. `None`: the control domain.
    pub backend: Option<String>,
}

/// A disk of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// Its name in the domain: `xvda` to `xvdp`.
    pub name: String,
    /// What it is.
    pub source: DiskSource,
    /// The domain can't write it.
    pub read_only: bool,
}

/// What a domain's disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskSource {
    /// A whole disk, by its serial number.
    Disk(String),
    /// A partition, by its label in a GUID partition table.
    Partition(String),
    /// What the back end of another domain, of this name, makes of it.
    Domain(String),
}

/// A domain's part of the CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// Share of the CPUs, relative to the other domains'.
    pub weight: u16,
    /// Limit, in percent of one CPU; 0 means none.
    pub cap: u16,
    /// The CPUs that it may use: bit n for CPU n.
    pub cpus: u64,
    /// The CPUs are this domain's alone, one for each virtual CPU.
    pub dedicated: bool,
}

impl Default for Scheduling {
    /// What a domain has of which nothing else is said: Xen's weight, no cap, all CPUs.
    fn default() -> Scheduling {
        Scheduling { weight: 256, cap: 0, cpus: u64::MAX, dedicated: false }
    }
}
