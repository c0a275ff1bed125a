//! Physical interrupts by number ("pirq"), and what becomes of one that arrives.
//!
//! A pirq stands for a *source*: a pin of an I/O APIC, by its global system interrupt, or a message of a PCI device. It gets
//! one of the CPU's vectors with the source, and a port when the domain binds one.
//!
//! # No line stops the machine
//!
//! An interrupt is announced to the domain as an event, and the domain says when it has dealt with it (`PHYSDEVOP_eoi`).
//! Until then, whatever the device does costs the machine at most two more interrupts:
//! * A **level** source is masked as it arrives, and unmasked by the domain's word. If the line is still active then, it
//!   arrives again: as often as the domain asks for it, in the domain's time.
//! * An **edge** source, or a message, stays open, so that one that comes meanwhile is heard, once: that makes the port
//!   pending again and masks the source. One more may have been on its way by then, which arrives at the masked source. A
//!   device keeps a message that is masked, and sends it later. An edge at a masked pin leaves no trace, so that the domain
//!   is told once more when the pin is unmasked, to look for itself.
//!
//! A message without a mask bit can't be stopped. Its device is the domain's to switch off.

use alloc::vec::Vec;

use pv_abi::errno::Errno;

/// Numbers of pirqs are below this.
pub const PIRQS: u32 = 256;

/// A PCI function: segment, bus, device and function, as its requester ID with the segment above it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Function {
    /// The segment. Configuration space is reached in segment 0 only.
    pub segment: u16,
    /// The bus.
    pub bus: u8,
    /// Device in the upper five bits, function in the lower three.
    pub devfn: u8,
}

/// Where an interrupt comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A pin of an I/O APIC.
    Pin {
        /// Its global system interrupt.
        gsi: u32,
    },
    /// The one message of a function.
    Msi {
        /// The function.
        function: Function,
    },
    /// An entry of a function's table of messages.
    Msix {
        /// The function.
        function: Function,
        /// The entry's number.
        entry: u16,
    },
}

/// What a source is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nature {
    /// It asks for as long as it wants something, not when that begins.
    pub level: bool,
    /// It can be masked, and remembers meanwhile: a message with a mask bit.
    pub remembers: bool,
}

/// How far an interrupt has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// None is on its way.
    Idle,
    /// One was announced, and the source is open.
    Announced,
    /// One was announced, and the source is masked.
    Masked,
}

/// A pirq that has a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pirq {
    /// Its number.
    pub number: u32,
    /// Where it comes from.
    pub source: Source,
    /// The vector that it raises.
    pub vector: u8,
    /// What the source is like.
    pub nature: Nature,
    /// The port that it is bound to.
    pub port: Option<u32>,
    progress: Progress,
}

/// What to do for an interrupt that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Arrived {
    /// Whose port is to become pending.
    pub port: Option<u32>,
    /// The source is to be masked.
    pub mask: bool,
}

/// What to do when the domain has dealt with an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Ended {
    /// The source is to be unmasked.
    pub unmask: bool,
    /// The domain is to be told once more.
    pub again: Option<u32>,
}

/// All pirqs that have a source.
#[derive(Debug, Default)]
pub struct Pirqs {
    list: Vec<Pirq>,
}

impl Pirqs {
    /// None.
    pub const fn new() -> Pirqs {
        Pirqs { list: Vec::new() }
    }

    /// One of which this is true, if there is one.
    pub fn find(&self, is_wanted: impl Fn(&Pirq) -> bool) -> Option<&Pirq> {
        self.list.iter().find(|pirq| is_wanted(pirq))
    }

    /// The pirq of this number.
    pub fn get(&self, number: u32) -> Option<&Pirq> {
        self.find(|pirq| pirq.number == number)
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut Pirq> {
        self.list.iter_mut().find(|pirq| pirq.number == number)
    }

    /// The pirq of a source.
    pub fn of(&self, source: Source) -> Option<&Pirq> {
        self.find(|pirq| pirq.source == source)
    }

    /// A number for a new source: the one wanted; else for a line its own, for a message the highest that is free. Numbers
    /// below `lines` are those of lines.
    ///
    /// # Errors
    /// `EINVAL` for a number that can't be, `EBUSY` for one that is taken, `ENOSPC`.
    pub fn choose(&self, wanted: Option<u32>, source: Source, lines: u32) -> Result<u32, Errno> {
        let is_free = |&number: &u32| self.get(number).is_none();
        match (wanted, source) {
            (Some(number), _) if number >= PIRQS => Err(Errno::EINVAL),
            (Some(number), _) => Some(number).filter(is_free).ok_or(Errno::EBUSY),
            (None, Source::Pin { gsi }) if gsi < PIRQS && is_free(&gsi) => Ok(gsi),
            (None, _) => (lines..PIRQS).rev().find(is_free).ok_or(Errno::ENOSPC),
        }
    }

    /// Gives a number that is [free](Pirqs::choose) its source.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add(&mut self, number: u32, source: Source, vector: u8, nature: Nature) -> Result<(), Errno> {
        self.list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.list.push(Pirq { number, source, vector, nature, port: None, progress: Progress::Idle });
        Ok(())
    }

    /// Takes a number its source.
    pub fn remove(&mut self, number: u32) -> Option<Pirq> {
        let index = self.list.iter().position(|pirq| pirq.number == number)?;
        Some(self.list.swap_remove(index))
    }

    /// Is this vector some pirq's?
    pub fn has_vector(&self, vector: u8) -> bool {
        self.find(|pirq| pirq.vector == vector).is_some()
    }

    /// Binds a pirq to a port: its source may be opened.
    ///
    /// # Errors
    /// `EINVAL` for a number without a source, `EEXIST` for one that is bound.
    pub fn bind(&mut self, number: u32, port: u32) -> Result<(), Errno> {
        let pirq = self.get_mut(number).ok_or(Errno::EINVAL)?;
        if pirq.port.is_some() {
            return Err(Errno::EEXIST);
        }
        pirq.port = Some(port);
        pirq.progress = Progress::Idle;
        Ok(())
    }

    /// Ends a binding: the source is to be masked.
    pub fn unbind(&mut self, number: u32) {
        if let Some(pirq) = self.get_mut(number) {
            pirq.port = None;
            pirq.progress = Progress::Idle;
        }
    }

    /// An interrupt has arrived; `None` if its vector is nobody's.
    pub fn arrived(&mut self, vector: u8) -> Option<(&Pirq, Arrived)> {
        let pirq = self.list.iter_mut().find(|pirq| pirq.vector == vector)?;
        let Nature { level, .. } = pirq.nature;
        // One that nobody listens to, a last one from before it was closed, must not come again. One that was on its way when
        // its source was masked leaves it so: forgotten, the mask would never be lifted.
        let mask = pirq.port.is_none() || level || pirq.progress != Progress::Idle;
        pirq.progress = if mask { Progress::Masked } else { Progress::Announced };
        let arrived = Arrived { port: pirq.port, mask };
        Some((pirq, arrived))
    }

    /// The domain has dealt with an interrupt, or says so.
    ///
    /// # Errors
    /// `EINVAL` for a number without a source.
    pub fn ended(&mut self, number: u32) -> Result<Ended, Errno> {
        let pirq = self.get_mut(number).ok_or(Errno::EINVAL)?;
        if pirq.port.is_none() {
            return Ok(Ended::default());
        }
        let unmask = pirq.progress == Progress::Masked;
        pirq.progress = Progress::Idle;
        let may_have_missed = unmask && !pirq.nature.level && !pirq.nature.remembers;
        Ok(Ended { unmask, again: pirq.port.filter(|_| may_have_missed) })
    }
}
