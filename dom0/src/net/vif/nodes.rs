//! What a device says in XenStore, and what its frontend does. Header: `io/netif.h`.

use super::Refusal;
use crate::net::Abilities;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use guest_kernel::store::{Bus, Tx};

/// Queues that a frontend may have.
const MAX_QUEUES: u32 = 4;

/// What the back end offers. A frontend that leaves all of it out gets whole packets with whole checksums.
pub(super) const OFFER: [(&str, &str); 10] = [
    ("feature-rx-copy", "1"),
    ("feature-rx-flip", "0"),
    ("feature-sg", "1"),
    ("feature-gso-tcpv4", "1"),
    ("feature-gso-tcpv6", "1"),
    ("feature-ipv6-csum-offload", "1"),
    ("feature-split-event-channels", "1"),
    ("feature-multicast-control", "1"),
    ("feature-dynamic-multicast-control", "1"),
    ("multi-queue-max-queues", "4"),
];

/// What a frontend wrote down to be connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Details {
    pub queues: Vec<QueueDetails>,
    pub abilities: Abilities,
    /// It sends an event when it has posted requests for which packets wait.
    pub tells_of_requests: bool,
    /// It wants packets for groups only if it asked for them.
    pub chooses_groups: bool,
}

/// Where the rings of a queue are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct QueueDetails {
    pub tx_ring: u32,
    pub rx_ring: u32,
    pub tx_port: u32,
    /// `None`: the same.
    pub rx_port: Option<u32>,
}

/// A directory's nodes.
pub(super) struct Nodes<'a, B> {
    pub directory: &'a str,
    pub bus: &'a mut B,
}

impl<B: Bus> Nodes<'_, B> {
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.bus.read_text(Tx::NONE, &format!("{}/{name}", self.directory)).ok()
    }

    pub fn number(&mut self, name: &str) -> Result<u32, Refusal> {
        let number = self.text(name).and_then(|text| text.parse().ok());
        number.ok_or_else(|| Refusal::Node(name.into()))
    }

    /// A node that may be left out, and then means `none`.
    fn number_or(&mut self, name: &str, none: u32, range: RangeInclusive<u32>) -> Result<u32, Refusal> {
        if self.text(name).is_none() {
            return Ok(none);
        }
        self.number(name).ok().filter(|number| range.contains(number)).ok_or_else(|| Refusal::Node(name.into()))
    }

    /// A node that is 0, 1, or left out.
    pub fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        Ok(self.number_or(name, 0, 0..=1)? == 1)
    }

    /// All that a frontend wrote down.
    pub fn details(&mut self) -> Result<Details, Refusal> {
        // Pages can't be given away; packets are copied.
        if !self.flag("request-rx-copy")? {
            return Err(Refusal::Node("request-rx-copy".into()));
        }
        let count = self.number_or("multi-queue-num-queues", 1, 1..=MAX_QUEUES)?;
        let mut queues = Vec::new();
        for index in 0..count {
            let place = if count == 1 { String::new() } else { format!("queue-{index}/") };
            queues.push(self.queue(&place)?);
        }
        let abilities = Abilities {
            scattered: self.flag("feature-sg")?,
            blank_ipv4: !self.flag("feature-no-csum-offload")?,
            blank_ipv6: self.flag("feature-ipv6-csum-offload")?,
            gso_ipv4: self.flag("feature-gso-tcpv4")?,
            gso_ipv6: self.flag("feature-gso-tcpv6")?,
        };
        Ok(Details {
            queues,
            abilities,
            tells_of_requests: self.flag("feature-rx-notify")?,
            chooses_groups: self.flag("request-multicast-control")?,
        })
    }

    fn queue(&mut self, place: &str) -> Result<QueueDetails, Refusal> {
        let tx_ring = self.number(&format!("{place}tx-ring-ref"))?;
        let rx_ring = self.number(&format!("{place}rx-ring-ref"))?;
        let (tx_port, rx_port) = match self.number(&format!("{place}event-channel-tx")) {
            Ok(tx) => (tx, Some(self.number(&format!("{place}event-channel-rx"))?)),
            Err(_) => (self.number(&format!("{place}event-channel"))?, None),
        };
        Ok(QueueDetails { tx_ring, rx_ring, tx_port, rx_port })
    }
}
