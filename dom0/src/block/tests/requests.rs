//! What is done for single requests, and what is refused.

use super::world::*;
use pv_abi::io::block::*;
use std::string::ToString;
use std::vec;
use zerocopy::{FromBytes, IntoBytes};

const OKAY: i16 = BLKIF_RSP_OKAY;
const ERROR: i16 = BLKIF_RSP_ERROR;
const UNSUPPORTED: i16 = BLKIF_RSP_EOPNOTSUPP;

/// A volume in the middle of the disk, with pages 10 (writable), 11 (not) and 12 granted.
fn setup(read_only: bool) -> (Setup, FrontRing) {
    let mut setup = Setup::new(8);
    setup.add(1, 64..192, read_only);
    let ring = setup.connect(1);
    for (gref, writable) in [(10, true), (11, false), (12, true)] {
        setup.world.grant_page(1, gref, writable);
    }
    (setup, ring)
}

#[test]
fn reads_and_writes_land_where_they_should() {
    let (mut setup, mut ring) = setup(false);
    assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_READ, 3, &[(10, 2, 4), (12, 0, 0)])), OKAY);
    let pages = setup.world.0.borrow().pages.clone();
    let platter = setup.disk.platter.borrow().bytes.clone();
    assert_eq!(pages[0][2 * 512..5 * 512], platter[67 * 512..70 * 512]);
    assert_eq!(pages[2][..512], platter[70 * 512..71 * 512]);
    assert!(pages[0][..1024].iter().chain(&pages[0][5 * 512..]).all(|byte| *byte == 0));

    setup.world.0.borrow_mut().pages[1].fill(0xaa);
    assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_WRITE, 127, &[(11, 7, 7)])), OKAY);
    let after = setup.disk.platter.borrow().bytes.clone();
    assert_eq!(after[191 * 512..192 * 512], [0xaa; 512]);
    assert_eq!((&after[..191 * 512], &after[192 * 512..]), (&platter[..191 * 512], &platter[192 * 512..]));
    assert_eq!(setup.world.held(), 0);
}

#[test]
fn what_makes_no_sense_is_refused_and_holds_nothing() {
    let (mut setup, mut ring) = setup(false);
    let before = setup.disk.platter.borrow().bytes.clone();
    let read = |sector, segments: &[_]| transfer(BLKIF_OP_READ, sector, segments);
    let many = BlkifRequest { nr_segments: 12, ..read(0, &[(10, 0, 7)]) };
    let refused = [
        (ERROR, read(128, &[(10, 0, 0)])),
        (ERROR, read(127, &[(10, 0, 1)])),
        (ERROR, read(u64::MAX, &[(10, 0, 0)])),
        (ERROR, read(u64::MAX - 64, &[(10, 0, 7)])),
        (ERROR, read(0, &[])),
        (ERROR, read(0, &[(10, 0, 8)])),
        (ERROR, read(0, &[(10, 3, 2)])),
        (ERROR, read(0, &[(10, 255, 255)])),
        (ERROR, many),
        // No such grant, the second of two, and one that may not be written.
        (ERROR, read(0, &[(99, 0, 0)])),
        (ERROR, read(0, &[(10, 0, 0), (99, 0, 0)])),
        (ERROR, read(0, &[(11, 0, 0)])),
        (UNSUPPORTED, transfer(BLKIF_OP_WRITE_BARRIER, 0, &[(10, 0, 0)])),
        (UNSUPPORTED, transfer(BLKIF_OP_WRITE_BARRIER, 0, &[])),
        (UNSUPPORTED, transfer(4, 0, &[(10, 0, 0)])),
        (UNSUPPORTED, transfer(255, 0, &[])),
    ];
    for (status, request) in refused {
        assert_eq!(setup.ask(1, &mut ring, request), status, "{request:?}");
        assert_eq!(setup.world.held(), 0);
    }
    assert_eq!(setup.disk.platter.borrow().bytes, before);
}

#[test]
fn a_read_only_disk_is_not_written() {
    let (mut setup, mut ring) = setup(true);
    let before = setup.disk.platter.borrow().bytes.clone();
    assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_WRITE, 0, &[(10, 0, 0)])), ERROR);
    assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_FLUSH_DISKCACHE, 0, &[(10, 0, 0)])), ERROR);
    assert_eq!(setup.ask(1, &mut ring, indirect(BLKIF_OP_WRITE, 0, 1, 10)), ERROR);
    assert_eq!(setup.ask(1, &mut ring, discard(0, 8)), ERROR);
    assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_READ, 0, &[(10, 0, 0)])), OKAY);
    assert_eq!(setup.disk.platter.borrow().bytes, before);
    assert_eq!(setup.store.get(&(Setup::back(1) + "/info")), VdiskFlags::READONLY.bits().to_string());
}

#[test]
fn what_was_written_before_a_flush_is_durable_after_it() {
    let (mut setup, mut ring) = setup(false);
    setup.world.0.borrow_mut().pages[0].fill(0x55);
    assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_WRITE, 0, &[(10, 0, 7)])), OKAY);
    assert_ne!(setup.disk.platter.borrow().durable[64 * 512], 0x55);
    assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_FLUSH_DISKCACHE, 0, &[])), OKAY);
    assert_eq!(setup.disk.platter.borrow().durable[64 * 512..72 * 512], [0x55; 4096]);
    // A flush with data makes its own data durable too.
    assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_FLUSH_DISKCACHE, 8, &[(10, 0, 0)])), OKAY);
    assert_eq!(setup.disk.platter.borrow().durable[72 * 512..73 * 512], [0x55; 512]);
}

fn discard(sector: u64, sectors: u64) -> BlkifRequest {
    let request = BlkifRequestDiscard {
        operation: BLKIF_OP_DISCARD,
        id: 77,
        sector_number: sector,
        nr_sectors: sectors,
        ..BlkifRequestDiscard::default()
    };
    in_slot(request.as_bytes())
}

fn indirect(operation: u8, sector: u64, segments: u16, page: u32) -> BlkifRequest {
    let mut request = BlkifRequestIndirect {
        operation: BLKIF_OP_INDIRECT,
        indirect_op: operation,
        nr_segments: segments,
        id: 77,
        sector_number: sector,
        ..BlkifRequestIndirect::default()
    };
    request.indirect_grefs[0] = page;
    in_slot(request.as_bytes())
}

/// A request of another kind in a slot whose rest has something else in it.
fn in_slot(bytes: &[u8]) -> BlkifRequest {
    let mut slot = vec![0xee; BLKIF_SLOT_BYTES];
    slot[..bytes.len()].copy_from_slice(bytes);
    BlkifRequest::read_from_bytes(&slot).unwrap()
}

#[test]
fn discards() {
    let (mut setup, mut ring) = setup(false);
    assert_eq!(setup.ask(1, &mut ring, discard(8, 16)), OKAY);
    assert_eq!(setup.disk.platter.borrow().bytes[72 * 512..88 * 512], [0; 8192]);
    assert_ne!(setup.disk.platter.borrow().bytes[88 * 512], 0);
    // More than the disk takes at once, which is 64 sectors.
    for (sector, sectors) in [(0, 64), (0, 65), (0, 128)] {
        setup.disk.platter.borrow_mut().bytes.fill(0x55);
        assert_eq!(setup.ask(1, &mut ring, discard(sector, sectors)), OKAY);
        let platter = setup.disk.platter.borrow();
        let gone = (64 + sector as usize) * 512..(64 + (sector + sectors) as usize) * 512;
        assert!(platter.bytes.iter().enumerate().all(|(at, byte)| gone.contains(&at) == (*byte == 0)));
    }
    for (sector, sectors) in [(0, 0), (120, 9), (0, 129), (u64::MAX, 2), (2, u64::MAX)] {
        assert_eq!(setup.ask(1, &mut ring, discard(sector, sectors)), ERROR);
    }
    let mut secure = discard(8, 16);
    secure.nr_segments = BLKIF_DISCARD_SECURE;
    assert_eq!(setup.ask(1, &mut ring, secure), UNSUPPORTED);
}

#[test]
fn indirect_segments() {
    let (mut setup, mut ring) = setup(false);
    let list = setup.world.grant_page(1, 20, false);
    let grefs: std::vec::Vec<u32> = (100..130).collect();
    for (n, gref) in grefs.iter().enumerate() {
        setup.world.grant_page(1, *gref, true);
        let segment = BlkifSegment { gref: *gref, first_sect: 1, last_sect: 4, _pad: 0 };
        setup.world.0.borrow_mut().pages[list][8 * n..8 * n + 8].copy_from_slice(segment.as_bytes());
    }
    let response = |setup: &mut Setup, ring: &mut FrontRing, request| {
        assert!(ring.push(&request).is_some());
        setup.run(1, ring);
        ring.take().unwrap().unwrap()
    };
    let answer = response(&mut setup, &mut ring, indirect(BLKIF_OP_READ, 4, 30, 20));
    // The response names the operation inside: Linux refuses any other.
    assert_eq!((answer.status, answer.operation, answer.id), (OKAY, BLKIF_OP_READ, 77));
    let bytes = setup.disk.platter.borrow().bytes.clone();
    for n in 0..30 {
        let from = (68 + 4 * n) * 512;
        assert_eq!(setup.world.0.borrow().pages[list + 1 + n][512..2560], bytes[from..from + 2048]);
    }
    // More than the disk takes, none, no such page, beyond the end, no operation inside.
    for request in [(30, 31, 20, BLKIF_OP_READ), (0, 0, 20, BLKIF_OP_READ), (0, 1, 99, BLKIF_OP_READ)] {
        let (sector, count, page, operation) = request;
        assert_eq!(setup.ask(1, &mut ring, indirect(operation, sector, count, page)), ERROR);
    }
    assert_eq!(setup.ask(1, &mut ring, indirect(BLKIF_OP_READ, 9, 30, 20)), ERROR);
    assert_eq!(setup.ask(1, &mut ring, indirect(BLKIF_OP_FLUSH_DISKCACHE, 0, 1, 20)), UNSUPPORTED);
    assert_eq!(setup.ask(1, &mut ring, indirect(BLKIF_OP_INDIRECT, 0, 1, 20)), UNSUPPORTED);
    setup.world.0.borrow_mut().pages[list][4] = 7;
    assert_eq!(setup.ask(1, &mut ring, indirect(BLKIF_OP_READ, 0, 1, 20)), ERROR);
    assert_eq!(setup.world.held(), 0);
}

#[test]
fn a_sector_that_cannot_be_read_is_an_error_and_no_more() {
    let (mut setup, mut ring) = setup(false);
    setup.disk.platter.borrow_mut().bad.insert(66);
    assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_READ, 0, &[(10, 0, 7)])), ERROR);
    assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_READ, 3, &[(10, 0, 7)])), OKAY);
    assert_eq!(setup.world.held(), 0);
}

#[test]
fn a_full_ring_takes_few_calls() {
    let (mut setup, mut ring) = setup(false);
    for n in 0..32 {
        let request = BlkifRequest { id: n, ..transfer(BLKIF_OP_READ, n, &[(10, 0, 0)]) };
        assert!(ring.push(&request).is_some());
    }
    setup.run(1, &mut ring);
    let answers = core::iter::from_fn(|| ring.take().unwrap()).filter(|answer| answer.status == OKAY).count();
    assert_eq!(answers, 32);
    // The disk has room for 8, so there are 4 lots; pages are held all at once and let go lot by lot.
    assert_eq!(setup.world.0.borrow().calls, 1 + 4);
}
