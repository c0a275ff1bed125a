//! One request of a virtual disk, on its way: what it asks for, the pages that it holds, and the disk's next step.

use super::disk::{Chunk, Operation};
use super::platform::Mapped;
use super::request::{Command, Refused, Segment, Volume, check_transfer, decode_segments, response_operation};
use alloc::vec::Vec;
use pv_abi::io::block::BlkifRequest;

/// Segments for which a job keeps memory.
const KEPT_SEGMENTS: usize = 32;

/// What the disk is to do for a job next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Step {
    /// A flush before a transfer.
    FlushBefore,
    #[default]
    Transfer,
    /// A flush, the last step.
    Flush,
    Discard,
}

/// A request under way.
#[derive(Debug, Default)]
pub struct Job {
    pub id: u64,
    pub operation: u8,
    pub step: Step,
    pub write: bool,
    /// A transfer between two flushes.
    pub flush: bool,
    /// The first sector, of the disk.
    pub sector: u64,
    /// What is left of a discard.
    pub left: u64,
    /// How much of it the disk takes at once.
    pub most: u32,
    pub segments: Vec<Segment>,
    pub chunks: Vec<Chunk>,
    /// Pages that are held. As long as the disk has the job, nothing is added and nothing is taken away.
    pub mapped: Vec<Mapped>,
    /// The disk has it.
    pub under_way: bool,
}

impl Job {
    /// For a request that was just taken.
    pub fn begin(&mut self, request: &BlkifRequest) {
        (self.id, self.operation) = (request.id, response_operation(request));
        self.segments.clear();
        self.chunks.clear();
        (self.write, self.flush) = (false, false);
    }

    /// Decodes what is to be done. `piece`: the page of an indirect request's segments.
    ///
    /// # Errors
    /// What the request is answered with.
    pub fn prepare<'a>(
        &mut self,
        command: Command,
        volume: &Volume,
        piece: impl FnOnce() -> Option<&'a [u8]>,
    ) -> Result<(), Refused> {
        match command {
            Command::Transfer { write, flush, sector } => {
                (self.write, self.flush, self.sector) = (write, flush, volume.first + sector);
                self.step = if flush { Step::FlushBefore } else { Step::Transfer };
            }
            Command::Indirect { write, sector, .. } => {
                // Segments that are in our own memory now: what the frontend does to its page doesn't matter.
                decode_segments(piece().ok_or(Refused::Bad)?, &mut self.segments)?;
                check_transfer(write, sector, &self.segments, volume)?;
                (self.write, self.sector, self.step) = (write, volume.first + sector, Step::Transfer);
            }
            Command::Flush => self.step = Step::Flush,
            Command::Discard { sector, sectors, most } => {
                (self.sector, self.left, self.most) = (volume.first + sector, sectors, most);
                self.step = Step::Discard;
            }
        }
        Ok(())
    }

    /// Gives back the memory for a great many segments: few jobs have them at a time.
    pub fn shrink(&mut self) {
        if self.segments.capacity() > KEPT_SEGMENTS {
            (self.segments, self.chunks, self.mapped) = Default::default();
        }
    }

    /// Takes the results for its segments; whether all pages are held.
    pub fn hold<'a>(&mut self, results: &mut impl Iterator<Item = &'a mut Option<Mapped>>) -> bool {
        let mut all = true;
        for segment in &self.segments {
            // It is in the one list or in the other at any time.
            let Some(mapped) = results.next().and_then(Option::take) else {
                all = false;
                continue;
            };
            self.mapped.push(mapped);
            let address = mapped.address + u64::from(segment.offset);
            let bytes = u32::from(segment.bytes);
            // Neighbours become one chunk: many disks work by the chunk.
            match self.chunks.last_mut() {
                Some(last) if last.address + u64::from(last.bytes) == address => last.bytes += bytes,
                _ => self.chunks.push(Chunk { address, bytes }),
            }
        }
        all
    }

    /// The next step.
    pub fn operation(&self) -> Operation<'_> {
        let sector = self.sector;
        match self.step {
            Step::Transfer if self.write => Operation::Write { sector, from: &self.chunks },
            Step::Transfer => Operation::Read { sector, into: &self.chunks },
            Step::FlushBefore | Step::Flush => Operation::Flush,
            Step::Discard => Operation::Discard { sector, sectors: self.part() },
        }
    }

    /// How much of a discard is done next.
    fn part(&self) -> u32 {
        u32::try_from(self.left).map_or(self.most, |left| left.min(self.most))
    }

    /// Goes on to the step after this one; whether there is one.
    pub fn advance(&mut self) -> bool {
        let next = match self.step {
            Step::FlushBefore => Some(Step::Transfer),
            Step::Transfer if self.flush => Some(Step::Flush),
            Step::Discard => {
                let done = u64::from(self.part());
                (self.sector, self.left) = (self.sector + done, self.left - done);
                (self.left > 0).then_some(Step::Discard)
            }
            Step::Transfer | Step::Flush => None,
        };
        self.step = next.unwrap_or(self.step);
        next.is_some()
    }
}
