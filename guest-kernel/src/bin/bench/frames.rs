//! Frames between the measuring domain and its reflector: an experimental type (IEEE 802, local), or one large TCP packet;
//! then a byte that says what is to follow.

use alloc::vec;
use alloc::vec::Vec;
use guest_kernel::net::smoltcp::phy::{Device, RxToken, TxToken};
use guest_kernel::net::smoltcp::time::Instant;
use guest_kernel::net::{Error, Mac, Netfront};
use guest_kernel::store::Connection;
use guest_kernel::{hypercall, start, xenbus};
use pv_abi::errno::Errno;

/// Bytes of a whole frame.
pub const FRAME: usize = 1514;
/// Bytes of one that says something.
pub const SHORT: usize = 60;
/// Ethernet's header.
const HEADER: usize = 14;
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
/// Headers of a TCP packet with its Ethernet header.
pub const TCP_HEADERS: usize = HEADER + 40;

/// What a frame asks its receiver for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Nothing.
    Nothing,
    /// A short frame.
    Answer,
    /// So many whole ones.
    Frames(u8),
}

impl Ask {
    fn bytes(self) -> [u8; 2] {
        match self {
            Ask::Nothing => [0, 0],
            Ask::Answer => [1, 0],
            Ask::Frames(count) => [2, count],
        }
    }

    /// What a frame asks for.
    pub fn of(frame: &[u8]) -> Ask {
        let at = if frame.get(12..14) == Some(&EXPERIMENTAL) { HEADER } else { TCP_HEADERS };
        match frame.get(at..at + 2) {
            Some([1, _]) => Ask::Answer,
            Some([2, count]) => Ask::Frames(*count),
            _ => Ask::Nothing,
        }
    }
}

/// A frame of `length` bytes.
pub fn frame(to: Mac, from: Mac, length: usize, ask: Ask) -> Vec<u8> {
    let mut frame = vec![0; length];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&from.0);
    frame[12..14].copy_from_slice(&EXPERIMENTAL);
    frame[14..16].copy_from_slice(&ask.bytes());
    frame
}

/// A TCP packet over IPv4 of `length` bytes, whose checksums others complete.
pub fn tcp_packet(to: Mac, from: Mac, length: usize, ask: Ask) -> Vec<u8> {
    let mut packet = frame(to, from, length, Ask::Nothing);
    packet[12..14].copy_from_slice(&[0x08, 0x00]);
    packet[HEADER..HEADER + 4].copy_from_slice(&[0x45, 0, 0, 0]);
    let total = u16::try_from(length - HEADER).unwrap_or(u16::MAX);
    packet[HEADER + 2..HEADER + 4].copy_from_slice(&total.to_be_bytes());
    packet[HEADER + 8..HEADER + 10].copy_from_slice(&[64, 6]);
    packet[HEADER + 12..HEADER + 20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    // The length of TCP's own header; flags: ACK.
    packet[HEADER + 32..HEADER + 34].copy_from_slice(&[0x50, 0x10]);
    packet[TCP_HEADERS..TCP_HEADERS + 2].copy_from_slice(&ask.bytes());
    packet
}

/// The domain's first network device, with nothing above it.
pub struct Link {
    front: Netfront,
    store: Connection,
}

impl Link {
    /// Connects it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn connect() -> Result<Link, Error> {
        let mut store = Connection::open(start::start_info()).ok_or(Errno::ENODEV)?;
        let directory = xenbus::devices(&mut store, "vif")?.into_iter().next().ok_or(Errno::ENODEV)?;
        let front = Netfront::connect(&mut store, &directory)?;
        Ok(Link { front, store })
    }

    /// Its address.
    pub fn mac(&self) -> Mac {
        self.front.mac()
    }

    /// Sends a frame, as soon as there is room.
    ///
    /// # Errors
    /// [`Error::Fault`].
    pub fn send(&mut self, frame: &[u8]) -> Result<(), Error> {
        loop {
            self.front.begin();
            if let Some(room) = self.front.nic().transmit(Instant::ZERO) {
                room.consume(frame.len(), |bytes| bytes.copy_from_slice(frame));
                return Ok(());
            }
            self.wait()?;
        }
    }

    /// Whether the back end takes large packets.
    ///
    /// # Errors
    /// The store's.
    pub fn takes_large(&mut self) -> Result<bool, Error> {
        Ok(self.front.takes_large(&mut self.store)?)
    }

    /// Sends a large TCP packet, to be cut into segments of `segment` bytes of data by whom that concerns.
    ///
    /// # Errors
    /// [`Error::Fault`].
    pub fn send_large(&mut self, packet: &[u8], segment: u16) -> Result<(), Error> {
        loop {
            self.front.begin();
            if self.front.send_large(packet, segment) {
                return Ok(());
            }
            self.wait()?;
        }
    }

    /// Tells the back end of what was sent.
    ///
    /// # Errors
    /// [`Error::Fault`].
    pub fn push(&mut self) -> Result<(), Error> {
        self.front.settle().map(drop).map_err(Error::Fault)
    }

    /// The next frame, whenever it comes.
    ///
    /// # Errors
    /// [`Error::Fault`].
    pub fn receive(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            self.front.begin();
            if let Some((arrived, _)) = self.front.nic().receive(Instant::ZERO) {
                return Ok(arrived.consume(<[u8]>::to_vec));
            }
            self.wait()?;
        }
    }

    /// Waits until something has changed.
    fn wait(&mut self) -> Result<(), Error> {
        if !self.front.settle().map_err(Error::Fault)? {
            hypercall::poll(&[self.front.port()], 0)?;
        }
        Ok(())
    }

    /// Lets go of it.
    pub fn close(mut self) {
        self.front.close(&mut self.store);
    }
}
