//! A grant as it stands in memory, and the page-table entry of a mapping.

use pv_abi::grant::{
    GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE, GTF_TYPE_MASK, GTF_WRITING, GrantMapFlags,
};

use crate::addr::{DomainId, Mfn};

/// An entry of a grant table: flags in bits 0 to 15, the domain above them, the frame in the upper half.
///
/// The guest changes flags and domain with 32-bit instructions, we change all of it with 64-bit ones: those are atomic
/// towards each other, and the frame that we find belongs to the flags that we found with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant(pub u64);

/// Is the grant in use? Bits of [`Grant`].
pub const READING: u64 = GTF_READING as u64;
/// Is it in use for writing?
pub const WRITING: u64 = GTF_WRITING as u64;

impl Grant {
    /// Does it let this domain map the frame, and do no more?
    pub fn permits(self, domain: DomainId) -> bool {
        let kind = self.0 & u64::from(GTF_TYPE_MASK | GTF_SUB_PAGE);
        kind == u64::from(GTF_PERMIT_ACCESS) && self.0 >> 16 & 0xffff == u64::from(domain.0)
    }

    /// Only for reading?
    pub fn is_read_only(self) -> bool {
        self.0 & u64::from(GTF_READONLY) != 0
    }

    /// The frame.
    pub fn frame(self) -> Mfn {
        Mfn(self.0 >> 32)
    }

    /// With the bits of one more use.
    pub fn used(self, writable: bool) -> Grant {
        Grant(self.0 | READING | if writable { WRITING } else { 0 })
    }
}

/// What the guest asked a mapping of the frame to be. It still has to be accepted as any entry.
///
/// Of the "available" bits those are the guest's that are its own in any entry: 9 to 11, and 53 to 61.
pub fn page_table_entry(mfn: Mfn, flags: GrantMapFlags) -> u64 {
    /// Present, accessed, dirty, not executable.
    const ALWAYS: u64 = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 63;
    const WRITE: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    const AVAILABLE: u64 = 7 << 9 | 0x1ff << 53;
    let available = u64::from(flags.bits() >> 16);
    let available = (available & 7) << 9 | (available >> 3) << 52;
    let bit = |flag, bit| if flags.contains(flag) { bit } else { 0 };
    let write = if flags.contains(GrantMapFlags::READONLY) { 0 } else { WRITE };
    mfn.base().0 | ALWAYS | write | bit(GrantMapFlags::APPLICATION_MAP, USER) | available & AVAILABLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::entry::Entry;
    use crate::mm::state::Level;

    #[test]
    fn whatever_the_guest_asks_for_is_an_entry_that_it_may_have() {
        for bits in (0..32).map(|bit| 1u32 << bit).chain([0, u32::MAX]) {
            let value = page_table_entry(Mfn(0x1234), GrantMapFlags::from_bits_retain(bits));
            let entry = Entry(value).accept(Level::L1, false).unwrap();
            assert_eq!((entry.frame(), entry.is_writable()), (Mfn(0x1234), bits & 4 == 0), "{bits:#x}");
            assert!(entry.is_present() && entry.is_no_execute());
        }
        assert_eq!(page_table_entry(Mfn(1), GrantMapFlags::from_bits_retain(1 << 16 | 12)), 1 << 63 | 0x1000 | 0x265);
    }
}
