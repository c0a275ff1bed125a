//! The mapper's side: its handles.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Grants, Mapping, Refusal};

/// Names a mapping in a domain's calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handle(pub u32);

/// Handles that are made at a time: 4 KiB.
const CHUNK: u32 = 128;

/// What a handle is.
#[derive(Debug)]
enum Slot {
    /// Not in use; the next that isn't.
    Free(Option<u32>),
    /// In the hands of an operation.
    Taken,
    /// A mapping.
    Live(Mapping),
}

const _: () = assert!(size_of::<Slot>() <= 32);

/// All handles of a domain.
#[derive(Debug)]
pub(super) struct Maptrack {
    chunks: Vec<Box<[Slot]>>,
    free: Option<u32>,
}

impl Maptrack {
    pub const fn new() -> Maptrack {
        Maptrack { chunks: Vec::new(), free: None }
    }

    fn len(&self) -> u32 {
        u32::try_from(self.chunks.len()).unwrap_or(u32::MAX).saturating_mul(CHUNK)
    }

    fn slot(&mut self, handle: u32) -> Option<&mut Slot> {
        self.chunks.get_mut((handle / CHUNK) as usize)?.get_mut((handle % CHUNK) as usize)
    }

    /// The slot of a handle that an operation has in its hands.
    fn taken(&mut self, Handle(handle): Handle) -> &mut Slot {
        let slot = self.slot(handle).expect("handles are never given back");
        assert!(matches!(slot, Slot::Taken), "handle {handle} is {slot:?}");
        slot
    }

    /// Makes more handles, up to `limit`. False if there is no room for them.
    fn grow(&mut self, limit: u32) -> bool {
        let start = self.len();
        let count = limit.saturating_sub(start).min(CHUNK);
        let mut chunk = Vec::new();
        if count == 0 || chunk.try_reserve_exact(CHUNK as usize).is_err() || self.chunks.try_reserve(1).is_err() {
            return false;
        }
        chunk.extend((start + 1..=start + count).map(|next| Slot::Free((next < start + count).then_some(next))));
        self.chunks.push(chunk.into_boxed_slice());
        self.free = Some(start);
        true
    }
}

impl Grants {
    /// Takes a handle that stands for nothing yet. `may_grow` says whether there is memory for more of them.
    ///
    /// # Errors
    /// [`Refusal::NoSpace`].
    pub fn new_handle(&self, may_grow: impl FnOnce() -> bool) -> Result<Handle, Refusal> {
        let mut maptrack = self.maptrack.lock();
        if maptrack.free.is_none() && !(may_grow() && maptrack.grow(self.limits.handles())) {
            return Err(Refusal::NoSpace);
        }
        let handle = maptrack.free.ok_or(Refusal::NoSpace)?;
        let slot = maptrack.slot(handle).expect("a free handle exists");
        let Slot::Free(next) = core::mem::replace(slot, Slot::Taken) else { panic!("handle {handle} is not free") };
        maptrack.free = next;
        Ok(Handle(handle))
    }

    /// A handle that is taken stands for this mapping from now on.
    pub fn set_handle(&self, handle: Handle, mapping: Mapping) {
        *self.maptrack.lock().taken(handle) = Slot::Live(mapping);
    }

    /// A handle that is taken is free again.
    pub fn free_handle(&self, handle: Handle) {
        let mut maptrack = self.maptrack.lock();
        let next = maptrack.free.replace(handle.0);
        *maptrack.taken(handle) = Slot::Free(next);
    }

    /// Takes a handle, whatever number the guest named. Of several that ask for it one gets it.
    ///
    /// # Errors
    /// [`Refusal::BadHandle`].
    pub fn take_handle(&self, handle: u32) -> Result<Mapping, Refusal> {
        let mut maptrack = self.maptrack.lock();
        let slot = maptrack.slot(handle).ok_or(Refusal::BadHandle)?;
        match core::mem::replace(slot, Slot::Taken) {
            Slot::Live(mapping) => Ok(mapping),
            other => {
                *slot = other;
                Err(Refusal::BadHandle)
            }
        }
    }

    /// Takes any handle from `from` on that stands for a mapping, and frees it: the domain has ended. Says where to go on.
    pub fn end_handle(&self, from: u32) -> Option<(u32, Mapping)> {
        let mut maptrack = self.maptrack.lock();
        for handle in from..maptrack.len() {
            let Some(slot) = maptrack.slot(handle) else { break };
            if matches!(slot, Slot::Live(_))
                && let Slot::Live(mapping) = core::mem::replace(slot, Slot::Free(None))
            {
                return Some((handle + 1, mapping));
            }
        }
        None
    }
}

#[cfg(test)]
impl Grants {
    /// The frames that handles hold for devices, and whether as writable.
    pub fn held_frames(&self) -> impl Iterator<Item = (crate::addr::Mfn, bool)> {
        let handles = self.handles();
        handles.into_iter().filter(|(.., uses)| uses.device).map(|(.., mfn, uses)| (mfn, uses.writable))
    }

    /// Handles with their frames and uses.
    pub fn numbered_handles(&self) -> Vec<(u32, crate::addr::Mfn, super::Uses)> {
        let maptrack = self.maptrack.lock();
        let slots = (0..).zip(maptrack.chunks.iter().flat_map(|chunk| chunk.iter()));
        slots
            .filter_map(|(number, slot)| match slot {
                Slot::Live(Mapping { mfn, uses, .. }) => Some((number, *mfn, *uses)),
                Slot::Free(_) | Slot::Taken => None,
            })
            .collect()
    }

    /// What handles stand for: whose grants, which frames, what uses.
    pub fn handles(&self) -> Vec<(crate::addr::DomainId, u32, crate::addr::Mfn, super::Uses)> {
        let maptrack = self.maptrack.lock();
        let slots = maptrack.chunks.iter().flat_map(|chunk| chunk.iter());
        slots
            .filter_map(|slot| match slot {
                Slot::Live(Mapping { granter, gref, mfn, uses, .. }) => Some((granter.domain, *gref, *mfn, *uses)),
                Slot::Free(_) => None,
                Slot::Taken => panic!("a handle is in nobody's hands"),
            })
            .collect()
    }
}
