//! From a machine file's text to a checked [`Machine`].

use super::disks::{self, DomainDisks};
use super::dom0::{self, PartialDom0};
use super::drivers::{self, Client};
use super::networks::{self, DomainNetworks};
use super::{
    Chipset, Domain, Firmware, Kernel, LEAST_DOMAIN_MEMORY, LOG_LEVELS, MACHINE_MEMORY, MAX_CPUS, Machine, Memory,
    Mistakes, Overrides, Ramdisk, hypervisor_memory,
    reader::{Located, Notes, Section, Wrong, choice, flag, number, text},
    scheduling::{self, PartialScheduling},
};
use crate::{build, debian, kernel, paths, qemu::DEBUG_EXIT_PORT};
use boot_archive::{MAX_COMMAND_LINE, MAX_NAME, MAX_VCPUS, WhenAllStopped};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// What is Debian's begins with this.
const DEBIAN: &str = "debian:";

/// Parses and checks the text of the machine file at `path`.
pub fn parse(path: &Path, file: &str, overrides: Overrides) -> Result<Machine, Mistakes> {
    let notes = Notes::new(file);
    let (root, errors) = DeTable::parse_recoverable(file);
    for error in &errors {
        let line = notes.line(error.span().unwrap_or_default());
        notes.add(line, "", format!("not TOML: {}", error.message().replace('\n', ", ")), "");
    }
    let mut machine = Machine::empty();
    // A file that isn't TOML has too few fields for a reason that is already told.
    if errors.is_empty() {
        read_file(&mut machine, path, root.get_ref(), &notes, overrides);
    }
    let list = notes.finish();
    if list.is_empty() { Ok(machine) } else { Err(Mistakes { file: paths::shown(path), list }) }
}

/// Fills `machine` from the file and notes what is wrong.
fn read_file<'t>(machine: &mut Machine, path: &Path, root: &DeTable<'t>, notes: &Notes<'t>, overrides: Overrides) {
    let mut file = Section::new(notes, "", 1, Some(root));
    read_console(machine, sub_table(&mut file, notes, "console", false));
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut section = sub_table(&mut file, notes, "machine", true);
    let disks = disks::read(section.raw("disk"), notes, folder);
    let network = networks::read(section.raw("network"), notes);
    let memory = read_machine(machine, section, overrides);
    let dom0 = root.contains_key(dom0::NAME).then(|| sub_table(&mut file, notes, dom0::NAME, false));
    let dom0 = dom0.map(|section| PartialDom0::read(section, folder));
    let domains = read_domains(&mut file, notes, folder);
    file.finish();

    check_names(&domains, dom0.as_ref(), notes);
    let used: Vec<&DomainDisks> = domains.iter().map(|domain| &domain.disks).collect();
    disks::check(&disks, &used, dom0.is_some(), notes);
    let devices: Vec<&DomainNetworks> = domains.iter().map(|domain| &domain.networks).collect();
    networks::check(network.as_ref(), &devices, dom0.is_some(), notes);
    drivers::check(&domains.iter().map(PartialDomain::client).collect::<Vec<_>>(), notes);
    check_control(&domains, dom0.as_ref(), notes);
    if let Some(memory) = memory {
        check_memory(&domains, dom0.as_ref(), &memory, notes);
    }
    let cpus = domains.iter().map(|domain| {
        let vcpus = domain.vcpus.as_ref().map_or(1, |vcpus| vcpus.value);
        (domain.line, vcpus, &domain.scheduling)
    });
    let cpus = cpus.chain(dom0.as_ref().map(|dom0| (dom0.line, 1, &dom0.scheduling)));
    scheduling::check(&cpus.collect::<Vec<_>>(), machine.cpus, notes);
    machine.disks = disks.into_iter().map(|disk| disk.value).collect();
    machine.network = network.map(|network| network.value);
    machine.dom0 = dom0.and_then(PartialDom0::whole);
    machine.domains = domains.into_iter().filter_map(PartialDomain::whole).collect();
}

/// The section `[name]`.
fn sub_table<'n, 't>(
    file: &mut Section<'n, 't>,
    notes: &'n Notes<'t>,
    name: &'static str,
    required: bool,
) -> Section<'n, 't> {
    let raw = file.raw(name);
    let line = raw.map_or(1, |raw| notes.line(raw.span()));
    let table = raw.and_then(|raw| raw.get_ref().as_table());
    if table.is_none() && (required || raw.is_some()) {
        let problem = if raw.is_some() { "not a section" } else { "missing" };
        notes.add(line, name, problem, format!("a section [{name}]"));
    }
    Section::new(notes, name, line, table)
}

fn read_console(machine: &mut Machine, mut console: Section<'_, '_>) {
    if let Some(level) = console.optional("log_level", |value| choice(value, &LOG_LEVELS)) {
        machine.log_level = level.value;
    }
    console.finish();
}

/// Reads the section `[machine]`; returns the machine's memory and where it is said.
fn read_machine(machine: &mut Machine, mut section: Section<'_, '_>, overrides: Overrides) -> Option<Located<Memory>> {
    const ENDS: [(&str, WhenAllStopped); 3] = [
        ("power-off", WhenAllStopped::PowerOff),
        ("stay", WhenAllStopped::Stay),
        ("debug-exit", WhenAllStopped::DebugExit(DEBUG_EXIT_PORT)),
    ];
    if let Some(firmware) = section.optional("firmware", |v| choice(v, &Firmware::ALL.map(|f| (f.word(), f)))) {
        machine.firmware = firmware.value;
    }
    if let Some(chipset) = section.optional("chipset", |v| choice(v, &Chipset::ALL.map(|c| (c.word(), c)))) {
        machine.chipset = chipset.value;
    }
    if let Some(cpu) = section.optional("cpu", text) {
        machine.cpu = cpu.value;
    }
    if let Some(end) = section.optional("when_all_stopped", |value| choice(value, &ENDS)) {
        machine.when_all_stopped = end.value;
    }
    let (least, most) = MACHINE_MEMORY;
    let amounts = format!("an amount of memory from \"{least}\" to \"{most}\"");
    let cpus = section.required("cpus", "the number of physical CPUs", |value| number(value, 1, MAX_CPUS));
    let memory = section.required("memory", &amounts, |value| memory(value, least, most));
    machine.cpus = overrides.cpus.or(cpus.map(|cpus| cpus.value)).unwrap_or(machine.cpus);
    let line = memory.as_ref().map_or(section.line(), |memory| memory.line);
    let memory = overrides.memory.or(memory.map(|memory| memory.value));
    machine.memory = memory.unwrap_or(machine.memory);
    section.finish();
    memory.map(|value| Located { value, line })
}

/// A domain of which some fields may be missing, which then has been noted.
struct PartialDomain {
    line: usize,
    name: Option<Located<String>>,
    kernel: Option<Located<Kernel>>,
    control: Option<Located<bool>>,
    ramdisk: Option<Located<Ramdisk>>,
    command_line: Option<Located<String>>,
    memory: Option<Located<Memory>>,
    vcpus: Option<Located<u32>>,
    scheduling: PartialScheduling,
    disks: DomainDisks,
    networks: DomainNetworks,
}

impl PartialDomain {
    fn client(&self) -> Client<'_> {
        let name = self.name.as_ref().map(|name| name.value.as_str());
        Client { name, line: self.line, disks: &self.disks, networks: &self.networks }
    }

    fn whole(self) -> Option<Domain> {
        Some(Domain {
            name: self.name?.value,
            kernel: self.kernel?.value,
            control: self.control.is_some_and(|control| control.value),
            ramdisk: self.ramdisk.map(|ramdisk| ramdisk.value),
            command_line: self.command_line.map(|line| line.value).unwrap_or_default(),
            memory: self.memory?.value,
            vcpus: self.vcpus.map_or(1, |vcpus| vcpus.value),
            scheduling: self.scheduling.whole(),
            disks: self.disks.into_iter().map(|disk| disk.value).collect(),
            networks: self.networks.into_iter().map(|network| network.value).collect(),
        })
    }
}

fn read_domains<'n, 't>(file: &mut Section<'n, 't>, notes: &'n Notes<'t>, folder: &Path) -> Vec<PartialDomain> {
    const EXPECTED: &str = "at least one section [[domain]]";
    let Some(raw) = file.raw("domain") else {
        notes.add(1, "domain", "missing", EXPECTED);
        return Vec::new();
    };
    let Some(list) = raw.get_ref().as_array() else {
        notes.add(notes.line(raw.span()), "domain", "a single section", "[[domain]], with double brackets");
        return Vec::new();
    };
    if list.is_empty() {
        notes.add(notes.line(raw.span()), "domain", "an empty list", EXPECTED);
    }
    let domains = list.iter().map(|raw| {
        let line = notes.line(raw.span());
        let table = raw.get_ref().as_table();
        if table.is_none() {
            notes.add(line, "domain", "not a section", "a section [[domain]]");
        }
        read_domain(Section::new(notes, "domain", line, table), notes, folder)
    });
    domains.collect()
}

fn read_domain<'n, 't>(mut section: Section<'n, 't>, notes: &'n Notes<'t>, folder: &Path) -> PartialDomain {
    let (least, most) = (LEAST_DOMAIN_MEMORY, MACHINE_MEMORY.1);
    let amounts = format!("an amount of memory, at least \"{least}\"");
    let name = section.required("name", "the domain's name", name);
    let networks = networks::read_domain(section.raw("networks"), name.as_ref(), notes);
    let domain = PartialDomain {
        line: section.line(),
        name,
        kernel: section.required("kernel", "a kernel's file, guest:NAME or debian:NAME", |value| kernel(value, folder)),
        control: section.optional("control", flag),
        ramdisk: section.optional("ramdisk", |value| ramdisk(value, folder)),
        command_line: section.optional("command_line", command_line),
        memory: section.required("memory", &amounts, |value| memory(value, least, most)),
        vcpus: section.optional("vcpus", |value| number(value, 1, MAX_VCPUS)),
        scheduling: PartialScheduling::read(&mut section),
        disks: disks::read_domain(section.raw("disks"), notes),
        networks,
    };
    section.finish();
    domain
}

pub(super) fn memory(value: &DeValue<'_>, least: Memory, most: Memory) -> Result<Memory, Wrong> {
    let expected = format!("an amount of memory from \"{least}\" to \"{most}\"");
    let memory = value.as_str().and_then(|text| text.parse().ok());
    memory.filter(|memory| (least..=most).contains(memory)).ok_or_else(|| Wrong::expected(expected))
}

fn name(value: &DeValue<'_>) -> Result<String, Wrong> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text(value)
        .ok()
        .filter(|name| (1..=MAX_NAME).contains(&name.len()) && name.chars().all(allowed))
        .ok_or_else(|| Wrong::expected(format!("1 to {MAX_NAME} letters, digits, '-', '_' or '.'")))
}

pub(super) fn command_line(value: &DeValue<'_>) -> Result<String, Wrong> {
    let line = text(value)?;
    if line.len() > MAX_COMMAND_LINE {
        let problem = format!("{} bytes long", line.len());
        return Err(Wrong::problem(problem, format!("at most {MAX_COMMAND_LINE} bytes")));
    }
    if line.chars().any(char::is_control) {
        return Err(Wrong::problem("has a line break or another control character", "one line of text"));
    }
    Ok(line)
}

pub(super) fn kernel(value: &DeValue<'_>, folder: &Path) -> Result<Kernel, Wrong> {
    const EXPECTED: &str = "a Xen PV kernel: a 64-bit x86-64 ELF file, or a bzImage";
    let text = text(value)?;
    if let Some(guest) = text.strip_prefix("guest:") {
        return Ok(Kernel::Built(one_of("guest:", guest, &build::GUESTS)?));
    }
    if let Some(name) = debian(&text, &debian::KERNELS) {
        return Ok(Kernel::Debian(name?));
    }
    let path = folder.join(text);
    kernel::check(&path).map_err(|problem| Wrong::problem(problem, EXPECTED))?;
    Ok(Kernel::File(path))
}

/// What of Debian's `text` names; `None` if it is nothing of Debian's.
pub(super) fn debian(text: &str, known: &[&str]) -> Option<Result<String, Wrong>> {
    text.strip_prefix(DEBIAN).map(|name| one_of(DEBIAN, name, known))
}

/// A name behind a prefix that says whose it is.
fn one_of(prefix: &str, name: &str, known: &[&str]) -> Result<String, Wrong> {
    if known.contains(&name) {
        return Ok(name.to_owned());
    }
    let known: Vec<_> = known.iter().map(|name| format!("{prefix}{name}")).collect();
    Err(Wrong::expected(format!("one of {}", known.join(", "))))
}

fn ramdisk(value: &DeValue<'_>, folder: &Path) -> Result<Ramdisk, Wrong> {
    let text = text(value)?;
    if let Some(name) = debian(&text, &["busybox"]) {
        return name.map(|_| Ramdisk::Busybox(Vec::new()));
    }
    let path = folder.join(text);
    if !path.is_file() {
        return Err(Wrong::problem(format!("{} is missing or no file", path.display()), "a file, or debian:busybox"));
    }
    Ok(Ramdisk::File(path))
}

fn check_names(domains: &[PartialDomain], dom0: Option<&PartialDom0>, notes: &Notes<'_>) {
    let names: Vec<_> = domains.iter().filter_map(|domain| domain.name.as_ref()).collect();
    for (i, name) in names.iter().enumerate() {
        if dom0.is_some() && name.value == dom0::NAME {
            notes.add(name.line, "domain.name", "the name of the section [dom0]", "another name");
        }
        if let Some(first) = names[..i].iter().find(|other| other.value == name.value) {
            let problem = format!("{:?} is also the name of the domain of line {}", name.value, first.line);
            notes.add(name.line, "domain.name", problem, "another name");
        }
    }
}

fn check_control(domains: &[PartialDomain], dom0: Option<&PartialDom0>, notes: &Notes<'_>) {
    let mut controls = domains.iter().filter_map(|domain| domain.control.as_ref()).filter(|control| control.value);
    if let Some(dom0) = dom0 {
        for control in controls {
            let problem = format!("the section [dom0] of line {} has control", dom0.line);
            notes.add(control.line, "domain.control", problem, "false, or no [dom0]");
        }
        return;
    }
    if let (Some(first), Some(second)) = (controls.next(), controls.next()) {
        let problem = format!("the domain of line {} has control already", first.line);
        notes.add(second.line, "domain.control", problem, "one domain at most");
    }
}

fn check_memory(domains: &[PartialDomain], dom0: Option<&PartialDom0>, machine: &Located<Memory>, notes: &Notes<'_>) {
    let amounts = domains.iter().map(|domain| &domain.memory).chain(dom0.map(|dom0| &dom0.memory));
    let asked: u64 = amounts.flatten().map(|amount| amount.value.as_mib()).sum();
    let reserved = hypervisor_memory(machine.value);
    let needed = Memory::mib(asked + reserved.as_mib());
    if needed > machine.value {
        let asked = Memory::mib(asked);
        let problem =
            format!("{} is too little: the domains have {asked} together, and Pavise needs {reserved}", machine.value);
        let first = domains.first().map_or(0, |domain| domain.line);
        let expected = format!("at least \"{needed}\", or smaller domains (from line {first} on)");
        notes.add(machine.line, "machine.memory", problem, expected);
    }
}
