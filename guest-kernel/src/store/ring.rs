//! The shared page as two streams of bytes, seen from either end.
//!
//! Each end owns two of the four indices and keeps its own copies of them: what it reads of the other's is one number,
//! read once and checked, and what it wrote itself it never reads back. So the other end can make a stream fail, but never
//! make this one look outside the ring.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use pv_abi::io::xenstore::{XENSTORE_CONNECTED, XENSTORE_ERROR_NONE, XENSTORE_RING_SIZE, XenstoreInterface};

const SIZE: usize = XENSTORE_RING_SIZE;
/// The same as an index. 1024 is less than any index's range.
#[expect(clippy::cast_possible_truncation)]
const SIZE_INDEX: u32 = SIZE as u32;

/// The page, as what both ends change at any time: `struct xenstore_domain_interface`.
#[derive(Debug)]
#[repr(C)]
pub struct Interface {
    req: [AtomicU8; SIZE],
    rsp: [AtomicU8; SIZE],
    req_cons: AtomicU32,
    req_prod: AtomicU32,
    rsp_cons: AtomicU32,
    rsp_prod: AtomicU32,
    /// `XENSTORE_SERVER_FEATURE_*` bits, which the server sets.
    pub server_features: AtomicU32,
    /// [`XENSTORE_CONNECTED`], or `XENSTORE_RECONNECT`, which the client sets and the server takes back.
    pub connection: AtomicU32,
    /// An `XENSTORE_ERROR_*`, which the server sets.
    pub error: AtomicU32,
}

const _: () = assert!(size_of::<Interface>() == size_of::<XenstoreInterface>());
const _: () = assert!(offset_of!(Interface, rsp) == offset_of!(XenstoreInterface, rsp));
const _: () = assert!(offset_of!(Interface, req_cons) == offset_of!(XenstoreInterface, req_cons));
const _: () = assert!(offset_of!(Interface, req_prod) == offset_of!(XenstoreInterface, req_prod));
const _: () = assert!(offset_of!(Interface, rsp_cons) == offset_of!(XenstoreInterface, rsp_cons));
const _: () = assert!(offset_of!(Interface, rsp_prod) == offset_of!(XenstoreInterface, rsp_prod));
const _: () = assert!(offset_of!(Interface, server_features) == offset_of!(XenstoreInterface, server_features));
const _: () = assert!(offset_of!(Interface, connection) == offset_of!(XenstoreInterface, connection));
const _: () = assert!(offset_of!(Interface, error) == offset_of!(XenstoreInterface, error));

impl Interface {
    /// An empty page.
    pub const fn new() -> Interface {
        Interface {
            req: [const { AtomicU8::new(0) }; SIZE],
            rsp: [const { AtomicU8::new(0) }; SIZE],
            req_cons: AtomicU32::new(0),
            req_prod: AtomicU32::new(0),
            rsp_cons: AtomicU32::new(0),
            rsp_prod: AtomicU32::new(0),
            server_features: AtomicU32::new(0),
            connection: AtomicU32::new(XENSTORE_CONNECTED),
            error: AtomicU32::new(XENSTORE_ERROR_NONE),
        }
    }

    /// Empties both streams, for a fresh start. Only the server does this, while the client waits for it.
    pub fn clear(&self) {
        for index in [&self.req_cons, &self.req_prod, &self.rsp_cons, &self.rsp_prod] {
            index.store(0, Ordering::Relaxed);
        }
    }

    /// Overwrites the indices: those of requests, consumer first, and those of responses. For a client that lies.
    pub fn set_indices(&self, indices: [u32; 4]) {
        let all = [&self.req_cons, &self.req_prod, &self.rsp_cons, &self.rsp_prod];
        for (index, value) in all.into_iter().zip(indices) {
            index.store(value, Ordering::Release);
        }
    }
}

impl Default for Interface {
    fn default() -> Interface {
        Interface::new()
    }
}

/// The other end's index is further from ours than the ring is long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadIndex;

/// Whose end it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Sends requests.
    Client,
    /// Sends replies and events.
    Server,
}

/// One end of both streams.
#[derive(Debug)]
pub struct Stream {
    end: End,
    /// The next byte to read.
    read: u32,
    /// The next byte to write.
    written: u32,
}

impl Stream {
    /// An end that goes on where the page's indices are: those that are this end's.
    pub fn new(end: End, page: &Interface) -> Stream {
        let (read, written) = match end {
            End::Client => (&page.rsp_cons, &page.req_prod),
            End::Server => (&page.req_cons, &page.rsp_prod),
        };
        Stream { end, read: read.load(Ordering::Relaxed), written: written.load(Ordering::Relaxed) }
    }

    /// Reads what is there and fits; how many bytes.
    ///
    /// # Errors
    /// [`BadIndex`], and nothing is read.
    pub fn read(&mut self, page: &Interface, bytes: &mut [u8]) -> Result<usize, BadIndex> {
        let (ring, consumer, producer) = match self.end {
            End::Client => (&page.rsp, &page.rsp_cons, &page.rsp_prod),
            End::Server => (&page.req, &page.req_cons, &page.req_prod),
        };
        // Acquire: the bytes are read after the index that covers them.
        let filled = distance(self.read, producer.load(Ordering::Acquire))?;
        let count = bytes.len().min(filled);
        for byte in &mut bytes[..count] {
            *byte = ring[self.read as usize % SIZE].load(Ordering::Relaxed);
            self.read = self.read.wrapping_add(1);
        }
        if count > 0 {
            // Release: the bytes were read before the other end may overwrite them.
            consumer.store(self.read, Ordering::Release);
        }
        Ok(count)
    }

    /// Writes what there is room for; how many bytes.
    ///
    /// # Errors
    /// [`BadIndex`], and nothing is written.
    pub fn write(&mut self, page: &Interface, bytes: impl IntoIterator<Item = u8>) -> Result<usize, BadIndex> {
        let (ring, consumer, producer) = match self.end {
            End::Client => (&page.req, &page.req_cons, &page.req_prod),
            End::Server => (&page.rsp, &page.rsp_cons, &page.rsp_prod),
        };
        let filled = distance(consumer.load(Ordering::Acquire), self.written)?;
        let mut count = 0;
        for byte in bytes.into_iter().take(SIZE - filled) {
            ring[self.written as usize % SIZE].store(byte, Ordering::Relaxed);
            self.written = self.written.wrapping_add(1);
            count += 1;
        }
        if count > 0 {
            producer.store(self.written, Ordering::Release);
        }
        Ok(count)
    }
}

/// Bytes between two indices.
fn distance(consumer: u32, producer: u32) -> Result<usize, BadIndex> {
    let filled = producer.wrapping_sub(consumer);
    if filled <= SIZE_INDEX { Ok(filled as usize) } else { Err(BadIndex) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(
            first in any::<u32>(),
            steps in proptest::collection::vec((any::<bool>(), any::<bool>(), 0..1500usize), 1..60),
        ) {
            let page = Interface::new();
            page.set_indices([first; 4]);
            let mut ends = [Stream::new(End::Client, &page), Stream::new(End::Server, &page)];
            let mut under_way = [VecDeque::new(), VecDeque::new()];
            let mut next = 0u8;
            for (from, writes, count) in steps {
                let (from, to) = (usize::from(from), usize::from(!from));
                if writes {
                    let bytes: Vec<u8> = (0..count).map(|_| { next = next.wrapping_add(1); next }).collect();
                    let written = ends[from].write(&page, bytes.iter().copied()).unwrap();
                    prop_assert_eq!(written, count.min(SIZE - under_way[from].len()));
                    under_way[from].extend(&bytes[..written]);
                } else {
                    let mut bytes = vec![0; count];
                    let read = ends[to].read(&page, &mut bytes).unwrap();
                    let expected: Vec<u8> = under_way[from].drain(..count.min(under_way[from].len())).collect();
                    prop_assert_eq!(&bytes[..read], expected);
                }
            }
        }

        #[test]
        fn wild_indices_fail_or_stay_inside(indices in any::<[u32; 4]>(), again in any::<[u32; 4]>()) {
            let page = Interface::new();
            page.set_indices(indices);
            let mut server = Stream::new(End::Server, &page);
            page.set_indices(again);
            let mut bytes = [0; 4096];
            let filled = again[1].wrapping_sub(indices[0]);
            let read = server.read(&page, &mut bytes);
            prop_assert_eq!(read, if filled <= 1024 { Ok(filled as usize) } else { Err(BadIndex) });
            let used = indices[3].wrapping_sub(again[2]);
            let written = server.write(&page, [1; 4096]);
            prop_assert_eq!(written, if used <= 1024 { Ok(1024 - used as usize) } else { Err(BadIndex) });
        }
    }
}
