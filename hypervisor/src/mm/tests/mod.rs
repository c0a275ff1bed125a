//! The page-type rules on a made-up machine.
//!
//! * `machine`: memory, CPUs with TLBs that keep everything a real one may keep, and the clock.
//! * `model`: recomputes every count from the contents of tables and from who holds what, and compares.
//! * `world`: domains and vCPUs on that machine; carries out one action at a time and checks everything after it.
//! * `actions`: random lists of actions (property test).
//! * `stories`: one published attack, or one rule, per test.
//! * `threads`: real threads on the same frame table.
//!
//! `hypercall::tests` makes hypercalls on the same machine, against the same model.
//!
//! Random tests print their seed; `PAVISE_SEED=<number>` repeats a run, `PROPTEST_CASES=<number>` makes it longer.
#![allow(clippy::cast_possible_truncation, reason = "tests cut random numbers to size")]

mod actions;
pub(crate) mod machine;
pub(crate) mod model;
mod stories;
mod threads;
mod world;

use super::error::Stop;
use super::operation::{Operation, PageTableMem};
use super::update::{Change, Slot, Update};
use crate::addr::DomainId;
use proptest::prelude::ProptestConfig;
use proptest::test_runner::{RngAlgorithm, RngSeed};

/// The seed of this run.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("PAVISE_SEED") {
        Ok(text) => text.parse().expect("PAVISE_SEED is a number"),
        Err(_) => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64),
    };
    std::eprintln!("PAVISE_SEED={seed}");
    seed
}

impl<M: PageTableMem> Operation<'_, M> {
    /// An update: of an even entry alone, else as a list of one.
    fn update(&mut self, slot: Slot, value: u64, change: Change, page_owner: DomainId) -> Result<(), Stop> {
        let update = Update { slot, value, change };
        if slot.index.is_multiple_of(2) {
            return self.update_one(update, page_owner);
        }
        let list = [update];
        let mut list = list.iter();
        self.update_list(&mut list, Some, page_owner)?;
        assert_eq!(list.len(), 0);
        Ok(())
    }
}

/// A property test of so many cases, with this run's seed.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed()),
        rng_algorithm: RngAlgorithm::XorShift,
        ..ProptestConfig::default()
    }
}

/// A generator of random numbers (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % below
    }
}
