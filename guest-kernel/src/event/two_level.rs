//! 2-level delivery: a bit for each port, a selector bit for each word of them. Pure.
//!
//! Both sides work in an order that loses no event: the hypervisor sets pending, looks at the mask, sets the selector,
//! sets the upcall; the guest takes them from the other end, and clears the mask before it looks at pending.

use crate::record::{Bits, Page, Record};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Ports that 2-level delivery can have.
pub const PORTS: u32 = pv_abi::event::EVTCHN_2L_NR_CHANNELS;

/// The word and bit of a port; ports beyond the last share the last word's.
fn bit(port: u32) -> (usize, u64) {
    ((port / 64).min(63) as usize, 1 << (port % 64))
}

/// Whether a port's bit is set.
pub fn is_set(bits: &Bits, port: u32) -> bool {
    let (word, bit) = bit(port);
    bits[word].load(SeqCst) & bit != 0
}

/// Sets a port's bit, and says whether it was set.
pub fn set(bits: &Bits, port: u32) -> bool {
    let (word, bit) = bit(port);
    bits[word].fetch_or(bit, SeqCst) & bit != 0
}

/// Clears a port's bit, and says whether it was set.
pub fn clear(bits: &Bits, port: u32) -> bool {
    let (word, bit) = bit(port);
    bits[word].fetch_and(!bit, SeqCst) & bit != 0
}

/// Unmasks a port whose events go to the vCPU of `record`, which is the caller's. An event that came meanwhile is shown
/// as the hypervisor would have. Whether an upcall is due then.
///
/// For a port of another vCPU this is the hypervisor's to do: its vCPU may be asleep.
pub fn unmask(page: &Page, record: &Record, port: u32) -> bool {
    clear(&page.mask, port);
    if is_set(&page.pending, port) {
        let (word, _) = bit(port);
        record.selector.fetch_or(1 << word, SeqCst);
        record.upcall_pending.store(1, SeqCst);
    }
    record.upcall_pending.load(SeqCst) != 0
}

/// Takes all events of the ports in `mine` that are due: clears each, then gives it to `each`.
pub fn take(page: &Page, record: &Record, mine: &Bits, mut each: impl FnMut(u32)) {
    let mut selected = record.selector.swap(0, SeqCst);
    while selected != 0 {
        let word = selected.trailing_zeros();
        selected &= selected - 1;
        loop {
            let due = due(page, mine, word as usize);
            if due == 0 {
                break;
            }
            let port = 64 * word + due.trailing_zeros();
            clear(&page.pending, port);
            each(port);
        }
    }
}

fn due(page: &Page, mine: &Bits, word: usize) -> u64 {
    let load = |bits: &Bits| AtomicU64::load(&bits[word], SeqCst);
    load(&page.pending) & !load(&page.mask) & load(mine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{boxed::Box, collections::BTreeSet, vec::Vec};

    fn page() -> Box<Page> {
        Box::new(Page {
            records: Default::default(),
            pending: [const { AtomicU64::new(0) }; 64],
            mask: [const { AtomicU64::new(0) }; 64],
        })
    }

    /// What the hypervisor does for an event.
    fn raise(page: &Page, record: &Record, port: u32) {
        let (word, _) = bit(port);
        if !set(&page.pending, port)
            && !is_set(&page.mask, port)
            && record.selector.fetch_or(1 << word, SeqCst) & 1 << word == 0
        {
            record.upcall_pending.store(1, SeqCst);
        }
    }

    fn taken(page: &Page, mine: &Bits) -> Vec<u32> {
        let mut taken = Vec::new();
        page.records[0].upcall_pending.store(0, SeqCst);
        take(page, &page.records[0], mine, |port| taken.push(port));
        taken
    }

    static ALL: Bits = [const { AtomicU64::new(u64::MAX) }; 64];

    #[test]
    fn others_ports_stay_pending() {
        let (page, mine) = (page(), [const { AtomicU64::new(0) }; 64]);
        set(&mine, 5);
        raise(&page, &page.records[0], 5);
        raise(&page, &page.records[0], 6);
        assert_eq!(taken(&page, &mine), [5]);
        assert!(is_set(&page.pending, 6) && !is_set(&page.pending, 5));
    }

    #[test]
    fn an_event_while_masked_comes_with_the_unmasking() {
        let page = page();
        set(&page.mask, 4095);
        raise(&page, &page.records[0], 4095);
        assert_eq!(taken(&page, &ALL), []);
        assert!(unmask(&page, &page.records[0], 4095));
        assert_eq!(taken(&page, &ALL), [4095]);
        assert!(!unmask(&page, &page.records[0], 4095));
    }

    #[test]
    fn an_event_during_its_handler_is_taken_again() {
        let page = page();
        let mut count = 0;
        raise(&page, &page.records[0], 70);
        take(&page, &page.records[0], &ALL, |_| {
            count += 1;
            if count < 3 {
                raise(&page, &page.records[0], 70);
            }
        });
        assert_eq!(count, 3);
    }

    proptest! {
        /// Every unmasked event is taken exactly once, and no other.
        #[test]
        fn as_a_set_of_ports(steps in proptest::collection::vec((0u32..4, 0u32..200), 0..200)) {
            let page = page();
            let (mut pending, mut masked) = (BTreeSet::new(), BTreeSet::new());
            for (what, port) in steps {
                match what {
                    0 => { raise(&page, &page.records[0], port); pending.insert(port); }
                    1 => { set(&page.mask, port); masked.insert(port); }
                    2 => { unmask(&page, &page.records[0], port); masked.remove(&port); }
                    _ => {
                        let want: Vec<u32> = pending.difference(&masked).copied().collect();
                        let mut found = taken(&page, &ALL);
                        found.sort_unstable();
                        prop_assert_eq!(&found, &want);
                        pending = pending.intersection(&masked).copied().collect();
                    }
                }
            }
        }
    }
}
