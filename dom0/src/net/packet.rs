//! A packet in memory of this domain.

use super::segment::Segments;
use alloc::vec::Vec;
use guest_kernel::net::Mac;
use guest_kernel::net::checksum;
use guest_kernel::net::wire::{ETHERNET_HEADER, Headers, Network};

/// Bytes of data that a frame on a wire may carry.
pub const MTU: usize = 1500;
/// The longest frame that needn't be cut: with two VLAN tags.
pub const MAX_FRAME: usize = ETHERNET_HEADER + 8 + MTU;

/// What is known of a packet's TCP or UDP checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// Nothing: the receiver checks it.
    Unknown,
    /// It is right.
    Right,
    /// It covers only the pseudo-header so far. The data never left this machine's memory.
    Blank,
}

/// How to cut a large TCP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    /// Over which IP.
    pub network: Network,
    /// Bytes of data in each piece but the last.
    pub size: u16,
}

/// What a receiver takes without our help.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Abilities {
    /// Frames over more than one page.
    pub scattered: bool,
    /// Blank checksums over IPv4.
    pub blank_ipv4: bool,
    /// Blank checksums over IPv6.
    pub blank_ipv6: bool,
    /// Large TCP packets over IPv4.
    pub gso_ipv4: bool,
    /// Large TCP packets over IPv6.
    pub gso_ipv6: bool,
}

/// An Ethernet frame, and what is left to be done to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The frame, without its check sequence. At least [`ETHERNET_HEADER`] bytes.
    pub data: Vec<u8>,
    /// Its checksum. [`Blank`](Checksum::Blank) if it is to be cut.
    pub checksum: Checksum,
    /// It is longer than a frame may be, and is to be cut so.
    pub gso: Option<Gso>,
}

impl Packet {
    /// Memory for a frame. `None` if there is none: packets may be lost, this domain may not.
    pub fn buffer(length: usize) -> Option<Vec<u8>> {
        let mut data = Vec::new();
        data.try_reserve_exact(length).ok()?;
        data.resize(length, 0);
        Some(data)
    }

    /// A frame from a wire.
    pub fn plain(data: Vec<u8>) -> Packet {
        Packet { data, checksum: Checksum::Unknown, gso: None }
    }

    /// A second one. `None` if there is no memory.
    pub fn copied(&self) -> Option<Packet> {
        let mut data = Packet::buffer(self.data.len())?;
        data.copy_from_slice(&self.data);
        Some(Packet { data, ..*self })
    }

    /// To whom.
    pub fn destination(&self) -> Option<Mac> {
        Mac::read(&self.data, 0)
    }

    /// Gives the packet to `each`, after doing what the receiver can't: completing its checksum, or cutting it. Stops when
    /// `each` takes no more.
    pub fn fit(mut self, abilities: Abilities, mut each: impl FnMut(Packet) -> bool) {
        let cut = self.gso.filter(|gso| !abilities.takes_gso(*gso));
        if let Some(gso) = cut {
            if let Some(segments) = Segments::new(&self.data, gso) {
                let _ = segments.map(|data| Packet { data, checksum: Checksum::Right, gso: None }).all(each);
            }
            return;
        }
        if self.checksum == Checksum::Blank && !abilities.takes_blank(&self.data) {
            self.checksum = if checksum::complete(&mut self.data) { Checksum::Right } else { Checksum::Unknown };
        }
        each(self);
    }
}

impl Abilities {
    fn takes_gso(self, gso: Gso) -> bool {
        self.scattered
            && match gso.network {
                Network::Ipv4 => self.gso_ipv4 && self.blank_ipv4,
                Network::Ipv6 => self.gso_ipv6 && self.blank_ipv6,
            }
    }

    fn takes_blank(self, frame: &[u8]) -> bool {
        if self.blank_ipv4 && self.blank_ipv6 {
            return true;
        }
        Headers::find(frame).is_some_and(|headers| match headers.network {
            Network::Ipv4 => self.blank_ipv4,
            Network::Ipv6 => self.blank_ipv6,
        })
    }
}
