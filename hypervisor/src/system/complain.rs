//! What a guest did wrong, in the log: a few lines a second for each domain, so that it can't flood the console.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use log::warn;

use super::Domain;
use crate::arch::time;
use crate::time::SECOND;

/// Lines that a domain may cause in a second.
const LINES: u64 = 10;

/// How many lines a domain has caused in the current second: the second, and the count in the low bits.
#[derive(Default)]
pub struct Complaints(AtomicU64);

const COUNT_BITS: u32 = 16;

impl Complaints {
    /// The number of this line in its second, from 1.
    fn count(&self) -> u64 {
        let second = time::now() / SECOND;
        let next = |old: u64| Some(if old >> COUNT_BITS == second { old + 1 } else { second << COUNT_BITS | 1 });
        let old = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|old| old);
        next(old).unwrap_or(old) & ((1 << COUNT_BITS) - 1)
    }
}

/// Says what was refused, unless the domain has had its lines for this second.
pub fn complain(domain: &Domain, what: fmt::Arguments<'_>) {
    match domain.complaints.count() {
        1..LINES => warn!("{}: {what}", domain.id),
        LINES => warn!("{}: {what} (more of this second is not shown)", domain.id),
        _ => {}
    }
}
