//! One run of an emulator under control: its serial line is recorded and can be typed on, its time is limited, and it never
//! outlives the program.

use anyhow::{Context, Result, bail};
use nix::{
    pty::openpty,
    sys::{
        signal::{Signal, killpg},
        termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    },
    unistd::Pid,
};
use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How an emulator ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status; QEMU's debug-exit device makes it `2 * value + 1`.
    Status(i32),
    /// By a signal, or not to be found out.
    Unknown,
    /// Not within the time limit; it has been killed.
    TimedOut,
}

/// A running emulator. Dropping it kills it.
pub struct Session {
    child: Child,
    input: File,
    serial: Arc<Serial>,
    deadline: Instant,
    log: PathBuf,
    /// What the emulator reads or writes, deleted with the session.
    _files: Option<TempDir>,
}

/// What came over the serial line so far.
#[derive(Default)]
struct Serial {
    state: Mutex<SerialState>,
    changed: Condvar,
}

#[derive(Default)]
struct SerialState {
    text: String,
    /// The line is closed: the emulator has ended.
    closed: bool,
}

impl Serial {
    fn lock(&self) -> MutexGuard<'_, SerialState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` has an answer, the line closes, or it is `deadline`.
    fn wait<T>(&self, deadline: Instant, mut done: impl FnMut(&SerialState) -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(answer) = done(&state) {
                return Some(answer);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.closed {
                return None;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Session {
    /// Starts QEMU with its serial line recorded in the file `log`, and its own messages in `log` with `.stderr`
    /// appended. `limit` is the time it has in all.
    ///
    /// # Errors
    /// When it can't be started or a file can't be written.
    pub fn start(qemu: &Command, log: &Path, limit: Duration) -> Result<Self> {
        let (record, messages) = files(log)?;
        let mut command = tied(qemu);
        command.args(["-serial", "stdio", "-monitor", "none"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(messages);
        let mut child = spawn(command)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).context("the emulator has no serial line")?;
        let (input, output) = (File::from(OwnedFd::from(input)), File::from(OwnedFd::from(output)));
        Ok(Session::recording(child, input, output, record, log, limit))
    }

    /// Starts an emulator whose standard input is a terminal, which is to be the serial line in both directions. All that the
    /// emulator has to say itself goes to the file of messages.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on_terminal(emulator: &Command, log: &Path, limit: Duration) -> Result<Self> {
        let terminal = openpty(None, None).context("no terminal to be had")?;
        let mut settings = tcgetattr(&terminal.slave)?;
        cfmakeraw(&mut settings);
        tcsetattr(&terminal.slave, SetArg::TCSANOW, &settings)?;
        let (record, messages) = files(log)?;
        let mut command = tied(emulator);
        command.stdin(terminal.slave).stdout(messages.try_clone()?).stderr(messages);
        let output = File::from(terminal.master);
        let input = output.try_clone()?;
        // The command, which ends here, has our only use of the terminal's slave: the line closes when the emulator ends.
        let child = spawn(command)?;
        Ok(Session::recording(child, input, output, record, log, limit))
    }

    fn recording(child: Child, input: File, output: File, record: File, log: &Path, limit: Duration) -> Self {
        let serial = Arc::new(Serial::default());
        thread::spawn({
            let serial = serial.clone();
            move || record_serial(output, record, &serial)
        });
        Self { child, input, serial, deadline: Instant::now() + limit, log: log.to_owned(), _files: None }
    }

    /// The same session, which deletes `folder` when it is dropped.
    #[must_use]
    pub fn keeping(mut self, folder: TempDir) -> Self {
        self._files = Some(folder);
        self
    }

    /// Waits until `look` finds what it looks for in everything that came over the serial line so far. The last line
    /// need not have ended: prompts don't. `None` when the emulator ends first, after a last look, or the time is over.
    pub fn wait_until<T>(&self, mut look: impl FnMut(&str) -> Option<T>) -> Option<T> {
        self.serial.wait(self.deadline, |state| look(&state.text))
    }

    /// Waits for a line that has `text` in it, among those already there too, and returns it. The line need not have
    /// ended: prompts don't.
    ///
    /// # Errors
    /// When the emulator ends first or the time is over; the message has the end of the log.
    pub fn wait_for(&self, text: &str) -> Result<String> {
        let line = |state: &SerialState| state.text.lines().find(|line| line.contains(text)).map(str::to_owned);
        match self.serial.wait(self.deadline, line) {
            Some(line) => Ok(line),
            None => bail!("waited in vain for \"{text}\": {}", self.last_words()),
        }
    }

    /// Types on the serial line.
    ///
    /// # Errors
    /// When the emulator has ended.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.input.write_all(text.as_bytes()).context("typing on the serial line")
    }

    /// Waits until the emulator ends by itself; kills it when its time is over.
    pub fn wait_exit(&mut self) -> Ended {
        let closed = self.serial.wait(self.deadline, |state| state.closed.then_some(()));
        if closed.is_none() {
            // The line may have closed between the last look and the end of the time.
            let closed = self.serial.lock().closed;
            if !closed {
                self.kill();
                return Ended::TimedOut;
            }
        }
        match self.child.wait() {
            Ok(status) => status.code().map_or(Ended::Unknown, Ended::Status),
            Err(_) => Ended::Unknown,
        }
    }

    /// Everything that came over the serial line so far.
    pub fn text(&self) -> String {
        self.serial.lock().text.clone()
    }

    /// The file that records the serial line.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What the emulator itself has said so far.
    pub fn messages(&self) -> String {
        fs::read_to_string(messages_path(&self.log)).unwrap_or_default()
    }

    /// The last lines of the serial line, or what the emulator itself had to say, for error messages.
    pub fn last_words(&self) -> String {
        const LINES: usize = 30;
        let text = self.text();
        let text = if text.trim().is_empty() { self.messages() } else { text };
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        format!("the log ends\n    {}\n  all of it: {}", last.join("\n    "), crate::paths::shown(&self.log))
    }

    fn kill(&mut self) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            // It may have ended just now; `wait` finds out.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// The same program, which the kernel ends with the thread that starts it, even when we are killed and can't.
fn tied(emulator: &Command) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(emulator.get_program()).args(emulator.get_args());
    command
}

fn spawn(mut command: Command) -> Result<Child> {
    command.process_group(0).spawn().context("cannot start setpriv, of the package util-linux")
}

/// The files for what comes over the serial line, and for what the emulator says itself.
fn files(log: &Path) -> Result<(File, File)> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
    Ok((create(log)?, create(&messages_path(log))?))
}

fn messages_path(log: &Path) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(".stderr");
    PathBuf::from(path)
}

/// Copies the serial line to the record and to memory until it closes. Firmware moves its cursor about with escape
/// sequences; what is not text is kept in the record only.
fn record_serial(mut output: File, mut record: File, serial: &Serial) {
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = output.read(&mut buffer) {
        let bytes = buffer.get(..len).unwrap_or_default();
        // A full disk must not stop the test; the record is for reading later.
        let _ = record.write_all(bytes);
        let text = bytes.iter().filter(|&&byte| byte == b'\n' || byte == b'\t' || (b' '..=b'~').contains(&byte));
        serial.lock().text.extend(text.map(|&byte| char::from(byte)));
        serial.changed.notify_all();
    }
    serial.lock().closed = true;
    serial.changed.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for QEMU: a shell command, which ignores the arguments added to it.
    fn session(script: &str, limit: Duration) -> (Session, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        (Session::start(&command, &folder.path().join("serial.log"), limit).unwrap(), folder)
    }

    #[test]
    fn output_input_and_exit_status_pass() {
        let (mut session, _folder) = session("echo ready; read x; echo got $x; exit 33", Duration::from_secs(20));
        assert_eq!(session.wait_for("ready").unwrap(), "ready");
        session.send("hello\n").unwrap();
        assert_eq!(session.wait_until(|text| text.contains("got hello").then_some(7)), Some(7));
        assert_eq!(session.wait_exit(), Ended::Status(33));
        assert_eq!(fs::read_to_string(session.log()).unwrap(), "ready\ngot hello\n");
    }

    #[test]
    fn the_end_is_noticed_while_waiting_for_a_line() {
        let (session, _folder) = session("echo only this", Duration::from_secs(20));
        let error = session.wait_for("something else").unwrap_err().to_string();
        assert!(error.contains("only this"), "{error}");
    }

    #[test]
    fn time_is_limited_and_children_are_killed() {
        let folder = tempfile::tempdir().unwrap();
        let alive = folder.path().join("alive");
        let script = format!("(sleep 5; touch {}) & sleep 60", alive.display());
        let started = Instant::now();
        let (mut session, _folder) = session(&script, Duration::from_millis(300));
        assert_eq!(session.wait_exit(), Ended::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(5500));
        assert!(!alive.exists());
    }
}
