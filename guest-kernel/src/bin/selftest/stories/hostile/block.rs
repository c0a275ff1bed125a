//! The front end of a disk that lies in its ring.

use super::{Page, Phases, Random, Victim, store, well};
use crate::check::{Ending, Told, holds};
use core::sync::atomic::Ordering;
use guest_kernel::block::{Drive, SECTOR_BYTES};
use guest_kernel::grant::Access;
use guest_kernel::println;
use guest_kernel::ring::Front;
use guest_kernel::store::Connection;
use pv_abi::io::block::*;
use zerocopy::{FromZeros, IntoBytes};

/// What no grant is.
const NO_GRANT: u32 = 0x00ff_fff0;
/// Sectors that make no sense as the first of a request: at the end of the disk, beyond it, near where numbers wrap.
const SECTORS: [u64; 8] = [0, 8191, 8192, 1 << 31, 1 << 54, 1 << 55, u64::MAX - 7, u64::MAX];
/// Counts of segments: none, more than a request holds, more than a page holds.
const COUNTS: [u16; 8] = [0, 1, 11, 12, 255, 256, 4096, u16::MAX];

type Ring = Front<&'static [core::sync::atomic::AtomicU32], BlkifRequest, BlkifResponse>;

/// What the attacker has.
struct Attacker {
    random: Random,
    page: Page,
    /// Data; data that may only be read; a list of segments.
    data: Page,
    constant: Page,
    list: Page,
    okay: u32,
    errors: u32,
}

impl Attacker {
    fn new() -> Result<Attacker, Ending> {
        let [page, data, list] = [Page::new(Access::Write)?, Page::new(Access::Write)?, Page::new(Access::Write)?];
        let constant = Page::new(Access::Read)?;
        Ok(Attacker { random: Random::new(), page, data, constant, list, okay: 0, errors: 0 })
    }

    fn segment(&mut self) -> BlkifSegment {
        let gref = self.random.pick(&[self.data.gref, self.constant.gref, NO_GRANT, self.page.gref, u32::MAX]);
        let sector = |random: &mut Random| random.pick(&[0, 0, 1, 7, 7, 8, 255]);
        BlkifSegment { gref, first_sect: sector(&mut self.random), last_sect: sector(&mut self.random), _pad: 0 }
    }

    /// A request of which something is a lie.
    fn lie(&mut self) -> BlkifRequest {
        let operation = self.random.pick(&[BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_INDIRECT, BLKIF_OP_DISCARD, 77]);
        let sector_number = self.random.pick(&SECTORS);
        let mut request =
            BlkifRequest { operation, sector_number, id: self.random.next().into(), ..FromZeros::new_zeroed() };
        match operation {
            BLKIF_OP_INDIRECT => {
                for word in self.list.words.as_chunks::<2>().0 {
                    let segment: [u32; 2] = zerocopy::transmute!(self.segment());
                    word.iter().zip(segment).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
                }
                let mut lie = BlkifRequestIndirect {
                    operation,
                    indirect_op: self.random.pick(&[BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_INDIRECT]),
                    nr_segments: self.random.pick(&COUNTS),
                    sector_number,
                    ..BlkifRequestIndirect::default()
                };
                lie.indirect_grefs = [self.random.pick(&[self.list.gref, self.constant.gref, NO_GRANT]); 8];
                let bytes = lie.as_bytes();
                request.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
            }
            BLKIF_OP_DISCARD => request.seg[0].gref = self.random.next(),
            _ => {
                request.nr_segments = self.random.pick(&COUNTS).to_le_bytes()[0];
                request.seg = core::array::from_fn(|_| self.segment());
            }
        }
        request
    }

    /// Requests that make sense, but for the grant, which goes while they are under way.
    fn honest(&mut self) -> BlkifRequest {
        let operation = self.random.pick(&[BLKIF_OP_READ, BLKIF_OP_WRITE]);
        let segment = BlkifSegment { gref: self.data.gref, first_sect: 0, last_sect: 7, _pad: 0 };
        BlkifRequest { operation, nr_segments: 11, seg: [segment; 11], ..FromZeros::new_zeroed() }
    }

    /// Does one thing that no front end should.
    fn attack(&mut self, ring: &mut Ring, victim: &Victim) {
        match self.random.below(64) {
            0 => self.page.scribble(&mut self.random),
            1 => self.page.words[0].store(self.random.next(), Ordering::Release),
            2 => _ = self.page.words[0].fetch_add(33 + self.random.below(1 << 20), Ordering::Release),
            3 => _ = self.page.words[0].fetch_sub(1, Ordering::Release),
            4..12 => {
                while ring.push(&self.honest()).is_some() {}
                let (page, tell) = (self.data, ring.publish());
                page.without(|| {
                    if tell {
                        victim.ring()
                    }
                });
            }
            // Nothing has come.
            12..16 => (0..8).for_each(|_| victim.ring()),
            _ => {
                while ring.push(&self.lie()).is_some() {}
                if ring.publish() {
                    victim.ring();
                }
            }
        }
        while let Ok(Some(answer)) = ring.take() {
            if answer.status == BLKIF_RSP_OKAY { self.okay += 1 } else { self.errors += 1 }
        }
        let _ = ring.arm(1);
    }
}

/// Lies in the ring of its disk from phase to phase. In the end the disk can be used.
pub fn attacks() -> Told {
    let mut store = store()?;
    let mut phases = Phases::new()?;
    let mut victim = Victim::find(&mut store, "vbd")?;
    let mut attacker = Attacker::new()?;
    let mut ring: Option<Ring> = None;
    while phases.wait() {
        match &mut ring {
            Some(ring) if victim.is_open() => {
                attacker.attack(ring, &victim);
                victim.rest();
            }
            _ => {
                ring = Front::new(attacker.page.words).ok();
                let reference = attacker.page.gref;
                if !victim.connect(&mut store, phases.to, &[("ring-ref", reference)])? {
                    break;
                }
            }
        }
    }
    let (connected, Attacker { okay, errors, .. }) = (victim.connected, attacker);
    phases.report();
    println!("attacker: connected {connected} times, {okay} requests done, {errors} refused");
    victim.leave(&mut store)?;
    holds("it was closed for lies", connected > 1)?;
    holds("requests were refused", errors > 0)?;
    use_disk(&mut store)
}

/// As an honest guest does.
pub fn use_disk(store: &mut Connection) -> Told {
    let all = well("the disks", Drive::all(store))?;
    let directory = all.first().ok_or_else(|| Ending::Fail("there is no disk".into()))?;
    let mut drive = well("the disk", Drive::open(store, directory, 1))?;
    drive.buffer(0).unwrap_or_default()[..SECTOR_BYTES].fill(0x5a);
    let written = drive.write(0, 8, SECTOR_BYTES);
    well("a write", drive.finish())?;
    drive.buffer(0).unwrap_or_default().fill(0);
    let read = drive.read(0, 8, SECTOR_BYTES);
    well("a read", drive.finish())?;
    holds("it was tried", written && read)?;
    holds("what was written is read", drive.buffer(0).unwrap_or_default()[..SECTOR_BYTES] == [0x5a; SECTOR_BYTES])?;
    well("its end", drive.close(store).map(drop))
}
