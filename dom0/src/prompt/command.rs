//! The commands that the prompt understands. Pure.

/// What a line asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// Nothing: the line is empty.
    Nothing,
    /// The list of commands.
    Help,
    /// The domains.
    List,
    /// The domains, with what they used since the last time, and the machine's memory.
    Top,
    /// Something with the domain of this name.
    Domain(Action, &'a str),
    /// The domain of this name is to have so many MiB of memory.
    Memory(&'a str, u64),
    /// The part that serves this device, or what else it is, of the domain of this name is to panic.
    Crash(&'a str, &'a str, u32),
    /// The names and values below a node of XenStore.
    StoreList(&'a str),
    /// A node's value.
    StoreRead(&'a str),
    /// A node, and the value that it is to have.
    StoreWrite(&'a str, &'a str),
    /// The machine's end.
    Shutdown,
    /// This command needs the name of a domain.
    NoName(&'a str),
    /// What should be an amount of memory and is none.
    NoAmount(&'a str),
    /// There is something behind a command that takes no more; the first word of it.
    TooMuch(&'a str),
    /// No command; the first word.
    Unknown(&'a str),
}

/// What can be done with a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Create it, as the machine file says.
    Create,
    /// End it at once.
    Destroy,
    /// Let it run no more for now.
    Pause,
    /// Let it run again.
    Unpause,
    /// Send it the keys.
    Console,
    /// Show the last that it said.
    Log,
}

/// The text of `help`.
pub const HELP: &str = "\
help               this list
list               the domains
top                domains, with usage since the last `top`
create NAME        creates a domain of the machine file, and starts it
destroy NAME       ends a domain at once
pause NAME         stops a domain until `unpause`
unpause NAME       lets it run again
mem NAME AMOUNT    sets a domain's memory target, e.g. 128 MiB
console NAME       sends the keyboard to a domain (Ctrl-T: next)
log NAME           shows a domain's recent output
crash NAME vif 0   has the back end of a device panic when it has something to
                   do, to see what the guest makes of it; also vbd 51712, or
                   console, or store for its connection to XenStore
store ls PATH      the nodes of XenStore below one
store read PATH    a node's value
store write PATH VALUE
                   changes a node
shutdown           ends all domains, and powers the machine off";

const ACTIONS: [(&str, Action); 6] = [
    ("create", Action::Create),
    ("destroy", Action::Destroy),
    ("pause", Action::Pause),
    ("unpause", Action::Unpause),
    ("console", Action::Console),
    ("log", Action::Log),
];

impl<'a> Command<'a> {
    /// Reads a line.
    pub fn parse(line: &'a str) -> Command<'a> {
        let mut words = line.split_ascii_whitespace();
        let Some(word) = words.next() else { return Command::Nothing };
        let command = match word {
            "help" | "?" => Command::Help,
            "list" => Command::List,
            "top" => Command::Top,
            "shutdown" => Command::Shutdown,
            "store" => return Command::store(line.trim_ascii()["store".len()..].trim_ascii_start()),
            "crash" => return Command::crash(words),
            "mem" => return Command::memory(line.trim_ascii()["mem".len()..].trim_ascii_start()),
            _ => {
                let Some((_, action)) = ACTIONS.iter().find(|(name, _)| *name == word) else {
                    return Command::Unknown(word);
                };
                match words.next() {
                    Some(name) => Command::Domain(*action, name),
                    None => return Command::NoName(word),
                }
            }
        };
        words.next().map_or(command, Command::TooMuch)
    }

    /// Reads what follows `crash`.
    fn crash(mut words: impl Iterator<Item = &'a str>) -> Command<'a> {
        let (Some(name), Some(what)) = (words.next(), words.next()) else { return Command::NoName("crash") };
        let number = match what {
            "console" | "store" => 0,
            _ => match words.next().unwrap_or_default().parse() {
                Ok(number) => number,
                Err(_) => return Command::Unknown("crash"),
            },
        };
        words.next().map_or(Command::Crash(name, what, number), Command::TooMuch)
    }

    /// Reads what follows `mem`.
    fn memory(line: &'a str) -> Command<'a> {
        let (name, amount) = line.split_once(' ').unwrap_or((line, ""));
        let amount = amount.trim_ascii();
        match mebibytes(amount) {
            _ if name.is_empty() => Command::NoName("mem"),
            Some(mebibytes) => Command::Memory(name, mebibytes),
            None => Command::NoAmount(amount),
        }
    }

    /// Reads what follows `store`.
    fn store(line: &'a str) -> Command<'a> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (path, value) = rest.trim_ascii_start().split_once(' ').unwrap_or((rest.trim_ascii_start(), ""));
        match (verb, path) {
            ("ls", "") => Command::StoreList("/"),
            ("ls", path) => Command::StoreList(path),
            ("read", path) if !path.is_empty() => Command::StoreRead(path),
            ("write", path) if !path.is_empty() => Command::StoreWrite(path, value.trim_ascii()),
            _ => Command::Unknown("store"),
        }
    }
}

/// Reads an amount of memory, as machine files have it.
fn mebibytes(amount: &str) -> Option<u64> {
    let (number, factor) = match amount.strip_suffix("GiB") {
        Some(number) => (number, 1 << 10),
        None => (amount.strip_suffix("MiB")?, 1),
    };
    number.trim_ascii_end().parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn commands() {
        assert_eq!(Command::parse(""), Command::Nothing);
        assert_eq!(Command::parse("  \t "), Command::Nothing);
        assert_eq!(Command::parse("?"), Command::Help);
        assert_eq!(Command::parse(" top "), Command::Top);
        assert_eq!(Command::parse("create  alpha"), Command::Domain(Action::Create, "alpha"));
        assert_eq!(Command::parse("log beta"), Command::Domain(Action::Log, "beta"));
        assert_eq!(Command::parse("crash beta vbd 51712"), Command::Crash("beta", "vbd", 51712));
        assert_eq!(Command::parse("crash  beta store "), Command::Crash("beta", "store", 0));
        assert_eq!(Command::parse("mem beta 16 MiB"), Command::Memory("beta", 16));
        assert_eq!(Command::parse(" mem  beta  2GiB "), Command::Memory("beta", 2048));
        assert_eq!(Command::parse(" store ls"), Command::StoreList("/"));
        assert_eq!(Command::parse("store ls /a"), Command::StoreList("/a"));
        assert_eq!(Command::parse("store  read  /a"), Command::StoreRead("/a"));
        assert_eq!(Command::parse("store write /a two words "), Command::StoreWrite("/a", "two words"));
        assert_eq!(Command::parse("store write /a"), Command::StoreWrite("/a", ""));
    }

    #[test]
    fn mistakes() {
        assert_eq!(Command::parse("destroy"), Command::NoName("destroy"));
        assert_eq!(Command::parse("mem"), Command::NoName("mem"));
        assert_eq!(Command::parse("crash beta"), Command::NoName("crash"));
        assert_eq!(Command::parse("crash beta vif"), Command::Unknown("crash"));
        assert_eq!(Command::parse("crash beta vif -1"), Command::Unknown("crash"));
        assert_eq!(Command::parse("crash beta console 1"), Command::TooMuch("1"));
        for amount in ["", "16", "MiB", "-1 MiB", "1 MiB more", "99999999999999999999 MiB", "18446744073709551615 GiB"]
        {
            assert_eq!(Command::parse(&format!("mem beta {amount}")), Command::NoAmount(amount));
        }
        assert_eq!(Command::parse("store read"), Command::Unknown("store"));
        assert_eq!(Command::parse("store"), Command::Unknown("store"));
        assert_eq!(Command::parse("shutdown now"), Command::TooMuch("now"));
        assert_eq!(Command::parse("pause a b"), Command::TooMuch("b"));
        assert_eq!(Command::parse("hepl me"), Command::Unknown("hepl"));
    }

    #[test]
    fn the_help_names_all_and_fits_a_terminal() {
        assert!(HELP.lines().all(|line| line.len() < 80));
        for line in HELP.lines() {
            let command = line.split("  ").next().unwrap();
            assert!(!matches!(Command::parse(command), Command::Unknown(_)), "{command}");
        }
        assert!(ACTIONS.iter().all(|(name, _)| HELP.lines().any(|line| line.starts_with(name))));
    }
}
