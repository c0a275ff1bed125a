//! The machine's own network device: virtio-net. Virtio 1.2, section 5.1.
//!
//! It is asked for no more than its address: packets go out whole and come in one buffer each.

use super::bridge::{LEARNED_BY_UPLINK, PortId, Settings};
use super::packet::{Abilities, MAX_FRAME, Packet};
use super::switch::{Switch, Taste};
use crate::pci::scan::Function;
use crate::service::{Next, Port, Service, Waker};
use crate::virtio::{Device, Error, Memory};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::cell::RefCell;
use guest_kernel::net::Mac;
use guest_kernel::paging::PAGE_BYTES;
use guest_kernel::time;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;

/// Slots of each queue, and buffers for packets to come.
const SLOTS: usize = 128;
const RX: u16 = 0;
const TX: u16 = 1;
/// Packets in a turn.
const TURN_PACKETS: usize = 64;
/// What is before each packet: `struct virtio_net_hdr`, section 5.1.6. Zeros: nothing to be done, nothing known.
const HEADER: usize = 12;
static NO_HEADER: Header = Header([0; HEADER]);

/// Within one page, wherever it is.
#[repr(align(16))]
struct Header([u8; HEADER]);

const BUFFER: usize = 2048;
const _: () = assert!(HEADER + MAX_FRAME <= BUFFER);

/// Room for a packet, within one page.
#[repr(align(2048))]
struct Buffer([u8; BUFFER]);

bitflags! {
    /// Section 5.1.3, and 6.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const MAC = 1 << 5;
        const VERSION_1 = 1 << 32;
    }
}

/// The device, as a service.
pub struct Uplink {
    device: Device,
    event: Port,
    /// On the heap, like all that is large: the stack is small, and the service is moved a few times until it is in its place.
    rx: Box<VirtQueue<Memory, SLOTS>>,
    tx: Box<VirtQueue<Memory, SLOTS>>,
    /// By the device's name for them.
    buffers: Vec<Option<Box<Buffer>>>,
    sending: Vec<Option<Packet>>,
    switch: Rc<RefCell<Switch>>,
    port: PortId,
}

impl Uplink {
    /// Opens the device and adds it to the switch. Returns its address too.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(
        function: &Function,
        switch: Rc<RefCell<Switch>>,
        waker: &Waker,
    ) -> Result<(Uplink, Option<Mac>), Error> {
        // The service's port takes the events over.
        let mut device = Device::open(function, true, |_| ())?;
        let features = device.begin(Features::all());
        let (rx, tx) = (Box::new(device.queue(RX, false, false)?), Box::new(device.queue(TX, false, false)?));
        let mac = features.contains(Features::MAC).then(|| device.transport().read_config_space(0).map(Mac));
        let event = Port::attach(device.port(), waker);
        let settings = Settings { mac: None, rate: None, learned: LEARNED_BY_UPLINK };
        let wake = waker.clone();
        let port = switch.borrow_mut().add(settings, Box::new(move || wake.wake()), time::now().unwrap_or(0));
        // Only an address can be in use, and it has none.
        let port = port.expect("a port without an address");
        switch.borrow_mut().open(port, Taste { abilities: Abilities::default(), lanes: 1, groups: None });
        let buffers = core::iter::repeat_with(|| None).take(SLOTS).collect();
        let sending = core::iter::repeat_with(|| None).take(SLOTS).collect();
        let mut uplink = Uplink { device, event, rx, tx, buffers, sending, switch, port };
        uplink.device.start()?;
        for _ in 0..SLOTS {
            uplink.post(Box::new(Buffer([0; BUFFER])));
        }
        uplink.device.notify(RX, &uplink.rx);
        Ok((uplink, mac.and_then(Result::ok)))
    }

    /// Gives the device room for a packet.
    fn post(&mut self, mut buffer: Box<Buffer>) {
        // SAFETY: the buffer stays where it is, and nobody looks at it, until the device gives it back.
        let token = unsafe { self.rx.add(&[], &mut [&mut buffer.0]) };
        // There are as many slots as buffers.
        if let Ok(token) = token {
            self.buffers[usize::from(token)] = Some(buffer);
        }
    }

    /// Takes packets that came. Whether there may be more.
    fn receive(&mut self, now: u64) -> bool {
        let mut count = 0;
        while count < TURN_PACKETS
            && let Some(token) = self.rx.peek_used()
            && let Some(mut buffer) = self.buffers.get_mut(usize::from(token)).and_then(Option::take)
        {
            count += 1;
            // SAFETY: the buffer is the one that was added with this token.
            let length = unsafe { self.rx.pop_used(token, &[], &mut [&mut buffer.0]) };
            let frame = length.ok().and_then(|length| buffer.0.get(HEADER..length as usize));
            let data = frame.and_then(|frame| {
                let mut data = Packet::buffer(frame.len())?;
                data.copy_from_slice(frame);
                Some(data)
            });
            match data {
                Some(data) => self.switch.borrow_mut().send(self.port, Packet::plain(data), now),
                None => self.switch.borrow_mut().refuse(self.port),
            }
            self.post(buffer);
        }
        if count > 0 {
            self.device.notify(RX, &self.rx);
        }
        count == TURN_PACKETS
    }

    /// Forgets packets that were sent, and sends others.
    fn transmit(&mut self) {
        while let Some(token) = self.tx.peek_used() {
            let Some(packet) = self.sending.get_mut(usize::from(token)).and_then(Option::take) else { break };
            // SAFETY: the packet is the one that was added with this token, in the same parts.
            let popped = unsafe { self.tx.pop_used(token, &parts(&packet.data), &mut []) };
            if popped.is_err() {
                break;
            }
        }
        let mut sent = false;
        // The header, and data that may lie in two pages.
        while self.tx.available_desc() >= 3 {
            let Some(packet) = self.switch.borrow_mut().take_if(self.port, 0, |_| true) else { break };
            // SAFETY: the packet's bytes stay where they are until the device gives them back: moving it doesn't move them.
            match unsafe { self.tx.add(&parts(&packet.data), &mut []) } {
                Ok(token) => self.sending[usize::from(token)] = Some(packet),
                Err(_) => self.switch.borrow_mut().lose(self.port),
            }
            sent = true;
        }
        if sent {
            self.device.notify(TX, &self.tx);
        }
    }
}

/// The header, and the packet in pieces that each lie within one page.
fn parts(data: &[u8]) -> Vec<&[u8]> {
    let mut parts: Vec<&[u8]> = [&NO_HEADER.0[..]].into();
    let mut rest = data;
    while !rest.is_empty() {
        let room = PAGE_BYTES - rest.as_ptr().addr() % PAGE_BYTES;
        let (part, behind) = rest.split_at(rest.len().min(room));
        parts.push(part);
        rest = behind;
    }
    parts
}

impl Service for Uplink {
    fn work(&mut self, now: u64) -> Next {
        if self.event.rang() {
            self.device.acknowledge();
        }
        let more = self.receive(now);
        self.transmit();
        if more { Next::More } else { Next::Wait }
    }
}
