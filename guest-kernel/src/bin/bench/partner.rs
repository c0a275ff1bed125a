//! A second domain, for what happens between two: it sends an event back for each that it gets, and sleeps meanwhile.
//!
//! The host gives the measuring domain `partner=` and the other one `serves=`, each the number of the other. Both ports
//! are the first that the partner gets.

use crate::bell::Bell;
use crate::run::option;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_kernel::{event, hypercall};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::sched::SHUTDOWN_POWEROFF;

/// The partner's port for pings, and the one that ends it.
const PING: u32 = 1;
const END: u32 = 2;

/// How often the measuring domain asks whether its partner is there.
const TRIES: u32 = 100_000;

static PINGED: Bell = Bell::new();

/// Our port to the partner; 0: there is none.
static PORT: AtomicU32 = AtomicU32::new(0);

fn number(name: &str) -> Option<u16> {
    option(name)?.parse().ok()
}

/// Serves a domain until that ends it, if that is what this domain is for.
pub fn serve() {
    let Some(domain) = number("serves") else { return };
    for wanted in [PING, END] {
        let port = hypercall::alloc_unbound(DOMID_SELF, domain).expect("a new domain has ports");
        assert_eq!(port, wanted);
        event::attach(
            port,
            0,
            if port == PING { |_| PINGED.ring() } else { |_| _ = hypercall::shutdown(SHUTDOWN_POWEROFF) },
        );
    }
    loop {
        PINGED.wait();
        // Nothing is lost if nobody is there yet.
        let _ = hypercall::send(PING);
    }
}

/// Connects to the partner, if there is one, and waits until it sleeps.
///
/// # Errors
/// When it doesn't come up.
pub fn connect() -> Result<(), Errno> {
    let Some(domain) = number("partner") else { return Ok(()) };
    for _ in 0..TRIES {
        match hypercall::bind_interdomain(domain, PING) {
            Ok(port) => {
                // Connecting is an event, of no use here.
                event::clear_pending(port);
                event::attach(port, 0, |_| PINGED.ring());
                PORT.store(port, SeqCst);
                break;
            }
            Err(_) => _ = hypercall::yield_now(),
        }
    }
    ping(port().ok_or(Errno::ESRCH)?)?;
    // It may have answered without being asleep again.
    hypercall::yield_now().map(drop)
}

/// The port of pings, if there is a partner.
pub fn port() -> Option<u32> {
    Some(PORT.load(SeqCst)).filter(|port| *port != 0)
}

/// Wakes the partner, and sleeps until it has answered.
///
/// # Errors
/// The hypervisor's.
pub fn ping(port: u32) -> Result<(), Errno> {
    hypercall::send(port)?;
    PINGED.wait();
    Ok(())
}

/// Ends the partner, if there is one.
pub fn end() {
    if let Some(port) = number("partner").and_then(|domain| hypercall::bind_interdomain(domain, END).ok()) {
        let _ = hypercall::send(port);
    }
}
