//! QEMU's monitor, from which a machine can be looked at and hurt: the protocol QMP (qemu.org, `docs/interop/qmp-spec`)
//! on a socket. What QEMU itself understands is in lines of JSON, each way.

use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// The time for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The place of a machine's monitor.
pub struct Monitor {
    /// Names of sockets are short, so it is in a folder of its own.
    folder: TempDir,
}

impl Monitor {
    /// A place for one.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn new() -> Result<Monitor> {
        Ok(Monitor { folder: tempfile::tempdir()? })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("qmp")
    }

    /// Makes a QEMU that is not started yet listen there.
    pub fn add_to(&self, qemu: &mut Command) {
        qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", self.socket().display()));
    }

    /// Gives a command as one would type it on the monitor, and returns its answer; `None` if QEMU has ended instead,
    /// of which the command may be the cause. `command` needs no escapes in JSON.
    ///
    /// # Errors
    /// When QEMU had ended before, or does not answer.
    pub fn command(&self, command: &str) -> Result<Option<String>> {
        let socket = UnixStream::connect(self.socket()).context("no monitor")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut answers = BufReader::new(socket.try_clone()?);
        let mut ask = |question: String| -> Result<Option<String>> {
            (&socket).write_all(question.as_bytes())?;
            answer(&mut answers).with_context(|| format!("the monitor's answer to {question}"))
        };
        ask("{\"execute\": \"qmp_capabilities\"}\n".to_owned())?;
        ask(format!("{{\"execute\": \"human-monitor-command\", \"arguments\": {{\"command-line\": \"{command}\"}}}}\n"))
    }
}

/// The next answer, among whatever else is said; `None` if there is none before the end.
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
