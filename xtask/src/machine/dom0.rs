//! The section `[dom0]`: the control domain that creates all others and has the devices.

use super::parse::{command_line, kernel, memory};
use super::reader::{Located, Section, choice};
use super::scheduling::PartialScheduling;
use super::{Kernel, LEAST_DOMAIN_MEMORY, LOG_LEVELS, MACHINE_MEMORY, Memory};
use boot_archive::{LogLevel, Scheduling};
use std::path::Path;

/// Its name, which no other domain may have.
pub const NAME: &str = "dom0";
/// Its kernel, if the file doesn't name another.
const KERNEL: &str = "dom0";

/// The control domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dom0 {
    /// Its kernel.
    pub kernel: Kernel,
    /// Its kernel's command line.
    pub command_line: String,
    /// Its memory. The kernels and RAM disks of the other domains must fit into it.
    pub memory: Memory,
    /// Least important of its own messages that is printed.
    pub log_level: LogLevel,
    /// Its part of the CPUs.
    pub scheduling: Scheduling,
}

impl Dom0 {
    /// Our own, with so much memory.
    pub fn with_memory(memory: Memory) -> Self {
        Self {
            kernel: Kernel::Built(KERNEL.to_owned()),
            command_line: String::new(),
            memory,
            log_level: LogLevel::Info,
            scheduling: Scheduling::default(),
        }
    }
}

/// A control domain of which some fields may be missing, which then has been noted.
pub struct PartialDom0 {
    pub line: usize,
    pub memory: Option<Located<Memory>>,
    pub scheduling: PartialScheduling,
    kernel: Option<Located<Kernel>>,
    command_line: Option<Located<String>>,
    log_level: Option<Located<LogLevel>>,
}

impl PartialDom0 {
    /// Reads the section.
    pub fn read(mut section: Section<'_, '_>, folder: &Path) -> Self {
        let (least, most) = (LEAST_DOMAIN_MEMORY, MACHINE_MEMORY.1);
        let amounts = format!("an amount of memory, at least \"{least}\"");
        let dom0 = Self {
            line: section.line(),
            kernel: section.optional("kernel", |value| kernel(value, folder)),
            command_line: section.optional("command_line", command_line),
            memory: section.required("memory", &amounts, |value| memory(value, least, most)),
            log_level: section.optional("log_level", |value| choice(value, &LOG_LEVELS)),
            scheduling: PartialScheduling::read(&mut section),
        };
        section.finish();
        dom0
    }

    /// The whole of it, if nothing is missing.
    pub fn whole(self) -> Option<Dom0> {
        let plain = Dom0::with_memory(self.memory?.value);
        Some(Dom0 {
            kernel: self.kernel.map_or(plain.kernel, |kernel| kernel.value),
            command_line: self.command_line.map(|line| line.value).unwrap_or_default(),
            log_level: self.log_level.map_or(plain.log_level, |level| level.value),
            scheduling: self.scheduling.whole(),
            memory: plain.memory,
        })
    }
}
