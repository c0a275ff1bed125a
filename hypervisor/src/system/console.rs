//! Who reads the keyboard, and whose output is whose.
//!
//! Keys go to the domain in focus; Ctrl-T moves the focus to the next domain. Each line of a domain's output starts
//! with its name. A control domain that binds `VIRQ_CONSOLE` has the console for itself: it gets all keys, an event when some
//! arrive, and its output is written as it is, because it has lines of other domains in it.

use alloc::collections::VecDeque;

use log::info;
use pv_abi::event::VIRQ_CONSOLE;

use super::wake::Kicker;
use super::{Domain, control, machine};
use crate::addr::{DomainId, VcpuId};
use crate::arch::{console, time};

/// Moves the focus.
const CTRL_T: u8 = 0x14;
/// Keys kept for a domain that doesn't read; more are dropped.
const KEYS: usize = 256;

/// Keys that wait to be read, and for whom.
#[derive(Default)]
pub struct Input {
    focus: Option<DomainId>,
    keys: VecDeque<u8>,
    /// Whose output the console's current line is.
    line_of: Option<DomainId>,
}

impl Input {
    /// No focus, no keys, and memory for all keys there may be.
    pub fn new() -> Input {
        Input { focus: None, keys: VecDeque::with_capacity(KEYS), line_of: None }
    }
}

/// Whether a domain has the console for itself.
fn owns_console(domain: &Domain) -> bool {
    domain.privileged && domain.events.is_virq_bound(VIRQ_CONSOLE, VcpuId(0))
}

/// Reads what was typed. `attention` is this CPU's flag.
pub fn keys_arrived(attention: &mut bool) {
    let owner = control::control_domain().filter(|domain| owns_console(domain));
    if let Some(owner) = &owner {
        machine().input.lock().focus = Some(owner.id);
    }
    while let Some(key) = console::read_byte() {
        if key == CTRL_T && owner.is_none() {
            move_focus();
            continue;
        }
        let mut input = machine().input.lock();
        if input.keys.len() < KEYS {
            input.keys.push_back(key);
        }
    }
    if let Some(owner) = owner {
        owner.events.raise(VIRQ_CONSOLE, VcpuId(0)).kick(&mut Kicker(attention));
    }
}

/// Takes keys typed for `domain`; returns how many.
pub fn read(domain: DomainId, buf: &mut [u8]) -> usize {
    let mut input = machine().input.lock();
    if input.focus != Some(domain) {
        return 0;
    }
    let count = buf.len().min(input.keys.len());
    for (slot, key) in buf.iter_mut().zip(input.keys.drain(..count)) {
        *slot = key;
    }
    count
}

/// What a domain may print: so many bytes at once, and so many in a second in the long run. A byte keeps this CPU, and
/// whoever else wants to print, busy for 90 us on a serial line.
struct Limit {
    stock: u64,
    per_second: u64,
}

/// For a domain that the control domain created. It has a console of its own, so what is more is left out.
const SUPERVISED: Limit = Limit { stock: 64 << 10, per_second: 1024 };
/// For one that has no other console, a third of the line's time: it waits with what is more.
const UNSUPERVISED: Limit = Limit { stock: 128 << 10, per_second: 4096 };

/// Prints a domain's output, in one piece. What could make the terminal do anything but print is left out. False if the
/// domain has to wait until it may print this.
pub fn write(domain: &Domain, bytes: &[u8]) -> bool {
    if !domain.privileged {
        let Limit { stock, per_second } = if domain.supervised { SUPERVISED } else { UNSUPERVISED };
        let amount = shown(domain, bytes).min(stock);
        if domain.printed.take(time::now(), amount, stock, per_second).is_none() {
            return domain.supervised;
        }
    }
    print(domain, bytes);
    true
}

fn print(domain: &Domain, bytes: &[u8]) {
    let prefix = !owns_console(domain);
    let mut input = machine().input.lock();
    let mut output = console::output();
    if input.line_of.is_some_and(|other| other != domain.id) {
        output.fresh_line();
    }
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if prefix && output.at_line_start() {
            output.write(b"(");
            output.write(domain.name.as_bytes());
            output.write(b") ");
        }
        let is_left_out = |&byte: &u8| !is_printable(byte) || (prefix && is_command(byte));
        for part in line.split_inclusive(is_left_out) {
            match part {
                [text @ .., last] if is_left_out(last) => output.write(text),
                text => output.write(text),
            }
        }
    }
    input.line_of = (!output.at_line_start()).then_some(domain.id);
}

/// How many bytes of the line these take at most, with the domain's name before each line.
fn shown(domain: &Domain, bytes: &[u8]) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
    (bytes.len() + lines * (domain.name.len() + 4)) as u64
}

/// What may begin a command to a terminal: escape, and all that isn't ASCII, where other such controls are (ISO 6429). With
/// those a domain could forge lines of others, or have the terminal answer as if somebody had typed.
fn is_command(byte: u8) -> bool {
    matches!(byte, 27 | 128..)
}

/// Text, line ends, tabs, backspace and the escape character of cursor movements.
fn is_printable(byte: u8) -> bool {
    !matches!(byte, 0..=7 | 11 | 12 | 14..=26 | 28..=31 | 127)
}

/// A domain has started: it gets the focus if nobody has it.
pub fn domain_started(id: DomainId) {
    let mut input = machine().input.lock();
    if input.focus.is_none() {
        input.focus = Some(id);
    }
}

/// A domain is gone: the focus moves on if it had it.
pub fn domain_gone(id: DomainId) {
    let had_it = machine().input.lock().focus == Some(id);
    if had_it {
        move_focus();
    }
}

fn move_focus() {
    let focus = machine().input.lock().focus;
    let next = {
        let domains = machine().domains.lock();
        let after = domains.iter().find(|domain| Some(domain.id) > focus).or_else(|| domains.first());
        after.map(|domain| (domain.id, domain.name.clone()))
    };
    let mut input = machine().input.lock();
    input.keys.clear();
    input.focus = next.as_ref().map(|(id, _)| *id);
    drop(input);
    if let Some((id, name)) = next {
        info!("keys now go to {id} ({name}); Ctrl-T moves on");
    }
}
