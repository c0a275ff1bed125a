//! The console: a ring shared with a back end, if the domain has one, else the hypervisor's own console through
//! `console_io`.
//!
//! Nothing is allocated, so that handlers and the panic path can print too. A handler that interrupts the vCPU in the middle
//! of its printing can't have the ring; its text goes through `console_io`.

use super::ring::{Front, Page};
use crate::hypercall;
use crate::start::start_info;
use crate::sync::Once;
use crate::{event, memory, time, vcpu};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};
use pv_abi::start_info::StartFlags;
use spin::RelaxStrategy;

/// How long to wait for a back end that doesn't read, in nanoseconds. Then the text is lost.
const PATIENCE: u64 = 2_000_000_000;
/// How long to wait for an event at a time: a back end that looks without being told doesn't send one.
const LOOK_AGAIN: u64 = 20_000_000;

/// The ring, and who is using it: a vCPU's number plus one, or 0.
struct Ring {
    page: &'static Page,
    port: u32,
    user: AtomicU32,
    front: core::cell::UnsafeCell<Front>,
}

// SAFETY: the front is reached through `Ring::with` alone, by one user at a time.
unsafe impl Sync for Ring {}

static RING: Once<Option<Ring>> = Once::new();

/// The ring that the start info names. The first domain has another structure there.
fn ring() -> Option<&'static Ring> {
    let find = || {
        let info = start_info();
        let first = StartFlags::from_bits_retain(info.flags).contains(StartFlags::INITDOMAIN);
        if first || info.console_evtchn == 0 {
            return None;
        }
        let address = memory::address_of_frame(info.console_mfn)?;
        // SAFETY: the builder maps the page for good, and nobody uses it but this module and the back end. It is made of
        // atomics.
        let page = unsafe { &*(address as *const Page) };
        let front = Front::new(page).into();
        Some(Ring { page, port: info.console_evtchn, user: AtomicU32::new(0), front })
    };
    RING.call_once(find).as_ref()
}

impl Ring {
    /// Uses the ring. `None` if this vCPU was interrupted while it did so.
    fn with<R>(&self, work: impl FnOnce(&mut Front) -> R) -> Option<R> {
        let me = vcpu::current() + 1;
        while let Err(user) = self.user.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
            if user == me {
                return None;
            }
            crate::sync::Yielding::relax();
        }
        // SAFETY: no other vCPU is between the exchange and the store, and this one is there once.
        let result = work(unsafe { &mut *self.front.get() });
        self.user.store(0, Ordering::Release);
        Some(result)
    }

    /// Writes all of it, and waits for room where there is none.
    fn write(&self, front: &mut Front, mut bytes: &[u8]) {
        let limit = time::now().unwrap_or(0) + PATIENCE;
        while !bytes.is_empty() {
            event::clear_pending(self.port);
            let Ok(count) = front.write(self.page, bytes) else { return };
            bytes = &bytes[count..];
            let _ = hypercall::send(self.port);
            let now = time::now().unwrap_or(u64::MAX);
            if !bytes.is_empty() && now < limit {
                let _ = hypercall::poll(&[self.port], now + LOOK_AGAIN);
            } else if now >= limit {
                return;
            }
        }
    }
}

/// Writes bytes to the console.
fn write(bytes: &[u8]) {
    let written = ring().and_then(|ring| ring.with(|front| ring.write(front, bytes)));
    if written.is_none() {
        let _ = hypercall::console_write(bytes);
    }
}

/// Writes formatted text. Errors are dropped: there is nowhere to report them.
pub fn print(text: fmt::Arguments<'_>) {
    let mut out = Buffered { bytes: [0; 128], len: 0 };
    let _ = out.write_fmt(text);
    out.flush();
}

/// Takes one waiting key, if there is one.
pub fn key() -> Option<u8> {
    let mut byte = [0];
    let count = match ring() {
        Some(ring) => ring.with(|front| front.read(ring.page, &mut byte)).and_then(Result::ok),
        None => hypercall::console_read(&mut byte).ok().and_then(|count| usize::try_from(count).ok()),
    };
    count.filter(|count| *count > 0).map(|_| byte[0])
}

/// Sleeps until a key may have arrived. Without a ring keys come without a sign, so this is a short sleep then.
pub fn wait_for_key() {
    wait_for_key_or(&[], 0);
}

/// Ports that [`wait_for_key_or`] can wait for.
const OTHER_PORTS: usize = 7;

/// Sleeps until a key may have arrived, an event is pending at one of the first few `ports`, or system time `deadline` in
/// nanoseconds has come; 0 means no deadline.
pub fn wait_for_key_or(ports: &[u32], deadline: u64) {
    /// Short enough to feel immediate.
    const POLL_INTERVAL: u64 = 20_000_000;
    let ports = &ports[..ports.len().min(OTHER_PORTS)];
    let Some(ring) = ring() else {
        let soon = time::now().unwrap_or(0) + POLL_INTERVAL;
        let _ = hypercall::poll(ports, if deadline == 0 { soon } else { soon.min(deadline) });
        return;
    };
    // A key that comes after this leaves the event pending. One that came before may be in the ring already: the back end
    // sends no second event for it.
    let came_before = event::clear_pending(ring.port);
    if !came_before {
        let mut all = [ring.port; OTHER_PORTS + 1];
        all[1..=ports.len()].copy_from_slice(ports);
        let _ = hypercall::poll(&all[..=ports.len()], deadline);
    }
}

/// Collects pieces of formatted text, so that most lines are one hypercall and don't mix with other domains' text.
struct Buffered {
    bytes: [u8; 128],
    len: usize,
}

impl Buffered {
    fn flush(&mut self) {
        write(&self.bytes[..self.len]);
        self.len = 0;
    }
}

impl Write for Buffered {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.len == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}
