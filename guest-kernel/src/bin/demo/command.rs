//! The commands that the demo understands. Pure.

/// What a line asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// Nothing: the line is empty.
    Nothing,
    /// The list of commands.
    Help,
    /// The greeting again.
    Info,
    /// Programs in user mode.
    Tasks,
    /// Something with the disk.
    Disk(DiskTask),
    /// `disk` with words that mean nothing; the words.
    UnknownDisk(&'a str),
    /// Time since start.
    Uptime,
    /// The rest of the line.
    Echo(&'a str),
    /// Bytes to the echo of another host and back.
    Stream {
        /// Its address.
        to: &'a str,
        /// How many MiB.
        mebibytes: u64,
    },
    /// Power off.
    Halt,
    /// Restart.
    Reboot,
    /// Die, in one of several ways.
    Crash(Crash),
    /// `crash` with a word that names no way; the word.
    UnknownCrash(&'a str),
    /// No command; the first word.
    Unknown(&'a str),
}

/// What is done with the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskTask {
    /// Reads the record area, writes its next generation, and reads that again.
    Visit,
    /// Reads all of it; its checksum.
    Sum,
    /// Writes a pattern over all of it.
    Fill(u64),
    /// Reads all of it, and compares it with a pattern.
    Check(u64),
    /// Writes records until there is no room, and says of each when it is durable.
    Log,
}

/// A way to die.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// Reads address 0. The kernel's own trap handler reports it.
    Null,
    /// Traps on a stack that isn't mapped.
    Stack,
    /// Returns through a frame that isn't mapped.
    Iret,
    /// Traps without a trap handler: what on bare hardware would be a triple fault.
    Triple,
    /// Executes `ud2`. The kernel's own trap handler reports it.
    Ud,
}

/// The text of `help`.
pub const HELP: &str = "\
help                                 this list
info                                 who and where this domain is
tasks                                runs programs in user mode
disk [sum|fill N|check N|log]        visits the records on its disk; sums it,
                                     fills it with a pattern, checks that; logs
uptime                               time since it started
echo TEXT                            says TEXT
stream ADDRESS [MIB]                 sends MIB to another guest's echo, and
                                     checks what comes back
halt                                 powers the domain off
reboot                               restarts the domain
crash [null|stack|iret|triple|ud]    kills it: by a null read, on a bad stack,
                                     by a bad return frame, without a trap
                                     handler, by an invalid instruction";

impl<'a> Command<'a> {
    /// Reads a line. Words after those that a command takes are ignored.
    pub fn parse(line: &'a str) -> Command<'a> {
        let line = line.trim_ascii();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_ascii_start();
        match word {
            "" => Command::Nothing,
            "help" | "?" => Command::Help,
            "info" => Command::Info,
            "tasks" => Command::Tasks,
            "disk" => DiskTask::parse(rest).map_or(Command::UnknownDisk(rest), Command::Disk),
            "uptime" => Command::Uptime,
            "echo" => Command::Echo(rest),
            "stream" => {
                let (to, mebibytes) = rest.split_once(' ').unwrap_or((rest, "1"));
                Command::Stream { to, mebibytes: mebibytes.trim_ascii().parse().unwrap_or(1).clamp(1, 1 << 20) }
            }
            "halt" | "poweroff" => Command::Halt,
            "reboot" => Command::Reboot,
            "crash" => match rest.split(' ').next() {
                Some("" | "null") | None => Command::Crash(Crash::Null),
                Some("stack") => Command::Crash(Crash::Stack),
                Some("iret") => Command::Crash(Crash::Iret),
                Some("triple") => Command::Crash(Crash::Triple),
                Some("ud") => Command::Crash(Crash::Ud),
                Some(other) => Command::UnknownCrash(other),
            },
            _ => Command::Unknown(word),
        }
    }
}

impl DiskTask {
    fn parse(words: &str) -> Option<DiskTask> {
        let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
        let seed = || rest.trim_ascii().parse().ok();
        match word {
            "" => Some(DiskTask::Visit),
            "sum" => Some(DiskTask::Sum),
            "fill" => seed().map(DiskTask::Fill),
            "check" => seed().map(DiskTask::Check),
            "log" => Some(DiskTask::Log),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        assert_eq!(Command::parse("help"), Command::Help);
        assert_eq!(Command::parse("  uptime  "), Command::Uptime);
        assert_eq!(Command::parse("tasks"), Command::Tasks);
        assert_eq!(Command::parse(""), Command::Nothing);
        assert_eq!(Command::parse("   "), Command::Nothing);
        assert_eq!(Command::parse("echo  two words "), Command::Echo("two words"));
        assert_eq!(Command::parse("echo"), Command::Echo(""));
        assert_eq!(Command::parse("stream 10.0.2.16 5"), Command::Stream { to: "10.0.2.16", mebibytes: 5 });
        assert_eq!(Command::parse("stream 10.0.2.16"), Command::Stream { to: "10.0.2.16", mebibytes: 1 });
        assert_eq!(Command::parse("hepl me"), Command::Unknown("hepl"));
    }

    #[test]
    fn what_is_done_with_a_disk() {
        assert_eq!(Command::parse("disk"), Command::Disk(DiskTask::Visit));
        assert_eq!(Command::parse("disk sum"), Command::Disk(DiskTask::Sum));
        assert_eq!(Command::parse("disk fill 7"), Command::Disk(DiskTask::Fill(7)));
        assert_eq!(Command::parse("disk check  12 "), Command::Disk(DiskTask::Check(12)));
        assert_eq!(Command::parse("disk log"), Command::Disk(DiskTask::Log));
        for words in ["fill", "fill x", "check", "erase"] {
            assert_eq!(Command::parse(&format!("disk {words}")), Command::UnknownDisk(words));
        }
    }

    #[test]
    fn ways_to_die() {
        assert_eq!(Command::parse("crash"), Command::Crash(Crash::Null));
        for (word, way) in [
            ("null", Crash::Null),
            ("stack", Crash::Stack),
            ("iret", Crash::Iret),
            ("triple", Crash::Triple),
            ("ud", Crash::Ud),
        ] {
            assert_eq!(Command::parse(&format!("crash {word} now")), Command::Crash(way));
            assert!(HELP.contains(word));
        }
        assert_eq!(Command::parse("crash slowly"), Command::UnknownCrash("slowly"));
    }

    #[test]
    fn the_help_fits_a_terminal() {
        assert!(HELP.lines().all(|line| line.len() < 80));
    }
}
