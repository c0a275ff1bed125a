//! The front end of a network device that lies in its rings, and floods.

use super::{Page, Phases, Random, Victim, store, well};
use crate::check::{Ending, Told, holds};
use core::sync::atomic::{AtomicU32, Ordering};
use guest_kernel::grant::Access;
use guest_kernel::net::{Mac, Netfront, RxSlot, TxSlot};
use guest_kernel::println;
use guest_kernel::ring::Front;
use guest_kernel::store::Connection;
use guest_kernel::xenbus;
use pv_abi::io::net::*;

const NO_GRANT: u32 = 0x00ff_fff0;
/// A group of IPv6, whose packets every other device gets that wants all.
const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// Where the shortest UDP packets start in the page, and how long they are: over IPv4, over IPv6.
const SHORT: [(u16, u16); 2] = [(2048, 42), (3072, 62)];

type Tx = Front<&'static [AtomicU32], TxSlot, NetifTxResponse>;
type Rx = Front<&'static [AtomicU32], NetifRxRequest, RxSlot>;

struct Attacker {
    random: Random,
    tx_page: Page,
    rx_page: Page,
    /// A page to send from, which has frames at its start and at [`SHORT`], and one to receive into that can't be written.
    data: Page,
    constant: Page,
    sent: u32,
    errors: u32,
}

impl Attacker {
    fn new(mac: Mac) -> Result<Attacker, Ending> {
        let [tx_page, rx_page, data] =
            [Page::new(Access::Write)?, Page::new(Access::Write)?, Page::new(Access::Write)?];
        let constant = Page::new(Access::Read)?;
        // A large packet as far as its headers go: TCP over IPv4, to a group.
        let mut frame = [0u8; 60];
        frame[..6].copy_from_slice(&GROUP);
        frame[6..12].copy_from_slice(&mac.0);
        frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0x10, 0, 0, 0, 0, 0, 64, 6]);
        frame[46] = 0x50;
        let mut short = [[0u8; 64]; 2];
        for frame in &mut short {
            frame[..6].copy_from_slice(&GROUP);
            frame[6..12].copy_from_slice(&mac.0);
        }
        short[0][12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17]);
        short[1][12..22].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
        for (at, frame) in [(0, &frame[..]), (SHORT[0].0, &short[0]), (SHORT[1].0, &short[1])] {
            for (word, bytes) in data.words[usize::from(at) / 4..].iter().zip(frame.as_chunks::<4>().0) {
                word.store(u32::from_ne_bytes(*bytes), Ordering::Relaxed);
            }
        }
        Ok(Attacker { random: Random::new(), tx_page, rx_page, data, constant, sent: 0, errors: 0 })
    }

    fn request(&mut self, flags: NetTxFlags, size: u16) -> TxSlot {
        let gref = self.random.pick(&[self.data.gref, self.data.gref, self.constant.gref, NO_GRANT, u32::MAX]);
        let offset = self.random.pick(&[0, 0, 0, 1, 4095]);
        TxSlot::request(NetifTxRequest { gref, offset, flags: flags.bits(), id: self.random.short(), size })
    }

    fn extra(kind: u8, flags: u8, u: [u16; 3]) -> TxSlot {
        TxSlot::extra(NetifExtraInfo { kind, flags, u })
    }

    /// Slots of packets of which something is a lie, until the ring is full or the turn is over.
    fn lie(&mut self, tx: &mut Tx) {
        let (more, extra) = (NetTxFlags::MORE_DATA, NetTxFlags::EXTRA_INFO);
        let size = self.random.pick(&[0, 1, 13, 14, 60, 1514, 4096, 4097, u16::MAX]);
        match self.random.below(48) {
            // No end, of pieces and of extra infos.
            0 => while tx.push(&self.request(more, size)).is_some() {},
            1 => {
                tx.push(&self.request(extra | more, size));
                while tx.push(&Self::extra(XEN_NETIF_EXTRA_TYPE_HASH, 1, [0; 3])).is_some() {}
            }
            // Kinds that there aren't; sizes of nothing.
            2 => {
                tx.push(&self.request(extra, size));
                tx.push(&Self::extra(self.random.pick(&[0, 5, 255]), 0, [0; 3]));
            }
            3 => {
                tx.push(&self.request(extra | NetTxFlags::CSUM_BLANK, size));
                tx.push(&Self::extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, [0, self.random.pick(&[0, 1, 2, 3]), 0]));
            }
            // A large packet that would be cut into thousands.
            4..8 => {
                tx.push(&self.request(extra | NetTxFlags::CSUM_BLANK, 4096));
                tx.push(&Self::extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, [1, 1, 0]));
            }
            // Pieces longer than the packet.
            8..16 => {
                tx.push(&self.request(more, size));
                tx.push(&self.request(more, u16::MAX));
                tx.push(&self.request(NetTxFlags::empty(), size));
            }
            // Groups without number.
            16..24 => {
                for _ in 0..32 {
                    tx.push(&self.request(extra, 0));
                    let kind = self.random.pick(&[XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL]);
                    tx.push(&Self::extra(kind, 0, [self.random.short(), 1, self.random.short()]));
                }
            }
            // A flood that everybody gets.
            24..32 => {
                let (gref, flags) = (self.data.gref, 0);
                while tx.push(&TxSlot::request(NetifTxRequest { gref, offset: 0, flags, id: 0, size: 60 })).is_some() {}
            }
            // A large packet that isn't TCP, and ends where TCP's header would go on.
            32..36 => {
                let ((offset, size), kind) = self.random.pick(&[(SHORT[0], 1), (SHORT[1], 2)]);
                let (gref, flags) = (self.data.gref, (extra | NetTxFlags::CSUM_BLANK).bits());
                tx.push(&TxSlot::request(NetifTxRequest { gref, offset, flags, id: 0, size }));
                tx.push(&Self::extra(XEN_NETIF_EXTRA_TYPE_GSO, 0, [1448, kind, 0]));
            }
            _ => while tx.push(&self.request(NetTxFlags::empty(), size)).is_some() {},
        }
    }

    /// Does one thing that no front end should.
    fn attack(&mut self, tx: &mut Tx, rx: &mut Rx, victim: &Victim) {
        let page = if self.random.below(2) == 0 { self.tx_page } else { self.rx_page };
        match self.random.below(96) {
            0 => page.scribble(&mut self.random),
            1 => page.words[0].store(self.random.next(), Ordering::Release),
            2 => _ = page.words[0].fetch_add(257 + self.random.below(1 << 20), Ordering::Release),
            3 => _ = page.words[0].fetch_sub(1, Ordering::Release),
            4..12 => {
                self.lie(tx);
                let (page, tell) = (self.data, tx.publish());
                page.without(|| {
                    if tell {
                        victim.ring()
                    }
                });
            }
            // Nothing has come.
            12..16 => (0..8).for_each(|_| victim.ring()),
            // Nowhere to put what comes.
            16..24 => {
                let gref = self.random.pick(&[self.constant.gref, NO_GRANT, u32::MAX]);
                while rx.push(&NetifRxRequest { id: self.random.short(), _pad: 0, gref }).is_some() {}
                if rx.publish() {
                    victim.ring();
                }
            }
            _ => {
                self.lie(tx);
                if tx.publish() {
                    victim.ring();
                }
            }
        }
        while let Ok(Some(answer)) = tx.take() {
            if answer.status < 0 { self.errors += 1 } else { self.sent += 1 }
        }
        while let Ok(Some(_)) = rx.take() {}
        let _ = (tx.arm(1), rx.arm(1));
    }
}

/// Lies in the rings of its network device from phase to phase. In the end the device can be used.
pub fn attacks() -> Told {
    let mut store = store()?;
    let mut phases = Phases::new()?;
    let mut victim = Victim::find(&mut store, "vif")?;
    let mac = well("the address", victim.device.own::<Mac>(&mut store, guest_kernel::store::Tx::NONE, "mac"))?;
    let mut attacker = Attacker::new(mac)?;
    let mut rings: Option<(Tx, Rx)> = None;
    while phases.wait() {
        match &mut rings {
            Some((tx, rx)) if victim.is_open() => {
                attacker.attack(tx, rx, &victim);
                victim.rest();
            }
            _ => {
                rings = Front::new(attacker.tx_page.words).ok().zip(Front::new(attacker.rx_page.words).ok());
                let nodes = [
                    ("tx-ring-ref", attacker.tx_page.gref),
                    ("rx-ring-ref", attacker.rx_page.gref),
                    ("request-rx-copy", 1),
                    ("feature-rx-notify", attacker.random.below(2)),
                    ("feature-sg", attacker.random.below(2)),
                    ("feature-gso-tcpv4", attacker.random.below(2)),
                    ("request-multicast-control", attacker.random.below(2)),
                ];
                if !victim.connect(&mut store, phases.to, &nodes)? {
                    break;
                }
            }
        }
    }
    let (connected, Attacker { sent, errors, .. }) = (victim.connected, attacker);
    phases.report();
    println!("attacker: connected {connected} times, {sent} slots sent, {errors} refused");
    victim.leave(&mut store)?;
    holds("it was closed for lies", connected > 1)?;
    holds("slots were refused", errors > 0)?;
    use_network(&mut store)
}

/// As an honest guest does: what is sent to the group comes to nobody, but the slots are answered.
pub fn use_network(store: &mut Connection) -> Told {
    let all = well("the devices", xenbus::devices(store, "vif"))?;
    let directory = all.first().ok_or_else(|| Ending::Fail("there is no network device".into()))?;
    let front = Netfront::connect(store, directory).map_err(|error| Ending::Fail(alloc::format!("{error}")))?;
    holds("it is connected", front.is_connected(store))?;
    front.close(store);
    Ok(())
}
