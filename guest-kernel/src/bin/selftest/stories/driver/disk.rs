//! The back end of a disk in this domain's memory, and its lies.

use super::server::{Pages, Peer, Port, Serve};
use super::{Random, well};
use crate::check::{Ending, Told};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use guest_kernel::block::SECTOR_BYTES;
use guest_kernel::grant::{self, Access, End, Mapping};
use guest_kernel::hypercall;
use guest_kernel::memory::{self, Run};
use guest_kernel::paging::PAGE_SIZE;
use guest_kernel::ring::{Back, SharedMemory};
use guest_kernel::xenbus::XenbusState;
use pv_abi::io::block::*;
use pv_abi::io::ring::RingHeader;

/// Pages of the disk.
const PAGES: usize = 64;
/// Sectors of a page.
const SECTORS: u64 = PAGE_SIZE / SECTOR_BYTES as u64;
/// Bytes in a sector, as grant copies count them.
const SECTOR: u16 = 512;
const _: () = assert!(SECTOR as usize == SECTOR_BYTES);
/// Word of a ring's response producer, and the first word of its slots.
const RESPONSES: usize = 2;
const SLOTS: usize = size_of::<RingHeader>() / 4;

type Ring = Back<Pages, BlkifRequest, BlkifResponse>;

/// A lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// What it says of the disk makes no sense.
    Nodes,
    /// It closes instead of connecting.
    Refusal,
    /// The ring is full of noise.
    Noise,
    /// The slots are, and there are as many as were asked for.
    Slots,
    /// The index jumps ahead.
    Jump,
    /// The index goes back.
    Back,
    /// A response to what wasn't asked.
    Unasked,
    /// Two to one request.
    Twice,
    /// A response to another operation.
    Operation,
    /// A status that there isn't, or that it failed.
    Status,
    /// Slots change when they have been published.
    Change,
    /// Nothing is written nor read.
    Data,
    /// Events without cause.
    Events,
    /// States without order, meanwhile.
    States,
    /// No answer.
    Silence,
    /// No answer, and it doesn't close when the front end does.
    Stubborn,
    /// The ring is let go in mid-flight.
    Unmapped,
    /// The device is, and closed.
    Close,
    /// The same, without a state.
    Vanish,
    /// The data's pages are kept when the device is closed.
    Hold,
}

impl Lie {
    /// All, in their order.
    pub const ALL: [Lie; 20] = [
        Lie::Nodes,
        Lie::Refusal,
        Lie::Noise,
        Lie::Slots,
        Lie::Jump,
        Lie::Back,
        Lie::Unasked,
        Lie::Twice,
        Lie::Operation,
        Lie::Status,
        Lie::Change,
        Lie::Data,
        Lie::Events,
        Lie::States,
        Lie::Silence,
        Lie::Stubborn,
        Lie::Unmapped,
        Lie::Close,
        Lie::Vanish,
        Lie::Hold,
    ];
}

/// What is left of a connection after a lie.
#[derive(PartialEq, Eq)]
enum Then {
    /// It goes on.
    Serve,
    /// The front end will end it, and nothing is answered until then.
    Wait,
    /// The same, and the ring is not mapped any more.
    Unmap,
    /// This end has ended it.
    Leave,
}

/// The disk.
pub struct Disk {
    pages: Vec<Run>,
    /// Pages of the front end's that are kept.
    held: Vec<Mapping>,
}

impl Disk {
    pub fn new() -> Result<Disk, Ending> {
        let page = || well("a page", memory::lock().and_then(|mut memory| memory.allocate_run(1)));
        Ok(Disk { pages: (0..PAGES).map(|_| page()).collect::<Result<_, _>>()?, held: Vec::new() })
    }

    /// Does what is asked, and says how it went.
    fn transfer(&self, domain: u16, request: &BlkifRequest) -> i16 {
        let write = match request.operation {
            BLKIF_OP_READ => false,
            BLKIF_OP_WRITE => true,
            BLKIF_OP_FLUSH_DISKCACHE => return BLKIF_RSP_OKAY,
            _ => return BLKIF_RSP_EOPNOTSUPP,
        };
        let mut sectors = request.sector_number..;
        let mut copies = Vec::new();
        for segment in request.seg.iter().take(request.nr_segments.into()) {
            for place in segment.first_sect..=segment.last_sect.min(7) {
                let sector = sectors.next().unwrap_or(u64::MAX);
                let page = usize::try_from(sector / SECTORS).ok().and_then(|page| self.pages.get(page));
                let Some(page) = page else { return BLKIF_RSP_ERROR };
                let offset = |sector: u8| u16::from(sector) * SECTOR;
                let own = End::Frame {
                    mfn: page.machine_address() / PAGE_SIZE,
                    offset: offset((sector % SECTORS).to_le_bytes()[0]),
                };
                let theirs = End::Grant { domain, reference: segment.gref, offset: offset(place) };
                let (source, dest) = if write { (theirs, own) } else { (own, theirs) };
                copies.push(grant::copy_request(source, dest, SECTOR));
            }
        }
        // SAFETY: what is copied to here are the disk's pages, to which there are no references.
        match unsafe { grant::copy_requests(&mut copies) } {
            Ok(()) => BLKIF_RSP_OKAY,
            Err(_) => BLKIF_RSP_ERROR,
        }
    }

    fn answer(&self, domain: u16, request: &BlkifRequest) -> BlkifResponse {
        let status = self.transfer(domain, request);
        BlkifResponse { id: request.id, operation: request.operation, status, ..BlkifResponse::default() }
    }

    /// Answers all requests, of which some may be left out or spoiled by `change`.
    fn answer_all(
        &self,
        ring: &mut Ring,
        domain: u16,
        requests: &[BlkifRequest],
        mut change: impl FnMut(&mut BlkifResponse),
    ) {
        for request in requests {
            let mut response = self.answer(domain, request);
            change(&mut response);
            ring.respond(&response);
        }
    }

    /// Lies about requests, of which there is at least one.
    fn lie(
        &mut self,
        peer: &mut Peer<'_>,
        (ring, port): (&mut Ring, &Port),
        requests: &[BlkifRequest],
        lie: Lie,
    ) -> Result<Then, Ending> {
        let domain = peer.device.other_domain();
        let published = ring.memory().load(RESPONSES, Ordering::Relaxed);
        let words = |from: usize, ring: &Ring, random: &mut Random| {
            let memory = ring.memory();
            (from..memory.words()).for_each(|word| memory.store(word, random.next(), Ordering::Relaxed));
        };
        let index = |ring: &Ring, index| ring.memory().store(RESPONSES, index, Ordering::Release);
        let count = u32::try_from(requests.len()).unwrap_or(0);
        match lie {
            Lie::Nodes | Lie::Refusal => self.answer_all(ring, domain, requests, |_| ()),
            Lie::Noise => words(0, ring, peer.random),
            Lie::Slots => {
                words(SLOTS, ring, peer.random);
                index(ring, published.wrapping_add(count));
            }
            Lie::Jump => index(ring, published.wrapping_add(ring.slots() + 1 + peer.random.below(1 << 30))),
            Lie::Back => index(ring, published.wrapping_sub(1 + peer.random.below(1 << 30))),
            Lie::Unasked => self.answer_all(ring, domain, requests, |response| {
                response.id |= u64::from(peer.random.next()) << 32 | 1 << 63;
            }),
            Lie::Twice if count < 2 => {
                self.answer_all(ring, domain, requests, |_| ());
                return Ok(Then::Serve);
            }
            Lie::Twice => {
                let id = requests[0].id;
                self.answer_all(ring, domain, requests, |response| response.id = id);
            }
            Lie::Operation => self.answer_all(ring, domain, requests, |response| {
                response.operation ^= 1 + u8::try_from(peer.random.below(255)).unwrap_or(0);
            }),
            Lie::Status => {
                let statuses = [BLKIF_RSP_ERROR, BLKIF_RSP_EOPNOTSUPP, 1, 77, i16::MIN, i16::MAX];
                self.answer_all(ring, domain, requests, |response| response.status = peer.random.pick(&statuses));
                return Ok(Then::Serve);
            }
            Lie::Change => {
                self.answer_all(ring, domain, requests, |_| ());
                let _ = ring.publish();
                for _ in 0..64 {
                    let memory = ring.memory();
                    let word = SLOTS + peer.random.next() as usize % (memory.words() - SLOTS);
                    memory.store(word, peer.random.next(), Ordering::Relaxed);
                    port.ring();
                    let _ = hypercall::yield_now();
                }
                return Ok(Then::Serve);
            }
            Lie::Data => {
                for request in requests {
                    let operation = request.operation;
                    let done = BlkifResponse { id: request.id, operation, ..BlkifResponse::default() };
                    ring.respond(&done);
                }
                return Ok(Then::Serve);
            }
            Lie::Events => {
                (0..256).for_each(|_| port.ring());
                self.answer_all(ring, domain, requests, |_| ());
                return Ok(Then::Serve);
            }
            Lie::States => {
                peer.confuse(XenbusState::Connected)?;
                self.answer_all(ring, domain, requests, |_| ());
                return Ok(Then::Serve);
            }
            Lie::Silence | Lie::Stubborn => return Ok(Then::Wait),
            Lie::Unmapped => return Ok(Then::Unmap),
            Lie::Close => return Ok(Then::Leave),
            Lie::Vanish => {
                peer.vanish()?;
                return Ok(Then::Leave);
            }
            Lie::Hold => {
                let references = requests.iter().map(|request| request.seg[0].gref);
                self.held.extend(references.filter_map(|gref| grant::map(domain, &[gref], Access::Read).ok()));
                self.answer_all(ring, domain, requests, |_| ());
                return Ok(Then::Serve);
            }
        }
        Ok(Then::Wait)
    }
}

/// What it says of the disk.
fn nodes(random: &mut Random, lie: Option<Lie>) -> [(&'static str, String); 4] {
    let (mut sectors, mut size) = (format!("{}", PAGES as u64 * SECTORS), "512");
    if lie == Some(Lie::Nodes) {
        match random.below(2) {
            0 => sectors = random.pick(&["x", "-1", "18446744073709551615", "1e3"]).into(),
            _ => size = random.pick(&["0", "513", "4294967296", "256", "x"]),
        }
    }
    [
        ("sectors", sectors),
        ("sector-size", size.into()),
        ("info", "0".into()),
        ("feature-max-indirect-segments", if lie.is_some() { random.pick(&["0", "1"]) } else { "0" }.into()),
    ]
}

impl Serve for Disk {
    fn lies(&self) -> usize {
        Lie::ALL.len()
    }

    fn offer(&mut self, peer: &mut Peer<'_>, lie: Option<usize>) -> Told {
        self.held.clear();
        let order = if lie.is_some() { peer.random.pick(&["0", "4294967295", "31"]) } else { "0" };
        peer.publish(XenbusState::InitWait, &[("max-ring-page-order", order.into())])
    }

    fn serve(&mut self, peer: &mut Peer<'_>, lie: Option<usize>) -> Result<XenbusState, Ending> {
        let lie = lie.map(|lie| Lie::ALL[lie]);
        let domain = peer.device.other_domain();
        let place = (peer.theirs("ring-ref"), peer.theirs("event-channel"));
        let connected = match place {
            (Some(reference), Some(port)) if lie != Some(Lie::Refusal) => {
                Pages::map(domain, reference).and_then(|pages| Ring::attach(pages).ok()).zip(Port::bind(domain, port))
            }
            _ => None,
        };
        let Some((mut ring, port)) = connected else { return Ok(XenbusState::Closing) };
        let nodes = nodes(peer.random, lie);
        peer.publish(XenbusState::Connected, &nodes)?;
        // So many are answered honestly.
        let mut honest = peer.random.below(16);
        let then = loop {
            let mut requests = Vec::new();
            while let Ok(Some(request)) = ring.take() {
                if lie.is_some() && honest == 0 {
                    requests.push(request);
                } else {
                    honest = honest.saturating_sub(1);
                    self.answer_all(&mut ring, domain, &[request], |_| ());
                }
            }
            let then = match lie {
                Some(lie) if !requests.is_empty() => {
                    // What was answered honestly is shown first.
                    let _ = ring.publish();
                    self.lie(peer, (&mut ring, &port), &requests, lie)?
                }
                _ => Then::Serve,
            };
            if ring.publish() || then != Then::Serve {
                port.ring();
            }
            match then {
                Then::Serve if ring.arm() == Ok(true) || peer.is_there(&port)? => {}
                then => break then,
            }
        };
        match then {
            Then::Serve => return Ok(XenbusState::Connected),
            Then::Wait => {}
            Then::Unmap => drop(ring),
            Then::Leave => drop((ring, port)),
        }
        if lie == Some(Lie::Close) {
            return Ok(XenbusState::Closing);
        }
        peer.while_it_is(XenbusState::Connected)?;
        if lie == Some(Lie::Stubborn) {
            peer.while_it_is(XenbusState::Closing)?;
        }
        Ok(if lie == Some(Lie::Vanish) { XenbusState::Closing } else { XenbusState::Connected })
    }
}
