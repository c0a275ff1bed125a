//! Packets become slots of the rx ring.
//!
//! A packet takes a slot for each page of data, and one after the first for an extra info. Slots are used in the order of
//! the requests in them, because frontends look a response's request up by its place.

use super::queue::Piece;
use crate::net::{Checksum, Packet};
use guest_kernel::net::RxSlot;
use guest_kernel::net::wire::Network;
use pv_abi::io::net::{
    NETIF_RSP_ERROR, NetRxFlags, NetifExtraInfo, NetifGso, NetifRxRequest, NetifRxResponse, XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6,
};

const PAGE_SIZE: usize = 4096;

/// How many slots a packet takes.
pub(super) fn slots(packet: &Packet) -> usize {
    packet.data.len().div_ceil(PAGE_SIZE) + usize::from(packet.gso.is_some())
}

/// A packet that goes into the pages of `requests`, of which there are as many as it takes [`slots`].
pub(super) struct Delivery<'a> {
    packet: &'a Packet,
    requests: &'a [NetifRxRequest],
}

impl<'a> Delivery<'a> {
    pub fn new(packet: &'a Packet, requests: &'a [NetifRxRequest]) -> Delivery<'a> {
        Delivery { packet, requests }
    }

    /// The request that holds an extra info doesn't hold data.
    fn data_requests(&self) -> impl Iterator<Item = &'a NetifRxRequest> + use<'a> {
        let extra = self.packet.gso.is_some();
        self.requests.iter().enumerate().filter(move |(index, _)| !(extra && *index == 1)).map(|(_, request)| request)
    }

    /// Where each page of data goes.
    pub fn pieces(&self) -> impl Iterator<Item = (Piece, &'a [u8])> + use<'a> {
        let place = |(request, data): (&NetifRxRequest, &'a [u8])| {
            (Piece { gref: request.gref, offset: 0, length: data.len() }, data)
        };
        self.data_requests().zip(self.packet.data.chunks(PAGE_SIZE)).map(place)
    }

    /// The slots. `copied` says of each piece, in order, whether its data is there.
    pub fn slots(&self, copied: impl Iterator<Item = bool>) -> impl Iterator<Item = RxSlot> {
        let pages = self.packet.data.len().div_ceil(PAGE_SIZE);
        let pieces = self.data_requests().zip(self.packet.data.chunks(PAGE_SIZE)).zip(copied);
        pieces.enumerate().flat_map(move |(index, ((request, data), copied))| {
            let mut flags = if index == 0 { self.first_flags() } else { NetRxFlags::empty() };
            flags.set(NetRxFlags::MORE_DATA, index + 1 < pages);
            let length = i16::try_from(data.len()).unwrap_or(NETIF_RSP_ERROR);
            let status = if copied { length } else { NETIF_RSP_ERROR };
            let response = NetifRxResponse { id: request.id, offset: 0, flags: flags.bits(), status };
            let extra = if index == 0 { self.extra() } else { None };
            [Some(RxSlot::response(response)), extra].into_iter().flatten()
        })
    }

    fn first_flags(&self) -> NetRxFlags {
        let mut flags = match self.packet.checksum {
            Checksum::Unknown => NetRxFlags::empty(),
            Checksum::Right => NetRxFlags::DATA_VALIDATED,
            Checksum::Blank => NetRxFlags::DATA_VALIDATED | NetRxFlags::CSUM_BLANK,
        };
        flags.set(NetRxFlags::EXTRA_INFO, self.packet.gso.is_some());
        flags
    }

    fn extra(&self) -> Option<RxSlot> {
        let gso = self.packet.gso?;
        let kind = match gso.network {
            Network::Ipv4 => XEN_NETIF_GSO_TYPE_TCPV4,
            Network::Ipv6 => XEN_NETIF_GSO_TYPE_TCPV6,
        };
        let u = zerocopy::transmute!(NetifGso { size: gso.size, kind, _pad: 0, features: 0 });
        Some(RxSlot::extra(NetifExtraInfo { kind: XEN_NETIF_EXTRA_TYPE_GSO, flags: 0, u }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Gso;
    use std::vec;
    use std::vec::Vec;

    fn requests(count: u16) -> Vec<NetifRxRequest> {
        (0..count).map(|id| NetifRxRequest { id, _pad: 0, gref: u32::from(id) + 10 }).collect()
    }

    #[test]
    fn a_large_packet_takes_pages_and_an_extra_slot() {
        let packet = Packet {
            data: (0..9000u32).map(|at| at.to_le_bytes()[0]).collect(),
            checksum: Checksum::Blank,
            gso: Some(Gso { network: Network::Ipv6, size: 1400 }),
        };
        assert_eq!(slots(&packet), 4);
        let requests = requests(4);
        let delivery = Delivery::new(&packet, &requests);
        let pieces: Vec<_> = delivery.pieces().collect();
        assert_eq!(
            pieces.iter().map(|(piece, data)| (piece.gref, data.len())).collect::<Vec<_>>(),
            [(10, 4096), (12, 4096), (13, 808)]
        );
        assert_eq!(pieces[2].1, &packet.data[8192..]);
        let got: Vec<_> = delivery.slots([true, true, false].into_iter()).collect();
        assert_eq!(got.len(), 4);
        let first = got[0].as_response();
        let flags = NetRxFlags::from_bits_retain(first.flags);
        assert_eq!(flags, NetRxFlags::all() - NetRxFlags::GSO_PREFIX);
        assert_eq!((first.id, first.status), (0, 4096));
        let extra = got[1].as_extra();
        assert_eq!((extra.kind, extra.flags, extra.u), (XEN_NETIF_EXTRA_TYPE_GSO, 0, [1400, 2, 0]));
        assert_eq!(got[2].as_response(), NetifRxResponse { id: 2, offset: 0, flags: 4, status: 4096 });
        assert_eq!(got[3].as_response(), NetifRxResponse { id: 3, offset: 0, flags: 0, status: NETIF_RSP_ERROR });
    }

    #[test]
    fn a_small_packet_says_what_is_known_of_its_checksum() {
        let requests = requests(1);
        for (checksum, flags) in [(Checksum::Unknown, 0), (Checksum::Right, 1), (Checksum::Blank, 3)] {
            let packet = Packet { data: vec![1; 60], checksum, gso: None };
            let got: Vec<_> = Delivery::new(&packet, &requests).slots([true].into_iter()).collect();
            assert_eq!(got.len(), 1);
            assert_eq!(got[0].as_response(), NetifRxResponse { id: 0, offset: 0, flags, status: 60 });
        }
    }
}
