//! The console ring (`io/console.h`): a page with two byte rings, shared by a guest and its console's back end. Pure.
//!
//! Indices run freely; the place of a byte is its index modulo the ring's size. Each side owns one index of each ring, and
//! keeps its own copy of it: what the page says of it is for the other side only. The other side's index is read once and
//! checked, because the other side may write anything at any time.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use pv_abi::io::console::{CONSOLE_IN_SIZE, CONSOLE_OUT_SIZE, ConsoleInterface};

/// The page's contents.
#[repr(C)]
pub struct Page {
    input: [AtomicU8; CONSOLE_IN_SIZE],
    output: [AtomicU8; CONSOLE_OUT_SIZE],
    in_cons: AtomicU32,
    in_prod: AtomicU32,
    out_cons: AtomicU32,
    out_prod: AtomicU32,
}

const _: () = assert!(size_of::<Page>() == size_of::<ConsoleInterface>());

impl Page {
    /// As a new domain finds it.
    pub const fn new() -> Page {
        Page {
            input: [const { AtomicU8::new(0) }; CONSOLE_IN_SIZE],
            output: [const { AtomicU8::new(0) }; CONSOLE_OUT_SIZE],
            in_cons: AtomicU32::new(0),
            in_prod: AtomicU32::new(0),
            out_cons: AtomicU32::new(0),
            out_prod: AtomicU32::new(0),
        }
    }
}

impl Default for Page {
    fn default() -> Page {
        Page::new()
    }
}

/// The other side's index can't be: more bytes would be in the ring than it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// A guest's side.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    in_cons: u32,
    out_prod: u32,
}

impl Front {
    /// Goes on where the page says that this side was: the kernel may not be the first that uses it.
    pub fn new(page: &Page) -> Front {
        Front { in_cons: page.in_cons.load(Ordering::Relaxed), out_prod: page.out_prod.load(Ordering::Relaxed) }
    }

    /// Writes as many of `bytes` as there is room for; how many. The back end is to be notified of them.
    ///
    /// # Errors
    /// [`Broken`]; nothing is written then.
    pub fn write(&mut self, page: &Page, bytes: &[u8]) -> Result<usize, Broken> {
        put(&page.output, &mut self.out_prod, &page.out_cons, &page.out_prod, bytes)
    }

    /// Reads input that has arrived; how many bytes. The back end may wait for room.
    ///
    /// # Errors
    /// [`Broken`]; everything up to the index is skipped then.
    pub fn read(&mut self, page: &Page, into: &mut [u8]) -> Result<usize, Broken> {
        get(&page.input, &mut self.in_cons, &page.in_prod, &page.in_cons, into)
    }
}

/// The back end's side.
#[derive(Clone, Copy, Default, Debug)]
pub struct Back {
    in_prod: u32,
    out_cons: u32,
}

impl Back {
    /// The side of a ring that was not used yet.
    pub const fn new() -> Back {
        Back { in_prod: 0, out_cons: 0 }
    }

    /// The side of a ring that was in use: behind all that the guest has written and read, as the page says it.
    pub fn resume(page: &Page) -> Back {
        Back { in_prod: page.in_cons.load(Ordering::Relaxed), out_cons: page.out_prod.load(Ordering::Relaxed) }
    }

    /// Writes as many of `bytes` as there is room for; how many. The guest is to be notified of them.
    ///
    /// # Errors
    /// [`Broken`]; nothing is written then.
    pub fn write(&mut self, page: &Page, bytes: &[u8]) -> Result<usize, Broken> {
        put(&page.input, &mut self.in_prod, &page.in_cons, &page.in_prod, bytes)
    }

    /// Reads what the guest has written; how many bytes. The guest may wait for room.
    ///
    /// # Errors
    /// [`Broken`]; everything up to the index is skipped then.
    pub fn read(&mut self, page: &Page, into: &mut [u8]) -> Result<usize, Broken> {
        get(&page.output, &mut self.out_cons, &page.out_prod, &page.out_cons, into)
    }
}

/// Puts bytes behind index `own`, which is then shown as `shown`; the other side has read up to `theirs`.
fn put(ring: &[AtomicU8], own: &mut u32, theirs: &AtomicU32, shown: &AtomicU32, bytes: &[u8]) -> Result<usize, Broken> {
    let used = own.wrapping_sub(theirs.load(Ordering::Acquire)) as usize;
    let room = ring.len().checked_sub(used).ok_or(Broken)?;
    let count = bytes.len().min(room);
    for byte in &bytes[..count] {
        ring[*own as usize % ring.len()].store(*byte, Ordering::Relaxed);
        *own = own.wrapping_add(1);
    }
    // The bytes before the index that announces them.
    shown.store(*own, Ordering::Release);
    Ok(count)
}

/// Gets bytes from index `own` on, which is then shown as `shown`; the other side has written up to `theirs`.
fn get(
    ring: &[AtomicU8],
    own: &mut u32,
    theirs: &AtomicU32,
    shown: &AtomicU32,
    into: &mut [u8],
) -> Result<usize, Broken> {
    let end = theirs.load(Ordering::Acquire);
    let there = end.wrapping_sub(*own) as usize;
    let broken = there > ring.len();
    let count = if broken { 0 } else { there.min(into.len()) };
    for slot in &mut into[..count] {
        *slot = ring[*own as usize % ring.len()].load(Ordering::Relaxed);
        *own = own.wrapping_add(1);
    }
    if broken {
        *own = end;
    }
    // The bytes were read before the other side sees that it may overwrite them.
    shown.store(*own, Ordering::Release);
    if broken { Err(Broken) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn output_comes_out_once_and_in_order() {
        let page = Page::new();
        let (mut front, mut back) = (Front::new(&page), Back::new());
        assert_eq!(front.write(&page, b"hello"), Ok(5));
        let mut buffer = [0; 3];
        assert_eq!((back.read(&page, &mut buffer), &buffer), (Ok(3), b"hel"));
        assert_eq!((back.read(&page, &mut buffer), &buffer[..2]), (Ok(2), &b"lo"[..]));
        assert_eq!(back.read(&page, &mut buffer), Ok(0));
        assert_eq!(front.write(&page, &[7; 3000]), Ok(2048));
        assert_eq!(front.write(&page, &[7; 3000]), Ok(0));
    }

    #[test]
    fn indices_that_can_not_be_are_refused_and_no_harm_is_done() {
        let page = Page::new();
        let (mut front, mut back) = (Front::new(&page), Back::new());
        let mut buffer = [0; 4096];
        page.out_prod.store(2049, Ordering::Relaxed);
        assert_eq!(back.read(&page, &mut buffer), Err(Broken));
        assert_eq!(back.read(&page, &mut buffer), Ok(0), "it goes on from there");
        page.in_cons.store(1, Ordering::Relaxed);
        assert_eq!(back.write(&page, b"x"), Err(Broken));
        page.out_cons.store(u32::MAX - 5000, Ordering::Relaxed);
        assert_eq!(front.write(&page, b"x"), Err(Broken));
        page.in_prod.store(5000, Ordering::Relaxed);
        assert_eq!(front.read(&page, &mut buffer), Err(Broken));
    }

    proptest! {
        /// Both rings are queues of bounded length, from any start of the indices.
        #[test]
        fn as_two_queues(start: u32, steps in prop::collection::vec((0u8..4, 0usize..3000), 0..60)) {
            let page = Page::new();
            for index in [&page.in_cons, &page.in_prod, &page.out_cons, &page.out_prod] {
                index.store(start, Ordering::Relaxed);
            }
            let (mut front, mut back) = (Front::new(&page), Back { in_prod: start, out_cons: start });
            let (mut input, mut output) = (VecDeque::new(), VecDeque::new());
            let mut next = 0u8;
            for (what, length) in steps {
                let mut bytes: Vec<u8> = (0..=u8::MAX).cycle().take(length).map(|i| next.wrapping_add(i)).collect();
                next = next.wrapping_add(91);
                match what {
                    0 => {
                        let count = front.write(&page, &bytes).unwrap();
                        prop_assert_eq!(count, length.min(2048 - output.len()));
                        output.extend(&bytes[..count]);
                    }
                    1 => {
                        let count = back.write(&page, &bytes).unwrap();
                        prop_assert_eq!(count, length.min(1024 - input.len()));
                        input.extend(&bytes[..count]);
                    }
                    _ => {
                        let (count, queue) = if what == 2 {
                            (front.read(&page, &mut bytes).unwrap(), &mut input)
                        } else {
                            (back.read(&page, &mut bytes).unwrap(), &mut output)
                        };
                        prop_assert_eq!(count, length.min(queue.len()));
                        let expected: Vec<u8> = queue.drain(..count).collect();
                        prop_assert_eq!(&bytes[..count], &expected);
                    }
                }
            }
        }

        /// Whatever the other side writes into the page, at most the ring's bytes are read or written.
        #[test]
        fn hostile_pages(words in prop::collection::vec(any::<u32>(), 40)) {
            let page = Page::new();
            let (mut front, mut back) = (Front::new(&page), Back::new());
            let mut buffer = vec![0; 5000];
            for four in words.chunks(4) {
                for (index, word) in [&page.in_cons, &page.in_prod, &page.out_cons, &page.out_prod].into_iter().zip(four) {
                    index.store(*word, Ordering::Relaxed);
                }
                prop_assert!(back.read(&page, &mut buffer).unwrap_or(0) <= 2048);
                prop_assert!(back.write(&page, &[1; 5000]).unwrap_or(0) <= 1024);
                prop_assert!(front.read(&page, &mut buffer).unwrap_or(0) <= 1024);
                prop_assert!(front.write(&page, &[1; 5000]).unwrap_or(0) <= 2048);
            }
        }
    }
}
