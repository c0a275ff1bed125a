//! A client of XenStore that has all that it may have, and uses it all the time.

use super::{Phases, store, well};
use crate::check::{Told, equal, holds};
use alloc::format;
use guest_kernel::println;
use guest_kernel::store::{Bus, Tx};

/// Nodes that it has.
const NODES: u32 = 100;

/// Changes nodes that it watches as often as it may, from phase to phase, and looks into those of others.
pub fn attacks() -> Told {
    let mut store = store()?;
    let mut phases = Phases::new()?;
    for n in 0..NODES {
        well("a node", store.mkdir(Tx::NONE, &format!("data/{n}")))?;
    }
    let watches = (0..10_000).find(|n| store.watch("data", &format!("{n}")).is_err());
    holds("watches have a limit", watches.is_some_and(|count| count >= 100))?;
    let (mut writes, mut events) = (0u32, 0u32);
    while phases.wait() {
        well("a write", store.write_text(Tx::NONE, "data/0", writes))?;
        let _ = (store.directory(Tx::NONE, "/local/domain"), store.directory(Tx::NONE, "data"));
        let _ = store.start();
        writes += 1;
        while store.event().is_some() {
            events += 1;
        }
    }
    phases.report();
    println!("attacker: {writes} writes, {events} events");
    holds("it wrote at all", writes > 0)?;
    equal("what it wrote last", store.read_number(Tx::NONE, "data/0"), Ok(writes - 1))
}
