//! The front end against a backend that keeps to the protocol, and one that doesn't.
#![allow(clippy::cast_possible_truncation, reason = "tests cut numbers to size that they know")]

use super::*;
use crate::ring::Back;
use core::sync::atomic::{AtomicU32, Ordering};
use proptest::prelude::*;
use pv_abi::io::block::*;
use std::sync::Arc;
use std::vec::Vec;

type Memory = Arc<[AtomicU32]>;
type Backend = Back<Memory, BlkifRequest, BlkifResponse>;

fn ends() -> (Requests<Memory>, Backend, Memory) {
    let memory: Memory = (0..1024).map(|_| AtomicU32::new(0)).collect();
    let requests = Requests::new(memory.clone()).unwrap();
    (requests, Back::attach(memory.clone()).unwrap(), memory)
}

fn answer(id: u64, operation: u8, status: i16) -> BlkifResponse {
    BlkifResponse { id, operation, status, ..BlkifResponse::default() }
}

const SEGMENT: BlkifSegment = BlkifSegment { gref: 70, first_sect: 1, last_sect: 6, _pad: 0 };

#[test]
fn requests_look_as_the_header_says() {
    let (mut requests, mut backend, _) = ends();
    let operations = [
        Operation::Read(1 << 40, &[SEGMENT; 3]),
        Operation::Write(5, &[SEGMENT; 11]),
        Operation::Indirect(true, 9, 200, 33),
        Operation::Flush,
        Operation::Discard(7, 1 << 33),
    ];
    for (number, operation) in operations.into_iter().enumerate() {
        assert!(requests.submit(number, operation) && !requests.submit(number, operation));
    }
    assert!(requests.publish());
    let mut next = || backend.take().unwrap().unwrap();
    let read = next();
    assert_eq!((read.operation, read.nr_segments, read.id, read.sector_number), (BLKIF_OP_READ, 3, 0, 1 << 40));
    assert_eq!((read.seg[2], read.seg[3]), (SEGMENT, BlkifSegment::default()));
    assert_eq!(next().seg, [SEGMENT; 11]);
    let bytes = zerocopy::IntoBytes::as_bytes(&next()).to_vec();
    let (indirect, _) = <BlkifRequestIndirect as zerocopy::FromBytes>::read_from_prefix(&bytes).unwrap();
    assert_eq!(
        (indirect.operation, indirect.indirect_op, indirect.nr_segments),
        (BLKIF_OP_INDIRECT, BLKIF_OP_WRITE, 200)
    );
    assert_eq!((indirect.id, indirect.sector_number, indirect.indirect_grefs[0]), (2, 9, 33));
    assert_eq!((next().operation, 3), (BLKIF_OP_FLUSH_DISKCACHE, 3));
    let bytes = zerocopy::IntoBytes::as_bytes(&next()).to_vec();
    let (discard, _) = <BlkifRequestDiscard as zerocopy::FromBytes>::read_from_prefix(&bytes).unwrap();
    assert_eq!((discard.id, discard.sector_number, discard.nr_sectors, discard.flag), (4, 7, 1 << 33, 0));
}

#[test]
fn responses_in_any_order() {
    let (mut requests, mut backend, _) = ends();
    (0..3).for_each(|number| assert!(requests.submit(number, Operation::Read(0, &[SEGMENT]))));
    assert!(requests.publish());
    (0..3).for_each(|_| assert!(backend.take().unwrap().is_some()));
    for (id, status) in [(2, BLKIF_RSP_OKAY), (0, BLKIF_RSP_ERROR), (1, BLKIF_RSP_EOPNOTSUPP)] {
        backend.respond(&answer(id, BLKIF_OP_READ, status));
    }
    assert!(backend.publish());
    let outcomes = [(2, Ok(())), (0, Err(Failure::Failed)), (1, Err(Failure::Unsupported))];
    outcomes.into_iter().for_each(|outcome| assert_eq!(requests.take(), Ok(Some(outcome))));
    assert_eq!(requests.take(), Ok(None));
    assert!((0..3).all(|number| !requests.is_under_way(number)));
}

#[test]
fn a_response_without_its_request_is_the_end() {
    for (id, operation) in [(1, BLKIF_OP_READ), (0, BLKIF_OP_WRITE), (32, BLKIF_OP_READ), (u64::MAX, BLKIF_OP_READ)] {
        let (mut requests, mut backend, _) = ends();
        assert!(requests.submit(0, Operation::Read(0, &[SEGMENT])));
        assert!(requests.publish());
        assert!(backend.take().unwrap().is_some());
        backend.respond(&answer(id, operation, BLKIF_RSP_OKAY));
        assert!(backend.publish());
        assert_eq!(requests.take(), Err(Broken::Response));
        assert_eq!(requests.take(), Err(Broken::Response));
    }
}

proptest! {
    /// Whatever a backend writes into the ring, a request is answered once at most, and one that isn't under way never.
    #[test]
    fn a_hostile_backend(steps in proptest::collection::vec((0u8..4, 0usize..40, any::<u32>()), 0..300)) {
        let (mut requests, _, memory) = ends();
        let mut under_way = Vec::new();
        for (step, place, value) in steps {
            match step {
                0 => {
                    if requests.submit(place, Operation::Write(value.into(), &[SEGMENT])) {
                        prop_assert!(place < 32 && !under_way.contains(&place));
                        under_way.push(place);
                    }
                    let _ = requests.publish();
                }
                // A response that is nearly right, and an index that is nearly right.
                1 => {
                    let first = 16 + 28 * (place % 32);
                    for (n, word) in [value % 34, 0, u32::from(BLKIF_OP_WRITE), 0].into_iter().enumerate() {
                        memory[first + n].store(word, Ordering::Relaxed);
                    }
                    memory[2].fetch_add(value % 3, Ordering::Relaxed);
                }
                2 => memory[place * 25].store(value, Ordering::Relaxed),
                _ => while let Ok(Some((number, _))) = requests.take() {
                    let at = under_way.iter().position(|other| *other == number);
                    prop_assert!(at.is_some(), "answered, and not asked");
                    under_way.swap_remove(at.unwrap());
                },
            }
            let _ = requests.arm(value % 5);
        }
    }
}
