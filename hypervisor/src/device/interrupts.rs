//! The interrupts of the domain that has the hardware: pirqs, their vectors, and its ports.
//!
//! One lock guards all of it and is taken before port locks ([`event`](crate::event)). [`Interrupts::prune`] is called after
//! a closed port's lock is released; an interrupt that arrives in between finds the port closed and is dropped.

use core::ops::Range;

use alloc::sync::Arc;

use pv_abi::errno::Errno;
use spin::Mutex;

use super::pirq::{Function, Nature, Pirq, Pirqs, Source};
use crate::addr::PAGE_SIZE;
use crate::event::{Events, Wake};

/// The machine's interrupt controllers and its devices' messages.
///
/// A vector that is asked for here is one of [`Machine::vectors`], and given to one source at a time.
pub trait Machine: Sync {
    /// The vectors that devices may have.
    fn vectors(&self) -> &'static [Range<u8>];

    /// Lines have numbers below this.
    fn lines(&self) -> u32;

    /// Says how a line asks, as far as ACPI doesn't say otherwise.
    ///
    /// # Errors
    /// `EINVAL` if there is no such line.
    fn set_line(&self, gsi: u32, level: bool, active_low: bool) -> Result<(), Errno>;

    /// Gives a source its vector, masked. `table` is that of an entry's function, [read](Machine::table) and checked before:
    /// what the function says by now may be something else.
    ///
    /// # Errors
    /// `EINVAL` if there is no such line or entry; `EBUSY` if the line is the hypervisor's, or if other entries are connected
    /// in a table elsewhere; `ENODEV` if the function can't send such messages; `ENOSPC` if there is no room to reach its
    /// table.
    fn connect(&self, source: Source, vector: u8, table: Option<&Table>) -> Result<Nature, Errno>;

    /// Lets a connected source interrupt, or not.
    fn set_masked(&self, source: Source, masked: bool);

    /// Takes a masked source its vector.
    fn disconnect(&self, source: Source);

    /// Where a function's table of messages is, by its own word; `None` if it has none.
    ///
    /// # Errors
    /// `ENODEV` if there is no such function; `EINVAL` if what it says can't be.
    fn table(&self, function: Function) -> Result<Option<Table>, Errno>;

    /// Keeps all functions from memory (no DMA), as after a reset.
    fn stop_all(&self);
}

/// Where a function's table of messages (MSI-X) is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// What the function's base address register says, without flags.
    pub base: u64,
    /// The machine address of the first entry, a multiple of 8.
    pub address: u64,
    /// How many entries it has: 2048 at most.
    pub entries: u16,
}

impl Table {
    /// Bytes in an entry.
    pub const ENTRY: u64 = 16;

    /// The frames that it is in.
    pub const fn frames(&self) -> Range<u64> {
        let end = self.address + self.entries as u64 * Table::ENTRY;
        self.address / PAGE_SIZE as u64..end.div_ceil(PAGE_SIZE as u64)
    }
}

/// The interrupts of the domain that has the hardware.
pub struct Interrupts {
    machine: &'static dyn Machine,
    state: Mutex<State>,
}

struct State {
    pirqs: Pirqs,
    /// The event channels of the domain that has the hardware, while it lives.
    owner: Option<Arc<Events>>,
}

impl Interrupts {
    /// None yet.
    pub const fn new(machine: &'static dyn Machine) -> Interrupts {
        Interrupts { machine, state: Mutex::new(State { pirqs: Pirqs::new(), owner: None }) }
    }

    /// The machine.
    pub fn machine(&self) -> &'static dyn Machine {
        self.machine
    }

    /// These are the event channels of the domain that has the hardware.
    pub fn give_to(&self, events: &Arc<Events>) {
        self.state.lock().owner = Some(events.clone());
    }

    /// The domain ends: no interrupt arrives any more, and no device writes to memory that was the domain's.
    pub fn release(&self) {
        let mut state = self.state.lock();
        while let Some(number) = state.pirqs.find(|_| true).map(|pirq| pirq.number) {
            self.drop_pirq(&mut state, number);
        }
        if state.owner.take().is_some() {
            self.machine.stop_all();
        }
    }

    /// Gives a source a pirq; its number. One that has a pirq keeps it.
    ///
    /// # Errors
    /// `EINVAL` for another number than the one it has; those of [`Pirqs::choose`] and [`Machine::connect`]; `ENOSPC` if no
    /// vector is free.
    pub fn map(&self, source: Source, wanted: Option<u32>, table: Option<&Table>) -> Result<u32, Errno> {
        let mut state = self.state.lock();
        if state.owner.is_none() {
            return Err(Errno::EPERM);
        }
        if let Some(pirq) = state.pirqs.of(source) {
            let same = wanted.is_none_or(|number| number == pirq.number);
            return if same { Ok(pirq.number) } else { Err(Errno::EINVAL) };
        }
        let number = state.pirqs.choose(wanted, source, self.machine.lines())?;
        let mut vectors = self.machine.vectors().iter().cloned().flatten();
        let vector = vectors.find(|&vector| !state.pirqs.has_vector(vector)).ok_or(Errno::ENOSPC)?;
        let nature = self.machine.connect(source, vector, table)?;
        if let Err(errno) = state.pirqs.add(number, source, vector, nature) {
            self.machine.disconnect(source);
            return Err(errno);
        }
        Ok(number)
    }

    /// Takes a pirq its source. Its port, if it has one, gets nothing any more.
    ///
    /// # Errors
    /// `EINVAL` for a number without a source.
    pub fn unmap(&self, number: u32) -> Result<(), Errno> {
        let mut state = self.state.lock();
        state.pirqs.get(number).ok_or(Errno::EINVAL)?;
        self.drop_pirq(&mut state, number);
        Ok(())
    }

    /// A function is gone, and its messages with it.
    pub fn forget(&self, function: Function) {
        let mut state = self.state.lock();
        let of_function = |pirq: &Pirq| match pirq.source {
            Source::Msi { function: of } | Source::Msix { function: of, .. } => of == function,
            Source::Pin { .. } => false,
        };
        while let Some(number) = state.pirqs.find(of_function).map(|pirq| pirq.number) {
            self.drop_pirq(&mut state, number);
        }
    }

    fn drop_pirq(&self, state: &mut State, number: u32) {
        if let Some(pirq) = state.pirqs.remove(number) {
            self.machine.set_masked(pirq.source, true);
            self.machine.disconnect(pirq.source);
        }
    }

    /// A number that is free, for a message or a line.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn free_number(&self) -> Result<u32, Errno> {
        let any = Source::Pin { gsi: u32::MAX };
        self.state.lock().pirqs.choose(None, any, self.machine.lines())
    }

    /// Makes a port for a pirq, and lets its source interrupt; the port's number.
    ///
    /// # Errors
    /// `EINVAL` for a number without a source, `EEXIST` for one that has a port, and those of making one.
    pub fn bind(&self, number: u32) -> Result<u32, Errno> {
        let mut state = self.state.lock();
        let State { pirqs, owner } = &mut *state;
        let events = owner.as_ref().ok_or(Errno::EPERM)?;
        let source = pirqs.get(number).ok_or(Errno::EINVAL)?.source;
        prune(pirqs, events, self.machine);
        if pirqs.get(number).is_some_and(|pirq| pirq.port.is_some()) {
            return Err(Errno::EEXIST);
        }
        let port = events.bind_pirq(number)?;
        pirqs.bind(number, port)?;
        self.machine.set_masked(source, false);
        Ok(port)
    }

    /// Some port of the domain's was closed: pirqs without a port interrupt no more.
    pub fn prune(&self) {
        let mut state = self.state.lock();
        let State { pirqs, owner } = &mut *state;
        if let Some(events) = owner {
            prune(pirqs, events, self.machine);
        }
    }

    /// The domain has dealt with an interrupt, or says so.
    ///
    /// # Errors
    /// `EINVAL` for a number without a source.
    pub fn end(&self, number: u32) -> Result<Option<Wake>, Errno> {
        let mut state = self.state.lock();
        let ended = state.pirqs.ended(number)?;
        let source = state.pirqs.get(number).map(|pirq| pirq.source);
        if ended.unmask
            && let Some(source) = source
        {
            self.machine.set_masked(source, false);
        }
        let events = state.owner.as_ref();
        Ok(events.zip(ended.again).map(|(events, port)| events.raise_pirq(port, number)))
    }

    /// An interrupt has arrived; `None` if its vector is nobody's. The local APIC gets its end-of-interrupt afterwards: a
    /// level line would be sent again before it is masked.
    pub fn arrived(&self, vector: u8) -> Option<Wake> {
        let mut state = self.state.lock();
        let State { pirqs, owner } = &mut *state;
        let (pirq, arrived) = pirqs.arrived(vector)?;
        if arrived.mask {
            self.machine.set_masked(pirq.source, true);
        }
        let (number, events) = (pirq.number, owner.as_ref());
        Some(events.zip(arrived.port).map_or(Wake::NOBODY, |(events, port)| events.raise_pirq(port, number)))
    }
}

fn prune(pirqs: &mut Pirqs, events: &Events, machine: &dyn Machine) {
    let closed = |pirq: &Pirq| pirq.port.is_some_and(|port| !events.is_bound_to_pirq(port, pirq.number));
    while let Some((number, source)) = pirqs.find(closed).map(|pirq| (pirq.number, pirq.source)) {
        machine.set_masked(source, true);
        pirqs.unbind(number);
    }
}
