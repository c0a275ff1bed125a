//! Disks: those of the machine, in sections `[[machine.disk]]`, and the domains' own, in their lists `disks`.

use super::reader::{Located, Notes, Section, Wrong, choice, flag, text};
use super::values::Memory;
use crate::debian;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::DeValue;

/// Longest name of a disk: what the device's serial number holds.
const MAX_NAME: usize = 20;
/// Longest label of a partition, in a GUID partition table.
const MAX_LABEL: usize = 36;
/// Sizes of disks and partitions.
const SIZES: (Memory, Memory) = (Memory::mib(1), Memory::gib(1024));
/// What the table and its copy take from a disk with partitions, and the alignment of the first.
pub const TABLES: Memory = Memory::mib(2);
/// Most disks of a machine, and of a domain: xvda to xvdp.
const MAX_DISKS: usize = 16;

/// A disk of the machine, as QEMU gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its name, which is the device's serial number.
    pub name: String,
    /// What is on it at first.
    pub content: Content,
    /// How QEMU attaches it.
    pub interface: Interface,
}

/// What is on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An image file, which is written to.
    Image(PathBuf),
    /// Zeros, made when it is first used, with these partitions if there are any.
    Made {
        /// Its size.
        size: Memory,
        /// Its partitions, in their order.
        partitions: Vec<Partition>,
    },
    /// A file system with one of Debian's releases ([`debian::RELEASES`]), made when it is first used.
    Debian {
        /// The release.
        release: String,
        /// The disk's size; the file system grows to it when it is mounted first.
        size: Memory,
    },
}

/// A partition that `./x` makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its label in the GUID partition table.
    pub label: String,
    /// Its size.
    pub size: Memory,
}

/// The device that a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// virtio-blk.
    Virtio,
}

const INTERFACES: [(&str, Interface); 1] = [("virtio", Interface::Virtio)];

/// A disk of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainDisk {
    /// Its name in the domain: `xvda` to `xvdp`.
    pub name: String,
    /// What it is.
    pub source: Source,
    /// The domain can't write it.
    pub read_only: bool,
}

/// What a domain's disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A whole disk, by its name.
    Disk(String),
    /// A partition, by its label.
    Partition(String),
    /// What the back end of another domain, of this name, makes of it.
    Domain(String),
}

/// Disks, each with its line.
pub type Disks = Vec<Located<Disk>>;
/// A domain's disks, each with its line.
pub type DomainDisks = Vec<Located<DomainDisk>>;

/// Reads the sections `[[machine.disk]]`.
pub fn read<'n, 't>(raw: Option<&'n Spanned<DeValue<'t>>>, notes: &'n Notes<'t>, folder: &Path) -> Disks {
    let disks: Disks =
        tables(raw, notes, "machine.disk").filter_map(|section| read_disk(section, notes, folder)).collect();
    let names: Vec<_> = disks.iter().map(|disk| (disk.line, disk.value.name.as_str())).collect();
    check_unique(&names, "machine.disk.name", "disk", notes);
    let labels = disks.iter().flat_map(|disk| match &disk.value.content {
        Content::Made { partitions, .. } => partitions.iter().map(|part| (disk.line, part.label.as_str())).collect(),
        Content::Image(_) | Content::Debian { .. } => Vec::new(),
    });
    check_unique(&labels.collect::<Vec<_>>(), "machine.disk.partitions", "partition", notes);
    if let Some(disk) = disks.get(MAX_DISKS) {
        notes.add(disk.line, "machine.disk", "too many disks", format!("at most {MAX_DISKS}"));
    }
    disks
}

fn read_disk<'n, 't>(mut section: Section<'n, 't>, notes: &'n Notes<'t>, folder: &Path) -> Option<Located<Disk>> {
    let line = section.line();
    let name = section.required("name", "the disk's name", |value| word(value, MAX_NAME));
    let image = section.optional("image", |value| image(value, folder));
    let amounts = format!("a size from \"{}\" to \"{}\"", SIZES.0, SIZES.1);
    let size = section.optional("size", |value| super::parse::memory(value, SIZES.0, SIZES.1));
    let interface = section.optional("interface", |value| choice(value, &INTERFACES));
    let content = section.optional("content", content);
    let has_image = section.raw("image").is_some();
    let partitions = read_partitions(section.raw("partitions"), notes);
    match (has_image, section.raw("size").is_some()) {
        (true, true) => notes.add(line, "machine.disk.size", "an image has its own size", "either image or size"),
        (true, false) if content.is_some() => {
            notes.add(line, "machine.disk.content", "an image has its own content", "a size instead of the image");
        }
        (false, false) => notes.add(line, "machine.disk.size", "missing", format!("{amounts}, or an image")),
        (true, false) if !partitions.is_empty() => {
            notes.add(
                line,
                "machine.disk.partitions",
                "an image has its own partitions",
                "a size instead of the image",
            );
        }
        _ => {}
    }
    section.finish();
    if let Some(size) = &size {
        check_room(size, &partitions, notes);
        if content.is_some() {
            check_debian(size, &partitions, notes);
        }
    }
    let content = match (image, content, size) {
        (Some(image), ..) => Content::Image(image.value),
        (None, Some(release), size) => Content::Debian { release: release.value, size: size?.value },
        (None, None, size) => Content::Made { size: size?.value, partitions },
    };
    let interface = interface.map_or(Interface::Virtio, |interface| interface.value);
    Some(Located { value: Disk { name: name?.value, content, interface }, line })
}

fn read_partitions<'n, 't>(raw: Option<&'n Spanned<DeValue<'t>>>, notes: &'n Notes<'t>) -> Vec<Partition> {
    let partitions = tables(raw, notes, "machine.disk.partitions").filter_map(|mut section| {
        let label = section.required("label", "the partition's label", |value| word(value, MAX_LABEL));
        let amounts = format!("a size, at least \"{}\"", SIZES.0);
        let size = section.required("size", &amounts, |value| super::parse::memory(value, SIZES.0, SIZES.1));
        section.finish();
        Some(Partition { label: label?.value, size: size?.value })
    });
    partitions.collect()
}

fn check_room(size: &Located<Memory>, partitions: &[Partition], notes: &Notes<'_>) {
    let asked: u64 = partitions.iter().map(|partition| partition.size.as_mib()).sum();
    let needed = Memory::mib(asked + TABLES.as_mib());
    if !partitions.is_empty() && needed > size.value {
        let problem = format!("{} is too little: the partitions and their tables take {needed}", size.value);
        notes.add(size.line, "machine.disk.size", problem, format!("at least \"{needed}\""));
    }
}

/// A release of Debian's takes a whole disk, and some room.
fn check_debian(size: &Located<Memory>, partitions: &[Partition], notes: &Notes<'_>) {
    if size.value < debian::LEAST_DISK {
        let problem = format!("{} is too little for Debian", size.value);
        notes.add(size.line, "machine.disk.size", problem, format!("at least \"{}\"", debian::LEAST_DISK));
    }
    if !partitions.is_empty() {
        let problem = "content goes on a whole disk";
        notes.add(size.line, "machine.disk.partitions", problem, "either partitions or content");
    }
}

/// Reads a domain's list `disks`.
pub fn read_domain<'n, 't>(raw: Option<&'n Spanned<DeValue<'t>>>, notes: &'n Notes<'t>) -> DomainDisks {
    let disks: DomainDisks = tables(raw, notes, "domain.disks")
        .filter_map(|mut section| {
            let line = section.line();
            let name = section.required("name", "xvda to xvdp", disk_name);
            let source = read_source(&mut section, notes);
            let read_only = section.optional("read_only", flag).is_some_and(|flag| flag.value);
            section.finish();
            Some(Located { value: DomainDisk { name: name?.value, source: source?, read_only }, line })
        })
        .collect();
    let names: Vec<_> = disks.iter().map(|disk| (disk.line, disk.value.name.as_str())).collect();
    check_unique(&names, "domain.disks.name", "disk", notes);
    disks
}

/// What a domain's disk is: a `source` of the machine's, or whatever the `backend` serves.
fn read_source(section: &mut Section<'_, '_>, notes: &Notes<'_>) -> Option<Source> {
    let Some(backend) = section.optional("backend", text) else {
        return section
            .required("source", "\"disk:NAME\" or \"partition:LABEL\", or a backend", source)
            .map(|it| it.value);
    };
    if section.raw("source").is_some() {
        let problem = format!("the domain {:?} says what it is", backend.value);
        notes.add(backend.line, "domain.disks.source", problem, "either source or backend");
    }
    Some(Source::Domain(backend.value))
}

/// Checks that what domains use is there, and that nobody writes what another uses. A whole disk is all its partitions.
pub fn check(machine: &[Located<Disk>], domains: &[&DomainDisks], has_dom0: bool, notes: &Notes<'_>) {
    let users: Vec<&Located<DomainDisk>> = domains.iter().flat_map(|disks| disks.iter()).collect();
    if let (false, Some(line)) = (has_dom0, machine.first().map(|d| d.line).or(users.first().map(|d| d.line))) {
        notes.add(line, "disks", "there is no [dom0], which drives them", "a section [dom0], or no disks");
    }
    for (i, user) in users.iter().enumerate() {
        let place = place(machine, &user.value.source);
        let known = machine.iter().any(|disk| matches!(disk.value.content, Content::Image(_)));
        match (&user.value.source, place) {
            (Source::Domain(_), _) => {}
            // An image's partitions are not looked at.
            (Source::Partition(_), None) if known => {}
            (source, None) => {
                let field = "domain.disks.source";
                notes.add(user.line, field, format!("there is no {source}"), "a disk or partition of [[machine.disk]]");
            }
            (_, Some(_)) => {}
        }
        let rival = users[..i].iter().find(|other| {
            let either_writes = !(user.value.read_only && other.value.read_only);
            either_writes && overlap(machine, &user.value.source, &other.value.source)
        });
        if let Some(rival) = rival {
            let problem = format!("{} is also used in line {}", user.value.source, rival.line);
            notes.add(user.line, "domain.disks.source", problem, "another source, or read_only = true in both");
        }
    }
}

/// The disk on which a source is.
fn place<'d>(machine: &'d [Located<Disk>], source: &Source) -> Option<&'d str> {
    let found = machine.iter().map(|disk| &disk.value).find(|disk| match (source, &disk.content) {
        (Source::Disk(name), _) => disk.name == *name,
        (Source::Partition(label), Content::Made { partitions, .. }) => partitions.iter().any(|p| p.label == *label),
        (Source::Partition(_), Content::Image(_) | Content::Debian { .. }) | (Source::Domain(_), _) => false,
    });
    found.map(|disk| disk.name.as_str())
}

fn overlap(machine: &[Located<Disk>], one: &Source, other: &Source) -> bool {
    match (one, other) {
        (Source::Partition(one), Source::Partition(other)) => one == other,
        _ => place(machine, one).is_some_and(|disk| place(machine, other) == Some(disk)),
    }
}

/// The tables of a list, each as a section.
pub(super) fn tables<'n, 't>(
    raw: Option<&'n Spanned<DeValue<'t>>>,
    notes: &'n Notes<'t>,
    name: &'static str,
) -> impl Iterator<Item = Section<'n, 't>> {
    let list = raw.and_then(|raw| raw.get_ref().as_array());
    if let (Some(raw), None) = (raw, list) {
        notes.add(notes.line(raw.span()), name, "not a list", "a list of tables");
    }
    list.into_iter().flatten().map(move |raw| {
        let line = notes.line(raw.span());
        let table = raw.get_ref().as_table();
        if table.is_none() {
            notes.add(line, name, "not a table", "a table");
        }
        Section::new(notes, name, line, table)
    })
}

fn check_unique(names: &[(usize, &str)], field: &str, what: &str, notes: &Notes<'_>) {
    for (i, (line, name)) in names.iter().enumerate() {
        if let Some((first, _)) = names[..i].iter().find(|(_, other)| other == name) {
            notes.add(*line, field, format!("{name:?} is also the {what} of line {first}"), "another name");
        }
    }
}

fn word(value: &DeValue<'_>, longest: usize) -> Result<String, Wrong> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text(value)
        .ok()
        .filter(|word| (1..=longest).contains(&word.len()) && word.chars().all(allowed))
        .ok_or_else(|| Wrong::expected(format!("1 to {longest} letters, digits, '-', '_' or '.'")))
}

fn image(value: &DeValue<'_>, folder: &Path) -> Result<PathBuf, Wrong> {
    let path = folder.join(text(value)?);
    let is_file = path.is_file();
    let problem = || Wrong::problem(format!("{} is missing or no file", path.display()), "an image file");
    is_file.then(|| path.clone()).ok_or_else(problem)
}

/// The release in `debian:RELEASE`.
fn content(value: &DeValue<'_>) -> Result<String, Wrong> {
    super::parse::debian(&text(value)?, &debian::RELEASES)
        .unwrap_or_else(|| Err(Wrong::expected(format!("debian:{}", debian::RELEASES[0]))))
}

fn disk_name(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = text(value)?;
    let letter = name.strip_prefix("xvd").filter(|rest| rest.len() == 1).and_then(|rest| rest.chars().next());
    letter.filter(|letter| ('a'..='p').contains(letter)).map(|_| name).ok_or_else(|| Wrong::expected("xvda to xvdp"))
}

fn source(value: &DeValue<'_>) -> Result<Source, Wrong> {
    let text = text(value)?;
    let parsed = match text.split_once(':') {
        Some(("disk", name)) if !name.is_empty() => Some(Source::Disk(name.to_owned())),
        Some(("partition", label)) if !label.is_empty() => Some(Source::Partition(label.to_owned())),
        _ => None,
    };
    parsed.ok_or_else(|| Wrong::expected("\"disk:NAME\" or \"partition:LABEL\""))
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disk(name) => write!(f, "disk:{name}"),
            Self::Partition(label) => write!(f, "partition:{label}"),
            Self::Domain(name) => write!(f, "the disk of {name}"),
        }
    }
}
