//! Requests and responses in a ring.

use crate::ring::{self, Front, SharedMemory};
use alloc::vec::Vec;
use core::fmt;
use pv_abi::io::block::*;
use zerocopy::{FromZeros, IntoBytes};

/// What the disk is to do. Sectors have 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation<'a> {
    /// Reads from a sector on into these segments.
    Read(u64, &'a [BlkifSegment]),
    /// Writes from a sector on from these segments.
    Write(u64, &'a [BlkifSegment]),
    /// Reads or, if the flag is set, writes segments that are listed in a granted page: as many, the page.
    Indirect(bool, u64, u16, u32),
    /// Makes durable all that was written and answered.
    Flush,
    /// Forgets the contents of sectors: the first, and how many.
    Discard(u64, u64),
}

impl Operation<'_> {
    /// The operation that its response names.
    const fn code(self) -> u8 {
        match self {
            Operation::Read(..) | Operation::Indirect(false, ..) => BLKIF_OP_READ,
            Operation::Write(..) | Operation::Indirect(true, ..) => BLKIF_OP_WRITE,
            Operation::Flush => BLKIF_OP_FLUSH_DISKCACHE,
            Operation::Discard(..) => BLKIF_OP_DISCARD,
        }
    }

    fn request(self, id: u64) -> BlkifRequest {
        let direct = |operation: u8, sector_number, segments: &[BlkifSegment]| {
            let mut request = BlkifRequest { operation, id, sector_number, ..BlkifRequest::new_zeroed() };
            // Those that don't fit are an indirect request's.
            let count = segments.len().min(BLKIF_MAX_SEGMENTS_PER_REQUEST);
            request.seg[..count].copy_from_slice(&segments[..count]);
            request.nr_segments = u8::try_from(count).unwrap_or(0);
            request
        };
        match self {
            Operation::Read(sector, segments) | Operation::Write(sector, segments) => {
                direct(self.code(), sector, segments)
            }
            Operation::Flush => direct(self.code(), 0, &[]),
            Operation::Indirect(_, sector_number, nr_segments, page) => {
                let mut request = BlkifRequestIndirect {
                    operation: BLKIF_OP_INDIRECT,
                    indirect_op: self.code(),
                    nr_segments,
                    id,
                    sector_number,
                    ..BlkifRequestIndirect::default()
                };
                request.indirect_grefs[0] = page;
                in_slot(request.as_bytes())
            }
            Operation::Discard(sector_number, nr_sectors) => {
                let operation = self.code();
                in_slot(
                    BlkifRequestDiscard { operation, id, sector_number, nr_sectors, ..BlkifRequestDiscard::default() }
                        .as_bytes(),
                )
            }
        }
    }
}

/// A shorter kind of request in a slot.
fn in_slot(bytes: &[u8]) -> BlkifRequest {
    let mut slot = BlkifRequest::new_zeroed();
    slot.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    slot
}

/// The disk did not do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It can't.
    Unsupported,
    /// It failed.
    Failed,
}

/// A request that is done: its number, and how it went.
pub type Done = (usize, Result<(), Failure>);

/// The backend doesn't keep to the protocol. Nothing that it says is believed from then on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// The ring.
    Ring(ring::Error),
    /// A response to no request, or to one of another kind.
    Response,
    /// The backend has closed.
    Gone,
    /// The backend has not answered any request for a long time.
    Silent,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Ring(error) => error.fmt(f),
            Broken::Response => f.write_str("a response without its request"),
            Broken::Gone => f.write_str("it is gone"),
            Broken::Silent => f.write_str("it doesn't answer"),
        }
    }
}

/// A ring, and which requests are in it.
#[derive(Debug)]
pub struct Requests<M> {
    ring: Front<M, BlkifRequest, BlkifResponse>,
    /// By number: the operation that the response has to name, if the request is under way.
    under_way: Vec<Option<u8>>,
    broken: Option<Broken>,
}

impl<M: SharedMemory> Requests<M> {
    /// An empty ring in memory that the backend has not got yet.
    ///
    /// # Errors
    /// When it is too small.
    pub fn new(memory: M) -> Result<Requests<M>, ring::Error> {
        let ring = Front::new(memory)?;
        let under_way = (0..ring.slots()).map(|_| None).collect();
        Ok(Requests { ring, under_way, broken: None })
    }

    /// How many requests can be under way.
    pub fn slots(&self) -> usize {
        self.under_way.len()
    }

    /// Whether the request with this number is under way.
    pub fn is_under_way(&self, number: usize) -> bool {
        self.under_way.get(number).is_some_and(Option::is_some)
    }

    /// Adds a request with a number below [`slots`](Self::slots) that isn't under way; whether it was. The backend sees it
    /// when it is [published](Self::publish).
    pub fn submit(&mut self, number: usize, operation: Operation<'_>) -> bool {
        let Some(place @ None) = self.under_way.get_mut(number) else { return false };
        let pushed = self.ring.push(&operation.request(number as u64)).is_some();
        *place = pushed.then_some(operation.code());
        pushed
    }

    /// Shows the backend the new requests. Whether it wants to be told.
    #[must_use = "the backend sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        self.ring.publish()
    }

    /// The next response: the request's number, and how it went.
    ///
    /// # Errors
    /// [`Broken`], and from then on always.
    pub fn take(&mut self) -> Result<Option<Done>, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        self.take_checked().inspect_err(|broken| self.broken = Some(*broken))
    }

    fn take_checked(&mut self) -> Result<Option<Done>, Broken> {
        let Some(response) = self.ring.take().map_err(Broken::Ring)? else { return Ok(None) };
        let number = usize::try_from(response.id).map_err(|_| Broken::Response)?;
        let place = self.under_way.get_mut(number).ok_or(Broken::Response)?;
        if *place != Some(response.operation) {
            return Err(Broken::Response);
        }
        *place = None;
        let outcome = match response.status {
            BLKIF_RSP_OKAY => Ok(()),
            BLKIF_RSP_EOPNOTSUPP => Err(Failure::Unsupported),
            _ => Err(Failure::Failed),
        };
        Ok(Some((number, outcome)))
    }

    /// Asks to be told when `count` more responses are there. `true` if they are there already.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    #[must_use = "a response that is there already causes no event"]
    pub fn arm(&mut self, count: u32) -> Result<bool, Broken> {
        self.ring.arm(count).map_err(Broken::Ring).inspect_err(|broken| self.broken = Some(*broken))
    }
}
