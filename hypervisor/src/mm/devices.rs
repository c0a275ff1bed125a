//! The device frames that a domain may map.

use core::ops::Range;

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use spin::Mutex;

use crate::addr::{DomainId, Mfn};
use pv_abi::domid::DOMID_IO;

/// Who a caller says owns the frames it maps, when it means devices alone. No frame has this owner, so that no RAM can be
/// mapped in its name.
pub const NO_RAM: DomainId = DomainId(DOMID_IO);

/// Most ranges that can be [protected](DeviceFrames::protect).
const MAX_PROTECTED: usize = 64;

/// The device frames that a domain may map, as ranges of frame numbers: an allowed frame stays so while the domain lives.
/// Some of them only for reading, from a certain time on; what was mapped before stays mapped.
#[derive(Debug, Default)]
pub struct DeviceFrames {
    permitted: Vec<Range<u64>>,
    read_only: Mutex<ArrayVec<Range<u64>, MAX_PROTECTED>>,
}

/// There is no room for another range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl DeviceFrames {
    /// No frame at all.
    pub fn none() -> &'static DeviceFrames {
        static NONE: DeviceFrames = DeviceFrames::new(Vec::new());
        &NONE
    }

    /// The frames of these ranges.
    pub const fn new(permitted: Vec<Range<u64>>) -> DeviceFrames {
        DeviceFrames { permitted, read_only: Mutex::new(ArrayVec::new_const()) }
    }

    /// All frames below `end` but those of `own`.
    pub fn all_but(own: &[Range<u64>], end: u64) -> DeviceFrames {
        let mut permitted = Vec::new();
        let mut start = 0;
        while start < end {
            // The first of the others that reaches behind `start`; where two overlap, whichever begins first.
            let next =
                own.iter().filter(|range| range.end > start && !range.is_empty()).min_by_key(|range| range.start);
            let stop = next.map_or(end, |range| range.start.clamp(start, end));
            if stop > start {
                permitted.push(start..stop);
            }
            start = next.map_or(end, |range| range.end);
        }
        DeviceFrames::new(permitted)
    }

    /// Allows only reading of these frames from now on.
    ///
    /// # Errors
    /// [`Full`].
    pub fn protect(&self, frames: Range<u64>) -> Result<(), Full> {
        let mut read_only = self.read_only.lock();
        if read_only.contains(&frames) {
            return Ok(());
        }
        read_only.try_push(frames).map_err(|_| Full)
    }

    /// May a frame be mapped, to be written to or only to be read?
    pub fn permits(&self, mfn: Mfn, write: bool) -> bool {
        self.permitted.iter().any(|range| range.contains(&mfn.0))
            && !(write && self.read_only.lock().iter().any(|range| range.contains(&mfn.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_but_is_a_difference(own in prop::collection::vec((0u64..60, 0u64..8), 0..6), end in 0u64..64) {
            let own: Vec<_> = own.into_iter().map(|(start, len)| start..start + len).collect();
            let frames = DeviceFrames::all_but(&own, end);
            for mfn in 0..80 {
                let expected = mfn < end && !own.iter().any(|range| range.contains(&mfn));
                prop_assert_eq!(frames.permits(Mfn(mfn), true), expected, "frame {}", mfn);
            }
        }
    }

    #[test]
    fn protected_frames_can_be_read() {
        let frames = DeviceFrames::all_but(&[], 10);
        frames.protect(4..5).unwrap();
        assert!(frames.permits(Mfn(4), false) && !frames.permits(Mfn(4), true) && frames.permits(Mfn(5), true));
        for n in 0..MAX_PROTECTED as u64 {
            let protected = frames.protect(n..n + 1);
            assert_eq!(protected.is_err(), n == MAX_PROTECTED as u64, "{n}");
        }
        assert_eq!(frames.protect(100..101), Err(Full));
        assert_eq!(frames.protect(4..5), Ok(()));
    }

    #[test]
    fn nothing_is_permitted_to_most() {
        assert!(!DeviceFrames::none().permits(Mfn(0xf_ee00), false));
    }
}
