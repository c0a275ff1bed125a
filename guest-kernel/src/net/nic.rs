//! The device for the TCP/IP stack, smoltcp.
//!
//! Checksums of TCP and UDP are left to the back end where it takes that, and checked here where it didn't say that they
//! needn't be: the stack itself does neither.

use super::checksum;
use super::rings::{Fault, Pages, Rings};
use crate::ring::SharedMemory;
use alloc::vec::Vec;
use smoltcp::phy::{self, Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// The longest frame that is sent.
const MAX_FRAME: usize = 1514;

/// A network device.
pub struct Nic<M, P> {
    rings: Rings<M, P>,
    /// The back end completes checksums.
    blank: bool,
    /// It wants to be told of something.
    notify: bool,
    fault: Option<Fault>,
    /// Packets with a wrong checksum.
    spoiled: u64,
}

impl<M: SharedMemory, P: Pages> Nic<M, P> {
    /// A device that uses `rings`. `blank`: the back end completes checksums.
    pub fn new(rings: Rings<M, P>, blank: bool) -> Nic<M, P> {
        Nic { rings, blank, notify: true, fault: None, spoiled: 0 }
    }

    /// Shows the back end what is new, and asks for events. Whether packets are there already; and whether the back end
    /// wants to be told.
    ///
    /// # Errors
    /// What the back end did wrong. The device is not usable any more.
    pub fn settle(&mut self) -> Result<(bool, bool), Fault> {
        let notify = core::mem::take(&mut self.notify) | self.rings.publish_rx();
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let more = self.rings.arm_rx()? | if self.rings.can_send()? { false } else { self.rings.arm_tx()? };
        Ok((more, notify))
    }

    /// Sends a large TCP packet over IPv4, as [`Rings::send_large`]; whether it could.
    pub fn send_large(&mut self, packet: &[u8], segment: u16) -> bool {
        let sent = self.has_room() && self.rings.send_large(packet, segment);
        self.notify |= self.rings.publish_tx();
        sent
    }

    /// Packets that came with a wrong checksum.
    pub const fn spoiled(&self) -> u64 {
        self.spoiled
    }

    /// Whether a packet can be sent.
    fn has_room(&mut self) -> bool {
        if self.fault.is_none() {
            match self.rings.can_send() {
                Ok(room) => return room,
                Err(fault) => self.fault = Some(fault),
            }
        }
        false
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let packet = match self.rings.receive() {
                Ok(packet) => packet?,
                Err(fault) => {
                    self.fault = Some(fault);
                    return None;
                }
            };
            if packet.trusted || checksum::is_right(&packet.data) {
                return Some(packet.data);
            }
            self.spoiled += 1;
        }
    }
}

impl<M: SharedMemory, P: Pages> Device for Nic<M, P> {
    type RxToken<'a>
        = Arrived
    where
        Self: 'a;
    type TxToken<'a>
        = Room<'a, M, P>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Arrived, Room<'_, M, P>)> {
        // A packet may cause one in return, for which there must be room.
        if !self.has_room() {
            return None;
        }
        let packet = self.next()?;
        Some((Arrived(packet), Room(self)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_, M, P>> {
        self.has_room().then_some(Room(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::None;
        capabilities
    }
}

/// A packet that came.
pub struct Arrived(Vec<u8>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a packet to send.
pub struct Room<'a, M, P>(&'a mut Nic<M, P>);

impl<M: SharedMemory, P: Pages> phy::TxToken for Room<'_, M, P> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let Nic { rings, blank, notify, .. } = self.0;
        let mut result = None;
        *notify |= rings.send(length, |frame| {
            result = Some(f(frame));
            if *blank {
                checksum::leave_blank(frame)
            } else {
                checksum::complete(frame);
                false
            }
        });
        // A token is given out only while a page is free, and borrows the device.
        result.expect("there is room for the packet of a token")
    }
}
