//! The rings of a network device, as its frontend uses them.
//!
//! Data goes through pages that stay granted while the device lives, those of the tx ring read-only. The back end, which is
//! not trusted, sees nothing else of this domain's memory; what it wrote is copied before it is looked at. What no honest
//! back end writes is a [`Fault`], after which the device must not be used.

use super::slot::{RxSlot, TxSlot};
use crate::ring::{Error, Front, SharedMemory};
use alloc::vec::Vec;
use core::fmt;
use pv_abi::io::net::{
    NETIF_RSP_NULL, NetRxFlags, NetTxFlags, NetifExtraInfo, NetifRxRequest, NetifTxRequest, NetifTxResponse,
    XEN_NETIF_EXTRA_FLAG_MORE, XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_TYPE_MAX, XEN_NETIF_GSO_TYPE_TCPV4,
};

/// Pages for packets to come: a few of the largest.
pub const RX_PAGES: usize = 128;
/// Pages for packets to send.
pub const TX_PAGES: usize = 64;
/// The longest packet that is received.
const MAX_PACKET: usize = 0x1_0000;
const PAGE_SIZE: usize = 4096;

/// Pages granted to the back end: first [`RX_PAGES`] that it may write to, then [`TX_PAGES`] that it may read.
pub trait Pages {
    /// The grant reference of a page.
    fn gref(&self, page: usize) -> u32;

    /// Has the first bytes of a page written that the back end may only read.
    fn write<T>(&mut self, page: usize, length: usize, write: impl FnOnce(&mut [u8]) -> T) -> T;

    /// Copies from a page. The bytes lie within it.
    fn read(&self, page: usize, offset: usize, into: &mut [u8]);
}

/// What no honest back end does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The ring itself is wrong.
    Ring(Error),
    /// A response to a request that wasn't made.
    UnknownRequest,
    /// Data that goes beyond its page.
    BeyondPage,
    /// An extra info of an unknown kind.
    BadExtra,
    /// A packet longer than any.
    TooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Ring(error) => error.fmt(f),
            Fault::UnknownRequest => f.write_str("a response to no request"),
            Fault::BeyondPage => f.write_str("data beyond the end of a page"),
            Fault::BadExtra => f.write_str("an extra info of an unknown kind"),
            Fault::TooLong => f.write_str("a packet longer than any"),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Ring(error)
    }
}

/// A packet that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The frame.
    pub data: Vec<u8>,
    /// Nobody needs to look at its checksum: it is right, or the data never left the machine's memory.
    pub trusted: bool,
}

/// A pair of rings.
pub struct Rings<M, P> {
    tx: Front<M, TxSlot, NetifTxResponse>,
    rx: Front<M, NetifRxRequest, RxSlot>,
    pages: P,
    /// Tx pages that hold nothing, and which hold something.
    free: Vec<usize>,
    busy: [bool; TX_PAGES],
    /// The page posted in each slot of the rx ring: an extra info overwrites the id of its request.
    posted: Vec<usize>,
    /// Index of the next rx response.
    rx_next: u32,
    partial: Partial,
}

/// A packet that isn't whole yet.
#[derive(Default)]
struct Partial {
    data: Vec<u8>,
    trusted: bool,
    /// A slot of it failed: it will not be given to anybody.
    failed: bool,
    next: Next,
}

#[derive(Clone, Copy, Default)]
enum Next {
    #[default]
    First,
    Extra {
        then_more: bool,
    },
    More,
}

impl<M: SharedMemory, P: Pages> Rings<M, P> {
    /// Rings in memory that the back end has not got yet, with all rx pages posted.
    ///
    /// # Errors
    /// [`Error::TooSmall`].
    pub fn new(tx: M, rx: M, pages: P) -> Result<Rings<M, P>, Error> {
        let (tx, rx) = (Front::new(tx)?, Front::new(rx)?);
        let posted = [0].repeat(rx.slots() as usize);
        let free = (0..TX_PAGES.min(tx.slots() as usize)).collect();
        let (busy, partial) = ([false; TX_PAGES], Partial::default());
        let mut rings = Rings { tx, rx, pages, free, busy, posted, rx_next: 0, partial };
        (0..RX_PAGES).for_each(|page| rings.post(page));
        Ok(rings)
    }

    /// Shows the back end the rx pages that are posted. Whether it wants to be told.
    #[must_use = "the back end sleeps until it is told"]
    pub fn publish_rx(&mut self) -> bool {
        self.rx.publish()
    }

    /// Whether a packet can be sent now.
    ///
    /// # Errors
    /// What the back end did wrong.
    pub fn can_send(&mut self) -> Result<bool, Fault> {
        while let Some(response) = self.tx.take()? {
            if response.status == NETIF_RSP_NULL {
                continue;
            }
            let page = usize::from(response.id);
            if !self.busy.get_mut(page).is_some_and(core::mem::take) {
                return Err(Fault::UnknownRequest);
            }
            self.free.push(page);
        }
        Ok(!self.free.is_empty())
    }

    /// Sends a packet of `length` bytes that `write` writes, and says whether its checksum is blank; nothing is sent if no
    /// page is free. Whether the back end wants to be told.
    ///
    /// # Panics
    /// If it is longer than a page.
    #[must_use = "the back end sleeps until it is told"]
    pub fn send(&mut self, length: usize, write: impl FnOnce(&mut [u8]) -> bool) -> bool {
        let (Ok(size), true) = (u16::try_from(length), length <= PAGE_SIZE) else {
            panic!("a packet of {length} bytes")
        };
        let Some(page) = self.free.pop() else { return false };
        let blank = self.pages.write(RX_PAGES + page, length, write);
        let flags = if blank { NetTxFlags::CSUM_BLANK | NetTxFlags::DATA_VALIDATED } else { NetTxFlags::empty() };
        let gref = self.pages.gref(RX_PAGES + page);
        let id = u16::try_from(page).unwrap_or(0);
        self.busy[page] = true;
        // There are no more pages than slots.
        self.tx.push(&TxSlot::request(NetifTxRequest { gref, offset: 0, flags: flags.bits(), id, size }));
        self.tx.publish()
    }

    /// Sends a TCP packet over IPv4 that may be larger than a page, with a blank checksum, to be cut into segments of
    /// `segment` bytes of data by whom that concerns; whether there were pages and slots for it. The back end must take
    /// such packets (`feature-sg`, `feature-gso-tcpv4`), and sees it when it is [published](Self::publish_tx).
    ///
    /// # Panics
    /// If it is longer than any packet.
    pub fn send_large(&mut self, packet: &[u8], segment: u16) -> bool {
        let Ok(size) = u16::try_from(packet.len()) else { panic!("a packet of {} bytes", packet.len()) };
        let count = packet.len().div_ceil(PAGE_SIZE);
        if self.free.len() < count || (self.tx.free() as usize) <= count {
            return false;
        }
        let large = NetTxFlags::CSUM_BLANK | NetTxFlags::DATA_VALIDATED | NetTxFlags::EXTRA_INFO;
        for (index, piece) in packet.chunks(PAGE_SIZE).enumerate() {
            let Some(page) = self.free.pop() else { break };
            self.busy[page] = true;
            self.pages.write(RX_PAGES + page, piece.len(), |bytes| bytes.copy_from_slice(piece));
            let mut flags = if index == 0 { large } else { NetTxFlags::empty() };
            flags.set(NetTxFlags::MORE_DATA, index + 1 < count);
            let (gref, id) = (self.pages.gref(RX_PAGES + page), u16::try_from(page).unwrap_or(0));
            // The first says how long all of it is.
            let size = if index == 0 { size } else { u16::try_from(piece.len()).unwrap_or(0) };
            self.tx.push(&TxSlot::request(NetifTxRequest { gref, offset: 0, flags: flags.bits(), id, size }));
            if index == 0 {
                let [kind, gso] = [XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_GSO_TYPE_TCPV4];
                let extra = NetifExtraInfo { kind, flags: 0, u: [segment, u16::from(gso), 0] };
                self.tx.push(&TxSlot::extra(extra));
            }
        }
        true
    }

    /// Shows the back end packets that are large. Whether it wants to be told.
    #[must_use = "the back end sleeps until it is told"]
    pub fn publish_tx(&mut self) -> bool {
        self.tx.publish()
    }

    /// The next packet that came.
    ///
    /// # Errors
    /// What the back end did wrong.
    pub fn receive(&mut self) -> Result<Option<Received>, Fault> {
        while let Some(slot) = self.rx.take()? {
            let page = self.posted[self.rx_next as usize % self.posted.len()];
            self.rx_next = self.rx_next.wrapping_add(1);
            let whole = self.slot(slot, page)?;
            self.post(page);
            if whole {
                let Partial { data, trusted, failed, .. } = core::mem::take(&mut self.partial);
                if !failed {
                    return Ok(Some(Received { data, trusted }));
                }
            }
        }
        Ok(None)
    }

    /// Asks for an event with the next packet. If it is there already, `true`: then take it instead of waiting.
    ///
    /// # Errors
    /// What the back end did wrong.
    #[must_use = "a packet that is there already causes no event"]
    pub fn arm_rx(&mut self) -> Result<bool, Fault> {
        Ok(self.rx.arm(1)?)
    }

    /// Asks for an event when packets can be sent again. As [`arm_rx`](Self::arm_rx).
    ///
    /// # Errors
    /// What the back end did wrong.
    #[must_use = "a response that is there already causes no event"]
    pub fn arm_tx(&mut self) -> Result<bool, Fault> {
        Ok(self.tx.arm(1)?)
    }

    fn post(&mut self, page: usize) {
        let id = u16::try_from(page).unwrap_or(0);
        let request = NetifRxRequest { id, _pad: 0, gref: self.pages.gref(page) };
        if let Some(index) = self.rx.push(&request) {
            let slot = index as usize % self.posted.len();
            self.posted[slot] = page;
        }
    }

    /// Takes a slot, whose request had `page`, into the packet. Whether it is whole now.
    fn slot(&mut self, slot: RxSlot, page: usize) -> Result<bool, Fault> {
        self.partial.next = match self.partial.next {
            Next::First => self.data(slot, page)?,
            Next::More => match self.data(slot, page)? {
                Next::Extra { .. } => return Err(Fault::BadExtra),
                next => next,
            },
            Next::Extra { then_more } => {
                let extra = slot.as_extra();
                // How a large packet is to be cut, or its hash: neither matters here.
                if extra.kind == 0 || extra.kind >= XEN_NETIF_EXTRA_TYPE_MAX {
                    return Err(Fault::BadExtra);
                }
                let another = extra.flags & XEN_NETIF_EXTRA_FLAG_MORE != 0;
                if another { Next::Extra { then_more } } else { after(then_more) }
            }
        };
        Ok(matches!(self.partial.next, Next::First))
    }

    fn data(&mut self, slot: RxSlot, page: usize) -> Result<Next, Fault> {
        let response = slot.as_response();
        if usize::from(response.id) != page {
            return Err(Fault::UnknownRequest);
        }
        let flags = NetRxFlags::from_bits_truncate(response.flags);
        let partial = &mut self.partial;
        if matches!(partial.next, Next::First) {
            partial.trusted = flags.intersects(NetRxFlags::DATA_VALIDATED | NetRxFlags::CSUM_BLANK);
        }
        match usize::try_from(response.status) {
            Err(_) => partial.failed = true,
            Ok(length) if usize::from(response.offset) + length > PAGE_SIZE => return Err(Fault::BeyondPage),
            Ok(length) if partial.data.len() + length > MAX_PACKET => return Err(Fault::TooLong),
            Ok(length) => {
                let start = partial.data.len();
                partial.data.resize(start + length, 0);
                self.pages.read(page, usize::from(response.offset), &mut partial.data[start..]);
            }
        }
        let then_more = flags.contains(NetRxFlags::MORE_DATA);
        Ok(if flags.contains(NetRxFlags::EXTRA_INFO) { Next::Extra { then_more } } else { after(then_more) })
    }
}

const fn after(then_more: bool) -> Next {
    if then_more { Next::More } else { Next::First }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Back;
    use proptest::prelude::*;
    use pv_abi::io::net::{NetifExtraInfo, NetifRxResponse};
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::vec;

    struct Memory(Vec<[u8; PAGE_SIZE]>);

    impl Pages for Memory {
        fn gref(&self, page: usize) -> u32 {
            u32::try_from(page).unwrap() + 8
        }

        fn write<T>(&mut self, page: usize, length: usize, write: impl FnOnce(&mut [u8]) -> T) -> T {
            assert!(page >= RX_PAGES);
            write(&mut self.0[page][..length])
        }

        fn read(&self, page: usize, offset: usize, into: &mut [u8]) {
            assert!(page < RX_PAGES);
            into.copy_from_slice(&self.0[page][offset..][..into.len()]);
        }
    }

    type Words = Arc<[AtomicU32]>;

    struct World {
        rings: Rings<Words, Memory>,
        tx: Back<Words, TxSlot, NetifTxResponse>,
        rx: Back<Words, NetifRxRequest, RxSlot>,
    }

    fn world() -> World {
        let [tx, rx] = [(); 2].map(|()| (0..1024).map(|_| AtomicU32::new(0)).collect::<Words>());
        let pages = Memory(vec![[0; PAGE_SIZE]; RX_PAGES + TX_PAGES]);
        let mut rings = Rings::new(tx.clone(), rx.clone(), pages).unwrap();
        assert!(rings.publish_rx());
        World { rings, tx: Back::attach(tx).unwrap(), rx: Back::attach(rx).unwrap() }
    }

    impl World {
        /// Answers the next rx request.
        fn answer(&mut self, make: impl FnOnce(NetifRxRequest) -> RxSlot) {
            let request = self.rx.take().unwrap().unwrap();
            self.rx.respond(&make(request));
            let _ = self.rx.publish();
        }

        fn fill(&mut self, data: &[u8], flags: NetRxFlags) {
            let request = self.rx.take().unwrap().unwrap();
            self.rings.pages.0[request.gref as usize - 8][..data.len()].copy_from_slice(data);
            let status = i16::try_from(data.len()).unwrap();
            let response = NetifRxResponse { id: request.id, offset: 0, flags: flags.bits(), status };
            self.rx.respond(&RxSlot::response(response));
            let _ = self.rx.publish();
        }
    }

    #[test]
    fn packets_over_several_pages_with_extras_come_for_ever() {
        let mut world = world();
        let (more, extra) = (NetRxFlags::MORE_DATA, NetRxFlags::EXTRA_INFO);
        for round in 0..200u8 {
            world.fill(&[round; 4096], more | extra | NetRxFlags::CSUM_BLANK);
            world.answer(|_| RxSlot::extra(NetifExtraInfo { kind: 1, flags: 0, u: [1448, 1, 0] }));
            world.fill(&[round; 4096], more);
            assert_eq!(world.rings.receive(), Ok(None), "it isn't whole yet");
            world.fill(&[round; 10], NetRxFlags::empty());
            let want = Received { data: vec![round; 8202], trusted: true };
            assert_eq!(world.rings.receive(), Ok(Some(want)));
            let _ = world.rings.publish_rx();
        }
        world.fill(&[1; 60], NetRxFlags::empty());
        assert!(!world.rings.receive().unwrap().unwrap().trusted);
    }

    #[test]
    fn a_packet_that_failed_in_part_is_lost_and_the_next_one_is_not() {
        let mut world = world();
        world.fill(&[1; 4096], NetRxFlags::MORE_DATA);
        world.answer(|request| RxSlot::response(NetifRxResponse { id: request.id, offset: 0, flags: 0, status: -1 }));
        world.fill(&[2; 60], NetRxFlags::empty());
        assert_eq!(world.rings.receive().unwrap().unwrap().data, [2; 60]);
    }

    #[test]
    fn no_more_is_sent_than_there_are_pages() {
        let mut world = world();
        let mut sent = 0;
        while world.rings.can_send().unwrap() {
            let _ = world.rings.send(60, |bytes| {
                bytes.fill(7);
                sent % 2 == 0
            });
            sent += 1;
        }
        assert_eq!(sent, TX_PAGES);
        for index in 0..TX_PAGES {
            let request = world.tx.take().unwrap().unwrap().as_request();
            assert_eq!((request.offset, request.size, request.flags), (0, 60, if index % 2 == 0 { 3 } else { 0 }));
            world.tx.respond(&NetifTxResponse { id: request.id, status: 0 });
        }
        let _ = world.tx.publish();
        assert_eq!(world.rings.can_send(), Ok(true));
        assert_eq!(world.rings.free.len(), TX_PAGES);
    }

    #[test]
    fn a_large_packet_takes_several_slots_and_an_extra_one() {
        let mut world = world();
        let packet: Vec<u8> = (0..9000u16).map(|n| n.to_le_bytes()[0]).collect();
        assert!(world.rings.send_large(&packet, 1448) && world.rings.publish_tx());
        let slots: Vec<TxSlot> = core::iter::from_fn(|| world.tx.take().unwrap()).collect();
        let extra = slots[1].as_extra();
        assert_eq!((extra.kind, extra.flags, extra.u), (XEN_NETIF_EXTRA_TYPE_GSO, 0, [1448, 1, 0]));
        let requests = [slots[0], slots[2], slots[3]].map(TxSlot::as_request);
        assert_eq!(slots.len(), 4);
        let (more, large) = (NetTxFlags::MORE_DATA, NetTxFlags::CSUM_BLANK | NetTxFlags::DATA_VALIDATED);
        let flags = [more | large | NetTxFlags::EXTRA_INFO, more, NetTxFlags::empty()].map(|flags| flags.bits());
        assert_eq!(requests.map(|request| request.flags), flags);
        assert_eq!(requests.map(|request| request.size), [9000, 4096, 808]);
        let sent = requests.iter().zip([4096, 4096, 808]);
        let sent: Vec<&[u8]> = sent.map(|(it, length)| &world.rings.pages.0[it.gref as usize - 8][..length]).collect();
        assert_eq!(sent.concat(), packet);
        (0..20).for_each(|_| _ = world.rings.send_large(&[0; 65_000], 1448));
        assert!(world.rings.can_send().unwrap(), "what doesn't fit takes no page");
    }

    #[test]
    fn a_second_response_to_one_request_is_a_fault() {
        let mut world = world();
        for _ in 0..2 {
            let _ = world.rings.send(60, |_| false);
        }
        let first = world.tx.take().unwrap().unwrap().as_request();
        world.tx.take().unwrap().unwrap();
        for _ in 0..2 {
            world.tx.respond(&NetifTxResponse { id: first.id, status: 0 });
        }
        let _ = world.tx.publish();
        assert_eq!(world.rings.can_send(), Err(Fault::UnknownRequest));
    }

    #[test]
    fn lies_about_received_data_are_faults() {
        let lie = |make: fn(NetifRxRequest) -> NetifRxResponse| {
            let mut world = world();
            world.answer(|request| RxSlot::response(make(request)));
            world.rings.receive()
        };
        assert_eq!(
            lie(|request| NetifRxResponse { id: request.id + 1, ..Default::default() }),
            Err(Fault::UnknownRequest)
        );
        assert_eq!(
            lie(|request| NetifRxResponse { id: request.id, offset: 1, flags: 0, status: 4096 }),
            Err(Fault::BeyondPage)
        );
        assert_eq!(
            lie(|request| NetifRxResponse { id: request.id, offset: 0xffff, flags: 0, status: i16::MAX }),
            Err(Fault::BeyondPage)
        );
        let mut endless = world();
        let outcome = (0..17).map(|_| {
            endless.fill(&[1; 4096], NetRxFlags::MORE_DATA);
            endless.rings.receive()
        });
        assert_eq!(outcome.last(), Some(Err(Fault::TooLong)));
    }

    proptest! {
        /// A back end may write what it likes: there are packets or a fault, and nothing else.
        #[test]
        fn random_responses(slots in proptest::collection::vec((any::<bool>(), 0u16..4200, 0u16..32, -3i16..4100), 1..300)) {
            let mut world = world();
            for (honest, offset, flags, status) in slots {
                let Ok(Some(request)) = world.rx.take() else { break };
                let id = if honest { request.id } else { offset };
                world.rx.respond(&RxSlot::response(NetifRxResponse { id, offset: if honest { 0 } else { offset }, flags, status }));
                let _ = world.rx.publish();
                match world.rings.receive() {
                    Ok(packet) => prop_assert!(packet.is_none_or(|packet| packet.data.len() <= MAX_PACKET)),
                    Err(_) => break,
                }
                let _ = world.rings.publish_rx();
            }
        }
    }
}
