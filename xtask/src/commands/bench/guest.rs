//! The bench guest on a hypervisor, and what it says.

use super::{
    LIMIT,
    code::{self, Code},
};
use crate::{
    archive, build,
    build::Built,
    image::Imager,
    machine::{Domain, Kernel, Machine, Memory},
    paths,
    qemu::{Accel, COUNTING_CPU, DEBUG_EXIT_PORT, Hardware},
    session::Session,
    xen::{self, FirstDomain, Xen},
};
use anyhow::{Context, Result, bail};
use boot_archive::{Scheduling, WhenAllStopped};
use std::fs;

/// The bench guest, among [`build::GUESTS`].
pub const GUEST: &str = "bench";

/// What its lines begin with, behind whatever the console puts there.
const MARK: &str = "bench: ";

/// Its last line, if all went well.
const DONE: &str = "VERDICT bench pass";

/// vCPUs of the bench guest. The second runs only for the row that switches between the two.
const VCPUS: u32 = 2;

/// A hypervisor that the bench guest runs on.
pub enum Subject<'a> {
    /// Ours.
    Pavise {
        /// Its files.
        built: Built,
        /// Makes its images.
        imager: Imager,
    },
    /// Debian's Xen.
    Xen(&'a Xen),
}

impl Subject<'_> {
    /// Pavise, built.
    ///
    /// # Errors
    /// When the build fails.
    pub fn pavise() -> Result<Self> {
        let built = build::bare_metal()?;
        let imager = Imager::build(&built)?;
        Ok(Self::Pavise { built, imager })
    }

    /// Its name in file names.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pavise { .. } => "pavise",
            Self::Xen(_) => "xen",
        }
    }

    /// Its code, where it lies when it runs.
    ///
    /// # Errors
    /// When its file can't be read.
    pub fn code(&self) -> Result<Vec<Code>> {
        let (path, offset) = match self {
            Self::Pavise { built, .. } => (built.hypervisor.as_path(), 0),
            Self::Xen(xen) => (xen.kernel(), xen::VIRTUAL_OFFSET),
        };
        let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        code::executable(&file, offset).with_context(|| paths::shown(path))
    }

    /// Boots it with the bench guest under instruction counting, for rows of `group`. `options` are the guest's, `arguments` more of QEMU's;
    /// `run` is for the name of the log file.
    ///
    /// # Errors
    /// When the image can't be made or QEMU can't be started.
    pub fn boot(&self, group: &str, options: &str, arguments: &[String], run: &str) -> Result<Session> {
        let folder = paths::target().join("bench");
        let name = format!("{}-{run}", self.name());
        let log = folder.join(format!("{name}.log"));
        match self {
            Self::Pavise { built, imager } => {
                let machine = machine(group, options);
                let image = folder.join(format!("{name}.img"));
                imager.make(machine.firmware, &archive::make(&machine, built)?, &image)?;
                let hardware = Hardware { icount: true, ..Hardware::of(&machine, Accel::Tcg) };
                let mut qemu = hardware.boot_image(&image)?;
                Session::start(qemu.args(arguments), &log, LIMIT)
            }
            Self::Xen(xen) => {
                let hardware = Hardware { icount: true, ..xen::hardware(COUNTING_CPU) };
                let domain = FirstDomain {
                    kernel: build::guest(GUEST),
                    ramdisk: None,
                    command_line: options,
                    memory: FirstDomain::MEMORY,
                    vcpus: VCPUS,
                };
                xen.boot(&domain, &hardware, arguments, &log, LIMIT)
            }
        }
    }
}

/// The group whose rows the control domain measures.
const DOMAINS: &str = "domains";

/// Memory of the machine of that group: for 200 domains of 4 MiB.
const MEMORY_FOR_DOMAINS: Memory = Memory::gib(1);

/// Pavise's machine: one CPU, with as much for the guest as Xen gives it, and another guest that is its partner. That one
/// sleeps unless it is needed. Where domains are made the guest is the control domain, and alone at first.
fn machine(group: &str, options: &str) -> Machine {
    let guest = |name: &str, command_line: String| Domain {
        name: name.to_owned(),
        kernel: Kernel::Built(GUEST.to_owned()),
        control: false,
        ramdisk: None,
        command_line,
        memory: Memory::mib(64),
        vcpus: VCPUS,
        scheduling: Scheduling::default(),
        disks: Vec::new(),
        networks: Vec::new(),
    };
    let machine = Machine {
        cpu: COUNTING_CPU.to_owned(),
        when_all_stopped: WhenAllStopped::DebugExit(DEBUG_EXIT_PORT),
        ..Machine::empty()
    };
    if group == DOMAINS {
        let control = Domain { control: true, ..guest(GUEST, options.to_owned()) };
        return Machine { memory: MEMORY_FOR_DOMAINS, domains: vec![control], ..machine };
    }
    // Domains have the numbers from 1 up, in this order.
    let domains = vec![guest(GUEST, format!("{options} partner=2")), guest("partner", "serves=1".to_owned())];
    Machine { domains, ..machine }
}

/// What the guest found out about one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The row's group.
    pub group: String,
    /// The row's name.
    pub name: String,
    /// The figure, or the error that the hypervisor gives instead.
    pub figure: Result<Figure, String>,
}

/// Instructions of some operations together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Instructions.
    pub instructions: u64,
    /// Operations, at least one.
    pub operations: u64,
}

impl Figure {
    /// Instructions of one operation, rounded up.
    pub fn per_operation(self) -> u64 {
        self.instructions.div_ceil(self.operations)
    }
}

/// Waits for the guest's end and returns its rows.
///
/// # Errors
/// When it doesn't come to its end, or says something strange.
pub fn finish(mut session: Session) -> Result<Vec<Line>> {
    let ended = session.wait_exit();
    let output = session.text();
    if !output.lines().any(|line| line.trim_end().ends_with(DONE)) {
        bail!("the bench guest did not come to its end ({ended:?}); {}", session.last_words());
    }
    lines(&output)
}

/// The rows in the guest's output.
///
/// # Errors
/// When it says something strange.
pub fn lines(output: &str) -> Result<Vec<Line>> {
    let said = output.lines().filter_map(|line| Some(line.split_once(MARK)?.1.trim_end()));
    said.filter(|line| line.contains(' '))
        .map(|line| parse(line).with_context(|| format!("the bench guest says \"{line}\"")))
        .collect()
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let (group, name) = (words.next()?.to_owned(), words.next()?.to_owned());
    let figure = match (words.next()?, words.next()?) {
        ("refused", error) => Err(error.to_owned()),
        (instructions, operations) => {
            let figure = Figure { instructions: instructions.parse().ok()?, operations: operations.parse().ok()? };
            if figure.operations == 0 {
                return None;
            }
            Ok(figure)
        }
    };
    words.next().is_none().then_some(Line { group, name, figure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_from_the_output() {
        let output =
            "Xen\nbench: ready\nbench: mm null-hypercall 69886 256\r\n(bench) bench: mm other refused ENOSYS\n";
        let figure = Figure { instructions: 69886, operations: 256 };
        let line = |name: &str, figure| Line { group: "mm".to_owned(), name: name.to_owned(), figure };
        let expected = [line("null-hypercall", Ok(figure)), line("other", Err("ENOSYS".to_owned()))];
        assert_eq!(lines(output).unwrap(), expected);
        assert_eq!(figure.per_operation(), 273);
    }

    #[test]
    fn strange_rows_are_errors() {
        for line in ["mm name", "mm name 1", "mm name 1 0", "mm name 1 2 3", "mm name x 1"] {
            let error = lines(&format!("bench: {line}")).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
    }
}
