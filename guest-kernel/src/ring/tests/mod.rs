//! Tests of the rings.
//!
//! * `model`: both sides honest, at random, against queues; from indices before the wrap.
//! * `hostile`: the other side writes what it likes, at any time.
//! * `wake_ups`: two threads that sleep when nothing is there, under `shuttle`, which tries many interleavings.
#![allow(clippy::cast_possible_truncation, reason = "tests cut numbers to size that they know")]

mod hostile;
mod model;
mod wake_ups;

use super::memory::Index;
use super::{Back, Front, Seen, SharedMemory};
use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::vec::Vec;

/// Entries of different sizes, neither a power of two.
type Request = [u32; 7];
type Response = [u32; 3];
type Words = Arc<[AtomicU32]>;

const SLOTS: u32 = 8;

fn words(slots: u32) -> Words {
    (0..16 + slots * 7).map(|_| AtomicU32::new(0)).collect()
}

fn request(value: u32) -> Request {
    [value, !value, value ^ 1, 0, value, 7, value.wrapping_mul(3)]
}

fn response(value: u32) -> Response {
    [value, !value, value.wrapping_mul(5)]
}

/// A ring both of whose sides were at `start` for a while.
fn ring<M: SharedMemory + Clone>(memory: M, start: u32) -> (Front<M, Request, Response>, Back<M, Request, Response>) {
    let mut front = Front::new(memory.clone()).unwrap();
    (front.req_prod, front.published, front.rsp_cons) = (start, start, start);
    front.seen = Seen::until(start);
    for (index, value) in [(Index::RequestProducer, start), (Index::ResponseProducer, start)] {
        memory.store(index as usize, value, Ordering::Relaxed);
    }
    for index in [Index::RequestEvent, Index::ResponseEvent] {
        memory.store(index as usize, start.wrapping_add(1), Ordering::Relaxed);
    }
    (front, Back::attach(memory).unwrap())
}

#[test]
fn a_new_ring_looks_as_the_header_says() {
    let memory: Words = (0..1024).map(|_| AtomicU32::new(0xdead_beef)).collect();
    let front = Front::<_, [u32; 28], [u32; 4]>::new(memory.clone()).unwrap();
    let header: Vec<u32> = (0..4).map(|word| memory[word].load(Ordering::Relaxed)).collect();
    assert_eq!((front.slots(), header), (32, [0, 1, 0, 1].into()));
}

#[test]
fn a_ring_of_pages_has_as_many_slots_as_fit() {
    let slots = |bytes: usize| {
        let memory: Words = (0..bytes / 4).map(|_| AtomicU32::new(0)).collect();
        Front::<_, [u32; 28], [u32; 4]>::new(memory).map(|ring| ring.slots())
    };
    assert_eq!([4096, 8192, 65536, 64].map(slots), [Ok(32), Ok(64), Ok(512), Err(super::Error::TooSmall)]);
}

#[test]
fn a_backend_that_attaches_later_goes_on_where_the_last_one_answered() {
    let (mut front, mut back) = ring(words(SLOTS), 5);
    (0..3).for_each(|n| assert_eq!(front.push(&request(n)), Some(5 + n)));
    assert!(front.publish());
    assert_eq!(back.take(), Ok(Some(request(0))));
    back.respond(&response(0));
    assert!(back.publish());
    assert_eq!(back.take(), Ok(Some(request(1))));

    let mut next = Back::<_, Request, Response>::attach(back.into_memory()).unwrap();
    assert_eq!(next.take(), Ok(Some(request(1))));
    assert_eq!(next.take(), Ok(Some(request(2))));
    assert_eq!(next.take(), Ok(None));
}

#[test]
fn a_frontend_can_be_told_of_many_responses_at_once() {
    let (mut front, mut back) = ring(words(SLOTS), 0);
    (0..4).for_each(|n| assert!(front.push(&request(n)).is_some()));
    assert!(front.publish());
    // More than can come is all that can come.
    assert_eq!(front.arm(9), Ok(false));
    for n in 0..4 {
        assert_eq!(back.take(), Ok(Some(request(n))));
        back.respond(&response(n));
        assert_eq!(back.publish(), n == 3);
        assert_eq!(front.arm(4), Ok(n == 3));
    }
}
