//! What the host asks guests for over the network, from outside: connections to ports of its own that lead to theirs. And a
//! page that they can ask it for.

use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Range,
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// How long the host waits for a guest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where ports are looked for: below those that the host gives to everybody who asks for any (from 32768 on), so that nobody
/// gets one of them before the machine does for which it is.
const PORTS: Range<u16> = 10_000..30_000;

/// Ports of the host that are free, others each time.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Another run of the tests at the same time begins elsewhere.
    let first = process::id().wrapping_mul(97);
    let next = || {
        let port = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % u32::from(PORTS.end - PORTS.start);
        PORTS.start + u16::try_from(port).unwrap_or(0)
    };
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    [(); COUNT].map(|()| PORTS.map(|_| next()).find(is_free).expect("a free port"))
}

/// A page that a guest serves, without its header.
///
/// # Errors
/// When it doesn't answer, or otherwise than with a page.
pub fn page(port: u16, name: &str) -> Result<Vec<u8>> {
    let mut stream = connect(port)?;
    write!(stream, "GET /{name} HTTP/1.0\r\nHost: guest\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("the page")?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no header")?;
    let header = String::from_utf8_lossy(&answer[..end]);
    ensure!(header.starts_with("HTTP/1.") && header.contains(" 200 OK\r\n"), "{header:?}");
    Ok(answer.split_off(end + 4))
}

/// Serves a page to everybody who asks a port of the host's, which is returned; guests reach it at 10.0.2.2.
///
/// # Errors
/// When there is no port.
pub fn serve(page: Vec<u8>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a port")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        // Who breaks off gets less; the test notices that at its guest.
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, &page);
        }
    });
    Ok(port)
}

/// Answers one request, whatever it asks for.
fn answer(mut stream: TcpStream, page: &[u8]) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < 4096 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", page.len())?;
    Ok(stream.write_all(page)?)
}

/// Sends so many MiB to a guest's echo, which come back whole.
///
/// # Errors
/// When they don't.
pub fn echo(port: u16, mib: u64) -> Result<()> {
    let stream = connect(port)?;
    let bytes: Vec<u8> = (0..mib << 20).map(|at| (at ^ at >> 8 ^ at >> 16).to_le_bytes()[0]).collect();
    let mut back = vec![0; bytes.len()];
    thread::scope(|scope| {
        let sender = scope.spawn(|| (&stream).write_all(&bytes));
        (&stream).read_exact(&mut back).context("what came back")?;
        sender.join().expect("the sender doesn't panic").context("what was sent")
    })?;
    ensure!(back == bytes, "other bytes came back");
    Ok(())
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ports_are_free_and_differ() {
        let (first, second): ([u16; 4], [u16; 4]) = (free_ports(), free_ports());
        let all: BTreeSet<u16> = first.into_iter().chain(second).collect();
        assert!(all.len() == 8 && all.iter().all(|port| PORTS.contains(port)));
    }
}
