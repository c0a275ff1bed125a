//! The line that is typed, and the commands carried out.

use super::command::{Action, Command, HELP};
use crate::console::screen;
use crate::domains::Domains;
use crate::domains::life::Ending;
use crate::domains::table::table;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::Display;
use guest_kernel::control::calls;
use guest_kernel::line::{Key, LineEditor};
use guest_kernel::store::wire::printable;
use guest_kernel::store::{Bus, Tx};
use guest_kernel::{exit, memory, time};
use pv_abi::errno::Errno;
use pv_abi::sched::SHUTDOWN_POWEROFF;

/// What asks for a command.
const PROMPT: &str = "dom0> ";
/// Lines that `log` shows.
const LOG: usize = 50;

/// The prompt.
pub struct Prompt {
    line: LineEditor,
    domains: Rc<RefCell<Domains>>,
}

/// Writes text behind the prompt.
fn say(text: &str) {
    let mut screen = screen();
    let first = screen.first();
    screen.write(first, text.as_bytes());
}

impl Prompt {
    /// A prompt that asks.
    pub fn new(domains: Rc<RefCell<Domains>>) -> Prompt {
        say(PROMPT);
        Prompt { line: LineEditor::new(), domains }
    }

    /// A key was typed.
    pub fn press(&mut self, key: u8) {
        match self.line.key(key) {
            Key::Ignored => {}
            Key::Typed(byte) => say(char::from(byte).encode_utf8(&mut [0; 4])),
            Key::Erased(count) => (0..count).for_each(|_| say("\u{8} \u{8}")),
            Key::Cancelled => say(&format!("^C\n{PROMPT}")),
            Key::Entered => {
                say("\n");
                let line = self.line.take(str::to_owned);
                let answer = self.obey(Command::parse(&line));
                if !answer.is_empty() {
                    say(&answer);
                    say("\n");
                }
                say(PROMPT);
            }
        }
    }

    /// Carries a command out; the answer, without the end of its last line.
    fn obey(&self, command: Command<'_>) -> String {
        match command {
            Command::Nothing => String::new(),
            Command::Help => HELP.into(),
            Command::List => self.table(false),
            Command::Top => format!("{}\n{}", self.table(true), self.machine()),
            Command::Domain(action, name) => self.with(name, |index| self.act(action, index, name)),
            Command::Memory(name, mebibytes) => {
                self.with(name, |index| said(self.domains.borrow_mut().set_memory(index, mebibytes)))
            }
            Command::Crash(name, what, number) => {
                self.with(name, |index| said(self.domains.borrow_mut().doom(index, what, number)))
            }
            Command::StoreList(path) => self.list(path).unwrap_or_else(|errno| format!("{path}: {errno:?}")),
            Command::StoreRead(path) => {
                let value = self.domains.borrow_mut().nodes().read(Tx::NONE, path);
                value.map_or_else(|errno| format!("{path}: {errno:?}"), |value| printable(&value))
            }
            Command::StoreWrite(path, value) => {
                let written = self.domains.borrow_mut().nodes().write(Tx::NONE, path, value.as_bytes());
                said(written.map_err(|errno| format!("{path}: {errno:?}")))
            }
            Command::Shutdown => exit::shutdown(SHUTDOWN_POWEROFF),
            Command::NoName(command) => format!("{command}: of which domain? Try list"),
            Command::NoAmount("") => "mem: how much? As in mem NAME 128 MiB".into(),
            Command::NoAmount(amount) => format!("{amount}: no amount of memory, as 128 MiB or 1 GiB are"),
            Command::TooMuch(word) => format!("{word}: too much for this command; try help"),
            Command::Unknown(word) => format!("{word}: no such command; try help"),
        }
    }

    /// What `then` says of the domain `name`.
    fn with(&self, name: &str, then: impl FnOnce(usize) -> String) -> String {
        let found = self.domains.borrow().find(name);
        found.map_or_else(|| format!("there is no domain {name} in the machine file; try list"), then)
    }

    /// A node's children with their values; those that have children themselves with a `/`.
    fn list(&self, path: &str) -> Result<String, Errno> {
        let mut domains = self.domains.borrow_mut();
        let store = domains.nodes();
        let mut lines = Vec::new();
        for name in store.directory(Tx::NONE, path)? {
            let child = format!("{}/{name}", path.trim_end_matches('/'));
            let value = printable(&store.read(Tx::NONE, &child)?);
            let below = if store.directory(Tx::NONE, &child)?.is_empty() { "" } else { "/" };
            lines.push(format!("{name}{below} = \"{value}\""));
        }
        Ok(lines.join("\n"))
    }

    fn table(&self, top: bool) -> String {
        let mut domains = self.domains.borrow_mut();
        table(&domains.rows(time::now().unwrap_or(0)), top).trim_end().into()
    }

    /// The machine's memory, and this domain's, with what takes turns in it.
    fn machine(&self) -> String {
        let (heap, free) = memory::heap_size();
        let services = self.domains.borrow().services();
        let here = format!("dom0: {} KiB of heap, {} KiB of it free, {services} services", heap >> 10, free >> 10);
        match calls::physical_info() {
            Ok(info) => format!("machine: {} of {} KiB free; {here}", info.free_pages << 2, info.total_pages << 2),
            Err(_) => here,
        }
    }

    fn act(&self, action: Action, index: usize, name: &str) -> String {
        let mut domains = self.domains.borrow_mut();
        if domains.id(index).is_none() && !matches!(action, Action::Create | Action::Log) {
            return format!("{name} is not there; try create {name}");
        }
        match action {
            Action::Create => said(domains.create(index)),
            Action::Destroy => {
                domains.end(index, Ending::Destroyed, time::now().unwrap_or(0));
                String::new()
            }
            Action::Pause => said(domains.pause(index).map_err(|errno| format!("refused: {errno:?}"))),
            Action::Unpause => said(domains.unpause(index).map_err(|errno| format!("refused: {errno:?}"))),
            Action::Console => {
                screen().set_focus(domains.writer(index));
                String::new()
            }
            Action::Log => {
                let screen = screen();
                let lines = screen.history(domains.writer(index), LOG).map(String::from_utf8_lossy);
                lines.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// What went wrong, if something did.
fn said(result: Result<(), impl Display>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}
