//! The live domains.

use super::attend::{Attendant, Newcomer};
use super::cpus;
use super::life::{Ending, Haste};
use super::table::{Row, Used};
use super::traffic::Traffic;
use crate::console::screen::Writer;
use crate::console::{self, Back, Turns, screen};
use crate::service::{Full, Services};
use crate::store::home::{self, Home};
use crate::store::{self, Connection, Shared};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use boot_archive::{Archive, BlobError, DomainConfig, WhenAllStopped};
use core::cell::{Cell, RefCell};
use core::fmt;
use guest_kernel::control::{self, Created, New, calls};
use guest_kernel::store::Bus;
use guest_kernel::time;
use log::{error, info, warn};
use pv_abi::errno::Errno;

/// Why a domain can't be created.
#[derive(Debug)]
pub enum Error {
    /// It is there already.
    Exists,
    /// A part of the archive is damaged.
    Archive(&'static str, BlobError),
    /// It can't be built.
    Build(control::Error),
    /// Its console can't be connected.
    Console(console::Error),
    /// An attendant can't give it what it is to have.
    Attendant(String),
    /// Its nodes can't be written, or its ring to XenStore not be connected.
    Store(Errno),
    /// There are too many services.
    Services,
    /// The hypervisor refused a step, which is named.
    Refused(&'static str, Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Exists => f.write_str("it is there already"),
            Error::Archive(what, error) => write!(f, "{what}: {error}"),
            Error::Build(error) => error.fmt(f),
            Error::Console(error) => write!(f, "console: {error}"),
            Error::Attendant(text) => f.write_str(text),
            Error::Store(errno) => write!(f, "XenStore: {errno:?}"),
            Error::Services => f.write_str("there are too many services"),
            Error::Refused(what, errno) => write!(f, "{what} was refused: {errno:?}"),
        }
    }
}

impl From<Full> for Error {
    fn from(Full: Full) -> Error {
        Error::Services
    }
}

impl From<console::Error> for Error {
    fn from(error: console::Error) -> Error {
        Error::Console(error)
    }
}

/// A domain of the machine file.
struct Entry {
    writer: Writer,
    live: Option<Live>,
    last: Option<Ending>,
    haste: Haste,
    /// Its blobs were found undamaged.
    checked: Cell<bool>,
}

/// One that is there.
struct Live {
    id: u16,
    console: Rc<RefCell<Back>>,
    started: u64,
    /// What it had used when it was looked at last.
    sample: Sample,
}

/// What a domain had used at system time `at`.
#[derive(Clone, Copy)]
struct Sample {
    at: u64,
    /// CPU time.
    cpu: u64,
    traffic: Traffic,
}

/// All domains of the machine file.
pub struct Domains {
    archive: Archive<'static>,
    entries: Vec<Entry>,
    services: Services,
    /// The domains' rings to XenStore.
    rings: store::Open,
    /// What writes the domains' nodes.
    nodes: Connection,
    attendants: Vec<Box<dyn Attendant>>,
}

impl Domains {
    /// The domains of an archive, none of which is there yet. Of the attendants, each finds done what those before it did.
    pub fn new(
        archive: Archive<'static>,
        services: Services,
        (store, rings): (&Shared, store::Open),
        attendants: Vec<Box<dyn Attendant>>,
    ) -> Domains {
        let mut screen = screen();
        let writers = archive.config().domains.iter().map(|config| screen.add(&config.name));
        let entries = writers
            .map(|writer| Entry { writer, live: None, last: None, haste: Haste::default(), checked: Cell::new(false) })
            .collect();
        Domains { archive, entries, services, rings, nodes: Connection::new(store), attendants }
    }

    fn config(&self, index: usize) -> &DomainConfig {
        &self.archive.config().domains[index]
    }

    /// What is to happen when all domains have stopped.
    pub fn when_all_stopped(&self) -> WhenAllStopped {
        self.archive.config().when_all_stopped
    }

    /// How many domains the machine file has.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is there.
    pub fn all_stopped(&self) -> bool {
        self.entries.iter().all(|entry| entry.live.is_none())
    }

    /// How many services there are.
    pub fn services(&self) -> usize {
        self.services.count()
    }

    /// The connection to XenStore that the domains' nodes are written with.
    pub fn nodes(&mut self) -> &mut Connection {
        &mut self.nodes
    }

    /// The domain with this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.archive.config().domains.iter().position(|config| config.name == name)
    }

    /// The number of a domain that is there.
    pub fn id(&self, index: usize) -> Option<u16> {
        self.entries[index].live.as_ref().map(|live| live.id)
    }

    /// A domain on the screen.
    pub fn writer(&self, index: usize) -> Writer {
        self.entries[index].writer
    }

    /// A key for the domain that is this writer.
    pub fn press(&self, writer: Writer, key: u8) {
        let live = self.entries.iter().find(|entry| entry.writer == writer).and_then(|entry| entry.live.as_ref());
        if let Some(live) = live {
            live.console.borrow_mut().press(key);
        }
    }

    /// Creates a domain, and lets it run.
    ///
    /// # Errors
    /// What is wrong. Nothing is left of it then.
    pub fn create(&mut self, index: usize) -> Result<(), Error> {
        if self.entries[index].live.is_some() {
            return Err(Error::Exists);
        }
        let created = self.build(index)?;
        let live = match self.start(index, &created) {
            Ok(live) => live,
            Err(error) => {
                self.forget(created.id);
                let _ = calls::destroy_domain(created.id);
                return Err(error);
            }
        };
        let config = self.config(index);
        info!("d{} ({}): {} MiB, {} vCPUs", live.id, config.name, config.memory_pages >> 8, config.vcpus);
        self.entries[index].live = Some(live);
        Ok(())
    }

    fn build(&self, index: usize) -> Result<Created, Error> {
        let (config, checked) = (self.config(index), &self.entries[index].checked);
        // Once is enough: nobody writes to the archive. It takes as long as all the rest.
        let find = |blob| if checked.get() { self.archive.blob_unchecked(blob) } else { self.archive.blob(blob) };
        let blob = |what, blob| find(blob).map_err(|error| Error::Archive(what, error));
        let new = New {
            kernel: blob("kernel", &config.kernel)?,
            ramdisk: config.ramdisk.as_ref().map_or(Ok(&[][..]), |ramdisk| blob("ramdisk", ramdisk))?,
            command_line: &config.command_line,
            pages: config.memory_pages,
            vcpus: config.vcpus,
            // Unique on the machine, and the same each time.
            handle: (index as u128 + 1).to_be_bytes(),
        };
        checked.set(true);
        control::create(&new).map_err(Error::Build)
    }

    /// Has all attendants see to a new domain.
    fn attend(&mut self, index: usize, created: Created) -> Result<(), Error> {
        let new = Newcomer { created, config: &self.archive.config().domains[index] };
        for number in 0..self.attendants.len() {
            if let Err(text) = self.attendants[number].arrive(&new) {
                self.attendants[..number].iter_mut().rev().for_each(|attendant| attendant.leave(created.id));
                return Err(Error::Attendant(text));
            }
        }
        Ok(())
    }

    /// Has all attendants let go of a domain.
    fn part(&mut self, id: u16) {
        self.attendants.iter_mut().rev().for_each(|attendant| attendant.leave(id));
    }

    /// Connects a new domain, and lets it run.
    fn start(&mut self, index: usize, created: &Created) -> Result<Live, Error> {
        let (config, id) = (self.config(index), created.id);
        calls::set_share(id, config.scheduling.weight, config.scheduling.cap)
            .map_err(|errno| Error::Refused("its share", errno))?;
        for vcpu in 0..config.vcpus {
            let allowed = cpus::of(&self.archive.config().domains, config, vcpu);
            calls::set_affinity(id, vcpu, allowed).map_err(|errno| Error::Refused("its CPUs", errno))?;
        }
        let console = self.connect_console(index, created)?;
        self.connect_store(index, created).map_err(Error::Store)?;
        self.attend(index, *created)?;
        let unpaused = calls::unpause_domain(id).inspect_err(|_| self.part(id));
        unpaused.map_err(|errno| Error::Refused("unpausedomain", errno))?;
        let now = time::now().unwrap_or(0);
        Ok(Live { id, console, started: now, sample: Sample { at: now, cpu: 0, traffic: Traffic::default() } })
    }

    fn connect_console(&self, index: usize, created: &Created) -> Result<Rc<RefCell<Back>>, Error> {
        self.services.add(|waker| {
            let back = Back::connect(created.id, created.console, self.entries[index].writer, waker)?;
            let back = Rc::new(RefCell::new(back));
            Ok((Turns(Rc::downgrade(&back)), back))
        })
    }

    /// Writes a new domain's nodes, and introduces it.
    fn connect_store(&mut self, index: usize, created: &Created) -> Result<(), Errno> {
        let config = &self.archive.config().domains[index];
        let nodes = Home {
            domain: created.id,
            name: &config.name,
            memory: config.memory_pages << 2,
            vcpus: config.vcpus,
            store: (created.store.frame, created.store.port),
            console: (created.console.frame, created.console.port),
        };
        nodes.write(&mut self.nodes)?;
        self.nodes.introduce(created.id, created.store.frame, created.store.port)
    }

    /// A domain is gone, or about to go: XenStore forgets it.
    fn forget(&mut self, id: u16) {
        // First its home. Then it rarely owns anything that must be looked for.
        if let Err(errno) = home::remove(&mut self.nodes, id) {
            warn!("d{id}: its nodes can't be removed: {errno:?}");
        }
        match self.nodes.release(id) {
            // It was not introduced yet.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => warn!("d{id}: XenStore doesn't release it: {errno:?}"),
        }
    }

    /// Asks a domain to power itself off. It does so in its own time, if it knows how to.
    ///
    /// # Errors
    /// The store's.
    pub fn stop(&mut self, index: usize) -> Result<(), Error> {
        let id = self.id(index).ok_or(Error::Store(Errno::ESRCH))?;
        home::ask_to_stop(&mut self.nodes, id).map_err(Error::Store)
    }

    /// Pauses a domain.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn pause(&self, index: usize) -> Result<(), Errno> {
        calls::pause_domain(self.id(index).ok_or(Errno::ESRCH)?).map(drop)
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// The hypervisor's; `EINVAL` for a domain that isn't paused.
    pub fn unpause(&self, index: usize) -> Result<(), Errno> {
        calls::unpause_domain(self.id(index).ok_or(Errno::ESRCH)?).map(drop)
    }

    /// Asks a domain to have so much memory, up to what the machine file gives it. It gives back what it has more, or takes
    /// what it lacks, by itself and in its own time, if it knows how to. From now on it can't have more.
    ///
    /// # Errors
    /// What is wrong.
    pub fn set_memory(&mut self, index: usize, mebibytes: u64) -> Result<(), String> {
        /// Nobody can do with less than this, in MiB.
        const LEAST: u64 = 4;
        let config = self.config(index);
        let id = self.id(index).ok_or_else(|| format!("{} is not there", config.name))?;
        let most = config.memory_pages >> 8;
        if !(LEAST..=most).contains(&mebibytes) {
            return Err(format!("{} can have {LEAST} MiB to {most} MiB", config.name));
        }
        calls::set_max_pages(id, mebibytes << 8).map_err(|errno| format!("refused: {errno:?}"))?;
        let target = home::set_memory_target(&mut self.nodes, id, mebibytes << 10);
        target.map_err(|errno| Error::Store(errno).to_string())
    }

    /// Has a part that serves a domain panic when it has next something to do, to see what its guest makes of that: the back
    /// end of a device (`vbd`, `vif`) with a number, or the domain's `console` or connection to XenStore (`store`).
    ///
    /// # Errors
    /// What is wrong.
    pub fn doom(&mut self, index: usize, kind: &str, number: u32) -> Result<(), String> {
        let name = &self.archive.config().domains[index].name;
        let live = self.entries[index].live.as_ref().ok_or_else(|| format!("{name} is not there"))?;
        match kind {
            "console" => live.console.borrow_mut().doom(),
            "store" if self.rings.doom(live.id) => {}
            _ if self.attendants.iter_mut().any(|attendant| attendant.doom(live.id, kind, number)) => {}
            _ => return Err(format!("{name} has no {kind} {number}")),
        }
        Ok(())
    }

    /// How a domain that is there has ended, if it has.
    pub fn ending(&self, index: usize) -> Option<Ending> {
        let id = self.id(index)?;
        match calls::domain_info(id) {
            Ok(info) if info.domain == id => Ending::of(info.flags),
            // It is gone altogether.
            _ => Some(Ending::Destroyed),
        }
    }

    /// Takes down what is left of a domain; when it is to be started again, if at all.
    pub fn end(&mut self, index: usize, ending: Ending, now: u64) -> Option<u64> {
        let live = self.entries[index].live.take()?;
        self.entries[index].last = Some(ending);
        live.console.borrow_mut().drain();
        // The pages of its rings are unmapped with these, or the domain's last frames would not go.
        drop(live.console);
        self.part(live.id);
        self.forget(live.id);
        let name = &self.config(index).name;
        if ending.is_clean() {
            info!("d{} ({name}) {ending}", live.id);
        } else {
            error!("d{} ({name}) {ending}", live.id);
        }
        if let Err(errno) = calls::destroy_domain(live.id)
            && errno != Errno::ESRCH
        {
            warn!("d{} ({name}): destroying it was refused: {errno:?}", live.id);
        }
        let at = self.entries[index].haste.restart(ending, live.started, now)?;
        let seconds = (at - now) / 1_000_000_000;
        if seconds > 0 {
            info!("{} reboots often: it starts again in {seconds} seconds", self.config(index).name);
        }
        Some(at)
    }

    /// What there is to tell of each domain.
    pub fn rows(&mut self, now: u64) -> Vec<Row<'_>> {
        let (configs, attendants) = (&self.archive.config().domains, &self.attendants);
        let rows = self.entries.iter_mut().zip(configs).map(|(entry, config)| {
            let live = entry.live.as_mut();
            let info =
                live.as_ref().and_then(|live| calls::domain_info(live.id).ok().filter(|info| info.domain == live.id));
            let used = live.zip(info).map(|(live, info)| {
                let traffic = attendants.iter().map(|attendant| attendant.traffic(live.id));
                let traffic = traffic.fold(Traffic::default(), |all, one| all + one);
                let sample = Sample { at: now, cpu: info.cpu_time, traffic };
                let last = core::mem::replace(&mut live.sample, sample);
                Used {
                    span: now.saturating_sub(last.at),
                    cpu: sample.cpu.saturating_sub(last.cpu),
                    traffic: traffic - last.traffic,
                }
            });
            Row { name: &config.name, info, last: entry.last, used }
        });
        rows.collect()
    }
}
