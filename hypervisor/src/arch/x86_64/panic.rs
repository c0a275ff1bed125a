//! The end of the road: stop all CPUs, say what happened, with registers and a backtrace by function names.

use core::fmt::{Arguments, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use boot_archive::Symbols;
use x86_64::registers::control::{Cr2, Cr3, Cr4};

use super::{apic, console, percpu};
use crate::addr::{HYPERVISOR_END, HYPERVISOR_START};
use crate::domain::report::Registers;
use crate::guest::GuestRegisters;

static IN_PROGRESS: AtomicBool = AtomicBool::new(false);
static SYMBOLS: spin::Once<Symbols<'static>> = spin::Once::new();

/// Most frames printed of a backtrace.
const MAX_FRAMES: usize = 32;

/// Function names for backtraces, from the boot archive.
pub fn set_symbols(symbols: Symbols<'static>) {
    SYMBOLS.call_once(|| symbols);
}

/// Has some CPU started to panic?
pub fn in_progress() -> bool {
    IN_PROGRESS.load(Ordering::Acquire)
}

/// Halts this CPU for good.
pub fn stop() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// The machine's end on a Rust panic.
pub fn die(info: &core::panic::PanicInfo<'_>) -> ! {
    let (rip, rbp): (u64, u64);
    // SAFETY: reads two registers.
    unsafe {
        core::arch::asm!("lea {}, [rip]", "mov {}, rbp", out(reg) rip, out(reg) rbp, options(nomem, nostack));
    }
    begin(format_args!("{info}"));
    backtrace(rip, rbp);
    finish()
}

/// The machine's end on a trap that should never be taken, with the registers at that moment. A guest's are in the
/// report anyway, and its stack says nothing about the hypervisor.
pub fn die_with(reason: Arguments<'_>, regs: &GuestRegisters) -> ! {
    const RING: u64 = 3;
    begin(reason);
    if regs.cs & RING == 0 {
        let _ = writeln!(console::Emergency, "registers of the hypervisor:\n{}", Registers(regs));
        backtrace(regs.rip, regs.rbp);
    }
    finish()
}

/// Claims the panic for this CPU, or stops it when another one has; then stops all others.
fn begin(reason: Arguments<'_>) {
    if IN_PROGRESS.swap(true, Ordering::AcqRel) {
        stop();
    }
    apic::nmi_all_others();
    let mut out = console::Emergency;
    let top = percpu::try_this();
    let _ = writeln!(out, "\n*** Pavise panic on cpu{}: {reason}", top.map_or(0, |top| top.cpu.get()));
    let (cr2, cr3, cr4) = (Cr2::read_raw(), Cr3::read_raw().0.start_address(), Cr4::read_raw());
    let _ = writeln!(out, "cr2 {cr2:016x} cr3 {cr3:x} cr4 {cr4:x}");
    if let Some(top) = top {
        // SAFETY: a copy, of words that may be anything. Nothing else of this CPU runs any more.
        let regs = unsafe { top.regs.get().read() };
        let _ = writeln!(out, "registers of the last guest on this CPU:\n{}", Registers(&regs));
    }
}

/// Prints return addresses by the chain of frame pointers, as long as it stays in hypervisor memory and climbs.
fn backtrace(rip: u64, mut rbp: u64) {
    let mut out = console::Emergency;
    let _ = writeln!(out, "backtrace:");
    print_frame(&mut out, rip, rip);
    for _ in 0..MAX_FRAMES {
        if !(HYPERVISOR_START..HYPERVISOR_END).contains(&rbp) || !rbp.is_multiple_of(8) {
            break;
        }
        // SAFETY: hypervisor code is built with frame pointers, so RBP points at a saved RBP and a return address on
        // a mapped stack. A corrupt chain could still fault here; that nested fault only stops this CPU, because a
        // panic is in progress.
        let [next, back] = unsafe { (rbp as *const [u64; 2]).read() };
        if back == 0 {
            break;
        }
        // A call that ends its function returns behind it.
        print_frame(&mut out, back, back - 1);
        if next <= rbp {
            break;
        }
        rbp = next;
    }
}

/// Prints a code address, by the function that `inside` belongs to.
fn print_frame(out: &mut impl Write, address: u64, inside: u64) {
    let offset = inside.checked_sub(super::mm::IMAGE_BASE).and_then(|offset| u32::try_from(offset).ok());
    match offset.and_then(|offset| SYMBOLS.get()?.lookup(offset)) {
        Some((name, delta)) => _ = writeln!(out, "  {address:#018x} {name}+{:#x}", u64::from(delta) + address - inside),
        None => _ = writeln!(out, "  {address:#018x}"),
    }
}

fn finish() -> ! {
    let _ = writeln!(console::Emergency, "*** all CPUs stopped");
    super::debug_exit(super::DebugExit::Panic);
    stop()
}
