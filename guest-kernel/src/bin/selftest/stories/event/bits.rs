//! 2-level delivery, bit by bit, with upcalls masked.

use super::{page, record, refusal};
use crate::check::{Told, equal, holds};
use core::sync::atomic::Ordering::SeqCst;
use guest_kernel::event::two_level::{clear, is_set, set};
use guest_kernel::hypercall;

/// An event sets its bit, its word's selector bit, and the upcall; a second one changes nothing.
pub fn pending() -> Told {
    let (page, record) = (page()?, record()?);
    record.upcall_pending.store(0, SeqCst);
    let port = hypercall::bind_ipi(0).map_err(refusal)?;
    let word = 1 << (port / 64);
    equal("send", hypercall::send(port), Ok(()))?;
    holds("pending", is_set(&page.pending, port))?;
    equal("selector", record.selector.swap(0, SeqCst), word)?;
    equal("upcall", record.upcall_pending.swap(0, SeqCst), 1)?;

    equal("send while pending", hypercall::send(port), Ok(()))?;
    equal("selector", record.selector.load(SeqCst), 0)?;
    equal("upcall", record.upcall_pending.load(SeqCst), 0)?;

    clear(&page.pending, port);
    record.selector.store(word, SeqCst);
    equal("send while the word is selected", hypercall::send(port), Ok(()))?;
    holds("pending", is_set(&page.pending, port))?;
    equal("upcall", record.upcall_pending.load(SeqCst), 0)
}

/// A masked port becomes pending and nothing more, until the call that unmasks it.
pub fn mask() -> Told {
    let (page, record) = (page()?, record()?);
    record.upcall_pending.store(0, SeqCst);
    let port = hypercall::bind_ipi(0).map_err(refusal)?;
    set(&page.mask, port);
    equal("send", hypercall::send(port), Ok(()))?;
    holds("pending", is_set(&page.pending, port))?;
    equal("selector", record.selector.load(SeqCst), 0)?;
    equal("upcall", record.upcall_pending.load(SeqCst), 0)?;

    equal("unmask", hypercall::unmask_port(port), Ok(()))?;
    holds("unmasked", !is_set(&page.mask, port))?;
    equal("selector", record.selector.swap(0, SeqCst), 1 << (port / 64))?;
    equal("upcall", record.upcall_pending.swap(0, SeqCst), 1)?;

    equal("unmask what isn't masked", hypercall::unmask_port(port), Ok(()))?;
    equal("selector", record.selector.load(SeqCst), 0)?;
    set(&page.mask, port);
    clear(&page.pending, port);
    equal("unmask without an event", hypercall::unmask_port(port), Ok(()))?;
    equal("upcall", record.upcall_pending.load(SeqCst), 0)
}

/// A closed port's event is gone: the next owner of the number starts without.
pub fn closed() -> Told {
    let page = page()?;
    let port = hypercall::bind_ipi(0).map_err(refusal)?;
    equal("send", hypercall::send(port), Ok(()))?;
    equal("close", hypercall::close_port(port), Ok(()))?;
    equal("the same number", hypercall::bind_ipi(0), Ok(port))?;
    holds("nothing pending", !is_set(&page.pending, port))
}
