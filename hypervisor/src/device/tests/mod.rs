//! Hardware that there isn't.
//!
//! * `ports`: which ports are reached, against a list of all;
//! * `flow`: devices that ask at any time, and a domain that answers when it likes: nothing is lost, and nothing floods;
//! * `owner`: binding, closing, giving back, with the domain's event channels.
#![allow(clippy::cast_possible_truncation, reason = "tests cut numbers to size that they know")]

mod flow;
mod owner;
mod ports;

use core::ops::Range;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::vec::Vec;

use pv_abi::errno::Errno;

use super::interrupts::{Machine, Table};
use super::pirq::{Function, Nature, Source};

/// Lines of the made-up machine; the fourth is the hypervisor's.
pub const LINES: u32 = 8;
pub const OWN_LINE: u32 = 4;
/// Six vectors, in two pieces.
const VECTORS: [Range<u8>; 2] = [0x30..0x34, 0x40..0x42];

/// A function with a table of messages of four entries, and one without.
pub const WITH_TABLE: Function = Function { segment: 0, bus: 0, devfn: 0x18 };
pub const WITHOUT_TABLE: Function = Function { segment: 0, bus: 0, devfn: 0x20 };
pub const NO_FUNCTION: Function = Function { segment: 0, bus: 7, devfn: 0 };

/// Interrupt controllers that remember what they were told.
#[derive(Default)]
pub struct Controllers(Mutex<State>);

#[derive(Default)]
struct State {
    /// Sources that are connected: vector, and whether they are masked.
    connected: Vec<(Source, u8, bool)>,
    levels: BTreeMap<u32, bool>,
    table: Option<Table>,
    stopped: bool,
}

impl Controllers {
    pub fn leak() -> &'static Controllers {
        Box::leak(Box::default())
    }

    /// The vector of a source, and whether it is masked.
    pub fn of(&self, source: Source) -> Option<(u8, bool)> {
        let state = self.0.lock().unwrap();
        state.connected.iter().find(|connected| connected.0 == source).map(|connected| (connected.1, connected.2))
    }

    pub fn connections(&self) -> usize {
        self.0.lock().unwrap().connected.len()
    }

    pub fn is_stopped(&self) -> bool {
        self.0.lock().unwrap().stopped
    }

    /// Where the one table is.
    pub fn set_table(&self, table: Table) {
        self.0.lock().unwrap().table = Some(table);
    }
}

impl Machine for Controllers {
    fn vectors(&self) -> &'static [Range<u8>] {
        &VECTORS
    }

    fn lines(&self) -> u32 {
        LINES
    }

    fn set_line(&self, gsi: u32, level: bool, _: bool) -> Result<(), Errno> {
        if gsi >= LINES {
            return Err(Errno::EINVAL);
        }
        self.0.lock().unwrap().levels.insert(gsi, level);
        Ok(())
    }

    fn connect(&self, source: Source, vector: u8, table: Option<&Table>) -> Result<Nature, Errno> {
        let mut state = self.0.lock().unwrap();
        assert!(state.connected.iter().all(|connected| connected.0 != source && connected.1 != vector));
        let nature = match source {
            Source::Pin { gsi: OWN_LINE } => return Err(Errno::EBUSY),
            Source::Pin { gsi } if gsi >= LINES => return Err(Errno::EINVAL),
            Source::Pin { gsi } => Nature { level: state.levels.get(&gsi).copied() == Some(true), remembers: false },
            Source::Msi { function } if function == NO_FUNCTION => return Err(Errno::ENODEV),
            Source::Msi { .. } => Nature { level: false, remembers: false },
            Source::Msix { entry, .. } => {
                let table = table.expect("an entry is connected with its table");
                if entry >= table.entries {
                    return Err(Errno::EINVAL);
                }
                Nature { level: false, remembers: true }
            }
        };
        state.connected.push((source, vector, true));
        Ok(nature)
    }

    fn set_masked(&self, source: Source, masked: bool) {
        let mut state = self.0.lock().unwrap();
        let connected = state.connected.iter_mut().find(|connected| connected.0 == source);
        connected.expect("only connected sources are masked").2 = masked;
    }

    fn disconnect(&self, source: Source) {
        let mut state = self.0.lock().unwrap();
        let index = state.connected.iter().position(|connected| connected.0 == source).expect("it is connected");
        assert!(state.connected[index].2, "{source:?} is disconnected while it is open");
        state.connected.swap_remove(index);
    }

    fn table(&self, function: Function) -> Result<Option<Table>, Errno> {
        match function {
            WITH_TABLE => Ok(self.0.lock().unwrap().table),
            WITHOUT_TABLE => Ok(None),
            _ => Err(Errno::ENODEV),
        }
    }

    fn stop_all(&self) {
        self.0.lock().unwrap().stopped = true;
    }
}
