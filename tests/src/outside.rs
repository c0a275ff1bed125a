//! What the host asks guests for over the network, from outside: connections to ports of its own that lead to theirs. And a
//! page that they can ask it for.

use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// How long the host waits for a guest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ports of the host that were free a moment ago.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let sockets = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("its address").port())
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
