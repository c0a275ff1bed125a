//! Small servers, for demonstrations and tests: a web page, and an echo of all that comes (RFC 862).

use super::stack::Stack;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{self, State};

/// The web server's port, and how many connections it has at a time.
pub const HTTP_PORT: u16 = 80;
const HTTP_SOCKETS: usize = 8;
/// Longest request.
const MAX_REQUEST: usize = 4096;
/// The echo's port, and how many connections it has at a time.
pub const ECHO_PORT: u16 = 7;
const ECHO_SOCKETS: usize = 4;
/// Bytes that wait in each direction of an echo's connection.
const ECHO_BUFFER: usize = 64 << 10;

/// The servers.
pub struct Servers {
    http: Vec<SocketHandle>,
    echo: Vec<SocketHandle>,
    requests: u64,
}

impl Servers {
    /// Servers that wait for connections.
    pub fn new(stack: &mut Stack) -> Servers {
        let http = (0..HTTP_SOCKETS).map(|_| stack.add_tcp(MAX_REQUEST)).collect();
        let echo = (0..ECHO_SOCKETS).map(|_| stack.add_tcp(ECHO_BUFFER)).collect();
        Servers { http, echo, requests: 0 }
    }

    /// Requests for the page that were answered.
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Does what connections ask for. `page` makes the page from the number of requests so far. Whether something was done,
    /// which the stack is to send.
    pub fn work(&mut self, stack: &mut Stack, mut page: impl FnMut(u64) -> String) -> bool {
        let mut done = false;
        for handle in &self.http {
            let socket = stack.tcp(*handle);
            done |= listens(socket, HTTP_PORT);
            let whole = socket.can_recv() && socket.recv(|bytes| (0, is_whole(bytes))).unwrap_or(false);
            if whole && socket.may_send() {
                self.requests += 1;
                let body = page(self.requests);
                let response = format!(
                    "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                // What doesn't fit isn't sent: the page is shorter than the buffer.
                let _ = socket.send_slice(response.as_bytes());
            }
            if whole || socket.state() == State::CloseWait {
                let _ = socket.recv(|bytes| (bytes.len(), ()));
                socket.close();
                done = true;
            }
        }
        for handle in &self.echo {
            let socket = stack.tcp(*handle);
            done |= listens(socket, ECHO_PORT) | echo(socket);
        }
        done
    }
}

/// Whether a request is whole, or never will be.
fn is_whole(bytes: &[u8]) -> bool {
    bytes.len() >= MAX_REQUEST || bytes.windows(4).any(|end| end == b"\r\n\r\n")
}

/// Makes a socket whose connection is over wait for another one.
fn listens(socket: &mut tcp::Socket<'_>, port: u16) -> bool {
    if socket.state() == State::TimeWait {
        // Both sides have closed. A client that asks often would find no socket otherwise.
        socket.abort();
    }
    !socket.is_open() && socket.listen(port).is_ok()
}

/// Sends back what came, and closes when the other side has.
fn echo(socket: &mut tcp::Socket<'_>) -> bool {
    let room = socket.send_capacity() - socket.send_queue();
    let mut moved = Vec::new();
    if socket.can_recv() && socket.can_send() {
        let _ = socket.recv(|bytes| {
            moved.extend_from_slice(&bytes[..bytes.len().min(room)]);
            (moved.len(), ())
        });
        // There is room for it.
        let _ = socket.send_slice(&moved);
    }
    if socket.state() == State::CloseWait && !socket.can_recv() {
        socket.close();
    }
    !moved.is_empty()
}
