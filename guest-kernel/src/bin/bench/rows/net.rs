//! The domain's first network device: to and from another guest through the bridge, and the machine's own device.

use crate::frames::{Ask, FRAME, Link, SHORT, TCP_HEADERS, frame, tcp_packet};
use crate::meter::{Effort, Measured};
use alloc::vec::Vec;
use guest_kernel::net::checksum::Sum;
use guest_kernel::net::{Error, Mac};
use pv_abi::errno::Errno;

/// Where the reflector is; the host names it so.
const REFLECTOR: Mac = Mac([0x00, 0x16, 0x3e, 0, 0, 2]);
/// Frames that are sent, or asked for, at a time.
const BURST: u8 = 32;
/// Large packets at a time.
const LARGE_BURST: usize = 4;
/// Data of a segment, and of a large packet: as much as its header can say.
const SEGMENT: u16 = 1448;
const LARGE: usize = TCP_HEADERS + 45 * SEGMENT as usize;

/// The gateway in QEMU's user network, which answers pings, and an address there.
const GATEWAY: Mac = Mac([0x52, 0x55, 10, 0, 2, 2]);
const GATEWAY_IP: [u8; 4] = [10, 0, 2, 2];
const OWN_IP: [u8; 4] = [10, 0, 2, 15];
/// Pings at a time.
const PINGS: u8 = 16;

/// Whole frames to the reflector; the last of a burst is answered by a short one.
pub fn send(effort: Effort) -> Measured {
    with_link(|link| {
        let [silent, last] = [Ask::Nothing, Ask::Answer].map(|ask| frame(REFLECTOR, link.mac(), FRAME, ask));
        count(effort, u64::from(BURST), || {
            (1..BURST).try_for_each(|_| link.send(&silent))?;
            link.send(&last)?;
            link.push()?;
            link.receive().map(drop)
        })
    })
}

/// Whole frames from the reflector, a burst for each short one.
pub fn receive(effort: Effort) -> Measured {
    with_link(|link| {
        let ask = frame(REFLECTOR, link.mac(), SHORT, Ask::Frames(BURST));
        count(effort, u64::from(BURST), || {
            link.send(&ask)?;
            link.push()?;
            (0..BURST).try_for_each(|_| link.receive().map(drop))
        })
    })
}

/// Large TCP packets to the reflector.
pub fn send_large(effort: Effort) -> Measured {
    with_link(|link| {
        if !link.takes_large()? {
            return Ok(Err(Errno::ENOSYS));
        }
        let packet = |ask| tcp_packet(REFLECTOR, link.mac(), LARGE, ask);
        let (silent, last) = (packet(Ask::Nothing), packet(Ask::Answer));
        count(effort, LARGE_BURST as u64, || {
            (1..LARGE_BURST).try_for_each(|_| link.send_large(&silent, SEGMENT))?;
            link.send_large(&last, SEGMENT)?;
            link.push()?;
            link.receive().map(drop)
        })
    })
}

/// Pings of 1,500 bytes to the gateway, each of which comes back: a packet out, and one in.
pub fn uplink(effort: Effort) -> Measured {
    with_link(|link| {
        link.send(&announcement(link.mac()))?;
        let ping = ping(link.mac());
        let pong = |frame: &[u8]| frame.get(12..14) == Some(&[0x08, 0x00]) && frame.get(34) == Some(&0);
        count(effort, u64::from(PINGS), || {
            (0..PINGS).try_for_each(|_| link.send(&ping))?;
            link.push()?;
            let mut missing = PINGS;
            while missing > 0 {
                missing -= u8::from(pong(&link.receive()?));
            }
            Ok(())
        })
    })
}

fn with_link(measure: impl FnOnce(&mut Link) -> Result<Measured, Error>) -> Measured {
    let mut link = Link::connect().map_err(refusal)?;
    let measured = measure(&mut link).map_err(refusal)?;
    link.close();
    measured
}

fn count(effort: Effort, each: u64, mut body: impl FnMut() -> Result<(), Error>) -> Result<Measured, Error> {
    let result = |done: Result<(), Error>| done.map_or_else(|error| refusal(error).code(), |()| 0);
    Ok(effort.count(each, || result(body())))
}

fn refusal(error: Error) -> Errno {
    match error {
        Error::Refused(errno) => errno,
        Error::Memory(_) | Error::Grant(_) => Errno::ENOMEM,
        Error::Node(_) | Error::NoBackend | Error::Fault(_) => Errno::EIO,
    }
}

/// Who has which address (RFC 826), so that the gateway needn't ask.
fn announcement(own: Mac) -> Vec<u8> {
    let mut frame = frame(Mac([0xff; 6]), own, SHORT, Ask::Nothing);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame[14..22].copy_from_slice(&[0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&own.0);
    frame[28..32].copy_from_slice(&OWN_IP);
    frame[32..38].fill(0);
    frame[38..42].copy_from_slice(&OWN_IP);
    frame
}

/// An echo request (RFC 792).
fn ping(own: Mac) -> Vec<u8> {
    let mut frame = frame(GATEWAY, own, FRAME, Ask::Nothing);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let (_, packet) = frame.split_at_mut(14);
    packet[..2].copy_from_slice(&[0x45, 0]);
    packet[2..4].copy_from_slice(&1500u16.to_be_bytes());
    packet[8..10].copy_from_slice(&[64, 1]);
    packet[12..16].copy_from_slice(&OWN_IP);
    packet[16..20].copy_from_slice(&GATEWAY_IP);
    packet[20] = 8;
    let header = Sum::default().with(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&header);
    let message = Sum::default().with(&packet[20..]).checksum();
    packet[22..24].copy_from_slice(&message);
    frame
}
