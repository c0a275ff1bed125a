//! Which address is behind which port.
//!
//! An address that was given to a port stays there. Others are learned from what ports send, forgotten after a while,
//! and limited for each port: one that invents addresses pushes out none of its neighbours'.

use super::PortId;
use alloc::collections::BTreeMap;
use guest_kernel::net::Mac;

/// How long an address is believed after its last packet, in nanoseconds: 300 s, as IEEE 802.1Q, 8.8.3 says.
pub const AGEING: u64 = 300_000_000_000;
/// Pause between two searches for entries that are too old, in nanoseconds.
const SWEEP_INTERVAL: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: PortId,
    /// When it was last heard of; `None` if it was given.
    heard: Option<u64>,
}

impl Entry {
    fn holds(&self, now: u64) -> bool {
        self.heard.is_none_or(|heard| now.saturating_sub(heard) < AGEING)
    }
}

/// The addresses.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<Mac, Entry>,
    /// Learned entries of each port, old ones included.
    learned: BTreeMap<PortId, usize>,
    swept: u64,
}

impl Table {
    /// Gives an address to a port. Whether it was free: an address that was only learned is.
    pub fn give(&mut self, mac: Mac, port: PortId) -> bool {
        if self.owner(mac).is_some() {
            return false;
        }
        self.forget(mac);
        self.entries.insert(mac, Entry { port, heard: None });
        true
    }

    /// Whose the address is for good.
    pub fn owner(&self, mac: Mac) -> Option<PortId> {
        self.entries.get(&mac).filter(|entry| entry.heard.is_none()).map(|entry| entry.port)
    }

    /// A port that may have up to `limit` addresses sent from this one.
    pub fn learn(&mut self, mac: Mac, port: PortId, limit: usize, now: u64) {
        match self.entries.get_mut(&mac) {
            Some(Entry { heard: None, .. }) => return,
            Some(entry) if entry.port == port => {
                entry.heard = Some(now);
                return;
            }
            _ => {}
        }
        if self.learned(port) >= limit {
            self.sweep(now);
        }
        if self.learned(port) < limit {
            self.forget(mac);
            self.entries.insert(mac, Entry { port, heard: Some(now) });
            *self.learned.entry(port).or_default() += 1;
        }
    }

    /// Where an address is.
    pub fn find(&self, mac: Mac, now: u64) -> Option<PortId> {
        self.entries.get(&mac).filter(|entry| entry.holds(now)).map(|entry| entry.port)
    }

    /// Nothing is behind this port any more.
    pub fn remove(&mut self, port: PortId) {
        self.entries.retain(|_, entry| entry.port != port);
        self.learned.remove(&port);
    }

    fn learned(&self, port: PortId) -> usize {
        self.learned.get(&port).copied().unwrap_or(0)
    }

    fn forget(&mut self, mac: Mac) {
        if let Some(entry) = self.entries.remove(&mac) {
            self.forgotten(&entry);
        }
    }

    fn forgotten(&mut self, entry: &Entry) {
        if let Some(count) = self.learned.get_mut(&entry.port) {
            *count = count.saturating_sub(1);
        }
    }

    /// Forgets what is too old. Seldom: a port could ask for it with each packet.
    fn sweep(&mut self, now: u64) {
        if now.saturating_sub(self.swept) < SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        let old: alloc::vec::Vec<Mac> =
            self.entries.iter().filter(|(_, entry)| !entry.holds(now)).map(|(mac, _)| *mac).collect();
        for mac in old {
            self.forget(mac);
        }
    }
}
