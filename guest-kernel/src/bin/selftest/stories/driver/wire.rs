//! The back end of a network device that sends each frame back, and its lies.

use super::Random;
use super::server::{Pages, Peer, Port, Serve};
use crate::check::{Ending, Told};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use guest_kernel::grant::{self, End};
use guest_kernel::hypercall;
use guest_kernel::net::{RxSlot, TxSlot};
use guest_kernel::paging::PAGE_BYTES;
use guest_kernel::ring::{Back, SharedMemory};
use guest_kernel::xenbus::XenbusState;
use pv_abi::io::net::*;

/// Word of a ring's response producer.
const RESPONSES: usize = 2;

/// A lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// It closes instead of connecting.
    Refusal,
    /// A ring is full of noise.
    SentNoise,
    /// So is the other.
    ReceivedNoise,
    /// The index of a ring jumps ahead.
    SentJump,
    /// So does the other's.
    ReceivedJump,
    /// The index of a ring goes back.
    SentBack,
    /// A response to what wasn't asked.
    SentUnasked,
    /// Two to one request.
    SentTwice,
    /// A frame in another page than the next.
    ReceivedUnasked,
    /// A frame that goes beyond its page.
    ReceivedBeyond,
    /// A frame without an end.
    ReceivedEndless,
    /// An extra info that there isn't.
    ReceivedExtra,
    /// Nothing comes but errors.
    ReceivedErrors,
    /// Slots change when they have been published.
    Change,
    /// Events without cause.
    Events,
    /// No answer.
    Silence,
    /// The device is closed in mid-flight.
    Close,
    /// The same, without a state.
    Vanish,
}

impl Lie {
    /// All, in their order.
    pub const ALL: [Lie; 18] = [
        Lie::Refusal,
        Lie::SentNoise,
        Lie::ReceivedNoise,
        Lie::SentJump,
        Lie::ReceivedJump,
        Lie::SentBack,
        Lie::SentUnasked,
        Lie::SentTwice,
        Lie::ReceivedUnasked,
        Lie::ReceivedBeyond,
        Lie::ReceivedEndless,
        Lie::ReceivedExtra,
        Lie::ReceivedErrors,
        Lie::Change,
        Lie::Events,
        Lie::Silence,
        Lie::Close,
        Lie::Vanish,
    ];
}

/// What is left of a connection after a lie.
#[derive(PartialEq, Eq)]
enum Then {
    /// It goes on.
    Serve,
    /// The front end will end it.
    Wait,
    /// This end has ended it.
    Leave,
}

/// The device.
pub struct Wire;

/// A connection.
struct Rings {
    tx: Back<Pages, TxSlot, NetifTxResponse>,
    rx: Back<Pages, NetifRxRequest, RxSlot>,
    port: Port,
    domain: u16,
}

impl Rings {
    fn connect(peer: &mut Peer<'_>) -> Option<Rings> {
        let domain = peer.device.other_domain();
        let mut pages = |name| Pages::map(domain, peer.theirs(name)?);
        let (tx, rx) = (pages("tx-ring-ref")?, pages("rx-ring-ref")?);
        let port = Port::bind(domain, peer.theirs("event-channel")?)?;
        Some(Rings { tx: Back::attach(tx).ok()?, rx: Back::attach(rx).ok()?, port, domain })
    }

    /// Sends a frame back, if there is a page for it.
    fn echo(&mut self, sent: NetifTxRequest) {
        if let Ok(Some(request)) = self.rx.take() {
            let source = End::Grant { domain: self.domain, reference: sent.gref, offset: sent.offset };
            let dest = End::Grant { domain: self.domain, reference: request.gref, offset: 0 };
            let mut copy = [grant::copy_request(source, dest, sent.size)];
            // SAFETY: nothing of this domain's is copied to.
            let done = unsafe { grant::copy_requests(&mut copy) }.is_ok();
            let status = if done { i16::try_from(sent.size).unwrap_or(-1) } else { -1 };
            self.received(request.id, 0, NetRxFlags::DATA_VALIDATED, status);
        }
        self.sent(sent.id);
    }

    fn sent(&mut self, id: u16) {
        self.tx.respond(&NetifTxResponse { id, status: NETIF_RSP_OKAY });
    }

    fn received(&mut self, id: u16, offset: u16, flags: NetRxFlags, status: i16) {
        self.rx.respond(&RxSlot::response(NetifRxResponse { id, offset, flags: flags.bits(), status }));
    }

    /// Answers requests for frames to come, `count` of them or as many as there are.
    fn receive(&mut self, count: usize, mut each: impl FnMut(&mut Rings, u16)) {
        for _ in 0..count {
            let Ok(Some(request)) = self.rx.take() else { break };
            each(self, request.id);
        }
    }

    fn lie(&mut self, sent: &[NetifTxRequest], lie: Lie, random: &mut Random) -> Then {
        let noise = |memory: &Pages, random: &mut Random| {
            (0..memory.words()).for_each(|word| memory.store(word, random.next(), Ordering::Relaxed));
        };
        let jump = |memory: &Pages, by: u32| {
            let index = memory.load(RESPONSES, Ordering::Relaxed);
            memory.store(RESPONSES, index.wrapping_add(by), Ordering::Release);
        };
        let far = 1 + self.tx.slots() + random.below(1 << 30);
        let short = i16::try_from(PAGE_BYTES).unwrap_or(i16::MAX);
        match lie {
            Lie::Refusal => {}
            Lie::SentNoise => noise(self.tx.memory(), random),
            Lie::ReceivedNoise => noise(self.rx.memory(), random),
            Lie::SentJump => jump(self.tx.memory(), far),
            Lie::ReceivedJump => jump(self.rx.memory(), far),
            Lie::SentBack => jump(self.tx.memory(), far.wrapping_neg()),
            Lie::SentUnasked => sent.iter().for_each(|sent| self.sent(sent.id | 0x8000)),
            Lie::SentTwice if sent.len() > 1 => sent.iter().for_each(|_| self.sent(sent[0].id)),
            Lie::ReceivedUnasked => self.receive(8, |rings, id| rings.received(!id, 0, NetRxFlags::empty(), 60)),
            Lie::ReceivedBeyond => {
                let offset = 1 + u16::try_from(random.below(4000)).unwrap_or(0);
                self.receive(1, |rings, id| rings.received(id, offset, NetRxFlags::empty(), short));
            }
            Lie::ReceivedEndless => {
                self.receive(64, |rings, id| rings.received(id, 0, NetRxFlags::MORE_DATA, short));
            }
            Lie::ReceivedExtra => {
                self.receive(1, |rings, id| rings.received(id, 0, NetRxFlags::EXTRA_INFO, 60));
                let kind = random.pick(&[0, XEN_NETIF_EXTRA_TYPE_MAX, 255]);
                let extra = NetifExtraInfo { kind, flags: 0, u: [0; 3] };
                self.receive(1, |rings, _| rings.rx.respond(&RxSlot::extra(extra)));
            }
            Lie::ReceivedErrors => {
                let status = random.pick(&[NETIF_RSP_ERROR, NETIF_RSP_DROPPED, i16::MIN]);
                self.receive(sent.len(), |rings, id| rings.received(id, 0, NetRxFlags::empty(), status));
                sent.iter().for_each(|sent| self.sent(sent.id));
                return Then::Serve;
            }
            Lie::Change => {
                sent.iter().for_each(|sent| self.echo(*sent));
                self.publish(true);
                for _ in 0..64 {
                    let memory = self.rx.memory();
                    let word = 16 + random.next() as usize % (memory.words() - 16);
                    memory.store(word, random.next(), Ordering::Relaxed);
                    self.port.ring();
                    let _ = hypercall::yield_now();
                }
                return Then::Serve;
            }
            Lie::Events | Lie::SentTwice => {
                (0..256).for_each(|_| self.port.ring());
                sent.iter().for_each(|sent| self.echo(*sent));
                return Then::Serve;
            }
            Lie::Silence => {}
            Lie::Close | Lie::Vanish => return Then::Leave,
        }
        Then::Wait
    }

    /// Shows what was answered, and tells of it.
    fn publish(&mut self, tell: bool) {
        if self.tx.publish() | self.rx.publish() | tell {
            self.port.ring();
        }
    }
}

impl Serve for Wire {
    fn lies(&self) -> usize {
        Lie::ALL.len()
    }

    fn offer(&mut self, peer: &mut Peer<'_>, lie: Option<usize>) -> Told {
        if lie.is_some_and(|lie| lie % 4 == 1) {
            peer.confuse(XenbusState::Initialising)?;
        }
        peer.publish(XenbusState::InitWait, &[("feature-rx-copy", "1".into())])
    }

    fn serve(&mut self, peer: &mut Peer<'_>, lie: Option<usize>) -> Result<XenbusState, Ending> {
        let lie = lie.map(|lie| Lie::ALL[lie]);
        let connected = if lie == Some(Lie::Refusal) { None } else { Rings::connect(peer) };
        let Some(mut rings) = connected else { return Ok(XenbusState::Closing) };
        peer.publish(XenbusState::Connected, &[])?;
        // So many are sent back.
        let mut honest = peer.random.below(8);
        let then = loop {
            let mut sent = Vec::new();
            while let Ok(Some(slot)) = rings.tx.take() {
                if lie.is_some() && honest == 0 {
                    sent.push(slot.as_request());
                } else {
                    honest = honest.saturating_sub(1);
                    rings.echo(slot.as_request());
                }
            }
            let then = match lie {
                Some(lie) if !sent.is_empty() => {
                    // What was answered honestly is shown first.
                    rings.publish(false);
                    rings.lie(&sent, lie, peer.random)
                }
                _ => Then::Serve,
            };
            rings.publish(then != Then::Serve);
            match then {
                Then::Serve if rings.tx.arm() == Ok(true) || peer.is_there(&rings.port)? => {}
                then => break then,
            }
        };
        if then == Then::Serve {
            return Ok(XenbusState::Connected);
        }
        if then == Then::Leave {
            drop(rings);
            if lie == Some(Lie::Close) {
                return Ok(XenbusState::Closing);
            }
            peer.vanish()?;
            peer.while_it_is(XenbusState::Connected)?;
            return Ok(XenbusState::Closing);
        }
        peer.while_it_is(XenbusState::Connected)?;
        Ok(XenbusState::Connected)
    }
}
