//! The slots of the tx ring become packets.
//!
//! A packet is: a request, whose size is that of the whole packet; extra infos, if it says so; a request for each further
//! piece. Slots are looked at one by one as they come, so that a packet may come in several steps, and each is read once.

use super::Fault;
use super::queue::Piece;
use crate::net::{Checksum, Gso};
use alloc::vec::Vec;
use guest_kernel::net::wire::{ETHERNET_HEADER, Network};
use guest_kernel::net::{Mac, TxSlot};
use pv_abi::io::net::{
    NETIF_RSP_NULL, NetTxFlags, NetifExtraInfo, NetifTxRequest, NetifTxResponse, XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_TYPE_HASH, XEN_NETIF_EXTRA_TYPE_MAX, XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL, XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6, XEN_NETIF_NR_SLOTS_MIN,
};

/// Pieces in a packet: what every back end accepts, and two more, since kernels differ by what they count. Linux's back
/// end draws its line there too.
const MAX_PIECES: usize = XEN_NETIF_NR_SLOTS_MIN as usize + 2;
const PAGE_SIZE: usize = 4096;

/// What the slots of one packet said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chain {
    /// Where the data is, in order.
    pub pieces: Vec<Piece>,
    /// The ids of its slots in order; an extra info has none.
    ids: Vec<Option<u16>>,
    /// Bytes in all pieces.
    pub length: usize,
    pub checksum: Checksum,
    pub gso: Option<Gso>,
    pub kind: Kind,
}

/// What a chain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Packet,
    /// Its sizes contradict each other.
    Broken,
    /// No packet: the guest wants a group's packets from now on, or doesn't any more.
    Group(Mac, bool),
}

impl Chain {
    /// The responses that its slots take, in order.
    pub fn responses(&self, status: i16) -> impl Iterator<Item = NetifTxResponse> + '_ {
        let null = NetifTxResponse { id: 0, status: NETIF_RSP_NULL };
        self.ids.iter().map(move |id| id.map_or(null, |id| NetifTxResponse { id, status }))
    }
}

/// What the next slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Next {
    #[default]
    First,
    /// An extra info; after it more data or not.
    Extra {
        then_more: bool,
    },
    More,
}

/// Puts packets together.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    next: Next,
    chain: Option<Chain>,
    /// The size that the first slot gave.
    total: usize,
}

impl Assembler {
    /// Whether a packet is there in part.
    pub fn has_begun(&self) -> bool {
        self.chain.is_some()
    }

    /// Takes the next slot, and returns the packet that is whole with it.
    pub fn push(&mut self, slot: TxSlot) -> Result<Option<Chain>, Fault> {
        self.next = match self.next {
            Next::First => self.first(slot.as_request()),
            Next::Extra { then_more } => self.extra(slot.as_extra(), then_more)?,
            Next::More => self.more(slot.as_request())?,
        };
        if self.next != Next::First {
            return Ok(None);
        }
        self.chain.take().map(|chain| finish(chain, self.total)).transpose()
    }

    fn first(&mut self, request: NetifTxRequest) -> Next {
        let flags = NetTxFlags::from_bits_truncate(request.flags);
        self.total = usize::from(request.size);
        let checksum = if flags.contains(NetTxFlags::CSUM_BLANK) {
            Checksum::Blank
        } else if flags.contains(NetTxFlags::DATA_VALIDATED) {
            Checksum::Right
        } else {
            Checksum::Unknown
        };
        self.chain = Some(Chain {
            // Its length is what the others leave.
            pieces: [Piece { gref: request.gref, offset: request.offset, length: 0 }].into(),
            ids: [Some(request.id)].into(),
            length: self.total,
            checksum,
            gso: None,
            kind: Kind::Packet,
        });
        let then_more = flags.contains(NetTxFlags::MORE_DATA);
        if flags.contains(NetTxFlags::EXTRA_INFO) { Next::Extra { then_more } } else { after(then_more) }
    }

    fn extra(&mut self, extra: NetifExtraInfo, then_more: bool) -> Result<Next, Fault> {
        let Some(chain) = &mut self.chain else { return Ok(Next::First) };
        chain.ids.push(None);
        if chain.ids.len() > usize::from(XEN_NETIF_EXTRA_TYPE_MAX) {
            return Err(Fault::TooManySlots);
        }
        let [a, b, c] = extra.u.map(u16::to_ne_bytes);
        let mac = Mac([a[0], a[1], b[0], b[1], c[0], c[1]]);
        match extra.kind {
            XEN_NETIF_EXTRA_TYPE_GSO => chain.gso = Some(gso(extra.u[0], b[0])?),
            XEN_NETIF_EXTRA_TYPE_MCAST_ADD => chain.kind = Kind::Group(mac, true),
            XEN_NETIF_EXTRA_TYPE_MCAST_DEL => chain.kind = Kind::Group(mac, false),
            // A hint for which nobody asked.
            XEN_NETIF_EXTRA_TYPE_HASH => {}
            _ => return Err(Fault::BadExtra),
        }
        let another = extra.flags & XEN_NETIF_EXTRA_FLAG_MORE != 0;
        Ok(if another { Next::Extra { then_more } } else { after(then_more) })
    }

    fn more(&mut self, request: NetifTxRequest) -> Result<Next, Fault> {
        let Some(chain) = &mut self.chain else { return Ok(Next::First) };
        if chain.pieces.len() == MAX_PIECES {
            return Err(Fault::TooManySlots);
        }
        let length = usize::from(request.size);
        chain.pieces.push(Piece { gref: request.gref, offset: request.offset, length });
        chain.ids.push(Some(request.id));
        Ok(after(NetTxFlags::from_bits_truncate(request.flags).contains(NetTxFlags::MORE_DATA)))
    }
}

fn after(then_more: bool) -> Next {
    if then_more { Next::More } else { Next::First }
}

fn gso(size: u16, kind: u8) -> Result<Gso, Fault> {
    let network = match kind {
        XEN_NETIF_GSO_TYPE_TCPV4 => Network::Ipv4,
        XEN_NETIF_GSO_TYPE_TCPV6 => Network::Ipv6,
        _ => return Err(Fault::BadGso),
    };
    if size == 0 { Err(Fault::BadGso) } else { Ok(Gso { network, size }) }
}

/// Checks what can be told with all slots at hand.
fn finish(mut chain: Chain, total: usize) -> Result<Chain, Fault> {
    if matches!(chain.kind, Kind::Group(..)) {
        // Its request is a dummy.
        chain.pieces.clear();
        return Ok(chain);
    }
    let others: usize = chain.pieces.iter().map(|piece| piece.length).sum();
    match (total.checked_sub(others), chain.pieces.first_mut()) {
        (Some(rest), Some(first)) if total >= ETHERNET_HEADER => first.length = rest,
        // Old Linux frontends get the sum wrong when it exceeds 16 bits. It costs them the packet.
        _ => {
            chain.kind = Kind::Broken;
            chain.pieces.clear();
            return Ok(chain);
        }
    }
    if chain.pieces.iter().any(|piece| usize::from(piece.offset) + piece.length > PAGE_SIZE) {
        return Err(Fault::BeyondPage);
    }
    if chain.gso.is_some() {
        chain.checksum = Checksum::Blank;
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(id: u16, offset: u16, size: u16, flags: NetTxFlags) -> TxSlot {
        TxSlot::request(NetifTxRequest { gref: u32::from(id) + 100, offset, flags: flags.bits(), id, size })
    }

    fn extra(kind: u8, flags: u8, u: [u16; 3]) -> TxSlot {
        TxSlot::extra(NetifExtraInfo { kind, flags, u })
    }

    fn one(slots: &[TxSlot]) -> Result<Option<Chain>, Fault> {
        let mut assembler = Assembler::default();
        let (last, before) = slots.split_last().unwrap();
        for slot in before {
            assert_eq!(assembler.push(*slot)?, None);
            assert!(assembler.has_begun());
        }
        assembler.push(*last)
    }

    const NONE: NetTxFlags = NetTxFlags::empty();

    #[test]
    fn a_packet_of_one_slot() {
        let chain = one(&[request(7, 10, 60, NetTxFlags::CSUM_BLANK)]).unwrap().unwrap();
        assert_eq!(chain.pieces, [Piece { gref: 107, offset: 10, length: 60 }]);
        assert_eq!((chain.length, chain.checksum, chain.gso), (60, Checksum::Blank, None));
        assert_eq!(chain.responses(0).collect::<Vec<_>>(), [NetifTxResponse { id: 7, status: 0 }]);
    }

    #[test]
    fn a_large_packet_of_many_slots() {
        let slots = [
            request(1, 0, 5000, NetTxFlags::MORE_DATA | NetTxFlags::EXTRA_INFO | NetTxFlags::CSUM_BLANK),
            extra(XEN_NETIF_EXTRA_TYPE_HASH, XEN_NETIF_EXTRA_FLAG_MORE, [0; 3]),
            extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, [1448, 1, 0]),
            request(2, 96, 4000, NetTxFlags::MORE_DATA),
            request(3, 0, 900, NONE),
        ];
        let chain = one(&slots).unwrap().unwrap();
        assert_eq!(chain.pieces.iter().map(|piece| piece.length).collect::<Vec<_>>(), [100, 4000, 900]);
        assert_eq!(chain.gso, Some(Gso { network: Network::Ipv4, size: 1448 }));
        let responses: Vec<_> = chain.responses(0).map(|response| (response.id, response.status)).collect();
        assert_eq!(responses, [(1, 0), (0, 1), (0, 1), (2, 0), (3, 0)]);
    }

    #[test]
    fn a_guest_asks_for_a_group() {
        let mac = Mac([0x33, 0x33, 1, 2, 3, 4]);
        let u = [[0x33, 0x33], [1, 2], [3, 4]].map(u16::from_ne_bytes);
        for (kind, wants) in [(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, true), (XEN_NETIF_EXTRA_TYPE_MCAST_DEL, false)] {
            let chain = one(&[request(1, 0, 0, NetTxFlags::EXTRA_INFO), extra(kind, 0, u)]).unwrap().unwrap();
            assert_eq!(chain.kind, Kind::Group(mac, wants));
            assert!(chain.pieces.is_empty());
            assert_eq!(chain.responses(0).count(), 2);
        }
    }

    #[test]
    fn what_an_honest_frontend_never_writes() {
        let more = NetTxFlags::MORE_DATA;
        let with_extra = |slot| [request(1, 0, 60, NetTxFlags::EXTRA_INFO), slot];
        assert_eq!(one(&[request(1, 4090, 60, NONE)]), Err(Fault::BeyondPage));
        assert_eq!(one(&[request(1, 0, 60, more), request(2, 4095, 2, NONE)]), Err(Fault::BeyondPage));
        assert_eq!(one(&with_extra(extra(0, 0, [0; 3]))), Err(Fault::BadExtra));
        assert_eq!(one(&with_extra(extra(5, 0, [0; 3]))), Err(Fault::BadExtra));
        assert_eq!(one(&with_extra(extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, [0, 1, 0]))), Err(Fault::BadGso));
        assert_eq!(one(&with_extra(extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, [1000, 3, 0]))), Err(Fault::BadGso));
        let endless = [extra(XEN_NETIF_EXTRA_TYPE_HASH, XEN_NETIF_EXTRA_FLAG_MORE, [0; 3]); 5];
        assert_eq!(one(&[&with_extra(endless[0]), &endless[..]].concat()), Err(Fault::TooManySlots));
        let pieces = |count: u16| {
            (0..count)
                .map(|id| request(id, 0, 1000 * u16::from(id == 0), if id + 1 == count { NONE } else { more }))
                .collect::<Vec<_>>()
        };
        assert_eq!(one(&pieces(20)).unwrap().unwrap().pieces.len(), 20);
        assert_eq!(one(&pieces(21)), Err(Fault::TooManySlots));
    }

    #[test]
    fn sizes_that_contradict_each_other_cost_the_packet() {
        let more = NetTxFlags::MORE_DATA;
        for slots in [&[request(1, 0, 13, NONE)][..], &[request(1, 0, 60, more), request(2, 0, 61, NONE)]] {
            let chain = one(slots).unwrap().unwrap();
            assert_eq!(chain.kind, Kind::Broken);
            assert_eq!(chain.responses(-1).count(), slots.len());
        }
    }

    proptest! {
        /// Whatever slots come: each is answered once, in order, and no piece goes beyond its page or the packet.
        #[test]
        fn nothing_beyond_pages(slots in proptest::collection::vec((0u16..16, 0u16..5000, 0u16..6000, 0u8..6, 0u8..2), 1..200)) {
            let (mut assembler, mut open) = (Assembler::default(), 0);
            for (flags, offset, size, kind, more) in slots {
                let slot = match assembler.next {
                    Next::Extra { .. } => extra(kind, more, [size, 1, 0]),
                    _ => request(offset, offset, size, NetTxFlags::from_bits_truncate(flags)),
                };
                open += 1;
                match assembler.push(slot) {
                    Err(_) => break,
                    Ok(None) => prop_assert!(assembler.has_begun()),
                    Ok(Some(chain)) => {
                        prop_assert_eq!(chain.responses(0).count(), open);
                        open = 0;
                        let sum: usize = chain.pieces.iter().map(|piece| piece.length).sum();
                        prop_assert!(chain.pieces.is_empty() || sum == chain.length);
                        prop_assert!(chain.pieces.iter().all(|piece| usize::from(piece.offset) + piece.length <= 4096));
                    }
                }
            }
        }
    }
}
