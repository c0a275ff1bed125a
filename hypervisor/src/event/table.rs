//! The ports of a domain: where they are kept, and which number is given out next.
//!
//! Ports are in *segments*: the first holds 64, each other twice as many as the one before. So a look-up needs no lock, a
//! domain pays for at most three times what it uses, and a port that there was once stays there.

use alloc::boxed::Box;
use alloc::vec::Vec;

use pv_abi::errno::Errno;
use pv_abi::event::{EVTCHN_2L_NR_CHANNELS, EVTCHN_FIFO_NR_CHANNELS};
use spin::{MutexGuard, Once};

use super::Events;
use super::port::{Binding, Port};

/// Ports in the first segment.
const FIRST: u32 = 64;
/// Enough for all ports there can be.
const SEGMENTS: usize = segment_of(EVTCHN_FIFO_NR_CHANNELS - 1).0 + 1;

/// All ports that there are yet.
pub(super) struct Ports {
    /// The first segment.
    first: Box<[Port]>,
    /// The others.
    later: [Once<Box<[Port]>>; SEGMENTS - 1],
}

/// The segment that a port is in, and its index there.
///
/// With [`FIRST`] added, the first bit of a number says which segment, and the bits behind it say where.
#[inline]
const fn segment_of(number: u32) -> (usize, usize) {
    let shifted = number as usize + FIRST as usize;
    let first_bit = shifted.ilog2();
    ((first_bit - FIRST.ilog2()) as usize, shifted ^ 1 << first_bit)
}

/// Ports in a segment. The last one ends where numbers do.
const fn len_of(segment: usize) -> usize {
    let (len, first) = ((FIRST as usize) << segment, (FIRST as usize) * ((1 << segment) - 1));
    let left = EVTCHN_FIFO_NR_CHANNELS as usize - first;
    if len < left { len } else { left }
}

impl Ports {
    /// The first segment, as creating a domain needs it anyway.
    pub fn new() -> Ports {
        Ports { first: (0..len_of(0)).map(|_| Port::new()).collect(), later: [const { Once::new() }; SEGMENTS - 1] }
    }

    /// A port, in use or not.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&Port> {
        // Few domains use others: 15 instructions less in every send.
        if number < FIRST { self.first.get(number as usize) } else { self.get_later(number) }
    }

    #[inline(never)]
    fn get_later(&self, number: u32) -> Option<&Port> {
        let (segment, index) = segment_of(number);
        self.later.get(segment.checked_sub(1)?)?.get()?.get(index)
    }

    /// All ports that there are, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Port)> {
        (0..).zip(self.first.iter().chain(self.later.iter().map_while(Once::get).flatten()))
    }

    /// Adds the segment that a port is in, which isn't the first; all before it are there.
    fn grow(&self, number: u32) -> Result<(), Errno> {
        let (segment, _) = segment_of(number);
        let slot = segment.checked_sub(1).and_then(|later| self.later.get(later)).ok_or(Errno::ENOSPC)?;
        let len = len_of(segment);
        let mut ports = Vec::new();
        ports.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        ports.extend((0..len).map(|_| Port::new()));
        slot.call_once(|| ports.into_boxed_slice());
        Ok(())
    }
}

/// Why all ports of a domain are closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closing {
    /// The guest starts anew.
    Reset,
    /// The domain ends.
    End,
}

/// Which ports are in use.
pub(super) struct Table {
    /// No port below this one is free.
    lowest: u32,
    /// All ports are being closed, this one next: no new ones meanwhile.
    pub closing: Option<(Closing, u32)>,
}

impl Table {
    /// None is; number 0 never will be.
    pub fn new() -> Table {
        Table { lowest: 1, closing: None }
    }

    /// Are new ports and pages welcome?
    ///
    /// # Errors
    /// `EINVAL` if the domain ends, `EBUSY` while it is being reset.
    pub fn is_open(&self) -> Result<(), Errno> {
        match self.closing {
            None => Ok(()),
            Some((Closing::Reset, _)) => Err(Errno::EBUSY),
            Some((Closing::End, _)) => Err(Errno::EINVAL),
        }
    }

    /// A reset is done.
    pub fn reopen(&mut self) {
        self.closing.take_if(|(why, _)| *why == Closing::Reset);
    }

    /// A port is free again.
    pub fn freed(&mut self, number: u32) {
        self.lowest = self.lowest.min(number);
    }
}

impl Events {
    /// Ports have numbers below this.
    fn limit(&self) -> u32 {
        let most = if self.fifo.is_on() { EVTCHN_FIFO_NR_CHANNELS } else { EVTCHN_2L_NR_CHANNELS };
        self.rights.max_ports.min(most)
    }

    /// The first port that is not in use. It stays so until the caller binds it or lets go of the table.
    ///
    /// # Errors
    /// `ENOSPC` if all are in use, `ENOMEM`, and those of [`Table::is_open`].
    pub(super) fn free_port(&self) -> Result<(MutexGuard<'_, Table>, u32, &Port), Errno> {
        let mut table = self.table.lock();
        table.is_open()?;
        let mut lowest = None;
        for number in table.lowest..self.limit() {
            if self.ports.get(number).is_none() {
                self.ports.grow(number)?;
            }
            let port = self.port(number)?;
            if !matches!(*port.lock(), Binding::Free) {
                continue;
            }
            // A port that was closed while it was in a queue is in use until the guest has taken it from there.
            if self.fifo.is_linked(number) {
                lowest.get_or_insert(number);
                continue;
            }
            table.lowest = lowest.unwrap_or(number);
            return Ok((table, number, port));
        }
        Err(Errno::ENOSPC)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "lengths of segments fit")]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_each_other() {
        let ports = Ports::new();
        let mut first = 0;
        for segment in 0..SEGMENTS {
            let last = first + len_of(segment) as u32 - 1;
            assert_eq!((segment_of(first), segment_of(last)), ((segment, 0), (segment, len_of(segment) - 1)));
            if segment > 0 {
                assert!(ports.get(first).is_none());
                ports.grow(first).unwrap();
            }
            assert!(ports.get(first).is_some() && ports.get(last).is_some());
            first = last + 1;
        }
        assert_eq!(first, EVTCHN_FIFO_NR_CHANNELS);
        assert!(ports.get(first).is_none() && ports.get(u32::MAX).is_none());
        assert_eq!(ports.grow(u32::MAX), Err(Errno::ENOSPC));
        assert_eq!(ports.iter().count(), first as usize);
        assert!(ports.iter().all(|(number, port)| core::ptr::eq(port, ports.get(number).unwrap())));
    }
}
