//! What the suites know of the guest kernel's self-test: its stories and how they are reported.

pub mod stories;
pub mod verdict;

pub use verdict::{Outcome, Verdict};
