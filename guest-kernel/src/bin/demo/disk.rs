//! The demo's disk: a record area at its start, and the whole of it as a field for patterns.
//!
//! A record is a sector: a magic number, its place, the generation in which it was written, a checksum. Each visit reads
//! the area, writes the next generation, makes it durable, and reads it again.

use crate::command::DiskTask;
use guest_kernel::block::{Drive, Error, SECTOR_BYTES};
use guest_kernel::start::start_info;
use guest_kernel::store::Connection;
use guest_kernel::sync::Mutex;
use guest_kernel::{println, time};

/// Records in the area.
const RECORDS: u64 = 64;
/// What a record begins with: "PaviseRc".
const MAGIC: u64 = u64::from_le_bytes(*b"PaviseRc");
/// Pages of the ring.
const RING_PAGES: usize = 1;

/// The first disk, once it is opened.
static DISK: Mutex<Option<Drive>> = Mutex::new(None);

/// Opens the first disk if there is one, and visits its record area.
pub fn greet() {
    let Some(mut store) = Connection::open(start_info()) else { return };
    match open(&mut store) {
        Ok(Some(drive)) => {
            *DISK.lock() = Some(drive);
            run(DiskTask::Visit, Some(&mut store));
        }
        Ok(None) => {}
        Err(error) => println!("disk: {error}"),
    }
}

/// Opens the first disk, if there is one.
fn open(store: &mut Connection) -> Result<Option<Drive>, Error> {
    let first = Drive::all(store)?.into_iter().next();
    first.map(|directory| Drive::open(store, &directory, RING_PAGES)).transpose()
}

/// Does something with the disk. `store` is the connection to XenStore, if there is one already.
pub fn run(task: DiskTask, mut store: Option<&mut Connection>) {
    let mut disk = DISK.lock();
    let started = time::now();
    // The first record that is not known to be durable.
    let mut next = 0;
    loop {
        let Some(drive) = disk.as_mut() else {
            println!("disk: there is none");
            return;
        };
        let done = match task {
            DiskTask::Visit => visit(drive),
            DiskTask::Sum => sum(drive),
            DiskTask::Fill(seed) => fill(drive, seed),
            DiskTask::Check(seed) => check(drive, seed),
            DiskTask::Log => log(drive, &mut next),
        };
        match (done, started, time::now()) {
            (Err(error @ Error::Broken(_)), ..) => {
                println!("disk: {error}");
                let mut own = None;
                let store = match &mut store {
                    Some(store) => Some(&mut **store),
                    None => {
                        own = Connection::open(start_info());
                        own.as_mut()
                    }
                };
                if !store.is_some_and(|store| reconnect(&mut disk, store)) {
                    return;
                }
                // What was asked for is begun anew.
                continue;
            }
            (Err(error), ..) => println!("disk: {error}"),
            (Ok(()), Some(started), Some(now)) => println!("disk: done in {} ms", (now - started) / 1_000_000),
            (Ok(()), ..) => {}
        }
        return;
    }
}

/// Connects the disk again whose back end has gone. Whether it could.
fn reconnect(disk: &mut Option<Drive>, store: &mut Connection) -> bool {
    if let Some(drive) = disk.take()
        && let Err(error) = drive.close(store)
    {
        println!("disk: {error}");
    }
    match open(store) {
        Ok(drive) => *disk = drive,
        Err(error) => println!("disk: {error}"),
    }
    if disk.is_some() {
        println!("disk: connected again");
    }
    disk.is_some()
}

fn record(place: u64, generation: u64) -> [u8; SECTOR_BYTES] {
    let mut sector = [0; SECTOR_BYTES];
    let check = mix(place ^ generation.rotate_left(32));
    for (word, value) in sector.chunks_exact_mut(8).zip([MAGIC, place, generation, check]) {
        word.copy_from_slice(&value.to_le_bytes());
    }
    sector
}

/// The generation of a record, if it is whole.
fn generation(place: u64, sector: &[u8]) -> Option<u64> {
    let generation = u64::from_le_bytes(sector.get(16..24)?.try_into().ok()?);
    (sector == record(place, generation)).then_some(generation)
}

/// Reads the record area; the generation of all of its records, if it is the same and all are whole.
fn read_area(drive: &mut Drive) -> Result<Option<u64>, Error> {
    let bytes = usize::try_from(RECORDS).unwrap_or(0) * SECTOR_BYTES;
    drive.read(0, 0, bytes);
    drive.finish()?;
    let area = drive.buffer(0).unwrap_or_default();
    let mut generations =
        (0..).zip(area[..bytes].chunks(SECTOR_BYTES)).map(|(place, sector)| generation(place, sector));
    let first = generations.next().flatten();
    Ok(first.filter(|_| generations.all(|other| other == first)))
}

fn visit(drive: &mut Drive) -> Result<(), Error> {
    let details = *drive.details();
    let mode = if details.read_only { "read-only" } else { "writable" };
    println!(
        "disk: {} KiB, {mode}, {} requests of {} KiB",
        details.sectors / 2,
        drive.slots(),
        drive.request_bytes() >> 10
    );
    let found = read_area(drive)?;
    match found {
        Some(generation) => println!("disk: {RECORDS} records of generation {generation}"),
        None => println!("disk: no records"),
    }
    if details.read_only || details.sectors < RECORDS {
        return Ok(());
    }
    let next = found.map_or(1, |generation| generation + 1);
    for (place, sector) in (0..RECORDS).zip(drive.buffer(0).unwrap_or_default().chunks_mut(SECTOR_BYTES)) {
        sector.copy_from_slice(&record(place, next));
    }
    drive.write(0, 0, usize::try_from(RECORDS).unwrap_or(0) * SECTOR_BYTES);
    drive.finish()?;
    flush(drive)?;
    let back = read_area(drive)?;
    println!(
        "disk: wrote generation {next}, {}",
        if back == Some(next) { "and read it again" } else { "but read another" }
    );
    Ok(())
}

fn flush(drive: &mut Drive) -> Result<(), Error> {
    if drive.details().flush {
        drive.flush(0);
        drive.finish()?;
    }
    Ok(())
}

/// The pattern of a sector: its words are mixed from the seed and their places.
fn pattern(seed: u64, sector: u64, bytes: &mut [u8]) {
    for (n, word) in (0..).zip(bytes.chunks_exact_mut(8)) {
        word.copy_from_slice(&mix(seed ^ (sector * 64 + n)).to_le_bytes());
    }
}

/// The finisher of `SplitMix64`: as good as random, and quick to make again elsewhere.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Works through the whole disk with as many requests under way as it takes. `each` gets the buffer of each piece and its
/// first sector: before it is written, or after it was read.
fn sweep(drive: &mut Drive, write: bool, mut each: impl FnMut(u64, &mut [u8])) -> Result<(), Error> {
    let (sectors, piece) = (drive.details().sectors, drive.request_bytes() as u64 / 512);
    let slots = drive.slots();
    let (mut next, mut under_way) = (0, 0);
    let mut places = [0; 512];
    let length = |first: u64| usize::try_from(piece.min(sectors - first)).unwrap_or(0) * SECTOR_BYTES;
    while next < sectors || under_way > 0 {
        for slot in 0..slots.min(places.len()) {
            if next == sectors {
                break;
            }
            if let Some(buffer) = drive.buffer(slot) {
                let bytes = length(next);
                if write {
                    each(next, &mut buffer[..bytes]);
                }
                places[slot] = next;
                let begun = if write { drive.write(slot, next, bytes) } else { drive.read(slot, next, bytes) };
                assert!(begun, "a free slot is free");
                next += (bytes / SECTOR_BYTES) as u64;
                under_way += 1;
            }
        }
        drive.kick();
        let mut any = false;
        while let Some((slot, outcome)) = drive.take()? {
            outcome.map_err(Error::Failed)?;
            let first = places[slot];
            if !write && let Some(buffer) = drive.buffer(slot) {
                each(first, &mut buffer[..length(first)]);
            }
            under_way -= 1;
            any = true;
        }
        if !any {
            drive.sleep(u32::try_from(slots / 4).unwrap_or(1))?;
        }
    }
    Ok(())
}

/// The sum of all words, each mixed with its place: it depends on every bit and where it is, but not on the order of reads.
fn sum(drive: &mut Drive) -> Result<(), Error> {
    let mut sum = 0u64;
    sweep(drive, false, |first, bytes| {
        for (place, word) in (first * 64..).zip(bytes.chunks_exact(8)) {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            sum = sum.wrapping_add(mix(word ^ mix(place)));
        }
    })?;
    println!("disk: sum {sum:016x} of {} sectors", drive.details().sectors);
    Ok(())
}

fn fill(drive: &mut Drive, seed: u64) -> Result<(), Error> {
    sweep(drive, true, |first, bytes| {
        (first..).zip(bytes.chunks_mut(SECTOR_BYTES)).for_each(|(sector, bytes)| pattern(seed, sector, bytes));
    })?;
    flush(drive)?;
    println!("disk: filled with pattern {seed} and flushed");
    Ok(())
}

fn check(drive: &mut Drive, seed: u64) -> Result<(), Error> {
    let mut wrong = 0u64;
    sweep(drive, false, |first, bytes| {
        for (sector, bytes) in (first..).zip(bytes.chunks(SECTOR_BYTES)) {
            let mut expected = [0; SECTOR_BYTES];
            pattern(seed, sector, &mut expected);
            wrong += u64::from(bytes != expected);
        }
    })?;
    println!("disk: {wrong} sectors are not of pattern {seed}");
    Ok(())
}

/// Writes one record after the other, from `next` on, each in a sector of its own, and says when it is durable.
fn log(drive: &mut Drive, next: &mut u64) -> Result<(), Error> {
    while *next < drive.details().sectors {
        drive.buffer(0).unwrap_or_default()[..SECTOR_BYTES].copy_from_slice(&record(*next, 1));
        drive.write(0, *next, SECTOR_BYTES);
        drive.finish()?;
        flush(drive)?;
        println!("disk: record {next} is durable");
        *next += 1;
    }
    Ok(())
}
