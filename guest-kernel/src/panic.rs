//! The panic path: message, backtrace, and the domain's end.

use crate::start::image;
use crate::sync::Slot;
use crate::vcpu::current_stack;
use crate::{hypercall, println};
use core::arch::asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use pv_abi::sched::SHUTDOWN_CRASH;

/// The most return addresses of a backtrace.
const DEPTH: usize = 24;

static PANICKING: AtomicBool = AtomicBool::new(false);

/// What a panic calls first. If it comes back, the domain ends.
pub type Escape = fn(&PanicInfo<'_>);

static ESCAPE: Slot<Escape> = Slot::empty();

/// For kernels that are built to be unwound: from now on a panic that may be unwound calls `escape`, wherever it happens. If
/// that comes back, the domain ends as it does without.
pub fn set_escape(escape: Escape) {
    ESCAPE.set(Some(escape));
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if info.can_unwind()
        && !PANICKING.load(Ordering::Relaxed)
        && let Some(escape) = ESCAPE.get()
    {
        escape(info);
    }
    // A second panic, in the printing below, gets no third chance.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        println!("guest kernel panic: {info}");
        let mut depth = 0;
        backtrace(|from| {
            println!("  {depth:2}: {from:#018x}");
            depth += 1;
        });
    }
    let _ = hypercall::shutdown(SHUTDOWN_CRASH);
    loop {
        let _ = hypercall::yield_now();
    }
}

/// Has `each` see the return addresses found along the frame pointers, as long as they stay on the vCPU's stack.
pub fn backtrace(mut each: impl FnMut(u64)) {
    let mut frame: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    let (stack, image) = (current_stack(), image());
    for _ in 0..DEPTH {
        if frame < stack.start || frame + 16 > stack.end || !frame.is_multiple_of(8) {
            return;
        }
        // SAFETY: both words lie on the stack, which is mapped and no longer changes.
        let (next, from) = unsafe { ((frame as *const u64).read(), ((frame + 8) as *const u64).read()) };
        if !image.contains(&from) {
            return;
        }
        each(from);
        // Callers lie higher: anything else is a loop or no frame.
        if next <= frame {
            return;
        }
        frame = next;
    }
}
