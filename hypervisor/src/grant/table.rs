//! The granter's side: the frames of its table, and who uses which grant.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::entry::{Grant, READING, WRITING};
use super::{GrantMemory, Grants, Refusal, Uses};
use crate::addr::{DomainId, Mfn};

/// Grants in a frame of the table.
const PER_FRAME: u32 = 512;

/// How often an entry may change under our eyes before the granter is taken for hostile.
const TRIES: u32 = 5;

/// Most uses of one grant of one kind, as in Xen.
const MAX_PINS: u8 = 128;

/// What the hypervisor knows of a grant.
#[derive(Clone, Copy, Default, Debug)]
struct Active {
    pins: Pins,
    /// Who uses it. Valid while there is a pin, as is the frame.
    domain: u16,
    /// The frame, as it was granted.
    frame: u32,
}

/// How often a grant is used.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Pins {
    host: [u8; 2],
    device: [u8; 2],
}

impl Pins {
    fn is_none(self) -> bool {
        self == Pins::default()
    }

    fn any_writable(self) -> bool {
        self.host[1] > 0 || self.device[1] > 0
    }

    fn is_full(self) -> bool {
        self.host.into_iter().chain(self.device).any(|count| count >= MAX_PINS)
    }

    /// The counts that belong to these uses.
    fn counts(&mut self, uses: Uses) -> impl Iterator<Item = &mut u8> {
        let kind = usize::from(uses.writable);
        let host = uses.host.then_some(&mut self.host[kind]);
        host.into_iter().chain(uses.device.then_some(&mut self.device[kind]))
    }
}

/// A pin that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pinned {
    /// The frame.
    pub mfn: Mfn,
    /// There was no other: the frame was read just now.
    pub is_first: bool,
}

/// The table of a domain.
#[derive(Debug)]
pub(super) struct Table {
    /// Its frames, empty once it is closed.
    frames: Vec<Mfn>,
    /// The same for each frame that there ever was: what is in use stays so until it no longer is.
    active: Vec<Box<[Active]>>,
    closed: bool,
}

impl Table {
    pub const fn new() -> Table {
        Table { frames: Vec::new(), active: Vec::new(), closed: false }
    }

    fn active(&mut self, gref: u32) -> Option<&mut Active> {
        self.active.get_mut((gref / PER_FRAME) as usize)?.get_mut((gref % PER_FRAME) as usize)
    }

    /// Where the entry is, unless the table is closed.
    fn place(&self, gref: u32) -> Option<(Mfn, usize)> {
        let frame = self.frames.get((gref / PER_FRAME) as usize)?;
        Some((*frame, (gref % PER_FRAME) as usize))
    }
}

impl Grants {
    /// Frames of the table.
    pub fn frames(&self) -> u32 {
        u32::try_from(self.table.lock().frames.len()).unwrap_or(u32::MAX)
    }

    /// A frame of the table.
    pub fn frame(&self, number: u32) -> Option<Mfn> {
        self.table.lock().frames.get(number as usize).copied()
    }

    /// Makes a frame of zeros, which the domain may map, the table's frame of this number. False if it isn't that, because
    /// another CPU was faster, the domain has as many as it may have, or it ends; or if there is no memory.
    #[must_use]
    pub fn add_frame(&self, number: u32, mfn: Mfn) -> bool {
        let Some(active) = new_active() else { return false };
        let mut table = self.table.lock();
        let fits = !table.closed && number < self.limits.frames && table.frames.len() == number as usize;
        if !fits || table.frames.try_reserve(1).is_err() || table.active.try_reserve(1).is_err() {
            return false;
        }
        table.frames.push(mfn);
        table.active.push(active);
        true
    }

    /// The domain ends: nothing is granted any more, and nobody writes to the table. Gives its frames back, one by one;
    /// `None` when there are none left.
    pub fn close_frame(&self) -> Option<Mfn> {
        let mut table = self.table.lock();
        table.closed = true;
        table.frames.pop()
    }

    /// Notes a use of a grant by `mapper`, and says so in the entry.
    ///
    /// # Errors
    /// [`Refusal::BadDomain`] if the granter ends, [`Refusal::BadReference`] beyond the table, else [`Refusal::General`].
    pub fn pin(&self, memory: &impl GrantMemory, gref: u32, mapper: DomainId, uses: Uses) -> Result<Pinned, Refusal> {
        let mut table = self.table.lock();
        if table.closed {
            return Err(Refusal::BadDomain);
        }
        let (page, index) = table.place(gref).ok_or(Refusal::BadReference)?;
        let active = table.active(gref).ok_or(Refusal::BadReference)?;
        let is_first = active.pins.is_none();
        if !is_first && (active.domain != mapper.0 || active.pins.is_full()) {
            return Err(Refusal::General);
        }
        if is_first || uses.writable && !active.pins.any_writable() {
            let grant = mark(
                memory,
                page,
                index,
                |grant| grant.permits(mapper) && !(uses.writable && grant.is_read_only()),
                uses.writable,
            )?;
            if is_first {
                active.domain = mapper.0;
                // The entry's upper half.
                active.frame = u32::try_from(grant.frame().0).unwrap_or(u32::MAX);
            }
        }
        active.pins.counts(uses).for_each(|count| *count += 1);
        Ok(Pinned { mfn: Mfn(active.frame.into()), is_first })
    }

    /// Ends a use that [`pin`](Grants::pin) noted. No CPU has a translation from it any more.
    ///
    /// # Panics
    /// If there was none: our own mistake.
    pub fn unpin(&self, memory: &impl GrantMemory, gref: u32, uses: Uses) {
        let mut table = self.table.lock();
        let place = table.place(gref);
        let active = table.active(gref).expect("a grant in use is in the table");
        active.pins.counts(uses).for_each(|count| *count = count.checked_sub(1).expect("a use that was noted"));
        let writing = if uses.writable && !active.pins.any_writable() { WRITING } else { 0 };
        let bits = writing | if active.pins.is_none() { READING } else { 0 };
        if bits != 0
            && let Some((page, index)) = place
        {
            memory.clear_bits(page, index, bits);
        }
    }

    /// Swaps two grants that nobody uses. ABI: `GNTTABOP_swap_grant_ref`.
    ///
    /// # Errors
    /// [`Refusal::BadReference`]; [`Refusal::InUse`].
    pub fn swap(&self, memory: &impl GrantMemory, a: u32, b: u32) -> Result<(), Refusal> {
        let mut table = self.table.lock();
        let places = [table.place(a).ok_or(Refusal::BadReference)?, table.place(b).ok_or(Refusal::BadReference)?];
        if a == b {
            return Ok(());
        }
        if [a, b].into_iter().any(|gref| table.active(gref).is_some_and(|active| !active.pins.is_none())) {
            return Err(Refusal::InUse);
        }
        // The guest may write there meanwhile, and then gets what it deserves.
        let [first, second] = places.map(|(page, index)| memory.read(page, index));
        for ((page, index), value) in places.into_iter().zip([second, first]) {
            memory.write(page, index, value);
        }
        Ok(())
    }
}

/// Says in an entry that the grant is in use, if `allows` lets it be. Returns what it was.
fn mark(
    memory: &impl GrantMemory,
    page: Mfn,
    index: usize,
    allows: impl Fn(Grant) -> bool,
    writable: bool,
) -> Result<Grant, Refusal> {
    let mut grant = Grant(memory.read(page, index));
    for _ in 0..TRIES {
        if !allows(grant) {
            return Err(Refusal::General);
        }
        match memory.compare_exchange(page, index, grant.0, grant.used(writable).0) {
            Ok(()) => return Ok(grant),
            Err(now) => grant = Grant(now),
        }
    }
    Err(Refusal::General)
}

fn new_active() -> Option<Box<[Active]>> {
    let mut active = Vec::new();
    active.try_reserve_exact(PER_FRAME as usize).ok()?;
    active.resize(PER_FRAME as usize, Active::default());
    Some(active.into_boxed_slice())
}

#[cfg(test)]
impl Grants {
    /// How often a grant is used for reading, and for writing.
    pub fn uses_of(&self, gref: u32) -> (u32, u32) {
        let mut table = self.table.lock();
        table.active(gref).map_or((0, 0), |Active { pins: Pins { host, device }, .. }| {
            let count = |kind: usize| u32::from(host[kind]) + u32::from(device[kind]);
            (count(0), count(1))
        })
    }

    /// How often grants are in use.
    pub fn pins(&self) -> u32 {
        let table = self.table.lock();
        let pins = table.active.iter().flat_map(|active| active.iter()).map(|active| active.pins);
        pins.flat_map(|pins| pins.host.into_iter().chain(pins.device)).map(u32::from).sum()
    }
}
