//! One ring of a virtual disk: requests in, operations of the disk out, responses back.
//!
//! A request becomes a *job*. Its life: taken from the ring and decoded; its pages are held by grant mappings; its steps
//! are given to the disk one after the other; the pages are let go; it is answered. Everything that takes a hypercall is
//! done for all jobs of a turn at once.
//!
//! The pages of a job are let go before its response can be seen: the frontend takes its grants back then. And never
//! while the disk may still write to them, whatever happens to the frontend, or to this code: a panic anywhere here
//! leaves each page that is held in a job or in the [`Batch`], and [`Queue::cut_off`] goes by this alone.

use super::disk::{Disk, Full};
use super::job::{Job, Step};
use super::platform::{Access, MAX_PIECES, Mapped, Piece, Platform};
use super::request::{Command, Refused, Volume, decode};
use crate::contain::indivisible;
use crate::domains::traffic::Traffic;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use guest_kernel::ring::{Back, Error, SharedMemory};
use pv_abi::io::block::*;

/// Most requests taken in a turn.
const MAX_JOBS: usize = MAX_PIECES;
/// A turn that has taken requests with so many segments takes no more.
const MAX_SEGMENTS: usize = 512;
/// Pages held above which a queue takes no more requests, so that no frontend has more than its share of the memory here
/// and of the hypervisor's grant mappings: 8 MiB of data under way.
const MAX_HELD: usize = 2048;

/// Lists that a turn fills and empties, kept for their memory.
#[derive(Debug, Default)]
pub struct Batch {
    taken: Vec<(u16, Command)>,
    pieces: Vec<Piece>,
    accesses: Vec<Access>,
    results: Vec<Option<Mapped>>,
    unmapped: Vec<Mapped>,
}

impl Batch {
    /// Empties the lists after a panic, and lets go of the pages that nobody has any more.
    pub fn cut_off<P: Platform>(&mut self, platform: &mut P) {
        self.taken.clear();
        self.pieces.clear();
        self.accesses.clear();
        self.unmapped.extend(self.results.drain(..).flatten());
        if !self.unmapped.is_empty() {
            platform.unmap(&self.unmapped);
            self.unmapped.clear();
        }
    }
}

/// A ring and its jobs.
#[derive(Debug)]
pub struct Queue<R> {
    ring: Back<R, BlkifRequest, BlkifResponse>,
    domain: u16,
    jobs: Vec<Job>,
    free: Vec<u16>,
    /// Ready for their next step.
    waiting: VecDeque<u16>,
    /// Over, with the status to answer.
    over: Vec<(u16, i16)>,
    /// Pages held.
    held: usize,
    /// Requests were left in the ring because too many pages are held.
    stalled: bool,
    /// What was read and written.
    traffic: Traffic,
    /// Requests that made no sense.
    refused: u64,
    /// The ring is left alone; what the disk has is waited for.
    is_cut_off: bool,
}

/// How much was taken from a ring.
enum Taken {
    /// All that was there.
    All,
    /// As much as a turn takes.
    Some,
    /// As much as may be under way.
    NoRoom,
}

impl<R: SharedMemory> Queue<R> {
    /// Serves a frontend's ring.
    ///
    /// # Errors
    /// When its indices are impossible, or it is too small.
    pub fn new(memory: R, domain: u16) -> Result<Queue<R>, Error> {
        let ring = Back::attach(memory)?;
        let count = u16::try_from(ring.slots()).map_err(|_| Error::TooSmall)?;
        let jobs = (0..count).map(|_| Job::default()).collect();
        let free = (0..count).rev().collect();
        Ok(Queue {
            ring,
            domain,
            jobs,
            free,
            waiting: VecDeque::new(),
            over: Vec::new(),
            held: 0,
            stalled: false,
            traffic: Traffic::default(),
            refused: 0,
            is_cut_off: false,
        })
    }

    /// Takes requests, holds their pages, and lets them wait for the disk. Whether there may be more; if not, an event or
    /// a completion comes before there are.
    ///
    /// # Errors
    /// The ring is broken: [`abandon`](Self::abandon) the queue.
    pub fn take<P: Platform>(&mut self, volume: &Volume, platform: &mut P, batch: &mut Batch) -> Result<bool, Error> {
        self.stalled = false;
        let taken = self.take_from_ring(volume, batch);
        self.prepare(volume, platform, batch);
        self.hold(platform, batch);
        match taken? {
            Taken::All => self.ring.arm(),
            Taken::Some => Ok(true),
            // Completions will make room.
            Taken::NoRoom => {
                self.stalled = true;
                Ok(false)
            }
        }
    }

    /// Decodes requests into jobs: those that go on are in `batch.taken`, and have a part of a page to be copied in
    /// `batch.pieces` if they are indirect.
    fn take_from_ring(&mut self, volume: &Volume, batch: &mut Batch) -> Result<Taken, Error> {
        let mut segments = 0;
        while batch.taken.len() < MAX_JOBS && segments < MAX_SEGMENTS {
            if self.held + segments >= MAX_HELD {
                return Ok(Taken::NoRoom);
            }
            let Some(request) = self.ring.take()? else { return Ok(Taken::All) };
            // A ring has no more requests under way than slots.
            let Some(index) = self.free.pop() else { return Err(Error::IndexJump) };
            let job = &mut self.jobs[usize::from(index)];
            job.begin(&request);
            match decode(&request, volume, &mut job.segments) {
                Ok(command) => {
                    if let Command::Indirect { count, page, .. } = command {
                        batch.pieces.push(Piece { gref: page, bytes: count * size_of::<BlkifSegment>() });
                        segments += count;
                    }
                    segments += job.segments.len();
                    batch.taken.push((index, command));
                }
                Err(refused) => {
                    self.refused += 1;
                    self.over.push((index, refused.status()));
                }
            }
        }
        Ok(Taken::Some)
    }

    /// Reads the segments of indirect requests, and notes what is to be done for each job.
    fn prepare<P: Platform>(&mut self, volume: &Volume, platform: &mut P, batch: &mut Batch) {
        if !batch.pieces.is_empty() {
            platform.copy(self.domain, &batch.pieces);
            batch.pieces.clear();
        }
        let (jobs, over, refusals, mut piece) = (&mut self.jobs, &mut self.over, &mut self.refused, 0);
        batch.taken.retain(|&(index, command)| {
            let job = &mut jobs[usize::from(index)];
            if matches!(command, Command::Indirect { .. }) {
                piece += 1;
            }
            let result = job.prepare(command, volume, || platform.piece(piece - 1));
            let refuse = |refused: &Refused| {
                *refusals += 1;
                over.push((index, refused.status()));
            };
            result.inspect_err(refuse).is_ok()
        });
    }

    /// Holds the pages of the jobs that were taken.
    fn hold<P: Platform>(&mut self, platform: &mut P, batch: &mut Batch) {
        for &(index, _) in &batch.taken {
            let job = &self.jobs[usize::from(index)];
            batch.accesses.extend(job.segments.iter().map(|segment| Access { gref: segment.gref, write: !job.write }));
        }
        if !batch.accesses.is_empty() {
            platform.map(self.domain, &batch.accesses, &mut batch.results);
            batch.accesses.clear();
        }
        let mut results = batch.results.iter_mut();
        for (index, _) in batch.taken.drain(..) {
            let job = &mut self.jobs[usize::from(index)];
            let all = job.hold(&mut results);
            self.held += job.mapped.len();
            if all {
                self.waiting.push_back(index);
            } else {
                self.refused += 1;
                self.over.push((index, BLKIF_RSP_ERROR));
            }
        }
        batch.results.clear();
    }

    /// How many requests were refused since this was last asked.
    pub fn take_refused(&mut self) -> u64 {
        core::mem::take(&mut self.refused)
    }

    /// Gives the disk what waits for it. An operation's token is `token` and the job's number.
    ///
    /// # Errors
    /// [`Full`]: some still wait.
    pub fn submit(&mut self, disk: &mut (impl Disk + ?Sized), token: u64) -> Result<(), Full> {
        while let Some(&index) = self.waiting.front() {
            let job = &mut self.jobs[usize::from(index)];
            indivisible(|| disk.submit(token | u64::from(index), job.operation()))?;
            job.under_way = true;
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// The disk has completed an operation of the job `index`.
    pub fn complete(&mut self, index: u16, done: bool) {
        let job = &mut self.jobs[usize::from(index)];
        job.under_way = false;
        if done && job.step == Step::Transfer {
            let bytes: u64 = job.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
            *if job.write { &mut self.traffic.written } else { &mut self.traffic.read } += bytes;
        }
        if !done {
            self.over.push((index, BLKIF_RSP_ERROR));
        } else if !self.is_cut_off && self.jobs[usize::from(index)].advance() {
            self.waiting.push_back(index);
        } else {
            self.over.push((index, BLKIF_RSP_OKAY));
        }
    }

    /// Lets go of the pages of jobs that are over, then answers them. Whether the frontend wants to be told.
    #[must_use = "the frontend sleeps until it is told"]
    pub fn answer<P: Platform>(&mut self, platform: &mut P, batch: &mut Batch) -> bool {
        for &(index, _) in &self.over {
            batch.unmapped.append(&mut self.jobs[usize::from(index)].mapped);
        }
        self.held -= batch.unmapped.len();
        if !batch.unmapped.is_empty() {
            platform.unmap(&batch.unmapped);
            batch.unmapped.clear();
        }
        for (index, status) in self.over.drain(..) {
            let job = &mut self.jobs[usize::from(index)];
            let (id, operation) = (job.id, job.operation);
            job.shrink();
            if !self.is_cut_off {
                self.ring.respond(&BlkifResponse { id, operation, status, ..BlkifResponse::default() });
            }
            self.free.push(index);
        }
        !self.is_cut_off && self.ring.publish()
    }

    /// What was read and written.
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Takes nothing more to the disk: what waits is over. What the disk has already is waited for.
    pub fn abandon(&mut self) {
        self.over.extend(self.waiting.drain(..).map(|index| (index, BLKIF_RSP_ERROR)));
        // A long discard ends with the part that the disk has.
        self.jobs.iter_mut().for_each(|job| job.left = job.left.min(job.most.into()));
    }

    /// Serves the frontend no more, after a panic in the middle of anything. Of the pages that are held, those that the disk
    /// has stay until it has completed them; `batch` has the others then.
    pub fn cut_off(&mut self, batch: &mut Batch) {
        self.is_cut_off = true;
        self.waiting.clear();
        self.over.clear();
        self.free.clear();
        self.held = 0;
        for (index, job) in (0..).zip(&mut self.jobs) {
            if job.under_way {
                self.held += job.mapped.len();
            } else {
                batch.unmapped.append(&mut job.mapped);
                self.free.push(index);
            }
        }
    }

    /// Whether requests were left in the ring for which there is room now.
    pub const fn has_room_again(&self) -> bool {
        self.stalled && self.held < MAX_HELD
    }

    /// Whether no job is left, so that no page is held.
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.jobs.len()
    }
}
