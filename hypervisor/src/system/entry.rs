//! What the entry stubs call: a guest trapped, a guest made a `syscall`, an interrupt came while the CPU was idle.

use core::cell::{RefCell, RefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use alloc::boxed::Box;

use log::{error, warn};
use pv_abi::trap::{FLAT_RING3_CS64, FLAT_RING3_SS64};

use super::cpu::{self, Cpu, Local};
use super::runner::Runner;
use super::wake::Kicker;
use super::world::World;
use super::{CPUS, console, device, fault, flush, memory};
use crate::addr::is_canonical;
use crate::arch::entry::{Exit, SYSCALL, SYSCALL32, SYSENTER};
use crate::arch::vcpu::CurrentSpace;
use crate::arch::{apic, mm, panic, percpu, vcpu as machine_vcpu, vectors};
use crate::bounce::{self, Exception, Return, UserCall};
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::domain::{Crash, End};
use crate::emulate::{self, GuestCpu, Outcome};
use crate::guest::{GuestRegisters, vector};
use crate::hypercall::{self, Next};
use crate::mm::flush::Stamp;

/// Why there is a current vCPU.
const CURRENT: &str = "a guest that enters the hypervisor is its CPU's current one";

/// A 64-bit `syscall`: from the guest kernel a hypercall, from a guest user left to its kernel.
///
/// RBX, RBP, R12 to R15, RCX, R11, CS and SS are not in `regs`. What needs them, or may change the vCPU, is left to
/// [`finish_syscall`].
pub extern "C" fn syscall_from_guest(regs: &mut GuestRegisters, cpu: &'static RefCell<Cpu>) -> Exit {
    let cpu = &mut *cpu.borrow_mut();
    let (vcpu, mut world) = current(&mut cpu.current, &mut cpu.local);
    // Each kind has its own way out, so that the most frequent one has no values that tell it from the others.
    if vcpu.mode == Mode::User {
        return user_syscall(cpu, regs);
    }
    if hypercall::is_iret(regs) {
        return iret(cpu, regs);
    }
    if !hypercall::dispatch(vcpu, regs, &mut world, &mut cpu.next) {
        return Exit::NotYet;
    }
    let info = vcpu.info;
    resume(cpu, info, regs, Return::RcxR11Free)
}

#[inline(never)]
fn user_syscall(cpu: &mut Cpu, regs: &mut GuestRegisters) -> Exit {
    let (vcpu, _) = current(&mut cpu.current, &mut cpu.local);
    fill_in(regs);
    let info = vcpu.info;
    let entered = bounce::user_call(vcpu, regs, &mut CurrentSpace, UserCall::Syscall);
    resume_or_end(cpu, info, regs, entered)
}

#[inline(never)]
fn iret(cpu: &mut Cpu, regs: &mut GuestRegisters) -> Exit {
    let (vcpu, _) = current(&mut cpu.current, &mut cpu.local);
    let info = vcpu.info;
    let left = bounce::iret(vcpu, regs, &mut CurrentSpace);
    resume_or_end(cpu, info, regs, left)
}

/// What `syscall` makes of some registers. In memory is what another guest had there.
fn fill_in(regs: &mut GuestRegisters) {
    (regs.rcx, regs.r11) = (regs.rip, regs.rflags);
    (regs.cs, regs.ss) = (FLAT_RING3_CS64.into(), FLAT_RING3_SS64.into());
    regs.error_code = 0;
}

/// The rest of a `syscall`, with all registers in `regs`.
pub extern "C" fn finish_syscall(regs: &mut GuestRegisters, cpu: &'static RefCell<Cpu>) -> Exit {
    let mut cpu = cpu.borrow_mut();
    regs.vector = SYSCALL;
    let next = cpu.next.take().unwrap_or(Next::Resume(Return::RcxR11Free));
    // The `iret` hypercall alone has set them.
    if next != Next::Resume(Return::Full) {
        fill_in(regs);
    }
    leave(cpu, regs, next)
}

/// A trap that nearly always just goes on to the guest kernel's handler: a page fault where no page is present, or `int 0x80`.
///
/// RBX, RBP and R12 to R15 are not in `regs`. What may need them, or is to be done after this, is left to
/// [`trap_from_guest`].
pub extern "C" fn reflected_trap_from_guest(regs: &mut GuestRegisters, cpu: &'static RefCell<Cpu>) -> Exit {
    let cpu = &mut *cpu.borrow_mut();
    let (vcpu, _) = current(&mut cpu.current, &mut cpu.local);
    let info = vcpu.info;
    let entered = if regs.vector == vector::PAGE_FAULT {
        let Some(exception) = fault::guests_own(vcpu, regs, mm::fault_address()) else { return Exit::NotYet };
        bounce::exception(vcpu, regs, &mut CurrentSpace, exception)
    } else {
        bounce::system_call_interrupt(vcpu, regs, &mut CurrentSpace)
    };
    resume_or_end(cpu, info, regs, entered)
}

/// Any other trap from a guest, or what [`reflected_trap_from_guest`] left, with all registers in `regs`. `regs.vector` says which.
pub extern "C" fn trap_from_guest(regs: &mut GuestRegisters, cpu: &'static RefCell<Cpu>) -> Exit {
    let mut cpu = cpu.borrow_mut();
    if let Some(next) = cpu.next.take() {
        return leave(cpu, regs, next);
    }
    match regs.vector {
        32..=255 => {
            on_interrupt(&mut cpu, regs.vector);
            return leave(cpu, regs, Next::Resume(Return::Full));
        }
        vector::NMI => {
            on_nmi();
            return leave(cpu, regs, Next::Resume(Return::Full));
        }
        vector::DOUBLE_FAULT | vector::MACHINE_CHECK => {
            panic::die_with(format_args!("exception {} while a guest ran", regs.vector), regs)
        }
        _ => {}
    }
    if regs.vector == vector::PAGE_FAULT {
        return page_fault(cpu, regs, mm::fault_address());
    }
    let cpu_state = &mut *cpu;
    let (vcpu, world) = current(&mut cpu_state.current, &mut cpu_state.local);
    let info = vcpu.info;
    let entered = on_exception(vcpu, regs, world);
    after_exception(cpu, info, regs, entered)
}

/// A page fault from a guest where a page is present, with all registers in `regs`: nearly always a store to a page table.
pub extern "C" fn page_fault_from_guest(regs: &mut GuestRegisters, cpu: &'static RefCell<Cpu>) -> Exit {
    let mut cpu = cpu.borrow_mut();
    let address = mm::fault_address();
    let cpu_state = &mut *cpu;
    let (vcpu, mut world) = current(&mut cpu_state.current, &mut cpu_state.local);
    let info = vcpu.info;
    if !fault::common_store(vcpu, regs, &mut world, address) {
        return page_fault(cpu, regs, address);
    }
    if cpu_state.local.attention || info.upcall_due() {
        return leave(cpu, regs, Next::Resume(Return::Full));
    }
    Exit::Full
}

/// A page fault of any kind, at `address`.
#[inline(never)]
fn page_fault(mut cpu: RefMut<'static, Cpu>, regs: &mut GuestRegisters, address: u64) -> Exit {
    let cpu_state = &mut *cpu;
    let (vcpu, mut world) = current(&mut cpu_state.current, &mut cpu_state.local);
    let info = vcpu.info;
    let outcome = fault::page_fault(vcpu, regs, &mut world, address);
    let entered = finish_exception(vcpu, regs, &mut world, outcome);
    after_exception(cpu, info, regs, entered)
}

/// The rest of an exception's way, when the guest's handler is entered, if it is to be.
fn after_exception(
    cpu: RefMut<'static, Cpu>,
    info: &VcpuInfo,
    regs: &mut GuestRegisters,
    entered: Result<Return, Crash>,
) -> Exit {
    let next = match entered {
        Ok(how) if !cpu.local.attention && !info.upcall_due() => return exit(how, regs),
        Ok(how) => Next::Resume(how),
        Err(crash) => Next::End(End::Crash(crash)),
    };
    leave(cpu, regs, next)
}

/// The vCPU that has entered the hypervisor on this CPU, and its world.
#[inline]
fn current<'a>(current: &'a mut Option<Box<Runner>>, local: &'a mut Local) -> (&'a mut Vcpu, World<'a>) {
    World::of(current.as_mut().expect(CURRENT), local)
}

/// Goes back to the guest if nothing else is to be done, with some registers never saved.
#[inline(always)]
fn resume(cpu: &mut Cpu, info: &VcpuInfo, regs: &mut GuestRegisters, how: Return) -> Exit {
    if cpu.local.attention || info.upcall_due() {
        cpu.next = Some(Next::Resume(how));
        return Exit::NotYet;
    }
    exit(how, regs)
}

/// [`resume`], if the guest could be entered.
#[inline(always)]
fn resume_or_end(cpu: &mut Cpu, info: &VcpuInfo, regs: &mut GuestRegisters, entered: Result<Return, Crash>) -> Exit {
    match entered {
        Ok(how) => resume(cpu, info, regs, how),
        Err(crash) => {
            cpu.next = Some(Next::End(End::Crash(crash)));
            Exit::NotYet
        }
    }
}

/// A CPU has been set up and looks for its first guest.
pub extern "C" fn first_guest(regs: &mut GuestRegisters, cpu: &'static RefCell<Cpu>) -> Exit {
    leave(cpu.borrow_mut(), regs, Next::Resume(Return::Full))
}

/// When this CPU has flushed last.
pub fn latest_flush() -> Stamp {
    memory::clock().latest(percpu::cpu())
}

/// An interrupt in the idle loop.
pub fn interrupt(vector: u32) {
    on_interrupt(&mut CPUS.borrow(), vector);
}

/// Set by an NMI that nobody expected, until it is in the log.
static UNKNOWN_NMI: AtomicBool = AtomicBool::new(false);

/// An NMI: another CPU panicked, or the machine has something to say. It may have come while this CPU held the console.
pub fn on_nmi() {
    if panic::in_progress() {
        panic::stop();
    }
    UNKNOWN_NMI.store(true, Ordering::Relaxed);
}

/// Logs what could not be logged when it happened.
pub fn report_nmi() {
    if UNKNOWN_NMI.swap(false, Ordering::Relaxed) {
        warn!("NMI of unknown cause");
    }
}

/// Makes the current vCPU, or another one, ready to go on.
fn leave(cpu: RefMut<'static, Cpu>, regs: &mut GuestRegisters, next: Next) -> Exit {
    exit(cpu::finish(cpu, regs, next), regs)
}

/// The instruction to return by.
#[inline]
fn exit(how: Return, regs: &mut GuestRegisters) -> Exit {
    match how {
        Return::RcxR11Free if is_canonical(regs.rip) => Exit::Fast,
        Return::RcxR11Free => not_canonical(regs),
        Return::Full => Exit::Full,
    }
}

/// `sysret` faults in ring 0 on a non-canonical RIP, which the `syscall` at the last canonical address leaves.
#[cold]
#[inline(never)]
fn not_canonical(regs: &mut GuestRegisters) -> Exit {
    fill_in(regs);
    Exit::Full
}

fn on_interrupt(cpu: &mut Cpu, vector: u32) {
    let Ok(vector) = u8::try_from(vector) else { return };
    match vector {
        vectors::TIMER => cpu::timer_fired(cpu),
        vectors::KICK => cpu.local.attention = true,
        vectors::FLUSH => flush::serve(),
        vectors::SERIAL => console::keys_arrived(&mut cpu.local.attention),
        vectors::SPURIOUS => return,
        vectors::ERROR => error!("local APIC error {:#x}", apic::take_error()),
        _ => match device::INTERRUPTS.arrived(vector) {
            Some(wake) => wake.kick(&mut Kicker(&mut cpu.local.attention)),
            None => warn!("interrupt {vector:#x} that nobody asked for"),
        },
    }
    apic::end_of_interrupt();
}

fn on_exception(vcpu: &mut Vcpu, regs: &mut GuestRegisters, mut world: World<'_>) -> Result<Return, Crash> {
    let outcome = match regs.vector {
        SYSCALL32 => return bounce::user_call(vcpu, regs, &mut world, UserCall::Syscall32),
        SYSENTER => return bounce::user_call(vcpu, regs, &mut world, UserCall::Sysenter),
        vector::GENERAL_PROTECTION => emulate::general_protection(vcpu, regs, &mut world),
        vector::INVALID_OPCODE => emulate::invalid_opcode(vcpu, regs, &mut world),
        vector::DEVICE_NOT_AVAILABLE => {
            // A guest's handler expects to find TS clear, as `clts` in it would leave it.
            vcpu.control.task_switched = false;
            GuestCpu::set_task_switched(&mut world, false);
            Outcome::Raise(Exception::DEVICE_NOT_AVAILABLE)
        }
        vector::DEBUG => {
            vcpu.control.debug[6] |= machine_vcpu::take_dr6();
            Outcome::Raise(Exception::DEBUG)
        }
        other => Outcome::Raise(other_exception(other, regs.error_code)),
    };
    finish_exception(vcpu, regs, &mut world, outcome)
}

/// Enters the guest's handler, if that is due.
fn finish_exception(
    vcpu: &mut Vcpu,
    regs: &mut GuestRegisters,
    world: &mut World<'_>,
    outcome: Outcome,
) -> Result<Return, Crash> {
    match outcome {
        Outcome::Resume => Ok(Return::Full),
        Outcome::Raise(exception) => bounce::exception(vcpu, regs, world, exception),
    }
}

/// An exception that the guest gets as it is.
fn other_exception(vector: u32, error_code: u32) -> Exception {
    let vector = vector.to_le_bytes()[0];
    match vector {
        10..=12 | 17 | 21 | 29 | 30 => Exception::with_code(vector, error_code),
        _ => Exception::new(vector),
    }
}
