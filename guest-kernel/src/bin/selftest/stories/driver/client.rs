//! The client: it has a disk of dom0's, a disk of the driver domain's, and, to be lied to, a network device of it.

use super::{LIE, disk, now, store, well, wire};
use crate::check::{Ending, Told, equal, fail, holds};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_kernel::block::{Broken, Drive};
use guest_kernel::net::Netfront;
use guest_kernel::net::rings::Fault;
use guest_kernel::net::smoltcp::phy::{Device as _, RxToken as _, TxToken as _};
use guest_kernel::net::smoltcp::time::Instant;
use guest_kernel::ring;
use guest_kernel::store::{Bus, Connection, Tx};
use guest_kernel::xenbus::{self, Device};
use guest_kernel::{grant, hypercall, memory, println};

/// Bytes of a request.
const BYTES: usize = 4096;
/// Frames that are sent, and the bytes of each.
const FRAMES: u8 = 16;
const FRAME: usize = 200;
/// How long frames may take to come back, in nanoseconds.
const PATIENCE: u64 = 3_000_000_000;
/// Frames of memory that a device may take for good when it is used first: tables, and the heap.
const FIRST: u32 = 64;

/// What came of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    /// All was well.
    Fine,
    /// It could not be connected.
    Unconnected,
    /// What was read isn't what was written.
    Spoiled,
    /// Requests failed.
    Failed,
    /// The disk's back end didn't keep to the protocol.
    Broken(Broken),
    /// The network's didn't.
    Fault(Fault),
    /// Not all frames came back.
    Lost,
    /// The network's back end left.
    Gone,
}

/// The devices of a kind: dom0's, and the driver domain's.
fn devices(store: &mut Connection, kind: &str) -> Result<[Option<String>; 2], Ending> {
    let mut found = [None, None];
    for directory in well("the devices", xenbus::devices(store, kind))? {
        // It may be gone already.
        let Ok(device) = Device::frontend(store, &directory) else { continue };
        found[usize::from(device.other_domain() != 0)] = Some(directory);
    }
    Ok(found)
}

fn needed(directory: Option<String>) -> Result<String, Ending> {
    directory.ok_or_else(|| Ending::Fail("there is no such device".into()))
}

/// One request in each slot; whether all went well.
fn batch(drive: &mut Drive, write: bool) -> Result<bool, Broken> {
    let mut left = 0;
    for slot in 0..drive.slots() {
        let sector = (slot * BYTES / 512) as u64;
        left += u32::from(if write { drive.write(slot, sector, BYTES) } else { drive.read(slot, sector, BYTES) });
    }
    drive.kick();
    let mut well = true;
    while left > 0 {
        match drive.take()? {
            Some((_, outcome)) => (left, well) = (left - 1, well && outcome.is_ok()),
            None => drive.sleep(1)?,
        }
    }
    Ok(well)
}

/// Writes a disk and reads it.
fn use_drive(drive: &mut Drive, round: u8) -> Seen {
    let byte = |slot: usize| round ^ slot.to_le_bytes()[0].wrapping_mul(5);
    for write in [true, false] {
        for slot in 0..drive.slots() {
            let value = if write { byte(slot) } else { !byte(slot) };
            drive.buffer(slot).unwrap_or_default()[..BYTES].fill(value);
        }
        match batch(drive, write) {
            Ok(true) => {}
            Ok(false) => return Seen::Failed,
            Err(broken) => return Seen::Broken(broken),
        }
    }
    let mut right = true;
    for slot in 0..drive.slots() {
        right &= drive.buffer(slot).unwrap_or_default()[..BYTES].iter().all(|found| *found == byte(slot));
    }
    if right { Seen::Fine } else { Seen::Spoiled }
}

/// Connects a disk, uses it, and closes it.
fn visit_disk(store: &mut Connection, directory: &str, round: u8) -> Seen {
    let Ok(mut drive) = Drive::open(store, directory, 1) else { return Seen::Unconnected };
    let seen = use_drive(&mut drive, round);
    // It may refuse to be closed, and can be opened again all the same.
    let _ = drive.close(store);
    seen
}

/// Sends frames, and takes those that come back.
fn use_network(front: &mut Netfront, store: &mut Connection, round: u8) -> Seen {
    let frame = |number: u8| {
        let mut frame = [number ^ round; FRAME];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        frame
    };
    for number in 0..FRAMES {
        let Some(room) = front.nic().transmit(Instant::ZERO) else { return Seen::Lost };
        room.consume(FRAME, |bytes| bytes.copy_from_slice(&frame(number)));
    }
    let (mut next, limit) = (0, now() + PATIENCE);
    while next < FRAMES {
        front.begin();
        while let Some((arrived, _)) = front.nic().receive(Instant::ZERO) {
            // Frames keep their order.
            next += u8::from(arrived.consume(|bytes| bytes == frame(next)));
        }
        match front.settle() {
            Ok(true) => continue,
            Ok(false) => {}
            Err(fault) => return Seen::Fault(fault),
        }
        while store.event().is_some() {
            if !front.is_connected(store) {
                return Seen::Gone;
            }
        }
        if now() >= limit {
            return Seen::Lost;
        }
        let _ = hypercall::poll(&[front.port(), store.port()], limit);
        store.work();
    }
    Seen::Fine
}

fn visit_network(store: &mut Connection, directory: &str, round: u8) -> Seen {
    let Ok(mut front) = Netfront::connect(store, directory) else { return Seen::Unconnected };
    let seen = use_network(&mut front, store, round);
    front.close(store);
    seen
}

/// Whether it is what is to be seen of a lie.
fn fits_disk(lie: Option<disk::Lie>, seen: Seen) -> bool {
    use disk::Lie;
    let Some(lie) = lie else { return seen == Seen::Fine };
    match lie {
        Lie::Nodes | Lie::Refusal => seen == Seen::Unconnected,
        Lie::Noise | Lie::Jump | Lie::Back => seen == Seen::Broken(Broken::Ring(ring::Error::IndexJump)),
        Lie::Slots | Lie::Unasked | Lie::Twice | Lie::Operation => seen == Seen::Broken(Broken::Response),
        Lie::Status => seen == Seen::Failed,
        // It depends on what changes when. But it is over at some time.
        Lie::Change => true,
        Lie::Data => seen == Seen::Spoiled,
        Lie::Events | Lie::States | Lie::Hold => seen == Seen::Fine,
        Lie::Silence | Lie::Stubborn | Lie::Unmapped => seen == Seen::Broken(Broken::Silent),
        Lie::Close | Lie::Vanish => seen == Seen::Broken(Broken::Gone),
    }
}

fn fits_network(lie: Option<wire::Lie>, seen: Seen) -> bool {
    use wire::Lie;
    let Some(lie) = lie else { return seen == Seen::Fine };
    match lie {
        Lie::Refusal => seen == Seen::Unconnected,
        Lie::SentNoise | Lie::ReceivedNoise | Lie::SentJump | Lie::ReceivedJump | Lie::SentBack => {
            seen == Seen::Fault(Fault::Ring(ring::Error::IndexJump))
        }
        Lie::SentUnasked | Lie::SentTwice | Lie::ReceivedUnasked => seen == Seen::Fault(Fault::UnknownRequest),
        Lie::ReceivedBeyond => seen == Seen::Fault(Fault::BeyondPage),
        Lie::ReceivedEndless => seen == Seen::Fault(Fault::TooLong),
        Lie::ReceivedExtra => seen == Seen::Fault(Fault::BadExtra),
        Lie::ReceivedErrors | Lie::Silence => seen == Seen::Lost,
        Lie::Change => true,
        Lie::Events => seen == Seen::Fine,
        Lie::Close | Lie::Vanish => seen == Seen::Gone,
    }
}

/// Uses a device until its back end has no more lies, and each time the disk of dom0's, too.
fn endure(
    store: &mut Connection,
    directory: &str,
    honest: &mut Drive,
    lies: usize,
    visit: impl Fn(&mut Connection, &str, u8) -> Seen,
    judge: impl Fn(Option<usize>, Seen) -> (String, bool),
) -> Told {
    let device = well("the device", Device::frontend(store, directory))?;
    let mut told = Vec::new();
    for round in 0u8.. {
        let seen = visit(store, directory, round);
        // It is there still, until the device is offered again.
        let lie: Option<usize> = device.theirs(store, Tx::NONE, LIE).ok();
        let (name, fits) = judge(lie, seen);
        println!("client: {name}: {seen:?}");
        holds(&format!("{name} is seen as such, not as {seen:?}"), fits)?;
        equal("dom0's disk", use_drive(honest, round), Seen::Fine)?;
        match lie {
            Some(lie) if told.contains(&lie) || told.len() > lies => return fail("a lie is told twice"),
            Some(lie) => told.push(lie),
            None => break,
        }
    }
    equal("lies that were told", told.len(), lies)
}

/// Is lied to, by a disk and by a network device.
pub fn lied_to() -> Told {
    let mut store = store()?;
    let [own, others] = devices(&mut store, "vbd")?;
    let (own, others) = (needed(own)?, needed(others)?);
    let mut honest = well("dom0's disk", Drive::open(&mut store, &own, 1))?;
    equal("dom0's disk", use_drive(&mut honest, 0), Seen::Fine)?;
    let before = well("memory", memory::lock())?.free_frames();
    endure(&mut store, &others, &mut honest, disk::Lie::ALL.len(), visit_disk, |lie, seen| {
        let lie = lie.and_then(|lie| disk::Lie::ALL.get(lie).copied());
        (format!("{lie:?}"), fits_disk(lie, seen))
    })?;
    let others = needed(devices(&mut store, "vif")?[1].take())?;
    endure(&mut store, &others, &mut honest, wire::Lie::ALL.len(), visit_network, |lie, seen| {
        let lie = lie.and_then(|lie| wire::Lie::ALL.get(lie).copied());
        (format!("{lie:?}"), fits_network(lie, seen))
    })?;
    grant::reclaim();
    let lost = before.saturating_sub(well("memory", memory::lock())?.free_frames());
    println!("client: {lost} frames less");
    holds("no memory is lost", lost <= FIRST)?;
    well("the end of dom0's disk", honest.close(&mut store))
}

/// Has its disk taken away with the driver domain, and given anew.
pub fn unplugged() -> Told {
    let mut store = store()?;
    well("a watch", store.watch("device/vbd", "disks"))?;
    for round in 0..2 {
        let directory = loop {
            if let [_, Some(directory)] = devices(&mut store, "vbd")? {
                break directory;
            }
            store.wait(now() + PATIENCE);
        };
        let mut drive = well("the disk", Drive::open(&mut store, &directory, 1))?;
        equal("the disk", use_drive(&mut drive, round), Seen::Fine)?;
        if round > 0 {
            return well("its end", drive.close(&mut store));
        }
        println!("client: plugged");
        while devices(&mut store, "vbd")?[1].is_some() {
            store.wait(now() + PATIENCE);
        }
        equal("the disk that is gone", use_drive(&mut drive, round), Seen::Broken(Broken::Gone))?;
        well("its end", drive.close(&mut store))?;
        println!("client: unplugged");
    }
    Ok(())
}
