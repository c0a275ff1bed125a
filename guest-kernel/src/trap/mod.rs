//! Traps: the table registered with the hypervisor, handlers per vector, and expected faults.
//!
//! Every vector has a stub. A trap goes to, in order: the expectation that [`catch!`](crate::catch) armed, the handler
//! that [`set_handler`] named, or else the panic path with a register dump. A trap of user mode goes to whoever
//! [runs it](user::run).

mod frame;
mod stubs;
pub mod user;

use crate::sync::Slot;
use crate::{event, hypercall, vcpu};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};
use pv_abi::trap::{FLAT_KERNEL_CS, TrapInfo};

pub use frame::{Caught, TrapFrame};
pub use stubs::{address as stub_address, event_entry};

/// Handles one trap; what it leaves in the frame is what execution goes on with.
pub type Handler = fn(&mut TrapFrame);

/// The vector of a non-maskable interrupt, which nobody expects.
const NMI: u8 = 2;

static HANDLERS: [Slot<Handler>; 256] = [const { Slot::empty() }; 256];

/// Where each vCPU goes on after its next trap; 0 when none is expected. Written by [`catch!`](crate::catch).
#[doc(hidden)]
pub static RECOVERY: [AtomicU64; vcpu::LIMIT] = [const { AtomicU64::new(0) }; vcpu::LIMIT];

/// The frame of a vCPU's last expected trap. Only the trap path writes it, and only the code it interrupted reads it.
struct LastFrame(UnsafeCell<Option<TrapFrame>>);

// SAFETY: each vCPU uses its own, and `handle` doesn't write while `last_frame` copies the value: that can't fault, and
// what interrupts it expects no traps.
unsafe impl Sync for LastFrame {}

static LAST_FRAMES: [LastFrame; vcpu::LIMIT] = [const { LastFrame(UnsafeCell::new(None)) }; vcpu::LIMIT];

/// This vCPU's slot of [`RECOVERY`].
#[doc(hidden)]
pub fn recovery() -> &'static AtomicU64 {
    &RECOVERY[vcpu::current() as usize]
}

/// Registers all 256 stubs: `int3` and `into` reachable from software, all others not.
pub(crate) fn init() {
    install(&default_table());
}

/// The table that the library registers at start, ended by a zero entry as the ABI asks.
pub fn default_table() -> [TrapInfo; 257] {
    let mut table = [TrapInfo::default(); 257];
    for (vector, entry) in (0..=u8::MAX).zip(table.iter_mut()) {
        *entry = gate(vector, if matches!(vector, 3 | 4) { 3 } else { 0 });
    }
    table
}

/// The entry that sends `vector` to its stub, usable by `int` from rings up to `dpl`.
pub fn gate(vector: u8, dpl: u8) -> TrapInfo {
    TrapInfo { vector, flags: dpl, cs: FLAT_KERNEL_CS, _pad: 0, address: stub_address(vector) }
}

/// Registers `table`, which must end with a zero entry.
///
/// # Panics
/// If the hypervisor refuses, for then no later fault could be reported.
pub fn install(table: &[TrapInfo]) {
    assert!(table.last().is_some_and(|last| last.address == 0), "trap table without an end");
    // SAFETY: the table is ended, and callers pass stub addresses from `gate`.
    unsafe { hypercall::set_trap_table(table.as_ptr()) }.expect("set_trap_table");
}

/// Names the handler of `vector`, or removes it. Panics must not be caught: a handler either repairs or ends.
pub fn set_handler(vector: u8, handler: Option<Handler>) {
    HANDLERS[usize::from(vector)].set(handler);
}

/// The whole frame of the trap that [`catch!`](crate::catch) caught last.
pub fn last_frame() -> Option<TrapFrame> {
    // SAFETY: see `LastFrame`.
    unsafe { *LAST_FRAMES[vcpu::current() as usize].0.get() }
}

/// What the last `catch!` caught, if anything; disarms the expectation either way.
#[doc(hidden)]
pub fn take_caught() -> Option<Caught> {
    if recovery().swap(0, Ordering::Relaxed) != 0 {
        return None;
    }
    last_frame().map(|frame| frame.caught())
}

/// Runs assembly that may trap; the value is what it caught, as `Option<Caught>`.
///
/// After a trap execution goes on behind the assembly, with the registers and stack pointer as they were at the trap.
/// Operands follow the template as in `asm!`; `rax` is taken. The use is unsafe, as `asm!` is.
#[macro_export]
macro_rules! catch {
    ([$($line:literal),+ $(,)?] $($operands:tt)*) => {{
        core::arch::asm!(
            "lea rax, [rip + 77f]",
            "mov [{recovery}], rax",
            $($line,)+
            "77:",
            recovery = in(reg) $crate::trap::recovery(),
            out("rax") _,
            $($operands)*
        );
        $crate::trap::take_caught()
    }};
}

/// The Rust half of every trap, called by the stubs with interrupted registers saved in `frame`.
extern "sysv64" fn handle(frame: &mut TrapFrame) {
    let armed = recovery().swap(0, Ordering::Relaxed);
    if frame.is_upcall() {
        event::upcall();
        recovery().store(armed, Ordering::Relaxed);
        return;
    }
    if armed != 0 && frame.vector() != NMI {
        // SAFETY: see `LastFrame`.
        unsafe { *LAST_FRAMES[vcpu::current() as usize].0.get() = Some(*frame) };
        frame.rip = armed;
        return;
    }
    match HANDLERS[usize::from(frame.vector())].get() {
        Some(handler) => handler(frame),
        None => panic!("unexpected trap\n{frame}"),
    }
    recovery().store(armed, Ordering::Relaxed);
}
