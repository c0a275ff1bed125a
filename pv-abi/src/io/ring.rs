//! The request and response ring of the split drivers. Header: `io/ring.h`.
//!
//! A ring is a [`RingHeader`] and then a power-of-two number of slots, each as large as the larger of request and
//! response. The frontend produces requests, the backend puts each response into a slot whose request it has read.
//! Indices run freely; a slot is an index modulo the number of slots. All values the other side writes are hostile:
//! copy a slot out before checking it, and check that an index is at most one ring ahead.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The indices at the start of a ring: the fixed part of `struct NAME_sring`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RingHeader {
    /// One past the last request (frontend writes).
    pub req_prod: u32,
    /// Notify the backend when a request with the index before this is produced (backend writes).
    pub req_event: u32,
    /// One past the last response (backend writes).
    pub rsp_prod: u32,
    /// Notify the frontend when a response with the index before this is produced (frontend writes).
    pub rsp_event: u32,
    /// Private to the protocol.
    pub _pvt: [u8; 4],
    /// Padding.
    pub _pad: [u8; 44],
}
layout!(RingHeader, 64, req_event @ 4, rsp_prod @ 8, rsp_event @ 12);

impl RingHeader {
    /// An empty ring: both sides ask to be notified of the first entry.
    pub const EMPTY: RingHeader =
        RingHeader { req_prod: 0, req_event: 1, rsp_prod: 0, rsp_event: 1, _pvt: [0; 4], _pad: [0; 44] };
}

/// How many slots of `entry_bytes` a ring of `ring_bytes` has: the largest power of two that fits; 0 if none does.
pub const fn ring_slots(ring_bytes: usize, entry_bytes: usize) -> usize {
    let fit = match ring_bytes.checked_sub(size_of::<RingHeader>()) {
        Some(bytes) if entry_bytes > 0 => bytes / entry_bytes,
        _ => 0,
    };
    if fit == 0 { 0 } else { 1 << fit.ilog2() }
}

/// Whether a producer that went from index `old` to `new` must notify the other side, whose event index is `event`.
pub const fn must_notify(old: u32, new: u32, event: u32) -> bool {
    new.wrapping_sub(event) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::{must_notify, ring_slots};

    #[test]
    fn slots_are_a_power_of_two_that_fits() {
        assert_eq!(ring_slots(4096, 112), 32);
        assert_eq!(ring_slots(4096, 12), 256);
        assert_eq!(ring_slots(4096, 4032), 1);
        assert_eq!(ring_slots(4096, 4033), 0);
        assert_eq!(ring_slots(63, 1), 0);
        assert_eq!(ring_slots(4096, 0), 0);
    }

    #[test]
    fn notifies_when_the_event_index_is_passed_even_across_the_wrap() {
        assert!(must_notify(0, 1, 1));
        assert!(!must_notify(1, 2, 1));
        assert!(must_notify(1, 4, 3));
        assert!(!must_notify(1, 4, 5));
        assert!(must_notify(u32::MAX, 1, 0));
        assert!(!must_notify(u32::MAX, 1, 2));
        assert!(!must_notify(7, 7, 7));
    }
}
