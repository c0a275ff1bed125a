//! FIFO delivery of events.

use super::fifo_calls::{expand_array, init_control};
use super::{page, record, refusal, start};
use crate::check::{Told, equal, holds};
use crate::stories::mmu::ground::Page;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use guest_kernel::event::fifo::{LINKED, MASKED, PENDING};
use guest_kernel::event::two_level;
use guest_kernel::{event, hypercall};
use pv_abi::event::EVTCHN_FIFO_PRIORITY_DEFAULT;

/// Ports in the order in which they were handled.
static ORDER: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];
static HANDLED: AtomicUsize = AtomicUsize::new(0);

fn note(port: u32) {
    if let Some(slot) = ORDER.get(HANDLED.fetch_add(1, SeqCst)) {
        slot.store(port, SeqCst);
    }
}

/// What was handled since the last time.
fn handled() -> Vec<u32> {
    event::enable();
    event::disable();
    let count = HANDLED.swap(0, SeqCst);
    ORDER.iter().take(count).map(|slot| slot.load(SeqCst)).collect()
}

fn send_all(ports: &[u32]) -> Told {
    ports.iter().try_for_each(|port| equal("send", hypercall::send(*port), Ok(())))
}

fn ports(count: usize) -> Result<Vec<u32>, crate::check::Ending> {
    (0..count).map(|_| event::bind_ipi(0, note).map_err(refusal)).collect()
}

fn word(port: u32) -> u32 {
    event::fifo_word(port).map_or(0, |word| word.load(SeqCst))
}

/// Words, heads and ready bits, one event after the other.
pub fn words() -> Told {
    start(1)?;
    equal("FIFO", event::start_fifo(1, 1024), Ok(()))?;
    let ports = ports(3)?;
    record()?.upcall_pending.store(0, SeqCst);
    let control = event::fifo_control(0);
    let queue = EVTCHN_FIFO_PRIORITY_DEFAULT;

    equal("send", hypercall::send(ports[0]), Ok(()))?;
    equal("word", word(ports[0]), PENDING | LINKED)?;
    equal("head", control.head[queue as usize].load(SeqCst), ports[0])?;
    equal("ready", control.ready.load(SeqCst), 1 << queue)?;
    equal("upcall", record()?.upcall_pending.load(SeqCst), 1)?;

    equal("send a second", hypercall::send(ports[1]), Ok(()))?;
    equal("the first links it", word(ports[0]), PENDING | LINKED | ports[1])?;
    equal("its word", word(ports[1]), PENDING | LINKED)?;

    event::mask(ports[2]);
    equal("send to a masked one", hypercall::send(ports[2]), Ok(()))?;
    equal("its word", word(ports[2]), PENDING | MASKED)?;
    equal("no link", word(ports[1]), PENDING | LINKED)?;
    equal("handled", handled(), ports[..2].to_vec())?;
    equal("unmask", hypercall::unmask_port(ports[2]), Ok(()))?;
    equal("its word", word(ports[2]), PENDING | LINKED)?;
    equal("handled", handled(), [ports[2]].to_vec())?;
    equal("the shared page is not used", page()?.pending.iter().any(|word| word.load(SeqCst) != 0), false)
}

/// The most urgent first, and within a priority the oldest.
pub fn priorities() -> Told {
    start(1)?;
    equal("FIFO", event::start_fifo(1, 1024), Ok(()))?;
    let ports = ports(32)?;
    for (port, priority) in ports.iter().zip((0..16).rev().cycle()) {
        equal("set_priority", hypercall::set_priority(*port, priority), Ok(()))?;
    }
    send_all(&ports)?;
    let expected: Vec<u32> = (0..16).rev().flat_map(|at| [ports[at], ports[at + 16]]).collect();
    equal("order", handled(), expected)?;
    send_all(&ports[16..])?;
    equal("order", handled(), ports[16..].iter().rev().copied().collect())
}

/// A port whose priority changes while it waits stays where it is; the next event goes by the new one.
pub fn priority_changes() -> Told {
    start(1)?;
    equal("FIFO", event::start_fifo(1, 1024), Ok(()))?;
    let ports = ports(2)?;
    send_all(&ports)?;
    equal("set_priority", hypercall::set_priority(ports[1], 0), Ok(()))?;
    equal("send while pending", hypercall::send(ports[1]), Ok(()))?;
    equal("order", handled(), ports.clone())?;
    send_all(&ports)?;
    equal("order by then", handled(), ports.into_iter().rev().collect())
}

/// Events that were pending when delivery became FIFO are not lost, and neither are those that came before there were
/// words for them.
pub fn earlier_events() -> Told {
    start(1)?;
    let page = page()?;
    let early = hypercall::bind_ipi(0).map_err(refusal)?;
    equal("send with 2-level delivery", hypercall::send(early), Ok(()))?;
    holds("pending", two_level::is_set(&page.pending, early))?;

    let (control, words) = (Page::new(), Page::new());
    equal("control block", init_control(control.mfn, 0, 0).map(drop), Ok(()))?;
    let late = hypercall::bind_ipi(0).map_err(refusal)?;
    equal("send without words", hypercall::send(late), Ok(()))?;
    equal("words", expand_array(words.mfn), Ok(()))?;
    let pending = |port: u32| words.read(port as usize / 2) >> (32 * (port % 2)) & u64::from(PENDING) != 0;
    holds("the early event", pending(early))?;
    holds("the late event", pending(late))
}

/// A closed port's number can be used again, whatever its word was.
pub fn closed() -> Told {
    start(1)?;
    equal("FIFO", event::start_fifo(1, 1024), Ok(()))?;
    let ports = ports(2)?;
    send_all(&ports)?;
    equal("close while linked", event::close(ports[0]), Ok(()))?;
    equal("the other is handled", handled(), [ports[1]].to_vec())?;
    event::clear_pending(ports[0]);
    equal("the same number", event::bind_ipi(0, note), Ok(ports[0]))?;
    send_all(&ports)?;
    equal("both", handled(), ports)
}
