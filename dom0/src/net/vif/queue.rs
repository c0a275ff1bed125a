//! A pair of rings, and the data that is copied for them.

use super::Fault;
use super::receive::{Delivery, slots};
use super::transmit::{Assembler, Chain, Kind};
use crate::net::bridge::PortId;
use crate::net::{Packet, Switch};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use guest_kernel::net::{Mac, RxSlot, TxSlot};
use guest_kernel::ring::{Back, SharedMemory};
use pv_abi::io::net::{NETIF_RSP_DROPPED, NETIF_RSP_ERROR, NETIF_RSP_OKAY, NetifRxRequest, NetifTxResponse};

/// Pieces of data that are copied with one call at most, about: a packet is not divided.
const BATCH_PIECES: usize = 64;
/// Packets in a turn.
const TURN_PACKETS: usize = 64;
/// Groups that a guest may ask for, as in Linux's back end.
const MAX_GROUPS: usize = 64;

/// Data in a page that the guest granted. It lies within the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Grant reference of the page.
    pub gref: u32,
    /// Bytes into the page.
    pub offset: u16,
    /// Bytes.
    pub length: usize,
}

/// Copies to and from pages that a guest granted. The guest may take them away at any time.
pub trait GrantCopy {
    /// Copies each piece into its buffer, which is as long. Whether each was copied, in order.
    fn copy_in(&mut self, pieces: &mut [(Piece, &mut [u8])]) -> Vec<bool>;

    /// Copies each buffer to its piece. Whether each was copied, in order.
    fn copy_out(&mut self, pieces: &[(Piece, &[u8])]) -> Vec<bool>;
}

/// What is to be done after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turn {
    /// The guest waits for an event for its tx ring.
    pub notify_tx: bool,
    /// The guest waits for an event for its rx ring.
    pub notify_rx: bool,
    /// There is more to do now.
    pub more: bool,
    /// There is more to do at this time: the guest has used up its rate.
    pub later: Option<u64>,
}

/// A queue of a device: a tx ring and an rx ring.
pub struct Queue<M> {
    tx: Back<M, TxSlot, NetifTxResponse>,
    rx: Back<M, NetifRxRequest, RxSlot>,
    assembler: Assembler,
    /// Requests of the rx ring that were taken and not answered, in order. No more than the ring has slots.
    posted: Vec<NetifRxRequest>,
}

/// The groups that a guest asked for.
#[derive(Debug, Default)]
pub struct Groups {
    /// The addresses.
    pub members: BTreeSet<Mac>,
    /// They have changed.
    pub changed: bool,
}

impl Groups {
    fn set(&mut self, mac: Mac, wanted: bool) -> bool {
        if !wanted {
            self.changed |= self.members.remove(&mac);
            return true;
        }
        let room = self.members.len() < MAX_GROUPS || self.members.contains(&mac);
        if room && mac.is_group() {
            self.changed |= self.members.insert(mac);
        }
        room && mac.is_group()
    }
}

impl<M: SharedMemory> Queue<M> {
    /// The queue of a frontend that made these rings.
    ///
    /// # Errors
    /// If they are impossible already.
    pub fn attach(tx: M, rx: M) -> Result<Queue<M>, Fault> {
        let (tx, rx) = (Back::attach(tx)?, Back::attach(rx)?);
        Ok(Queue { tx, rx, assembler: Assembler::default(), posted: Vec::new() })
    }

    /// Takes packets from the tx ring to the switch, as many as a turn may have and the port's rate allows.
    ///
    /// # Errors
    /// What the guest did wrong. The queue must not be used any more.
    pub fn transmit(
        &mut self,
        switch: &mut Switch,
        port: PortId,
        groups: &mut Groups,
        pages: &mut impl GrantCopy,
        now: u64,
    ) -> Result<Turn, Fault> {
        let mut turn = Turn::default();
        let chains = self.gather(switch, port, now, &mut turn)?;
        let packets = fetch(&chains, pages);
        for (chain, packet) in chains.iter().zip(packets) {
            let status = match (chain.kind, &packet) {
                (Kind::Group(mac, wanted), _) if groups.set(mac, wanted) => NETIF_RSP_OKAY,
                (_, Fetched::Packet(_)) => NETIF_RSP_OKAY,
                (_, Fetched::NoMemory) => NETIF_RSP_DROPPED,
                (_, Fetched::Nothing) => NETIF_RSP_ERROR,
            };
            chain.responses(status).for_each(|response| self.tx.respond(&response));
            match packet {
                Fetched::Packet(packet) => switch.send(port, packet, now),
                Fetched::NoMemory | Fetched::Nothing if chain.kind == Kind::Packet => switch.refuse(port),
                Fetched::NoMemory | Fetched::Nothing => {}
            }
        }
        turn.notify_tx = self.tx.publish();
        // A queue that is held back by its rate comes back by itself.
        if !turn.more && turn.later.is_none() {
            turn.more = self.tx.arm()?;
        }
        Ok(turn)
    }

    /// Takes whole chains from the ring.
    fn gather(&mut self, switch: &mut Switch, port: PortId, now: u64, turn: &mut Turn) -> Result<Vec<Chain>, Fault> {
        let (mut chains, mut pieces) = (Vec::new(), 0);
        while chains.len() < TURN_PACKETS && pieces < BATCH_PIECES {
            if !self.assembler.has_begun()
                && let Err(later) = switch.ready(port, now)
            {
                turn.later = Some(later);
                return Ok(chains);
            }
            let Some(slot) = self.tx.take()? else { return Ok(chains) };
            if let Some(chain) = self.assembler.push(slot)? {
                switch.charge(port, chain.length);
                pieces += chain.pieces.len();
                chains.push(chain);
            }
        }
        turn.more = true;
        Ok(chains)
    }

    /// Puts packets from a lane of the port's inbox into the pages that the guest posted.
    ///
    /// # Errors
    /// As [`transmit`](Self::transmit).
    pub fn receive(
        &mut self,
        switch: &mut Switch,
        port: PortId,
        lane: usize,
        pages: &mut impl GrantCopy,
    ) -> Result<Turn, Fault> {
        let (mut packets, mut used) = (Vec::new(), 0);
        while used < BATCH_PIECES {
            let mut enough = Ok(false);
            let packet = switch.take_if(port, lane, |packet| {
                enough = self.posted(used + slots(packet));
                enough == Ok(true)
            });
            enough?;
            let Some(packet) = packet else { break };
            used += slots(&packet);
            packets.push(packet);
        }
        self.put(switch, port, &packets, pages);
        let notify_rx = self.rx.publish();
        // Either the batch is full, or requests are missing, some of which may have come by now.
        let more = switch.has_packets(port, lane) && (used >= BATCH_PIECES || self.rx.arm()?);
        Ok(Turn { notify_rx, more, ..Turn::default() })
    }

    /// Whether the guest has posted `count` requests that aren't answered.
    fn posted(&mut self, count: usize) -> Result<bool, Fault> {
        while self.posted.len() < count {
            let Some(request) = self.rx.take()? else { return Ok(false) };
            self.posted.push(request);
        }
        Ok(true)
    }

    /// Copies packets for which there are requests, and answers these.
    fn put(&mut self, switch: &mut Switch, port: PortId, packets: &[Packet], pages: &mut impl GrantCopy) {
        let mut requests = &self.posted[..];
        let deliveries: Vec<Delivery<'_>> = packets
            .iter()
            .map(|packet| {
                let (mine, rest) = requests.split_at(slots(packet));
                requests = rest;
                Delivery::new(packet, mine)
            })
            .collect();
        let used = self.posted.len() - requests.len();
        let pieces: Vec<(Piece, &[u8])> = deliveries.iter().flat_map(Delivery::pieces).collect();
        if pieces.is_empty() {
            return;
        }
        let copied = pages.copy_out(&pieces);
        let mut copied = copied.into_iter();
        for delivery in &deliveries {
            let mut whole = true;
            let mine = copied.by_ref().inspect(|copied| whole &= copied);
            let rx = &mut self.rx;
            delivery.slots(mine).for_each(|slot| rx.respond(&slot));
            if !whole {
                switch.lose(port);
            }
        }
        self.posted.drain(..used);
    }
}

/// What became of a chain's data.
enum Fetched {
    Packet(Packet),
    /// The chain has none, or the guest took it away.
    Nothing,
    NoMemory,
}

/// Copies the data of all chains.
fn fetch(chains: &[Chain], pages: &mut impl GrantCopy) -> Vec<Fetched> {
    let mut buffers: Vec<Option<Vec<u8>>> =
        chains.iter().map(|chain| Packet::buffer(if chain.pieces.is_empty() { 0 } else { chain.length })).collect();
    let mut pieces = Vec::new();
    for (chain, buffer) in chains.iter().zip(&mut buffers) {
        let Some(buffer) = buffer else { continue };
        let mut rest = &mut buffer[..];
        for piece in &chain.pieces {
            let (mine, behind) = rest.split_at_mut(piece.length);
            rest = behind;
            pieces.push((*piece, mine));
        }
    }
    let mut copied = if pieces.is_empty() { Vec::new() } else { pages.copy_in(&mut pieces) }.into_iter();
    let finish = |(chain, buffer): (&Chain, Option<Vec<u8>>)| {
        let Some(data) = buffer else { return Fetched::NoMemory };
        // All of them, so that the next chain finds its own.
        let whole = copied.by_ref().take(chain.pieces.len()).filter(|copied| *copied).count() == chain.pieces.len();
        if chain.kind != Kind::Packet || !whole {
            return Fetched::Nothing;
        }
        Fetched::Packet(Packet { data, checksum: chain.checksum, gso: chain.gso })
    };
    chains.iter().zip(buffers).map(finish).collect()
}
