//! A grant as it stands in the table, `struct grant_entry_v1`: one word, which changes as a whole.

use super::Access;
use core::sync::atomic::{AtomicU64, Ordering};
use pv_abi::grant::{GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_WRITING};

/// The word of a grant that nobody uses yet. The frame's number has 32 bits in version 1.
pub const fn word(domain: u16, frame: u32, access: Access) -> u64 {
    let flags = match access {
        Access::Read => GTF_PERMIT_ACCESS | GTF_READONLY,
        Access::Write => GTF_PERMIT_ACCESS,
    };
    flags as u64 | (domain as u64) << 16 | (frame as u64) << 32
}

/// Whether somebody uses the grant.
pub const fn is_used(word: u64) -> bool {
    word & (GTF_READING | GTF_WRITING) as u64 != 0
}

/// Takes a grant back, unless somebody uses it. From then on nobody can.
pub fn end(entry: &AtomicU64) -> bool {
    let ended = |word| (!is_used(word)).then_some(0);
    entry.fetch_update(Ordering::AcqRel, Ordering::Acquire, ended).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_laid_out_as_the_header_says() {
        let entry = word(0x1234, 0x5678_9abc, Access::Write).to_le_bytes();
        assert_eq!(entry, [1, 0, 0x34, 0x12, 0xbc, 0x9a, 0x78, 0x56]);
        assert_eq!(word(0, 0, Access::Read), 5);
    }

    #[test]
    fn only_what_nobody_uses_ends() {
        for (bits, ends) in [(0, true), (GTF_READING, false), (GTF_WRITING, false)] {
            let entry = AtomicU64::new(word(3, 7, Access::Write) | u64::from(bits));
            assert_eq!((end(&entry), entry.into_inner() == 0), (ends, ends), "{bits:#x}");
        }
    }
}
