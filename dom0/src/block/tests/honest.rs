//! Random requests of an honest frontend against a naive disk.

use super::world::*;
use crate::domains::traffic::Traffic;
use proptest::prelude::*;
use pv_abi::io::block::*;
use std::collections::BTreeMap;
use std::vec::Vec;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const FIRST: usize = 32;
const SIZE: usize = 160;

#[derive(Clone, Debug)]
enum Action {
    /// Sector, sectors in each page, to the disk, whether in an indirect request.
    Transfer(usize, Vec<(u8, u8)>, bool, bool),
    Flush,
    Discard(usize, usize),
    /// Publishes, and lets the disk complete so many.
    Turn(usize, usize),
    /// Takes responses.
    Take,
}

fn action() -> impl Strategy<Value = Action> {
    let pages = proptest::collection::vec((0u8..8, 0u8..8).prop_map(|(a, b)| (a.min(b), a.max(b))), 1..12);
    prop_oneof![
        8 => (0..SIZE + 4, pages, any::<bool>(), any::<bool>()).prop_map(|(s, p, w, i)| Action::Transfer(s, p, w, i)),
        1 => Just(Action::Flush),
        1 => (0..SIZE, 1..SIZE).prop_map(|(sector, sectors)| Action::Discard(sector, sectors)),
        4 => (0usize..6, any::<usize>()).prop_map(|(count, choice)| Action::Turn(count, choice)),
        2 => Just(Action::Take),
    ]
}

struct Flight {
    range: core::ops::Range<usize>,
    /// Page number and sectors of each segment.
    pages: Vec<(usize, (u8, u8))>,
    kind: Kind,
    grefs: Vec<u32>,
}

#[derive(PartialEq)]
enum Kind {
    Read,
    Write(Vec<u8>),
    Flush(Vec<u8>),
    Discard,
}

struct Test {
    setup: Setup,
    ring: FrontRing,
    /// What the volume should have in it.
    model: Vec<u8>,
    flights: BTreeMap<u64, Flight>,
    next_gref: u32,
    next_id: u64,
    /// What was read and written.
    traffic: Traffic,
}

impl Test {
    fn new() -> Test {
        let mut setup = Setup::new(5);
        setup.add(1, FIRST as u64..(FIRST + SIZE) as u64, false);
        let ring = setup.connect(1);
        let model = setup.disk.platter.borrow().bytes[FIRST * 512..(FIRST + SIZE) * 512].to_vec();
        Test {
            setup,
            ring,
            model,
            flights: BTreeMap::new(),
            next_gref: 2000,
            next_id: 1 << 40,
            traffic: Traffic::default(),
        }
    }

    fn is_free(&self, range: &core::ops::Range<usize>) -> bool {
        self.ring.free() > 0
            && self.flights.values().all(|other| other.range.end <= range.start || range.end <= other.range.start)
    }

    fn page(&mut self, writable: bool, grefs: &mut Vec<u32>) -> (u32, usize) {
        self.next_gref += 1;
        grefs.push(self.next_gref);
        (self.next_gref, self.setup.world.grant_page(1, self.next_gref, writable))
    }

    fn push(&mut self, mut request: BlkifRequest, flight: Flight) {
        request.id = self.next_id;
        self.flights.insert(self.next_id, flight);
        self.next_id += 1;
        assert!(self.ring.push(&request).is_some());
    }

    fn transfer(&mut self, sector: usize, parts: &[(u8, u8)], write: bool, indirect: bool) {
        let sectors: usize = parts.iter().map(|(first, last)| usize::from(last - first + 1)).sum();
        let range = sector..sector + sectors;
        if !self.is_free(&range) {
            return;
        }
        let (mut pages, mut grefs, mut segments, mut data) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for &(first_sect, last_sect) in parts {
            let (gref, page) = self.page(!write, &mut grefs);
            segments.push(BlkifSegment { gref, first_sect, last_sect, _pad: 0 });
            pages.push((page, (first_sect, last_sect)));
            if write {
                let mut memory = self.setup.world.0.borrow_mut();
                memory.pages[page].iter_mut().enumerate().for_each(|(n, byte)| *byte = (n / 512 + page * 3) as u8);
                let part = &memory.pages[page][usize::from(first_sect) * 512..(usize::from(last_sect) + 1) * 512];
                data.extend_from_slice(part);
            }
        }
        let operation = if write { BLKIF_OP_WRITE } else { BLKIF_OP_READ };
        let sector_number = sector as u64;
        let mut request = BlkifRequest { operation, sector_number, ..BlkifRequest::new_zeroed() };
        request.nr_segments = segments.len() as u8;
        if indirect {
            let (gref, page) = self.page(false, &mut grefs);
            let bytes = segments.as_slice().as_bytes();
            self.setup.world.0.borrow_mut().pages[page][..bytes.len()].copy_from_slice(bytes);
            let mut inner = BlkifRequestIndirect {
                operation: BLKIF_OP_INDIRECT,
                indirect_op: operation,
                nr_segments: segments.len() as u16,
                sector_number,
                ..BlkifRequestIndirect::default()
            };
            inner.indirect_grefs[0] = gref;
            request = BlkifRequest::new_zeroed();
            request.as_mut_bytes()[..size_of_val(&inner)].copy_from_slice(inner.as_bytes());
        } else {
            request.seg[..segments.len()].copy_from_slice(&segments);
        }
        let kind = if write { Kind::Write(data) } else { Kind::Read };
        self.push(request, Flight { range, pages, kind, grefs });
    }

    fn flush(&mut self) {
        // Everything that was acknowledged so far has to be durable when this is.
        if self.ring.free() > 0 {
            let request = BlkifRequest { operation: BLKIF_OP_FLUSH_DISKCACHE, ..BlkifRequest::new_zeroed() };
            let flight =
                Flight { range: 0..0, pages: Vec::new(), kind: Kind::Flush(self.model.clone()), grefs: Vec::new() };
            self.push(request, flight);
        }
    }

    fn discard(&mut self, sector: usize, sectors: usize) {
        let range = sector..sector + sectors;
        if self.is_free(&range) {
            let inner = BlkifRequestDiscard {
                operation: BLKIF_OP_DISCARD,
                sector_number: sector as u64,
                nr_sectors: sectors as u64,
                ..BlkifRequestDiscard::default()
            };
            let mut bytes = [0; BLKIF_SLOT_BYTES];
            bytes[..size_of_val(&inner)].copy_from_slice(inner.as_bytes());
            let request = BlkifRequest::read_from_bytes(&bytes).unwrap();
            self.push(request, Flight { range, pages: Vec::new(), kind: Kind::Discard, grefs: Vec::new() });
        }
    }

    fn take(&mut self) -> Result<(), TestCaseError> {
        while let Some(response) = self.ring.take().unwrap() {
            let Flight { range, pages, kind, grefs } = self.flights.remove(&response.id).expect("answered twice");
            let inside = range.end <= SIZE;
            prop_assert_eq!(response.status, if inside { BLKIF_RSP_OKAY } else { BLKIF_RSP_ERROR });
            // An honest frontend takes its grants back at once.
            grefs.iter().for_each(|gref| _ = self.setup.world.0.borrow_mut().grants.remove(&(1, *gref)));
            if !inside {
                continue;
            }
            let bytes = range.start * 512..range.end * 512;
            match kind {
                Kind::Read => {
                    self.traffic.read += bytes.len() as u64;
                    let memory = self.setup.world.0.borrow();
                    let parts = pages.iter().map(|(page, (first, last))| {
                        &memory.pages[*page][usize::from(*first) * 512..(usize::from(*last) + 1) * 512]
                    });
                    prop_assert_eq!(parts.collect::<Vec<_>>().concat(), &self.model[bytes]);
                }
                Kind::Write(data) => {
                    self.traffic.written += bytes.len() as u64;
                    self.model[bytes].copy_from_slice(&data);
                }
                Kind::Discard => self.model[bytes].fill(0),
                Kind::Flush(before) => self.check_durable(&before)?,
            }
        }
        Ok(())
    }

    /// A sector that nobody has written since has what was acknowledged when the flush was sent.
    fn check_durable(&self, before: &[u8]) -> Result<(), TestCaseError> {
        let platter = self.setup.disk.platter.borrow();
        for sector in 0..SIZE {
            let bytes = sector * 512..(sector + 1) * 512;
            let touched =
                self.flights.values().any(|flight| flight.kind != Kind::Read && flight.range.contains(&sector));
            if before[bytes.clone()] == self.model[bytes.clone()] && !touched {
                prop_assert_eq!(&platter.durable[FIRST * 512..][bytes.clone()], &before[bytes]);
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn as_a_naive_disk(actions in proptest::collection::vec(action(), 0..120)) {
        let mut test = Test::new();
        let outside = test.setup.disk.platter.borrow().bytes.clone();
        for action in actions {
            match action {
                Action::Transfer(sector, parts, write, indirect) => {
                    test.transfer(sector, &parts[..parts.len().min(11)], write, indirect);
                }
                Action::Flush => test.flush(),
                Action::Discard(sector, sectors) => test.discard(sector, sectors),
                Action::Turn(count, choice) => {
                    test.setup.send(1, &mut test.ring);
                    {
                        let mut platter = test.setup.disk.platter.borrow_mut();
                        (platter.allowed, platter.choice) = (count, choice);
                    }
                    test.setup.turn();
                }
                Action::Take => test.take()?,
            }
        }
        test.setup.disk.platter.borrow_mut().allowed = usize::MAX;
        test.setup.run(1, &mut test.ring);
        test.take()?;
        prop_assert!(test.flights.is_empty(), "unanswered");
        prop_assert_eq!(test.setup.world.held(), 0);
        prop_assert_eq!(test.setup.hub.traffic(1), test.traffic);
        let platter = test.setup.disk.platter.borrow();
        prop_assert_eq!(&platter.bytes[FIRST * 512..(FIRST + SIZE) * 512], &test.model[..]);
        prop_assert_eq!(&platter.bytes[..FIRST * 512], &outside[..FIRST * 512]);
        prop_assert_eq!(&platter.bytes[(FIRST + SIZE) * 512..], &outside[(FIRST + SIZE) * 512..]);
    }
}
