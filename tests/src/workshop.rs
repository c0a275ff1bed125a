//! Makes machines for tests and boots them.

use crate::ending::Ending;
use anyhow::Result;
use boot_archive::WhenAllStopped;
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use xtask::{
    archive,
    build::{self, Built},
    image::Imager,
    machine::{Domain, Kernel, Machine, Memory},
    paths,
    qemu::{Accel, DEBUG_EXIT_PORT, Hardware, Session},
};

/// Time for one boot and what the test does with it; far more than it takes.
pub const LIMIT: Duration = Duration::from_secs(120);

/// What all tests on machines share: the built hypervisor and guests, the image maker, and what stories have shown.
pub struct Workshop {
    /// The built binaries.
    pub built: Built,
    imager: Imager,
    endings: Mutex<HashMap<String, Ending>>,
}

impl Workshop {
    /// Builds everything that tests boot.
    ///
    /// # Errors
    /// When a build fails.
    pub fn build() -> Result<Self> {
        let built = build::bare_metal()?;
        let imager = Imager::build(&built)?;
        Ok(Self { built, imager, endings: Mutex::default() })
    }

    /// Boots a machine. `name` names its files, under `target/tests`.
    ///
    /// # Errors
    /// When its image can't be made or QEMU can't be started.
    pub fn boot(&self, name: &str, machine: &Machine) -> Result<Session> {
        self.boot_archive(name, machine, &archive::make(machine, &self.built)?)
    }

    /// As [`boot`](Self::boot), with an archive that need not be the machine's.
    ///
    /// # Errors
    /// As [`boot`](Self::boot).
    pub fn boot_archive(&self, name: &str, machine: &Machine, archive: &[u8]) -> Result<Session> {
        let image = file(name, "img");
        self.imager.make(machine.firmware, archive, &image)?;
        let qemu = Hardware::of(machine, Accel::Tcg).boot_image(&image)?;
        Session::start(&qemu, &file(name, "log"), LIMIT)
    }

    /// Remembers how a story ended on Pavise, for the comparison with Xen.
    pub fn remember(&self, story: &str, ending: &Ending) {
        self.endings.lock().unwrap_or_else(PoisonError::into_inner).insert(story.to_owned(), ending.clone());
    }

    /// How a story ended on Pavise, if it has been told.
    pub fn remembered(&self, story: &str) -> Option<Ending> {
        self.endings.lock().unwrap_or_else(PoisonError::into_inner).get(story).cloned()
    }
}

/// A file of a test: its image, its log.
pub fn file(name: &str, extension: &str) -> PathBuf {
    paths::target().join("tests").join(format!("{}.{extension}", name.replace(['/', ' '], "-")))
}

/// A machine for tests: small, and ending through the debug-exit device.
pub fn machine(domains: Vec<Domain>) -> Machine {
    let when_all_stopped = WhenAllStopped::DebugExit(DEBUG_EXIT_PORT);
    Machine { domains, when_all_stopped, memory: Memory::mib(256), ..Machine::empty() }
}

/// A domain with the demo guest, which greets by the domain's name.
pub fn demo(name: &str, vcpus: u32) -> Domain {
    domain(name, "demo", format!("name={name}"), vcpus)
}

/// A domain with the self-test, which tells one story.
pub fn teller(name: &str, story: &str) -> Domain {
    domain(name, "selftest", format!("story={story}"), 1)
}

fn domain(name: &str, kernel: &str, command_line: String, vcpus: u32) -> Domain {
    let kernel = Kernel::Built(kernel.to_owned());
    Domain { name: name.to_owned(), kernel, ramdisk: None, command_line, memory: Memory::mib(32), vcpus }
}
