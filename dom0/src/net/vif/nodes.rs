//! What a device says in XenStore, and what its frontend does. Header: `io/netif.h`.

use crate::net::Abilities;
use crate::nodes::{Nodes, Unclear};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_kernel::store::Bus;

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

impl Details {
    /// All that a frontend wrote down.
    ///
    /// # Errors
    /// What is missing or makes no sense.
    pub fn read(nodes: &mut Nodes<'_, impl Bus>) -> Result<Details, Unclear> {
        // Pages can't be given away; packets are copied.
        if !nodes.flag("request-rx-copy")? {
            return Err(Unclear("request-rx-copy".into()));
        }
        let count = nodes.number_or("multi-queue-num-queues", 1, 1..=MAX_QUEUES)?;
        let mut queues = Vec::new();
        for index in 0..count {
            let place = if count == 1 { String::new() } else { format!("queue-{index}/") };
            queues.push(QueueDetails::read(nodes, &place)?);
        }
        let abilities = Abilities {
            scattered: nodes.flag("feature-sg")?,
            blank_ipv4: !nodes.flag("feature-no-csum-offload")?,
            blank_ipv6: nodes.flag("feature-ipv6-csum-offload")?,
            gso_ipv4: nodes.flag("feature-gso-tcpv4")?,
            gso_ipv6: nodes.flag("feature-gso-tcpv6")?,
        };
        Ok(Details {
            queues,
            abilities,
            tells_of_requests: nodes.flag("feature-rx-notify")?,
            chooses_groups: nodes.flag("request-multicast-control")?,
        })
    }
}

impl QueueDetails {
    fn read(nodes: &mut Nodes<'_, impl Bus>, place: &str) -> Result<QueueDetails, Unclear> {
        let tx_ring = nodes.parsed(&format!("{place}tx-ring-ref"))?;
        let rx_ring = nodes.parsed(&format!("{place}rx-ring-ref"))?;
        let (tx_port, rx_port) = match nodes.parsed(&format!("{place}event-channel-tx")) {
            Ok(tx) => (tx, Some(nodes.parsed(&format!("{place}event-channel-rx"))?)),
            Err(_) => (nodes.parsed(&format!("{place}event-channel"))?, None),
        };
        Ok(QueueDetails { tx_ring, rx_ring, tx_port, rx_port })
    }
}
