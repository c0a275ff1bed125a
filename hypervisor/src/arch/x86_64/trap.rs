//! Traps taken while the hypervisor itself ran.

use super::{entry, panic, percpu, uaccess, vectors};
use crate::guest::{GuestRegisters, vector};
use crate::system;

/// RFLAGS.TF.
const TRAP_FLAG: u64 = 1 << 8;

/// Handles a trap in hypervisor code. Null: go on at `frame`. Else: the trap belongs to the guest whose registers the
/// answer points at (they lie in `CpuTop`), as if it had been raised in guest mode.
///
/// # Safety
/// Called by the entry stubs only, with the interrupted registers.
pub unsafe extern "C" fn trap_from_hypervisor(frame: *mut GuestRegisters) -> *mut GuestRegisters {
    // SAFETY: the stub passes the registers it just pushed. Copied, because when `iretq` faulted they overlap the
    // guest registers that are rebuilt below.
    let mut regs = unsafe { frame.read() };
    match regs.vector {
        vector::NMI => {
            system::entry::on_nmi();
            return core::ptr::null_mut();
        }
        // Our own breakpoint registers are unused; what arrives here is a guest's breakpoint on `syscall` or on an
        // address that the hypervisor copies from, or its single step into `sysenter`. It means nothing in ring 0
        // (XSA-260), and stepping ends.
        vector::DEBUG => {
            regs.rflags &= !TRAP_FLAG;
            // SAFETY: as above; the frame is ours to change.
            unsafe { frame.write(regs) };
            return core::ptr::null_mut();
        }
        32..=255 => {
            system::entry::interrupt(regs.vector);
            return core::ptr::null_mut();
        }
        // What an instruction may raise for what a guest has written: a selector whose descriptor isn't present is #NP or #SS,
        // not #GP (SDM volume 3, 6.15).
        vector::INVALID_TSS..=vector::PAGE_FAULT => {
            if let Some(landing) = uaccess::landing(regs.rip) {
                regs.rip = landing;
                // SAFETY: as above; the frame is ours to change.
                unsafe { frame.write(regs) };
                return core::ptr::null_mut();
            }
        }
        _ => {}
    }
    if regs.rip == entry::guest_iretq as *const () as u64 {
        return rebuild_guest(&regs);
    }
    // Nothing goes to the log first: this CPU may hold the console's lock.
    panic::die_with(format_args!("unexpected trap {} in the hypervisor", regs.vector), &regs)
}

/// The return to a guest faulted: RIP, CS, RFLAGS, RSP and SS are still in `CpuTop` as the guest asked for them, the
/// other registers were loaded already and are in the fault's frame.
fn rebuild_guest(fault: &GuestRegisters) -> *mut GuestRegisters {
    let target = percpu::this().regs.get();
    // SAFETY: nothing else refers to `CpuTop::regs` between a return to a guest and the next entry, and this is such
    // a moment: the stub that calls us takes the answer as the new entry's registers.
    unsafe {
        let kept = target.read();
        target.write(GuestRegisters {
            rip: kept.rip,
            cs: kept.cs,
            rflags: kept.rflags,
            rsp: kept.rsp,
            ss: kept.ss,
            ..*fault
        });
    }
    target
}

const _: () = assert!(vectors::FIRST_DEVICE >= 32);
