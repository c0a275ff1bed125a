//! A learning bridge (IEEE 802.1Q, 8): where a frame from one port goes. It judges; the caller moves the packets.
//!
//! * A frame never goes back to where it came from.
//! * A port with an address of its own sends from that address only, and nobody else does.
//! * A port with a rate is held back, not dropped: its packets stay in its ring until [`Bridge::ready`].

mod rate;
mod table;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use guest_kernel::net::Mac;
use rate::Bucket;
use table::Table;

pub use rate::Rate;
pub use table::AGEING;

/// Addresses that a port may be heard from that has none of its own.
pub const LEARNED_BY_GUEST: usize = 64;
/// Addresses that may be behind the machine's own device.
pub const LEARNED_BY_UPLINK: usize = 4096;

/// A place where packets come from and go to. Its number is never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(u64);

/// How a port is to be treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The only address it may send from. `None`: any that nobody owns.
    pub mac: Option<Mac>,
    /// How much it may send. `None`: any amount.
    pub rate: Option<Rate>,
    /// How many addresses may be learned from it.
    pub learned: usize,
}

/// What passed through a port, as its guest sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames that came from it and were let in.
    pub sent: Traffic,
    /// Frames that it was given.
    pub received: Traffic,
    /// Frames that came from it and went nowhere.
    pub refused: u64,
    /// Frames to it that were lost.
    pub lost: u64,
}

/// Frames, and the bytes in them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Large ones that are to be cut count once.
    pub packets: u64,
    /// From the link-layer header on.
    pub bytes: u64,
}

impl Traffic {
    fn count(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// To one port.
    One(PortId),
    /// To all ports but the sender: it is for a group, or nobody knows for whom.
    AllOthers,
    /// Nobody has been heard from there: to the [`Bridge::open_others`].
    Unknown,
    /// It is for somebody behind the sender's own port.
    Stays,
}

/// Why a frame goes nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is no such port.
    NoPort,
    /// It has no header.
    TooShort,
    /// Its source can't be a source.
    BadSource,
    /// Its source is another's.
    Spoofed,
    /// It is for the bridge itself, which takes part in no protocol.
    Reserved,
}

#[derive(Debug)]
struct Port {
    settings: Settings,
    bucket: Option<Bucket>,
    counters: Counters,
}

/// The bridge.
#[derive(Debug, Default)]
pub struct Bridge {
    ports: BTreeMap<PortId, Port>,
    table: Table,
    next: u64,
}

impl Bridge {
    /// Adds a port. `None` if another one has its address.
    pub fn add(&mut self, settings: Settings, now: u64) -> Option<PortId> {
        let id = PortId(self.next);
        if settings.mac.is_some_and(|mac| !self.table.give(mac, id)) {
            return None;
        }
        self.next += 1;
        let bucket = settings.rate.map(|rate| Bucket::new(rate, now));
        self.ports.insert(id, Port { settings, bucket, counters: Counters::default() });
        Some(id)
    }

    /// Removes a port, and forgets what is behind it.
    pub fn remove(&mut self, id: PortId) {
        self.ports.remove(&id);
        self.table.remove(id);
    }

    /// Changes how much a port may send.
    pub fn set_rate(&mut self, id: PortId, rate: Option<Rate>, now: u64) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.settings.rate = rate;
            port.bucket = rate.map(|rate| Bucket::new(rate, now));
        }
    }

    /// What passed through a port.
    pub fn counters(&self, id: PortId) -> Option<Counters> {
        self.ports.get(&id).map(|port| port.counters)
    }

    /// Whether a port may send a packet now.
    ///
    /// # Errors
    /// When it may, in nanoseconds.
    pub fn ready(&mut self, id: PortId, now: u64) -> Result<(), u64> {
        match self.ports.get_mut(&id).and_then(|port| port.bucket.as_mut()) {
            Some(bucket) => bucket.ready(now),
            None => Ok(()),
        }
    }

    /// A port sends so many bytes.
    pub fn charge(&mut self, id: PortId, bytes: usize) {
        if let Some(bucket) = self.ports.get_mut(&id).and_then(|port| port.bucket.as_mut()) {
            bucket.take(bytes);
        }
    }

    /// Takes a frame from a port, and says where it goes.
    ///
    /// # Errors
    /// If it goes nowhere because it may not.
    pub fn forward(&mut self, from: PortId, frame: &[u8], now: u64) -> Result<Way, Refusal> {
        let port = self.ports.get_mut(&from).ok_or(Refusal::NoPort)?;
        let admitted = admit(&self.table, from, port.settings, frame);
        let (destination, source) = match admitted {
            Ok(addresses) => addresses,
            Err(refusal) => {
                port.counters.refused += 1;
                return Err(refusal);
            }
        };
        port.counters.sent.count(frame.len());
        self.table.learn(source, from, port.settings.learned, now);
        if destination.is_group() {
            return Ok(Way::AllOthers);
        }
        Ok(match self.table.find(destination, now) {
            Some(to) if to == from => Way::Stays,
            Some(to) => Way::One(to),
            None => Way::Unknown,
        })
    }

    /// All ports but one.
    pub fn others(&self, from: PortId) -> impl Iterator<Item = PortId> + '_ {
        self.ports.keys().copied().filter(move |id| *id != from)
    }

    /// All ports but one that may have any address. One that has an address of its own is never where an unknown one is, and
    /// what others say is none of its business.
    pub fn open_others(&self, from: PortId) -> impl Iterator<Item = PortId> + '_ {
        self.others(from).filter(|id| self.ports[id].settings.mac.is_none())
    }

    /// A port was given a frame.
    pub fn count_received(&mut self, id: PortId, bytes: usize) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.counters.received.count(bytes);
        }
    }

    /// A frame to a port was lost.
    pub fn count_lost(&mut self, id: PortId) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.counters.lost += 1;
        }
    }

    /// A frame from a port was no frame.
    pub fn count_refused(&mut self, id: PortId) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.counters.refused += 1;
        }
    }
}

/// The addresses of a frame that a port may send: destination, source.
fn admit(table: &Table, from: PortId, settings: Settings, frame: &[u8]) -> Result<(Mac, Mac), Refusal> {
    let destination = Mac::read(frame, 0).ok_or(Refusal::TooShort)?;
    let source = Mac::read(frame, 6).filter(|_| frame.len() >= 14).ok_or(Refusal::TooShort)?;
    if !source.is_station() {
        return Err(Refusal::BadSource);
    }
    let owned = table.owner(source);
    if settings.mac.is_some_and(|own| own != source) || owned.is_some_and(|owner| owner != from) {
        return Err(Refusal::Spoofed);
    }
    if destination.is_reserved() {
        return Err(Refusal::Reserved);
    }
    Ok((destination, source))
}
