//! Address and frame-number newtypes, so that no two kinds of number can be swapped unseen.
//!
//! * A *machine frame* ([`Mfn`]) is 4 KiB of real memory, a *machine address* ([`MachineAddr`]) a byte in it.
//! * A *pseudo-physical frame* ([`Pfn`]) is a domain's own, gap-free numbering of its memory.
//! * A *guest virtual address* ([`GuestVa`]) is a number a guest gave us. Holding one proves nothing but that the
//!   number lies in a range a guest may name.

#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

/// First address of the hypervisor's part of every address space (L4 slot 256). Xen ABI: `HYPERVISOR_VIRT_START`.
pub const HYPERVISOR_START: u64 = 0xffff_8000_0000_0000;
/// First address above the hypervisor's part (L4 slot 272). Xen ABI: `HYPERVISOR_VIRT_END`.
pub const HYPERVISOR_END: u64 = 0xffff_8800_0000_0000;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

number!(
    /// A machine frame number: a machine address divided by [`PAGE_SIZE`].
    Mfn
);
number!(
    /// A pseudo-physical frame number of one domain.
    Pfn
);
number!(
    /// A machine (physical) byte address.
    MachineAddr
);

impl Mfn {
    /// What the machine-to-physical and physical-to-machine tables hold where there is no frame.
    pub const INVALID: Mfn = Mfn(u64::MAX);

    /// The address of the frame's first byte.
    pub const fn base(self) -> MachineAddr {
        MachineAddr(self.0 << PAGE_SHIFT)
    }

    /// The frame `n` frames above this one.
    pub const fn offset(self, n: u64) -> Mfn {
        Mfn(self.0 + n)
    }
}

impl MachineAddr {
    /// The frame that holds this byte.
    pub const fn frame(self) -> Mfn {
        Mfn(self.0 >> PAGE_SHIFT)
    }

    /// The byte's offset in its frame.
    pub const fn page_offset(self) -> usize {
        (self.0 & 0xfff) as usize
    }
}

/// Are bits 63 to 47 of a virtual address all the same, as the CPU demands with four levels of page tables?
pub const fn is_canonical(address: u64) -> bool {
    address.cast_signed() << 16 >> 16 == address.cast_signed()
}

/// Bytes that guests may name, in both halves of the address space.
const GUEST_BYTES: u64 = (1 << 47) + HYPERVISOR_END.wrapping_neg();

/// Where an address comes when the space is turned so that [`HYPERVISOR_END`] comes to 0. Then the guests' two ranges are one,
/// which one comparison tests.
#[inline]
const fn rotated(address: u64) -> u64 {
    address.wrapping_sub(HYPERVISOR_END)
}

/// A canonical virtual address outside the hypervisor's range.
///
/// The only way to make one checks both, so code that holds a `GuestVa` can't be aimed at the hypervisor (XSA-212).
/// A range that starts at a `GuestVa` may still run into the hypervisor: see [`GuestVa::span`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct GuestVa(u64);

impl GuestVa {
    /// `None` for a non-canonical address and for one in the hypervisor's range.
    #[inline]
    pub const fn new(address: u64) -> Option<GuestVa> {
        if rotated(address) < GUEST_BYTES { Some(GuestVa(address)) } else { None }
    }

    /// The plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The same start, if all of `len` bytes from it are guest addresses too.
    pub const fn span(self, len: u64) -> Option<GuestVa> {
        if len == 0 {
            return Some(self);
        }
        let wraps = self.0.checked_add(len - 1).is_none();
        if wraps || len > GUEST_BYTES - rotated(self.0) { None } else { Some(self) }
    }

    /// Are `len` bytes from `address` guest addresses? They may go on at the other end of the address space, as for the CPU:
    /// there a guest's two ranges meet.
    #[inline]
    pub const fn are_bytes(address: u64, len: u64) -> bool {
        len <= GUEST_BYTES && rotated(address) <= GUEST_BYTES - len
    }

    /// The address `n` bytes on, if it is still a guest's.
    pub const fn checked_add(self, n: u64) -> Option<GuestVa> {
        match self.0.checked_add(n) {
            Some(sum) => GuestVa::new(sum),
            None => None,
        }
    }
}

impl fmt::Debug for GuestVa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestVa({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_addresses_exclude_the_hole_and_the_hypervisor() {
        assert!(GuestVa::new(0).is_some());
        assert!(GuestVa::new(0x7fff_ffff_ffff).is_some());
        assert!(GuestVa::new(0x8000_0000_0000).is_none());
        assert!(GuestVa::new(HYPERVISOR_START).is_none());
        assert!(GuestVa::new(HYPERVISOR_END - 1).is_none());
        assert!(GuestVa::new(HYPERVISOR_END).is_some());
        assert!(GuestVa::new(u64::MAX).is_some());
    }

    #[test]
    fn a_span_never_enters_the_hypervisor_or_wraps() {
        let low = GuestVa::new(0x7fff_ffff_f000).unwrap();
        assert!(low.span(4096).is_some());
        assert!(low.span(4097).is_none());
        assert!(low.span(HYPERVISOR_END).is_none());
        let high = GuestVa::new(u64::MAX - 7).unwrap();
        assert!(high.span(8).is_some());
        assert!(high.span(9).is_none());
        assert!(GuestVa::new(8).unwrap().span(u64::MAX - 8).is_none());
    }

    #[test]
    fn bytes_are_guest_addresses_if_each_is() {
        const HOLE: u64 = 1 << 47;
        let ends = [0, HOLE, HYPERVISOR_START, HYPERVISOR_END];
        let near = |end: u64| (0..40).map(move |n| end.wrapping_add(n).wrapping_sub(20));
        for start in ends.into_iter().flat_map(near) {
            for end in ends.into_iter().flat_map(near).filter(|&end| end != start) {
                let len = end.wrapping_sub(start);
                let reaches_hole = HOLE.wrapping_sub(start) < len;
                let all = GuestVa::new(start).is_some() && !reaches_hole;
                assert_eq!(GuestVa::are_bytes(start, len), all, "{start:#x} to {end:#x}");
            }
        }
        assert!(GuestVa::are_bytes(u64::MAX, 2));
        assert!(!GuestVa::are_bytes(0, u64::MAX));
    }
}
