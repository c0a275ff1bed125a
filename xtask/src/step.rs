//! Long steps: their progress while they run, their output when they fail.

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{BufRead, BufReader, IsTerminal, stderr},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A step this short needs no line saying that it is done.
const BRIEF: Duration = Duration::from_secs(2);

/// Runs a command as one step of a larger job. `what` says what it does, as in "building the hypervisor".
///
/// On a terminal a line shows the time and the command's last output; elsewhere the start is printed, and the end if
/// it was long in coming. The output itself is shown only when the command fails.
///
/// # Errors
/// When the command can't be started or fails; the message has its output and how to run it by hand.
pub fn run(what: &str, command: &mut Command) -> Result<()> {
    let progress = Progress::start(what);
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let spawned = command.spawn();
    // The command keeps its ends of the pipe until they are replaced; reading would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawned.with_context(|| format!("{what}: cannot start {}", shown(command)))?;

    let mut output = String::new();
    for line in BufReader::new(reader).lines() {
        let line = line.unwrap_or_default();
        progress.output(&line);
        output.push_str(&line);
        output.push('\n');
    }
    let status = child.wait()?;
    if status.success() {
        progress.done();
        return Ok(());
    }
    progress.clear();
    bail!("{output}{what} failed ({status}). To run that step alone:\n    {}", shown(command));
}

/// Computes something as one step of a larger job.
pub fn compute<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let progress = Progress::start(what);
    let done = work();
    progress.done();
    done
}

/// A command as one would type it, with the environment variables that were set for it.
pub fn shown(command: &Command) -> String {
    let vars = command.get_envs().filter_map(|(name, value)| Some(format!("{}={}", name.display(), value?.display())));
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    vars.chain(words.map(|word| word.display().to_string())).collect::<Vec<_>>().join(" ")
}

/// The line that shows a step.
struct Progress {
    what: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn start(what: &str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}");
            let bar = ProgressBar::new_spinner().with_prefix(what.to_owned());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("- {what}");
        }
        Self { what: what.to_owned(), started: Instant::now(), bar }
    }

    fn output(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().to_owned());
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn done(&self) {
        self.clear();
        let elapsed = self.started.elapsed();
        if elapsed >= BRIEF {
            eprintln!("- {}: done in {} s", self.what, elapsed.as_secs());
        }
    }
}
