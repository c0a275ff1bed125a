//! Frontends' memory and grants, XenStore, and a disk that completes in any order and looks whether what it touches is
//! held in place.

use crate::block::*;
use crate::store::{Connection, Limits, shared};
use core::cell::RefCell;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use guest_kernel::ring::Front;
use guest_kernel::store::{Bus, Tx};
use pv_abi::io::block::*;
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;
use std::{format, vec};
use zerocopy::FromZeros;

pub const PAGE: usize = 4096;
/// Sectors of the test's disk.
pub const SECTORS: usize = 256;
/// Most sectors that the disk discards at once.
const MAX_DISCARD: u32 = 64;

/// Pages of a ring, next to each other.
pub type RingMemory = Arc<[AtomicU32]>;

/// What is granted.
#[derive(Clone)]
pub enum Granted {
    /// A page of data, which may be written or not.
    Page(usize, bool),
    /// All pages of a ring, by its first page.
    Ring(RingMemory),
}

#[derive(Default)]
pub struct Memory {
    pub pages: Vec<Box<[u8]>>,
    pub grants: BTreeMap<(u16, u32), Granted>,
    /// By handle: the grant and whether it was mapped for writing.
    held: BTreeMap<u32, (u16, usize, bool)>,
    handles: u32,
    pub rings_mapped: usize,
    pub ports_open: usize,
    /// A domain, and how many calls for it go well before the back end panics in one.
    pub fuse: Option<(u16, usize)>,
    /// Events for the back end and for frontends, by domain and port.
    pub rung: BTreeSet<(u16, u32)>,
    pub told: BTreeSet<(u16, u32)>,
    pub calls: usize,
}

/// All of it, shared by the fakes.
#[derive(Clone, Default)]
pub struct World(pub Rc<RefCell<Memory>>);

impl World {
    pub fn held(&self) -> usize {
        self.0.borrow().held.len()
    }

    /// A call, or a look at a ring, is about to begin for a domain: this may be where the back end panics.
    fn burn(&self, domain: u16) {
        let mut memory = self.0.borrow_mut();
        match memory.fuse {
            Some((of, 0)) if of == domain => memory.fuse = None,
            Some((of, left)) if of == domain => {
                memory.fuse = Some((of, left - 1));
                return;
            }
            _ => return,
        }
        drop(memory);
        // As a panic does, but without a message to the test's output.
        std::panic::resume_unwind(Box::new(MADE_UP));
    }

    /// Grants a new page of data.
    pub fn grant_page(&self, domain: u16, gref: u32, writable: bool) -> usize {
        let mut memory = self.0.borrow_mut();
        memory.pages.push(vec![0; PAGE].into());
        let page = memory.pages.len() - 1;
        memory.grants.insert((domain, gref), Granted::Page(page, writable));
        page
    }

    pub fn grant_ring(&self, domain: u16, gref: u32, pages: usize) -> RingMemory {
        let ring: RingMemory = (0..pages * PAGE / 4).map(|_| AtomicU32::new(0)).collect();
        let mut memory = self.0.borrow_mut();
        for page in 0..pages as u32 {
            memory.grants.insert((domain, gref + page), Granted::Ring(ring.clone()));
        }
        ring
    }

    fn page_at(address: u64) -> (usize, usize) {
        ((address as usize / PAGE) - 1, address as usize % PAGE)
    }

    /// The bytes of a chunk, which has to be held.
    fn chunk<T>(&self, chunk: Chunk, write: bool, each: impl Fn(&mut [u8], usize) -> T) {
        let mut memory = self.0.borrow_mut();
        let mut done = 0;
        while done < chunk.bytes as usize {
            let (page, offset) = World::page_at(chunk.address + done as u64);
            let held = memory.held.values().any(|&(_, p, w)| p == page && (w || !write));
            assert!(held, "the disk touches a page that is not held");
            let bytes = (PAGE - offset).min(chunk.bytes as usize - done);
            each(&mut memory.pages[page][offset..offset + bytes], done);
            done += bytes;
        }
    }
}

/// What the back end says when it panics because of a [fuse](Memory::fuse).
pub const MADE_UP: &str = "made up";

/// A port that a backend has connected.
pub struct Port((u16, u32), World);

impl Drop for Port {
    fn drop(&mut self) {
        self.1.0.borrow_mut().ports_open -= 1;
    }
}

/// The memory of a ring that a backend has mapped.
pub struct RingMapping(RingMemory, World, u16);

impl AsRef<[AtomicU32]> for RingMapping {
    fn as_ref(&self) -> &[AtomicU32] {
        self.1.burn(self.2);
        &self.0
    }
}

impl Drop for RingMapping {
    fn drop(&mut self) {
        self.1.0.borrow_mut().rings_mapped -= 1;
    }
}

/// A back end's hypercalls.
pub struct Calls {
    pub world: World,
    copied: Vec<Option<Vec<u8>>>,
}

impl Platform for Calls {
    type Ring = RingMapping;
    type Port = Port;

    fn ring(&mut self, domain: u16, pages: &[u32]) -> Option<RingMapping> {
        self.world.burn(domain);
        let mut memory = self.world.0.borrow_mut();
        let Granted::Ring(ring) = memory.grants.get(&(domain, *pages.first()?))?.clone() else { return None };
        let all = pages.iter().all(|gref| matches!(memory.grants.get(&(domain, *gref)), Some(Granted::Ring(_))));
        if !all || ring.len() * 4 != pages.len() * PAGE {
            return None;
        }
        memory.rings_mapped += 1;
        drop(memory);
        Some(RingMapping(ring, self.world.clone(), domain))
    }

    fn port(&mut self, domain: u16, port: u32) -> Option<Port> {
        self.world.burn(domain);
        if port == 0 {
            return None;
        }
        self.world.0.borrow_mut().ports_open += 1;
        Some(Port((domain, port), self.world.clone()))
    }

    fn rang(&mut self, Port(port, _): &Port) -> bool {
        self.world.burn(port.0);
        self.world.0.borrow_mut().rung.remove(port)
    }

    fn notify(&mut self, Port(port, _): &Port) {
        self.world.burn(port.0);
        self.world.0.borrow_mut().told.insert(*port);
    }

    fn map(&mut self, domain: u16, accesses: &[Access], mapped: &mut Vec<Option<Mapped>>) {
        self.world.burn(domain);
        let mut memory = self.world.0.borrow_mut();
        memory.calls += 1;
        for access in accesses {
            let granted = match memory.grants.get(&(domain, access.gref)) {
                Some(&Granted::Page(page, writable)) if writable || !access.write => Some(page),
                _ => None,
            };
            mapped.push(granted.map(|page| {
                memory.handles += 1;
                let handle = memory.handles;
                memory.held.insert(handle, (domain, page, access.write));
                Mapped { handle, address: ((page + 1) * PAGE) as u64 }
            }));
        }
    }

    fn unmap(&mut self, mapped: &[Mapped]) {
        let of = mapped.first().and_then(|first| Some(self.world.0.borrow().held.get(&first.handle)?.0));
        of.into_iter().for_each(|domain| self.world.burn(domain));
        let mut memory = self.world.0.borrow_mut();
        memory.calls += 1;
        for mapped in mapped {
            assert!(memory.held.remove(&mapped.handle).is_some(), "unmapped twice");
        }
    }

    fn copy(&mut self, domain: u16, pieces: &[Piece]) {
        assert!(pieces.len() <= MAX_PIECES);
        self.world.burn(domain);
        let mut memory = self.world.0.borrow_mut();
        memory.calls += 1;
        let copied = pieces.iter().map(|piece| match memory.grants.get(&(domain, piece.gref)) {
            Some(&Granted::Page(page, _)) => Some(memory.pages[page][..piece.bytes].to_vec()),
            _ => None,
        });
        self.copied = copied.collect();
    }

    fn piece(&self, index: usize) -> Option<&[u8]> {
        self.copied[index].as_deref()
    }
}

/// XenStore, as the control domain sees it.
pub struct Nodes(pub Connection);

impl Nodes {
    fn new() -> Nodes {
        Nodes(Connection::new(&shared(Limits::default())))
    }

    pub fn set(&mut self, path: &str, value: impl ToString) {
        self.0.write(Tx::NONE, path, value.to_string().as_bytes()).unwrap();
    }

    /// Empty if there is none.
    pub fn get(&mut self, path: &str) -> String {
        self.0.read_text(Tx::NONE, path).unwrap_or_default()
    }

    /// Removes a node, if it is there, and all below it.
    pub fn remove(&mut self, path: &str) {
        let _ = self.0.remove(Tx::NONE, path);
    }
}

/// What a disk was given.
enum Held {
    Read(usize, Vec<Chunk>),
    Write(usize, Vec<Chunk>),
    Flush,
    Discard(usize, usize),
}

pub struct Platter {
    pub bytes: Vec<u8>,
    /// What would be left if the power failed.
    pub durable: Vec<u8>,
    operations: Vec<(u64, Held)>,
    /// Where the next operation to complete is among those under way.
    pub choice: usize,
    /// Completions that may happen now.
    pub allowed: usize,
    /// Sectors that can't be read or written.
    pub bad: BTreeSet<usize>,
    room: usize,
}

/// A disk.
#[derive(Clone)]
pub struct TestDisk {
    pub platter: Rc<RefCell<Platter>>,
    world: World,
}

impl TestDisk {
    pub fn new(world: &World, room: usize) -> TestDisk {
        let bytes: Vec<u8> = (0..SECTORS * 512).map(|n| (n / 512 * 7 + n % 5) as u8).collect();
        let platter = Platter {
            durable: bytes.clone(),
            bytes,
            operations: Vec::new(),
            choice: 0,
            allowed: usize::MAX,
            bad: BTreeSet::new(),
            room,
        };
        TestDisk { platter: Rc::new(RefCell::new(platter)), world: world.clone() }
    }

    fn perform(&self, platter: &mut Platter, operation: &Held) -> Result<(), Failed> {
        let mut at = match *operation {
            Held::Read(sector, _) | Held::Write(sector, _) | Held::Discard(sector, _) => sector * 512,
            Held::Flush => 0,
        };
        let length = |chunks: &[Chunk]| chunks.iter().map(|chunk| chunk.bytes as usize).sum::<usize>();
        let bytes = match operation {
            Held::Read(_, chunks) | Held::Write(_, chunks) => length(chunks),
            Held::Discard(_, sectors) => sectors * 512,
            Held::Flush => 0,
        };
        if platter.bad.range(at / 512..(at + bytes) / 512).next().is_some() {
            return Err(Failed);
        }
        let bytes = RefCell::new(&mut platter.bytes);
        match operation {
            Held::Read(_, chunks) => {
                for chunk in chunks {
                    self.world.chunk(*chunk, true, |part, offset| {
                        let from = at + offset;
                        part.copy_from_slice(&bytes.borrow()[from..from + part.len()]);
                    });
                    at += chunk.bytes as usize;
                }
            }
            Held::Write(_, chunks) => {
                for chunk in chunks {
                    self.world.chunk(*chunk, false, |part, offset| {
                        let to = at + offset;
                        bytes.borrow_mut()[to..to + part.len()].copy_from_slice(part);
                    });
                    at += chunk.bytes as usize;
                }
            }
            Held::Discard(_, sectors) => bytes.borrow_mut()[at..at + sectors * 512].fill(0),
            Held::Flush => platter.durable = platter.bytes.clone(),
        }
        Ok(())
    }
}

impl Disk for TestDisk {
    fn geometry(&self) -> Geometry {
        Geometry {
            sectors: SECTORS as u64,
            sector_bytes: 512,
            physical_sector_bytes: 4096,
            read_only: false,
            flush: true,
            discard: Some(DiscardLimits { granularity: 512, max_sectors: MAX_DISCARD }),
            max_chunks: 30,
        }
    }

    fn submit(&mut self, token: u64, operation: Operation<'_>) -> Result<(), Full> {
        let mut platter = self.platter.borrow_mut();
        if platter.operations.len() == platter.room {
            return Err(Full);
        }
        let held = match operation {
            Operation::Read { sector, into } => Held::Read(sector as usize, into.to_vec()),
            Operation::Write { sector, from } => Held::Write(sector as usize, from.to_vec()),
            Operation::Flush => Held::Flush,
            Operation::Discard { sector, sectors } => {
                assert!((1..=MAX_DISCARD).contains(&sectors), "more than the disk takes");
                Held::Discard(sector as usize, sectors as usize)
            }
        };
        platter.operations.push((token, held));
        Ok(())
    }

    fn kick(&mut self) {}

    fn complete(&mut self) -> Option<(u64, Result<(), Failed>)> {
        let mut platter = self.platter.borrow_mut();
        if platter.operations.is_empty() || platter.allowed == 0 {
            return None;
        }
        platter.allowed -= 1;
        let choice = platter.choice % platter.operations.len();
        platter.choice = platter.choice.wrapping_mul(31).wrapping_add(7);
        let (token, operation) = platter.operations.remove(choice);
        let result = self.perform(&mut platter, &operation);
        Some((token, result))
    }
}

/// A ring of a frontend.
pub type FrontRing = Front<RingMemory, BlkifRequest, BlkifResponse>;

/// The back end with one disk, its neighbours and XenStore.
pub struct Setup {
    pub world: World,
    pub disk: TestDisk,
    pub hub: Hub<Calls>,
    pub store: Nodes,
    pub faults: Vec<String>,
    /// System time.
    pub now: u64,
}

/// Grant reference of a frontend's first ring page.
pub const RING: u32 = 1000;

impl Setup {
    pub fn new(room: usize) -> Setup {
        let world = World::default();
        let disk = TestDisk::new(&world, room);
        let mut hub = Hub::new(Calls { world: world.clone(), copied: Vec::new() });
        hub.add_disk(Box::new(disk.clone()));
        Setup { world, disk, hub, store: Nodes::new(), faults: Vec::new(), now: 0 }
    }

    pub fn back(domain: u16) -> String {
        format!("/local/domain/0/backend/vbd/{domain}/51712")
    }

    pub fn front(domain: u16) -> String {
        format!("/local/domain/{domain}/device/vbd/51712")
    }

    /// A virtual disk for a domain: sectors of the disk.
    pub fn add(&mut self, domain: u16, sectors: core::ops::Range<u64>, read_only: bool) {
        let (back, front) = (Setup::back(domain), Setup::front(domain));
        self.store.set(&format!("{back}/frontend"), &front);
        self.store.set(&format!("{front}/state"), 1);
        let mut geometry = self.disk.geometry();
        (geometry.sectors, geometry.read_only) = (sectors.end - sectors.start, read_only);
        let volume = Volume { first: sectors.start, geometry };
        self.hub.add(&back, &front, domain, (0, volume), &mut self.store.0);
    }

    /// A frontend changes its state.
    pub fn set_state(&mut self, domain: u16, state: u32) {
        self.store.set(&format!("{}/state", Setup::front(domain)), state);
        self.look(domain);
    }

    /// The back end looks at a frontend's state, in good time.
    pub fn look(&mut self, domain: u16) {
        self.now += 1_000_000_000;
        assert_eq!(self.look_now(domain), None);
    }

    /// The back end hears that a frontend's state has changed. When it looks, if not now.
    pub fn look_now(&mut self, domain: u16) -> Option<u64> {
        self.hub.frontend_changed(&Setup::front(domain));
        let faults = &mut self.faults;
        self.hub.follow(self.now, &mut self.store.0, &mut |_, fault| faults.push(fault.to_string()))
    }

    /// The back end's state; 0 if there is none.
    pub fn state(&mut self, domain: u16) -> u32 {
        self.store.get(&format!("{}/state", Setup::back(domain))).parse().unwrap_or(0)
    }

    /// A frontend with one ring of one page connects.
    pub fn connect(&mut self, domain: u16) -> FrontRing {
        let ring = Front::new(self.world.grant_ring(domain, RING, 1)).unwrap();
        let front = Setup::front(domain);
        self.store.set(&format!("{front}/ring-ref"), RING);
        self.store.set(&format!("{front}/event-channel"), 9);
        self.store.set(&format!("{front}/protocol"), "x86_64-abi");
        self.set_state(domain, 3);
        assert_eq!(self.state(domain), 4, "{:?}", self.faults);
        ring
    }

    pub fn turn(&mut self) -> bool {
        let faults = &mut self.faults;
        let (more, _) = self.hub.turn(self.now, &mut self.store.0, &mut |_, fault| faults.push(fault.to_string()));
        self.check_panics();
        more
    }

    /// A turn of the service that the back end is, a second after the last. Nobody panics but where it was made up.
    pub fn work(&mut self) {
        self.now += 1_000_000_000;
        let faults = &mut self.faults;
        let mut report = |_: &str, fault: &Fault| faults.push(fault.to_string());
        self.hub.follow(self.now, &mut self.store.0, &mut report);
        self.hub.turn(self.now, &mut self.store.0, &mut report);
        self.check_panics();
    }

    /// Nothing has panicked but where that was made up: what failed here would be contained too.
    fn check_panics(&self) {
        let mut panics = self.faults.iter().filter(|fault| fault.starts_with("panicked"));
        assert!(panics.all(|fault| fault.ends_with(MADE_UP)), "{:?}", self.faults);
    }

    /// Turns until there is nothing to do.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            let more = self.turn();
            let platter = self.disk.platter.borrow();
            let disk_is_done = platter.operations.is_empty() || platter.allowed == 0;
            if !more && disk_is_done && self.world.0.borrow().rung.is_empty() {
                return;
            }
        }
        panic!("there is always more to do");
    }

    /// Publishes, rings, and lets the back end work until it has nothing to do.
    pub fn run(&mut self, domain: u16, ring: &mut FrontRing) {
        self.send(domain, ring);
        self.settle();
    }

    pub fn send(&self, domain: u16, ring: &mut FrontRing) {
        if ring.publish() {
            self.world.0.borrow_mut().rung.insert((domain, 9));
        }
    }

    /// One request, and the status of its response.
    pub fn ask(&mut self, domain: u16, ring: &mut FrontRing, request: BlkifRequest) -> i16 {
        assert!(ring.push(&request).is_some());
        self.run(domain, ring);
        let response = ring.take().unwrap().expect("no answer");
        assert_eq!((response.id, ring.take()), (request.id, Ok(None)));
        response.status
    }
}

/// A request with segments.
pub fn transfer(operation: u8, sector: u64, segments: &[(u32, u8, u8)]) -> BlkifRequest {
    let mut request = BlkifRequest { operation, id: 77, sector_number: sector, ..BlkifRequest::new_zeroed() };
    request.nr_segments = segments.len() as u8;
    for (place, &(gref, first_sect, last_sect)) in request.seg.iter_mut().zip(segments) {
        *place = BlkifSegment { gref, first_sect, last_sect, _pad: 0 };
    }
    request
}

/// A word of a ring as a hostile frontend writes it.
pub fn scribble(ring: &RingMemory, word: usize, value: u32) {
    ring[word % ring.len()].store(value, Relaxed);
}
