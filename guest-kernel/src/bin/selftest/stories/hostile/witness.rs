//! The neighbour: reads and writes its disk, and sends frames from one of its network devices to the other, as fast as it
//! goes. All data is compared, and what gets done in phases of attack with what gets done between them.

use super::{is_attack, milliseconds, now, store, well};
use crate::check::{Ending, Told, fail, holds};
use alloc::format;
use alloc::vec::Vec;
use guest_kernel::block::Drive;
use guest_kernel::net::smoltcp::phy::{Device as _, RxToken as _, TxToken as _};
use guest_kernel::net::smoltcp::time::Instant;
use guest_kernel::net::{Mac, Netfront};
use guest_kernel::store::Connection;
use guest_kernel::{event, hypercall, println, xenbus};

/// Bytes of a request to the disk, of which each slot has so many of its own.
const PIECE: usize = 4096;
const PIECES: u64 = 8;
/// Requests under way.
const SLOTS: usize = 16;
/// Bytes of a frame, its type, and how many are under way.
const FRAME: usize = 1000;
const KIND: [u8; 2] = [0x88, 0xb5];
const FRAMES: u64 = 32;
/// How long it may take until a frame arrives, in nanoseconds.
const PATIENCE: u64 = 500_000_000;

/// What got done, between phases of attack and in them.
#[derive(Clone, Copy, Default)]
struct Done([u64; 2]);

impl Done {
    fn count(&mut self, now: u64, from: u64) {
        if now >= from {
            self.0[usize::from(is_attack(now))] += 1;
        }
    }
}

/// The disk: each slot writes a piece of its own, reads it, compares, and goes on with the next.
struct Disk {
    drive: Drive,
    /// For each slot: how many requests it has made, of which every second reads what the one before wrote.
    rounds: [u64; SLOTS],
}

impl Disk {
    /// A word of a piece. No two pieces of different slots or times have the same.
    fn word(slot: usize, round: u64, place: u64) -> u64 {
        (round << 32 | (slot as u64) << 24 | place).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn submit(&mut self, slot: usize) -> Result<(), Ending> {
        let round = self.rounds[slot];
        let sector = (slot as u64 * PIECES + round / 2 % PIECES) * (PIECE / 512) as u64;
        let buffer = &mut self.drive.buffer(slot).unwrap_or_default()[..PIECE];
        let begun = if round.is_multiple_of(2) {
            for (place, word) in (0..).zip(buffer.as_chunks_mut::<8>().0) {
                *word = Self::word(slot, round, place).to_le_bytes();
            }
            self.drive.write(slot, sector, PIECE)
        } else {
            buffer.fill(0);
            self.drive.read(slot, sector, PIECE)
        };
        holds("a request that fits", begun)
    }

    /// Takes what is done, and begins the next. How many were done.
    fn work(&mut self) -> Result<u32, Ending> {
        let mut count = 0;
        while let Some((slot, outcome)) = well("the disk", self.drive.take())? {
            well("a request to the disk", outcome)?;
            let round = self.rounds[slot];
            if !round.is_multiple_of(2) {
                let buffer = &self.drive.buffer(slot).unwrap_or_default()[..PIECE];
                let right = |(place, word): (u64, &[u8; 8])| *word == Self::word(slot, round - 1, place).to_le_bytes();
                holds("the disk's data", (0..).zip(buffer.as_chunks::<8>().0).all(right))?;
            }
            self.rounds[slot] += 1;
            self.submit(slot)?;
            count += 1;
        }
        self.drive.kick();
        Ok(count)
    }
}

/// Two network devices, of which one sends to the other.
struct Wire {
    from: Netfront,
    to: Netfront,
    sent: u64,
    /// The number that the next frame should have, and frames that didn't come.
    next: u64,
    lost: u64,
    came: u64,
}

impl Wire {
    fn connect(store: &mut Connection) -> Result<Wire, Ending> {
        let all = well("the devices", xenbus::devices(store, "vif"))?;
        let [from, to] = &all[..] else { return Err(Ending::Fail(format!("devices: {all:?}"))) };
        let mut connect = |directory| {
            Netfront::connect(store, directory).map_err(|error| Ending::Fail(format!("{directory}: {error}")))
        };
        Ok(Wire { from: connect(from)?, to: connect(to)?, sent: 0, next: 0, lost: 0, came: now() })
    }

    fn frame(bytes: &mut [u8], to: Mac, from: Mac, number: u64) {
        bytes.fill(number.to_le_bytes()[0]);
        bytes[..6].copy_from_slice(&to.0);
        bytes[6..12].copy_from_slice(&from.0);
        bytes[12..14].copy_from_slice(&KIND);
        bytes[14..22].copy_from_slice(&number.to_le_bytes());
    }

    /// Takes what came, and sends more. How many frames came.
    fn work(&mut self) -> Result<u32, Ending> {
        let (to, from, time) = (self.to.mac(), self.from.mac(), Instant::ZERO);
        self.from.begin();
        self.to.begin();
        let mut count = 0;
        // What others send to everybody: it is not looked at.
        while let Some((other, _)) = self.from.nic().receive(time) {
            other.consume(|_| ());
        }
        let mut wrong = None;
        while let Some((frame, _)) = self.to.nic().receive(time) {
            let next = &mut self.next;
            frame.consume(|bytes| {
                if bytes.len() != FRAME || bytes[12..14] != KIND {
                    return;
                }
                let number = bytes[14..22].try_into().map_or(0, u64::from_le_bytes);
                let mut expected = [0; FRAME];
                Self::frame(&mut expected, to, from, number);
                if bytes != expected || number < *next {
                    wrong = Some(number);
                    return;
                }
                self.lost += number - *next;
                *next = number + 1;
                count += 1;
            });
        }
        if let Some(number) = wrong {
            return fail(&format!("frame {number} came as another one, or twice")).map(|()| 0);
        }
        let now = now();
        if count > 0 {
            self.came = now;
        } else if self.sent > self.next && now > self.came + PATIENCE {
            (self.lost, self.next, self.came) = (self.lost + self.sent - self.next, self.sent, now);
        }
        while self.sent - self.next < FRAMES {
            let Some(room) = self.from.nic().transmit(time) else { break };
            room.consume(FRAME, |bytes| Self::frame(bytes, to, from, self.sent));
            self.sent += 1;
        }
        let settled = self.from.settle().and_then(|_| self.to.settle());
        settled.map_err(|fault| Ending::Fail(format!("{fault}")))?;
        Ok(count)
    }
}

/// Works until the option `to`, counts from the option `from`.
pub fn works() -> Told {
    let mut store = store()?;
    let (from, to) = (milliseconds("from")?, milliseconds("to")?);
    let all = well("the disks", Drive::all(&mut store))?;
    let directory = all.first().ok_or_else(|| Ending::Fail("there is no disk".into()))?;
    let mut disk = Disk { drive: well("the disk", Drive::open(&mut store, directory, 1))?, rounds: [0; SLOTS] };
    let mut wire = Wire::connect(&mut store)?;
    (0..SLOTS).try_for_each(|slot| disk.submit(slot))?;
    disk.drive.kick();
    let (mut requests, mut frames) = (Done::default(), Done::default());
    println!("witness: works from {} ms on", now() / 1_000_000);
    holds("it is ready in time", now() < from)?;
    while now() < to {
        let (done, came) = (disk.work()?, wire.work()?);
        let time = now();
        (0..done).for_each(|_| requests.count(time, from));
        (0..came).for_each(|_| frames.count(time, from));
        if done == 0 && came == 0 && !well("the disk", disk.drive.arm(1))? {
            let ports: Vec<u32> = [disk.drive.port(), wire.from.port(), wire.to.port()].into();
            if !ports.iter().any(|port| event::is_pending(*port)) {
                let _ = hypercall::poll(&ports, time + PATIENCE / 10);
            }
        }
    }
    let (requests, frames, lost) = (requests.0, frames.0, wire.lost);
    println!("witness: requests {} {}, frames {} {}, lost {lost}", requests[0], requests[1], frames[0], frames[1]);
    holds("requests got done", requests[0] >= 100)?;
    holds("frames came", frames[0] >= 100)
}
