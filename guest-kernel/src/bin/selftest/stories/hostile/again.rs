//! A guest whose devices are closed by their back ends, and who connects again: for a ring that it broke itself.

use super::{Page, Victim, block, net, now, store};
use crate::check::{Told, equal, holds};
use core::sync::atomic::Ordering;
use guest_kernel::grant::Access;
use guest_kernel::xenbus::XenbusState;

/// How long a back end may take, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;
/// Times that each device is broken.
const TIMES: usize = 3;

/// The back ends close a device whose ring is broken, and serve it again when it is connected again.
pub fn reconnects() -> Told {
    let mut store = store()?;
    for (kind, rings) in [("vbd", ["ring-ref"].as_slice()), ("vif", ["tx-ring-ref", "rx-ring-ref"].as_slice())] {
        let mut victim = Victim::find(&mut store, kind)?;
        for _ in 0..TIMES {
            let mut nodes = alloc::vec![("request-rx-copy", 1)];
            let mut pages = alloc::vec::Vec::new();
            for name in rings {
                let page = Page::new(Access::Write)?;
                [0, 1, 0, 1].into_iter().zip(page.words).for_each(|(value, word)| word.store(value, Ordering::Release));
                nodes.push((*name, page.gref));
                pages.push(page);
            }
            holds("it is connected", victim.connect(&mut store, now() + PATIENCE, &nodes)?)?;
            pages[0].words[0].store(5000, Ordering::Release);
            victim.ring();
            holds("it is closed", victim.wait(&mut store, now() + PATIENCE, XenbusState::Closing)?)?;
            equal("it has its end of the channel", victim.is_open(), false)?;
        }
        victim.leave(&mut store)?;
    }
    block::use_disk(&mut store)?;
    net::use_network(&mut store)
}
