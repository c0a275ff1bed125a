//! The form that most tests have: a machine, and what is expected and typed in it step by step.

use crate::{
    context::{Context, log_file},
    damage::Damage,
    pattern::Pattern,
    running::Running,
    suite::{Ending, Test},
};
use anyhow::{Context as _, Result, bail};
use boot_archive::{Scheduling, WhenAllStopped};
use std::{path::Path, sync::Arc, time::Duration};
use xtask::{
    archive,
    machine::{Domain, Kernel, Machine, Memory},
    qemu::DEBUG_EXIT_PORT,
};

/// The time that a machine has. Most end within ten seconds; this is for a host that is slow and busy.
pub const LIMIT: Duration = Duration::from_secs(180);

/// How a machine ends; the values are QEMU's exit status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum End {
    /// It was powered off.
    PowerOff = 0,
    /// All domains ended in order (0x10 written to the exit device).
    Clean = 33,
    /// Some domain crashed (0x11).
    Crashed = 35,
    /// The hypervisor panicked (0x12).
    Panicked = 37,
}

/// A step of a scenario.
#[derive(Clone)]
pub enum Step {
    /// Wait until all these have been said since the last key was typed, in any order.
    Expect(Vec<Pattern>),
    /// Wait until these have been said at any time.
    ExpectEver(Vec<Pattern>),
    /// Type this.
    Type(String),
    /// This must not have been said so far.
    Absent(Pattern),
    /// Look at everything said so far.
    Check(Arc<Check>),
    /// Do this on QEMU's monitor, which has nothing to answer.
    Monitor(&'static str),
    /// All CPUs come to a halt for good.
    Stopped,
    /// The machine ends by itself, like this.
    End(End),
}

/// A look at everything said so far.
pub type Check = dyn Fn(&str) -> Result<()> + Send + Sync;

/// A machine and its story.
pub struct Scenario {
    /// The machine.
    pub machine: Machine,
    /// What is wrong with its boot archive.
    pub damage: Option<Damage>,
    /// What happens in it, in this order. A machine that runs on at the end is switched off.
    pub steps: Vec<Step>,
    /// The time that it has.
    pub limit: Duration,
}

impl Scenario {
    /// A scenario with an unspoilt archive and the usual time.
    pub fn new(machine: Machine, steps: Vec<Step>) -> Scenario {
        Scenario { machine, damage: None, steps, limit: LIMIT }
    }

    /// Makes it a test.
    pub fn test(self, suite: &'static str, name: impl Into<String>) -> Test {
        let name = name.into();
        let log = log_file(&format!("{suite}/{name}"));
        Test::machine(suite, name, move |context| self.play(context, &log))
    }

    /// Plays it, with the machine's output in the file `log` too.
    ///
    /// # Errors
    /// When a step fails.
    pub fn play(&self, context: &Context, log: &Path) -> Result<Ending> {
        let mut archive = archive::make(&self.machine, &context.pavise()?.built)?;
        if let Some(damage) = self.damage {
            damage.apply(&mut archive).context("spoiling the archive")?;
        }
        let mut running = Running::boot(context, &self.machine, &archive, log, self.limit)?;
        self.steps.iter().try_for_each(|step| step.take(&mut running))?;
        Ok(Ending::Passed)
    }
}

impl Step {
    /// A look at everything said so far.
    pub fn check(check: impl Fn(&str) -> Result<()> + Send + Sync + 'static) -> Step {
        Step::Check(Arc::new(check))
    }

    /// Takes the step.
    ///
    /// # Errors
    /// When what it wants doesn't happen; the message has the end of the output.
    pub fn take(&self, running: &mut Running) -> Result<()> {
        match self {
            Step::Expect(patterns) => running.expect(patterns),
            Step::ExpectEver(patterns) => running.expect_ever(patterns),
            Step::Type(keys) => running.type_keys(keys),
            Step::Absent(pattern) => match pattern.find(&running.output()) {
                Some(found) => bail!("'{found}' should not be there; {}", running.last_words()),
                None => Ok(()),
            },
            Step::Check(check) => check(&running.output()).with_context(|| running.last_words()),
            Step::Monitor(command) => running.monitor(command),
            Step::Stopped => running.expect_stopped(),
            Step::End(end) => running.expect_end(*end as i32),
        }
    }
}

/// The machine that tests start from: it ends QEMU with a status when all its domains have stopped.
pub fn machine(domains: Vec<Domain>) -> Machine {
    let memory = Memory::mib(256);
    Machine { when_all_stopped: WhenAllStopped::DebugExit(DEBUG_EXIT_PORT), domains, memory, ..Machine::empty() }
}

/// A domain of one of the repository's own guest kernels, with one vCPU.
pub fn domain(name: &str, guest: &str, command_line: &str, memory: Memory) -> Domain {
    Domain {
        name: name.to_owned(),
        kernel: Kernel::Built(guest.to_owned()),
        control: false,
        ramdisk: None,
        command_line: command_line.to_owned(),
        memory,
        vcpus: 1,
        scheduling: Scheduling::default(),
        disks: Vec::new(),
        networks: Vec::new(),
    }
}
