//! Thousands of ports.

use super::{COUNT, count, counted, start};
use crate::check::{Told, equal, holds};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;
use guest_kernel::event::{fifo, two_level};
use guest_kernel::{event, hypercall};
use pv_abi::errno::Errno;

/// Binds ports until there are no more, or `limit`.
fn bind_all(limit: usize) -> (Vec<u32>, Errno) {
    let mut ports = Vec::new();
    loop {
        match event::bind_ipi(0, count) {
            Ok(port) => ports.push(port),
            Err(errno) => return (ports, errno),
        }
        if ports.len() == limit {
            return (ports, Errno::ENOSPC);
        }
    }
}

/// Sends to all, masked; then all are handled in one go, each once.
fn all_once(ports: &[u32]) -> Told {
    COUNT.store(0, SeqCst);
    event::disable();
    for port in ports {
        equal("send", hypercall::send(*port), Ok(()))?;
        equal("send again", hypercall::send(*port), Ok(()))?;
    }
    equal("handled while masked", counted(), 0)?;
    event::enable();
    event::disable();
    equal("handled", counted() as usize, ports.len())
}

/// As many ports as 2-level delivery has.
pub fn two_level() -> Told {
    start(1)?;
    let (ports, last) = bind_all(usize::MAX);
    equal("one more", last, Errno::ENOSPC)?;
    equal("the last port", ports.last(), Some(&(two_level::PORTS - 1)))?;
    all_once(&ports)?;
    for port in &ports {
        equal("close", event::close(*port), Ok(()))?;
    }
    equal("again", bind_all(usize::MAX).0.len(), ports.len())
}

/// More than 2-level delivery could have.
pub fn fifo() -> Told {
    const PORTS: u32 = 3 * two_level::PORTS;
    start(1)?;
    equal("FIFO", event::start_fifo(1, PORTS), Ok(()))?;
    let (ports, _) = bind_all(PORTS as usize - 16);
    holds("all of them", ports.len() == PORTS as usize - 16)?;
    all_once(&ports)?;
    all_once(&ports)?;
    holds(
        "words are clean",
        ports.iter().all(|port| {
            event::fifo_word(*port).is_some_and(|word| word.load(SeqCst) & (fifo::PENDING | fifo::LINKED) == 0)
        }),
    )
}
