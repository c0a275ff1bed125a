//! When upcalls come.

use super::{COUNT, count, counted, record, refusal, start};
use crate::check::{Told, equal};
use crate::stories::smp::wait_until;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use guest_kernel::{event, hypercall, smp};

/// Upcalls that found themselves unmasked, or within another.
static WRONG: AtomicU32 = AtomicU32::new(0);
static INSIDE: AtomicBool = AtomicBool::new(false);

/// Checks that it isn't interrupted by its own kind, though it sends itself an event.
fn careful(port: u32) {
    let masked = event::disable();
    if masked || INSIDE.swap(true, SeqCst) {
        WRONG.fetch_add(1, SeqCst);
    }
    if COUNT.fetch_add(1, SeqCst) < 5 {
        let _ = hypercall::send(port);
    }
    INSIDE.store(false, SeqCst);
}

/// Masked, an upcall waits; unmasked, it comes before the next instruction; handlers aren't interrupted.
pub fn delivery() -> Told {
    start(1)?;
    let port = event::bind_ipi(0, careful).map_err(refusal)?;
    equal("send while masked", hypercall::send(port), Ok(()))?;
    equal("handled", counted(), 0)?;
    event::enable();
    equal("handled when unmasked", counted(), 6)?;
    equal("send", hypercall::send(port), Ok(()))?;
    equal("handled when the call is back", counted(), 7)?;
    equal("wrong", WRONG.load(SeqCst), 0)?;
    equal("mask", record()?.upcall_mask.load(SeqCst), 0)?;

    event::mask(port);
    equal("send to a masked port", hypercall::send(port), Ok(()))?;
    equal("handled", counted(), 7)?;
    event::unmask(port);
    equal("handled when the port is unmasked", counted(), 8)?;
    event::close(port).map_err(refusal)?;
    equal("mask at the end", event::disable(), true)
}

/// All registers are as they were behind an upcall, at whichever instruction it comes.
pub fn registers() -> Told {
    start(2)?;
    let port = event::bind_ipi(0, count).map_err(refusal)?;
    static DONE: AtomicBool = AtomicBool::new(false);
    smp::run_on(1, move || {
        while !DONE.load(SeqCst) {
            let _ = hypercall::send(port);
        }
    });
    event::enable();
    let mut spoilt = 0u64;
    while counted() < 2000 {
        // SAFETY: the registers are the block's own.
        unsafe {
            core::arch::asm!(
                "mov {turns}, 20000",
                "mov rax, 0x1111", "mov rcx, 0x2222", "mov rdx, 0x3333", "mov rsi, 0x4444", "mov rdi, 0x5555",
                "mov r8, 0x8888", "mov r9, 0x9999", "mov r10, 0x1010", "mov r11, 0x1212",
                "2:",
                "lea rax, [rax + 1]", "lea rcx, [rcx + 1]", "lea r11, [r11 + 1]",
                "dec {turns}",
                "jnz 2b",
                "sub rax, 0x1111 + 20000", "sub rcx, 0x2222 + 20000", "sub r11, 0x1212 + 20000",
                "sub rdx, 0x3333", "sub rsi, 0x4444", "sub rdi, 0x5555",
                "sub r8, 0x8888", "sub r9, 0x9999", "sub r10, 0x1010",
                "or rax, rcx", "or rax, r11", "or rax, rdx", "or rax, rsi", "or rax, rdi",
                "or rax, r8", "or rax, r9", "or rax, r10",
                turns = out(reg) _,
                out("rax") spoilt, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        if spoilt != 0 {
            break;
        }
    }
    DONE.store(true, SeqCst);
    event::disable();
    equal("registers", spoilt, 0)
}

/// No event is lost that comes while upcalls are being unmasked.
pub fn unmask_race() -> Told {
    start(2)?;
    let port = event::bind_ipi(0, count).map_err(refusal)?;
    for round in 1..=1000 {
        smp::run_on(1, move || _ = hypercall::send(port));
        // The moment differs from round to round.
        (0..round % 97 * 8).for_each(|_| core::hint::spin_loop());
        event::enable();
        wait_until("an event", || counted() == round)?;
        event::disable();
    }
    equal("handled", counted(), 1000)
}

/// The same for a port's own mask.
pub fn port_unmask_race() -> Told {
    start(2)?;
    let port = event::bind_ipi(0, count).map_err(refusal)?;
    event::enable();
    for round in 1..=1000 {
        event::mask(port);
        smp::run_on(1, move || _ = hypercall::send(port));
        (0..round % 97 * 8).for_each(|_| core::hint::spin_loop());
        event::unmask(port);
        wait_until("an event", || counted() == round)?;
    }
    event::disable();
    equal("handled", counted(), 1000)
}

/// A vCPU with an event doesn't sleep; one without sleeps until it comes.
pub fn block() -> Told {
    start(2)?;
    let port = event::bind_ipi(0, count).map_err(refusal)?;
    equal("send", hypercall::send(port), Ok(()))?;
    equal("block with an event", hypercall::block(), Ok(0))?;
    equal("handled", counted(), 1)?;
    equal("block unmasked", event::disable(), true)?;
    for round in 2..100 {
        smp::run_on(1, move || _ = hypercall::send(port));
        while counted() < round {
            equal("block", hypercall::block(), Ok(0))?;
            event::disable();
        }
    }
    Ok(())
}
