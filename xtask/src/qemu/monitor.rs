//! QEMU's monitor: commands to a machine that runs, by the protocol QMP.

use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// Time for an answer.
const LIMIT: Duration = Duration::from_secs(20);

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
        monitor.ask("{\"execute\": \"qmp_capabilities\"}")?;
        Ok(monitor)
    }

    /// Gives a command as a person would type it. It must need no escapes in JSON.
    ///
    /// # Errors
    /// When QEMU has anything to say to it: the commands that are of use here succeed in silence.
    pub fn command(&mut self, command: &str) -> Result<()> {
        let request =
            format!("{{\"execute\": \"human-monitor-command\", \"arguments\": {{\"command-line\": \"{command}\"}}}}");
        let answer = self.ask(&request)?;
        if answer != "{\"return\": \"\"}" {
            bail!("QEMU's monitor answers \"{command}\" with {answer}");
        }
        Ok(())
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

    /// Sends a request and waits for the answer. Events and the greeting come in between.
    fn ask(&mut self, request: &str) -> Result<String> {
        writeln!(self.stream.get_mut(), "{request}").context("QEMU's monitor is closed")?;
        loop {
            let mut line = String::new();
            let len = self.stream.read_line(&mut line).context("QEMU's monitor does not answer")?;
            if len == 0 {
                bail!("QEMU's monitor is closed");
            }
            let line = line.trim_end();
            if line.starts_with("{\"return\"") {
                return Ok(line.to_owned());
            }
            if line.starts_with("{\"error\"") {
                bail!("QEMU's monitor answers {request} with {line}");
            }
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
}
