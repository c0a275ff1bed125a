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
use super::numbers::Numbers;
use super::port::Port;

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

    /// Adds the segment that a port is in, which isn't the first; all before it are there. Their numbers are added as well.
    ///
    /// # Errors
    /// `ENOSPC` if there can't be such a port, `ENOMEM` if there is no memory, or `may_take` refuses so many bytes.
    fn grow(&self, number: u32, numbers: &mut Numbers, may_take: impl FnOnce(usize) -> bool) -> Result<(), Errno> {
        let (segment, _) = segment_of(number);
        let slot = segment.checked_sub(1).and_then(|later| self.later.get(later)).ok_or(Errno::ENOSPC)?;
        let len = len_of(segment);
        if !may_take(len * size_of::<Port>() + Numbers::size_of(len)) {
            return Err(Errno::ENOMEM);
        }
        let mut ports = Vec::new();
        ports.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        numbers.reserve(len).map_err(|_| Errno::ENOMEM)?;
        ports.extend((0..len).map(|_| Port::new()));
        slot.call_once(|| ports.into_boxed_slice());
        numbers.add(len);
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
///
/// A number is in use in [`Numbers`] just when its port's binding isn't [`Free`](super::port::Binding::Free); both change with
/// the table locked.
pub(super) struct Table {
    /// Those that are not in use.
    numbers: Numbers,
    /// All ports are being closed, this one next: no new ones meanwhile.
    pub closing: Option<(Closing, u32)>,
}

impl Table {
    /// None is; number 0 never will be.
    pub fn new() -> Table {
        let mut numbers = Numbers::new();
        numbers.add(len_of(0));
        numbers.take(0);
        Table { numbers, closing: None }
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

    /// A port is not in use any more. One that `is_linked` can't be used before the guest has taken it from its queue.
    pub fn closed(&mut self, number: u32, is_linked: bool) {
        if is_linked { self.numbers.hold(number) } else { self.numbers.free(number) }
    }

    /// No port is in a queue any more.
    pub fn unlinked(&mut self) {
        self.numbers.free_held();
    }
}

/// A port that is not in use, and stays so until it is [taken](FreePort::take), or this is dropped.
pub(super) struct FreePort<'a> {
    table: MutexGuard<'a, Table>,
    pub number: u32,
    pub port: &'a Port,
}

impl FreePort<'_> {
    /// The port is bound from now on; its number.
    pub fn take(mut self) -> u32 {
        self.table.numbers.take(self.number);
        self.number
    }
}

/// How many ports that were in a queue when they were closed are looked at again for each new one: more than one, so that
/// their number goes down.
const LOOKS: u32 = 16;
/// How many of those are looked at again when all others are in use: some 10,000 instructions.
const LAST_LOOKS: u32 = 1024;

impl Events {
    /// Ports have numbers below this.
    fn limit(&self) -> u32 {
        let most = if self.fifo.is_on() { EVTCHN_FIFO_NR_CHANNELS } else { EVTCHN_2L_NR_CHANNELS };
        self.rights.max_ports.min(most)
    }

    /// A port that is not in use: the first one, but for those that were closed while they were in a queue, which come back a
    /// few at a time.
    ///
    /// # Errors
    /// `ENOSPC` if all are in use, `ENOMEM`, and those of [`Table::is_open`].
    pub(super) fn free_port(&self) -> Result<FreePort<'_>, Errno> {
        let mut table = self.table.lock();
        table.is_open()?;
        let number = self.free_number(&mut table.numbers)?;
        Ok(FreePort { table, number, port: self.port(number)? })
    }

    fn free_number(&self, numbers: &mut Numbers) -> Result<u32, Errno> {
        let is_linked = |number| self.fifo.is_linked(number);
        numbers.look_again(LOOKS, is_linked);
        loop {
            if let Some(number) = self.lowest_unlinked(numbers) {
                return Ok(number);
            }
            let next = numbers.len();
            if next >= self.limit() {
                break;
            }
            self.ports.grow(next, numbers, |bytes| self.fifo.has_to_spare(bytes))?;
        }
        numbers.look_again(LAST_LOOKS, is_linked);
        self.lowest_unlinked(numbers).ok_or(Errno::ENOSPC)
    }

    /// The first number that may be used. A guest may say of any port that it is in a queue, also of one that is not in use;
    /// each such number is passed over once, and held from then on.
    fn lowest_unlinked(&self, numbers: &mut Numbers) -> Option<u32> {
        loop {
            let number = numbers.lowest().filter(|&number| number < self.limit())?;
            if !self.fifo.is_linked(number) {
                return Some(number);
            }
            numbers.hold(number);
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "lengths of segments fit")]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_each_other() {
        let (ports, mut numbers) = (Ports::new(), Numbers::new());
        numbers.add(len_of(0));
        let mut first = 0;
        for segment in 0..SEGMENTS {
            let last = first + len_of(segment) as u32 - 1;
            assert_eq!((segment_of(first), segment_of(last)), ((segment, 0), (segment, len_of(segment) - 1)));
            if segment > 0 {
                assert!(ports.get(first).is_none());
                assert_eq!(ports.grow(first, &mut numbers, |_| false), Err(Errno::ENOMEM));
                ports.grow(first, &mut numbers, |bytes| bytes == len_of(segment) * 32 + len_of(segment) / 4).unwrap();
            }
            assert!(ports.get(first).is_some() && ports.get(last).is_some());
            first = last + 1;
            assert_eq!(numbers.len(), first);
        }
        assert_eq!(first, EVTCHN_FIFO_NR_CHANNELS);
        assert!(ports.get(first).is_none() && ports.get(u32::MAX).is_none());
        assert_eq!(ports.grow(u32::MAX, &mut numbers, |_| true), Err(Errno::ENOSPC));
        assert_eq!(ports.iter().count(), first as usize);
        assert!(ports.iter().all(|(number, port)| core::ptr::eq(port, ports.get(number).unwrap())));
    }
}
