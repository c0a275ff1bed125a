//! A machine that runs: a QEMU session, and how much of its output has been answered.

use crate::{context::Context, monitor::Monitor, pattern::Pattern, scenario::LIMIT};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use xtask::{
    bochs, disk,
    machine::{Emulator, Machine},
    qemu::{Accel, Hardware},
    session::{Ended, Session},
};

/// What the hypervisor says before it stops for good. No test waits any longer then.
const PANIC: &str = "*** Pavise panic";

/// A running machine. Dropping it ends it.
pub struct Running {
    session: Session,
    /// QEMU's.
    monitor: Option<Monitor>,
    deadline: Instant,
    /// Length of the output when the last key was typed.
    mark: usize,
    _disk: Disk,
}

/// A machine's disk. Its files are deleted with it.
struct Disk {
    image: PathBuf,
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is left behind is overwritten by the next run.
        let _ = fs::remove_file(&self.image);
        let _ = fs::remove_file(self.image.with_extension("archive"));
    }
}

impl Running {
    /// Boots Pavise with `archive` on the hardware of `machine`. The output goes to the file `log` too, beside which the
    /// disk is made; `limit` is the time the machine has in all.
    ///
    /// # Errors
    /// When the image can't be made or QEMU can't be started.
    pub fn boot(context: &Context, machine: &Machine, archive: &[u8], log: &Path, limit: Duration) -> Result<Running> {
        match machine.emulator {
            // In software on every host, so that a test means the same everywhere.
            Emulator::Qemu => {
                Running::boot_on(Hardware::of(machine, Accel::Tcg), context, machine, archive, log, limit)
            }
            Emulator::Bochs => {
                let disk = Disk { image: log.with_extension("img") };
                context.pavise()?.imager.make(machine.firmware, archive, &disk.image)?;
                let hardware = bochs::Hardware { cpu: &machine.cpu, cpus: machine.cpus, memory: machine.memory };
                let session = hardware.boot_image(&disk.image, log, limit)?;
                Ok(Running { session, monitor: None, deadline: Instant::now() + limit, mark: 0, _disk: disk })
            }
        }
    }

    /// The same, but time passes by instructions, one in a nanosecond: a busy host can't take time from the machine.
    ///
    /// # Errors
    /// As [`boot`](Self::boot).
    pub fn boot_counting(context: &Context, machine: &Machine, archive: &[u8], log: &Path) -> Result<Running> {
        let hardware = Hardware { icount: true, ..Hardware::of(machine, Accel::Tcg) };
        Running::boot_on(hardware, context, machine, archive, log, LIMIT)
    }

    fn boot_on(
        mut hardware: Hardware,
        context: &Context,
        machine: &Machine,
        archive: &[u8],
        log: &Path,
        limit: Duration,
    ) -> Result<Running> {
        let disk = Disk { image: log.with_extension("img") };
        context.pavise()?.imager.make(machine.firmware, archive, &disk.image)?;
        hardware.devices.extend(disk::attach(&machine.disks, &log.with_extension("disks"))?);
        let mut qemu = hardware.boot_image(&disk.image)?;
        let monitor = Monitor::new()?;
        monitor.add_to(&mut qemu);
        let session = Session::start(&qemu, log, limit)?;
        Ok(Running { session, monitor: Some(monitor), deadline: Instant::now() + limit, mark: 0, _disk: disk })
    }

    /// Waits until the output since the last key has all of `patterns`, in any order.
    ///
    /// # Errors
    /// When time is up, the machine ended or the hypervisor panicked; the message has the end of the output.
    pub fn expect(&self, patterns: &[Pattern]) -> Result<()> {
        self.expect_since(self.mark, patterns)
    }

    /// The same with all output: for what may be said before the last key or after it.
    ///
    /// # Errors
    /// As [`expect`](Self::expect).
    pub fn expect_ever(&self, patterns: &[Pattern]) -> Result<()> {
        self.expect_since(0, patterns)
    }

    fn expect_since(&self, mark: usize, patterns: &[Pattern]) -> Result<()> {
        let verdict = self.session.wait_until(|output| {
            let recent = output.get(mark..).unwrap_or_default();
            if patterns.iter().all(|pattern| pattern.find(recent).is_some()) {
                return Some(Ok(()));
            }
            output.contains(PANIC).then_some(Err("the hypervisor panicked"))
        });
        let why = match verdict {
            Some(Ok(())) => return Ok(()),
            Some(Err(why)) => why,
            None if Instant::now() >= self.deadline => "time is up",
            None => "the machine ended",
        };
        bail!(
            "no {}: {why}; {}",
            missing(patterns, self.output().get(mark..).unwrap_or_default()),
            self.session.last_words()
        )
    }

    /// Types on the console. What the machine said before is no answer to it.
    ///
    /// # Errors
    /// When the machine has ended.
    pub fn type_keys(&mut self, keys: &str) -> Result<()> {
        self.mark = self.session.text().len();
        self.session.send(keys)
    }

    fn qemu(&self) -> Result<&Monitor> {
        self.monitor.as_ref().context("only QEMU has a monitor")
    }

    /// Gives QEMU's monitor a command that has nothing to answer, and may end the machine.
    ///
    /// # Errors
    /// When it has, or the machine had ended.
    pub fn monitor(&self, command: &str) -> Result<()> {
        let answer = self.qemu()?.command(command)?.unwrap_or_default();
        ensure!(answer.is_empty(), "QEMU says to '{command}': {answer}");
        Ok(())
    }

    /// What QEMU's monitor answers to a question.
    ///
    /// # Errors
    /// When the machine has ended.
    pub fn ask(&self, question: &str) -> Result<String> {
        self.qemu()?.command(question)?.with_context(|| format!("the machine ended: {}", self.last_words()))
    }

    /// Waits until all CPUs are halted with interrupts off, for good.
    ///
    /// # Errors
    /// When time is up or the machine ended.
    pub fn expect_stopped(&self) -> Result<()> {
        loop {
            let registers = self.qemu()?.command("info registers -a")?.context("the machine ended")?;
            let states: Vec<_> = cpu_states(&registers).collect();
            let cpus = registers.lines().filter(|line| line.starts_with("CPU#")).count();
            ensure!(cpus > 0 && states.len() == cpus, "QEMU tells the states of CPUs otherwise: {registers}");
            if states.iter().all(|state| *state == CpuState::STOPPED) {
                return Ok(());
            }
            if Instant::now() >= self.deadline {
                bail!("the CPUs go on: {states:?}; {}", self.session.last_words());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for the machine to end by itself, with `status` of QEMU, or powered off where that is 0.
    ///
    /// # Errors
    /// When it ends otherwise, or not in time.
    pub fn expect_end(&mut self, status: i32) -> Result<()> {
        match self.end() {
            Ended::Status(found) if found == status => Ok(()),
            _ if self.monitor.is_none() && status == 0 && bochs::has_powered_off(&self.session) => Ok(()),
            other => bail!("the machine's end is {other:?}, expected status {status}; {}", self.session.last_words()),
        }
    }

    /// Waits for the machine to end by itself. One that doesn't in time is ended.
    pub fn end(&mut self) -> Ended {
        self.session.wait_exit()
    }

    /// Whether its time is up.
    pub fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Everything said so far.
    pub fn output(&self) -> String {
        self.session.text()
    }

    /// The end of the output, and where all of it is, for error messages.
    pub fn last_words(&self) -> String {
        self.session.last_words()
    }
}

fn missing(patterns: &[Pattern], output: impl AsRef<str>) -> String {
    let missing = patterns.iter().filter(|pattern| pattern.find(output.as_ref()).is_none());
    missing.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What the monitor's `info registers` says of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct CpuState {
    halted: bool,
    interruptible: bool,
}

impl CpuState {
    const STOPPED: CpuState = CpuState { halted: true, interruptible: false };
}

/// The state of each CPU, from its line `RIP=... RFL=00000046 [...] CPL=0 II=0 A20=1 SMM=0 HLT=1`.
fn cpu_states(registers: &str) -> impl Iterator<Item = CpuState> {
    const INTERRUPT_FLAG: u32 = 1 << 9;
    registers.lines().filter(|line| line.starts_with("RIP=")).map(|line| {
        let value = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name));
        let flags = value("RFL=").and_then(|flags| u32::from_str_radix(flags, 16).ok());
        CpuState {
            halted: value("HLT=") == Some("1"),
            interruptible: flags.is_none_or(|flags| flags & INTERRUPT_FLAG != 0),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopped_cpus_are_told_from_others() {
        let line = |flags, halted| {
            format!("RAX=0\nRIP=ffff81800001a2b4 RFL={flags} [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT={halted}\n")
        };
        let registers = ["CPU#0\n".to_owned(), line("00000046", 1), line("00000246", 1), line("00000046", 0)].concat();
        let states: Vec<_> = cpu_states(&registers).map(|state| state == CpuState::STOPPED).collect();
        assert_eq!(states, [true, false, false]);
    }
}
