//! What a guest did wrong, in the log: a few lines a second for each domain, so that it can't flood the console.

use core::fmt;

use log::warn;

use super::Domain;
use crate::arch::time;

/// Lines that a domain may cause in a second.
const LINES: u64 = 10;

/// Says what was refused, unless the domain has had its lines for this second.
pub fn complain(domain: &Domain, what: fmt::Arguments<'_>) {
    match domain.complaints.take(time::now(), 1, LINES, LINES) {
        None => {}
        Some(0) => warn!("{}: {what} (more of this second is not shown)", domain.id),
        Some(_) => warn!("{}: {what}", domain.id),
    }
}
