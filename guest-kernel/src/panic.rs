//! The panic path: message, backtrace, and the domain's end.

use crate::start::image;
use crate::vcpu::current_stack;
use crate::{hypercall, println};
use core::arch::asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use pv_abi::sched::SHUTDOWN_CRASH;

/// The most return addresses printed.
const DEPTH: usize = 24;

static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // A second panic, in the printing below, gets no third chance.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        println!("guest kernel panic: {info}");
        print_backtrace();
    }
    let _ = hypercall::shutdown(SHUTDOWN_CRASH);
    loop {
        let _ = hypercall::yield_now();
    }
}

/// Prints the return addresses found along the frame pointers, as long as they stay on the vCPU's stack.
fn print_backtrace() {
    let mut frame: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    let (stack, image) = (current_stack(), image());
    for depth in 0..DEPTH {
        if frame < stack.start || frame + 16 > stack.end || !frame.is_multiple_of(8) {
            return;
        }
        // SAFETY: both words lie on the stack, which is mapped and no longer changes.
        let (next, from) = unsafe { ((frame as *const u64).read(), ((frame + 8) as *const u64).read()) };
        if !image.contains(&from) {
            return;
        }
        println!("  {depth:2}: {from:#018x}");
        // Callers lie higher: anything else is a loop or no frame.
        if next <= frame {
            return;
        }
        frame = next;
    }
}
