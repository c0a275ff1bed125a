//! A client of the [echo](super::serve): sends a stream whose bytes can be foretold, and looks whether it comes back whole.

use super::serve::ECHO_PORT;
use super::stack::Stack;
use alloc::vec::Vec;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use smoltcp::wire::Ipv4Address;

/// Bytes that wait in each direction.
const BUFFER: usize = 64 << 10;
/// Bytes made at a time.
const CHUNK: usize = 16 << 10;

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All came back.
    Whole,
    /// Another byte came back than the one at this place.
    Spoiled(u64),
    /// The connection ended when so many bytes had come back.
    Broken(u64),
}

/// A stream.
pub struct Stream {
    socket: SocketHandle,
    total: u64,
    sent: u64,
    received: u64,
}

/// The byte at a place of the stream: not the same in any two pages near each other.
fn byte(at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 16 ^ at >> 24).to_le_bytes()[0]
}

impl Stream {
    /// Begins to connect. `None` if that can't be tried.
    pub fn start(stack: &mut Stack, to: Ipv4Address, total: u64, own_port: u16) -> Option<Stream> {
        let socket = stack.add_tcp(BUFFER);
        if stack.connect(socket, to, ECHO_PORT, own_port) {
            Some(Stream { socket, total, sent: 0, received: 0 })
        } else {
            stack.remove(socket);
            None
        }
    }

    /// Sends what there is room for and looks at what came. Whether it did something, which the stack is to send; and how
    /// it ended, if it has.
    pub fn work(&mut self, stack: &mut Stack) -> (bool, Option<End>) {
        let before = (self.sent, self.received);
        let end = self.step(stack);
        (before != (self.sent, self.received), end)
    }

    fn step(&mut self, stack: &mut Stack) -> Option<End> {
        let socket = stack.tcp(self.socket);
        while socket.can_send() && self.sent < self.total {
            let end = self.total.min(self.sent + CHUNK as u64);
            let bytes: Vec<u8> = (self.sent..end).map(byte).collect();
            self.sent += socket.send_slice(&bytes).ok()? as u64;
        }
        while socket.can_recv() {
            let (from, mut wrong) = (self.received, None);
            let count = socket.recv(|bytes| {
                wrong = (from..).zip(&*bytes).find(|(at, found)| byte(*at) != **found).map(|(at, _)| at);
                (bytes.len(), bytes.len() as u64)
            });
            self.received += count.ok()?;
            if let Some(at) = wrong {
                return Some(End::Spoiled(at));
            }
        }
        if self.received >= self.total {
            return Some(End::Whole);
        }
        (socket.state() == State::Closed).then_some(End::Broken(self.received))
    }

    /// Forgets the connection.
    pub fn finish(self, stack: &mut Stack) {
        stack.tcp(self.socket).abort();
        stack.remove(self.socket);
    }
}
