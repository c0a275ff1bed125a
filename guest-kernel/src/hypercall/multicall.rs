//! `multicall`: a list of hypercalls in one. Header: `xen.h`.

use super::{Answer, answer, call};
use pv_abi::hypercall::{MULTICALL, MulticallEntry};

/// One call of a list.
pub const fn entry(nr: u32, args: [u64; 6]) -> MulticallEntry {
    MulticallEntry { op: nr as u64, result: 0, args }
}

/// Makes the calls of a list, in order. Each one's result lands in its entry, and later ones run after a refusal.
///
/// # Safety
/// That of each call.
pub unsafe fn multicall(list: &mut [MulticallEntry]) -> Answer {
    // SAFETY: the call writes the entries, which are ours; the rest is the caller's promise.
    unsafe { call(MULTICALL, [list.as_mut_ptr() as u64, list.len() as u64, 0, 0, 0]) }
}

/// What a call of a list that was made answered.
pub fn result(entry: &MulticallEntry) -> Answer {
    answer(entry.result.cast_signed())
}
