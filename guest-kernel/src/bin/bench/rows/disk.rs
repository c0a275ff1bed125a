//! The domain's first disk, behind the control domain's back end.

use crate::marks;
use crate::meter::{Effort, Figure, Measured};
use alloc::vec::Vec;
use guest_kernel::block::{Drive, Error, SECTOR_BYTES};
use guest_kernel::hypercall;
use guest_kernel::probe::rdtsc;
use guest_kernel::start::start_info;
use guest_kernel::store::Connection;
use pv_abi::errno::Errno;

/// Pages of the ring: 32 requests.
const RING_PAGES: usize = 1;

/// One request of 4 KiB at a time.
pub fn read_4k_depth_1(effort: Effort) -> Measured {
    read(effort, 4 << 10, 1)
}

/// 32 of them.
pub fn read_4k_depth_32(effort: Effort) -> Measured {
    read(effort, 4 << 10, 32)
}

/// One request of 64 KiB at a time.
pub fn read_64k_depth_1(effort: Effort) -> Measured {
    read(effort, 64 << 10, 1)
}

/// 32 of them.
pub fn read_64k_depth_32(effort: Effort) -> Measured {
    read(effort, 64 << 10, 32)
}

/// From the frontend's first look into XenStore to a disk that both sides call connected.
pub fn connect(effort: Effort) -> Measured {
    let mut store = Connection::open(start_info()).ok_or(Errno::ENODEV)?;
    let mut best = u64::MAX;
    for left in (0..effort.batches).rev() {
        if left == 0 {
            marks::begin();
        }
        let before = rdtsc();
        let drive = open(&mut store).map_err(refusal)?;
        best = best.min(rdtsc() - before);
        if left == 0 {
            marks::end();
        }
        drive.close(&mut store).map_err(refusal)?;
    }
    Ok(Figure { instructions: best, operations: 1 })
}

fn open(store: &mut Connection) -> Result<Drive, Error> {
    let directory = Drive::all(store)?.into_iter().next().ok_or(Error::Store(Errno::ENODEV))?;
    Drive::open(store, &directory, RING_PAGES)
}

/// Reads one piece after the other, `depth` of them at a time.
fn read(effort: Effort, bytes: usize, depth: usize) -> Measured {
    let mut store = Connection::open(start_info()).ok_or(Errno::ENODEV)?;
    let mut drive = open(&mut store).map_err(refusal)?;
    let mut reader = Reader { free: (0..depth).collect(), next: 0, bytes, depth };
    let measured = effort.count(effort.operations, || match reader.read(&mut drive, effort.operations) {
        Ok(()) => 0,
        Err(error) => refusal(error).code(),
    });
    drive.close(&mut store).map_err(refusal)?;
    measured
}

struct Reader {
    free: Vec<usize>,
    /// The first sector of the next piece.
    next: u64,
    bytes: usize,
    depth: usize,
}

impl Reader {
    fn read(&mut self, drive: &mut Drive, count: u64) -> Result<(), Error> {
        let (mut begun, mut done) = (0, 0);
        while done < count {
            while begun < count
                && let Some(slot) = self.free.pop()
            {
                drive.read(slot, self.next, self.bytes);
                self.next += (self.bytes / SECTOR_BYTES) as u64;
                if self.next >= drive.details().sectors {
                    self.next = 0;
                }
                begun += 1;
            }
            drive.kick();
            let before = done;
            while let Some((slot, outcome)) = drive.take()? {
                outcome.map_err(Error::Failed)?;
                self.free.push(slot);
                done += 1;
            }
            // A few at a time, as the demo guest does. Without a time limit: what waits for a timer lets time pass.
            if done == before && !drive.arm(u32::try_from(self.depth / 4).unwrap_or(1))? {
                let _ = hypercall::poll(&[drive.port()], 0);
            }
        }
        Ok(())
    }
}

fn refusal(error: Error) -> Errno {
    match error {
        Error::Store(errno) | Error::Refused(errno) => errno,
        Error::Memory(_) | Error::Grant(_) => Errno::ENOMEM,
        Error::Backend(_) | Error::Broken(_) | Error::Failed(_) => Errno::EIO,
    }
}
