//! QEMU's monitor: commands to a machine that runs, by the protocol QMP (qemu.org, `docs/interop/qmp-spec`), which is lines of
//! JSON, each way.

use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// Time for an answer.
const LIMIT: Duration = Duration::from_secs(20);
/// What is wrong when QEMU says nothing any more.
const CLOSED: &str = "QEMU's monitor is closed";

/// A connection to the monitor of a QEMU that was started with [`Monitor::arguments`].
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// What QEMU needs to listen at `socket`.
    pub fn arguments(socket: &Path) -> [String; 2] {
        ["-qmp".to_owned(), format!("unix:{},server=on,wait=off", socket.display())]
    }

    /// Connects.
    ///
    /// # Errors
    /// When QEMU doesn't listen there, or doesn't answer.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("no monitor at {}", socket.display()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        monitor.execute("{\"execute\": \"qmp_capabilities\"}")?.context(CLOSED)?;
        Ok(monitor)
    }

    /// Gives a command as a person would type it, and returns the answer; `None` if QEMU has ended instead, of which the
    /// command may be the cause. `command` needs no escapes in JSON.
    ///
    /// # Errors
    /// When QEMU had ended before, or does not answer.
    pub fn ask(&mut self, command: &str) -> Result<Option<String>> {
        self.execute(&format!(
            "{{\"execute\": \"human-monitor-command\", \"arguments\": {{\"command-line\": \"{command}\"}}}}"
        ))
    }

    /// Gives a command that has nothing to answer.
    ///
    /// # Errors
    /// When QEMU has anything to say to it.
    pub fn command(&mut self, command: &str) -> Result<()> {
        match self.ask(command)?.context(CLOSED)? {
            answer if answer.is_empty() => Ok(()),
            answer => bail!("QEMU's monitor answers \"{command}\" with {answer}"),
        }
    }

    /// From here on QEMU translates each instruction alone, so that its execution log has each. Takes hold when the
    /// machine is interrupted the next time.
    ///
    /// # Errors
    /// When QEMU can't.
    pub fn single_instructions(&mut self) -> Result<()> {
        // The name since QEMU 8.1, and the one before.
        self.command("one-insn-per-tb on").or_else(|_| self.command("singlestep on"))
    }

    /// Sends a request and waits for the answer.
    fn execute(&mut self, request: &str) -> Result<Option<String>> {
        writeln!(self.stream.get_mut(), "{request}").context(CLOSED)?;
        answer(&mut self.stream).with_context(|| format!("QEMU's monitor was asked {request}"))
    }
}

/// The next answer, among events and the greeting; `None` if there is none before the end.
fn answer(lines: &mut impl BufRead) -> Result<Option<String>> {
    loop {
        let mut line = String::new();
        match lines.read_line(&mut line) {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
            read => read?,
        };
        let line = line.trim_end();
        if let Some(answer) = line.strip_prefix("{\"return\": ").and_then(|rest| rest.strip_suffix('}')) {
            return Ok(Some(answer.trim_matches('"').replace("\\r\\n", "\n")));
        }
        if line.starts_with("{\"error\"") {
            bail!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixListener, thread};

    /// A monitor that gives these answers, one for each request.
    fn answering(answers: &'static [&'static str]) -> (Monitor, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("monitor");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            writeln!(stream, "{{\"QMP\": {{}}}}").unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
            for answer in ["{\"return\": {}}"].iter().chain(answers) {
                requests.next().unwrap().unwrap();
                writeln!(stream, "{{\"event\": \"RESUME\"}}\r\n{answer}\r").unwrap();
            }
        });
        (Monitor::connect(&socket).unwrap(), folder)
    }

    #[test]
    fn silence_is_success() {
        let (mut monitor, _folder) = answering(&["{\"return\": \"\"}", "{\"return\": \"unknown command\\r\\n\"}"]);
        monitor.command("log exec").unwrap();
        assert!(monitor.command("leg exec").unwrap_err().to_string().contains("unknown command"));
        assert!(monitor.command("log exec").unwrap_err().to_string().contains("monitor"));
    }

    #[test]
    fn both_names_of_single_instructions_are_tried() {
        let (mut monitor, _folder) = answering(&["{\"return\": \"unknown command\\r\\n\"}", "{\"return\": \"\"}"]);
        monitor.single_instructions().unwrap();
    }

    #[test]
    fn answers_are_found_among_events() {
        let said = |text: &str| answer(&mut text.as_bytes());
        let answer = said("{\"QMP\": {}}\r\n{\"event\": \"RESET\"}\r\n{\"return\": \"a\\r\\nb\\r\\n\"}\r\n").unwrap();
        assert_eq!(answer.as_deref(), Some("a\nb\n"));
        assert_eq!(said("{\"return\": {}}\r\n").unwrap().as_deref(), Some("{}"));
        assert!(said("{\"error\": {\"class\": \"CommandNotFound\"}}\r\n{\"return\": \"\"}\r\n").is_err());
        assert_eq!(said("{\"event\": \"SHUTDOWN\"}\r\n").unwrap(), None);
    }
}
