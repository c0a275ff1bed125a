//! Starting the other CPUs.
//!
//! One at a time: reset it (INIT), let it run the [`trampoline`] (startup IPI), wait for it to answer from its own
//! block. A CPU that doesn't answer is reset again, which leaves it waiting, and is left out.
//!
//! *Delays.* Intel's MP specification of 1997 asks for 10 ms between INIT and startup IPI, and for a second startup
//! IPI. Processors since the Pentium Pro and the K8 need neither; like other systems we wait for older ones only, and
//! send the second only to a CPU that hasn't answered the first.

mod trampoline;

use core::arch::naked_asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use self::trampoline::Trampoline;
use super::apic::{self, ApicId};
use super::mm::{blocks, idle_root};
use super::{cpu_features, percpu, time};
use crate::addr::{CpuId, Mfn};

pub use trampoline::FRAMES as TRAMPOLINE_FRAMES;

const MICROSECOND: u64 = 1000;
const MILLISECOND: u64 = 1000 * MICROSECOND;
/// From INIT to startup IPI, for CPUs that need it.
const INIT_DELAY: u64 = 10 * MILLISECOND;
/// The same for CPUs that don't: the INIT may need a moment to arrive.
const INIT_ARRIVAL: u64 = 10 * MICROSECOND;
/// From the first startup IPI to the second.
const SECOND_STARTUP: u64 = 300 * MICROSECOND;
/// From the second startup IPI to giving up. Long: where the CPUs are threads of a busy host, one may have to wait for its turn.
const PATIENCE: u64 = 5000 * MILLISECOND;

/// What a CPU that runs does next; never returns.
pub type Entry = extern "C" fn(CpuId) -> !;

/// The CPU that has answered last, by number.
static ANSWERED: AtomicU32 = AtomicU32::new(0);
/// Its TSC then.
static ANSWER_TSC: AtomicU64 = AtomicU64::new(0);

/// Starts the CPUs `cpus[1..]` and returns how many CPUs run, the boot CPU included. Their numbers are dense: where one
/// doesn't answer, the next takes its number and block.
///
/// Each calls `entry` with its number on the stack of its block, with our page tables loaded, interrupts off, and
/// neither IDT nor GDT of its own.
///
/// # Safety
/// `low_memory` is the first of [`TRAMPOLINE_FRAMES`] consecutive frames of RAM below 1 MiB that nothing else uses.
/// The boot CPU's APIC is set up. Called once.
pub unsafe fn start_all(cpus: &[ApicId], low_memory: Option<Mfn>, entry: Entry) -> u32 {
    let mut running = 1;
    let others = cpus.get(1..).unwrap_or(&[]);
    if others.is_empty() {
        return running;
    }
    let Some(low_memory) = low_memory else {
        log::warn!("smp: no free memory below 1 MiB to start CPUs from; {} stay off", others.len());
        return running;
    };
    // SAFETY: the frames are RAM below 1 MiB that nothing else uses, and this runs once, as the caller promises.
    let mut trampoline = unsafe { Trampoline::new(low_memory) };
    for &id in others {
        let cpu = CpuId(running);
        trampoline.aim(cpu, percpu::stack_top(blocks::base(cpu)), entry);
        if start(id, cpu, trampoline.page()) {
            running += 1;
        } else {
            apic::send_init(id);
            log::warn!("smp: the CPU with APIC id {id} doesn't answer; it stays off");
        }
    }
    running
}

fn start(id: ApicId, cpu: CpuId, page: u8) -> bool {
    let before = time::tsc();
    apic::send_init(id);
    time::spin_for(if needs_init_delay() { INIT_DELAY } else { INIT_ARRIVAL });
    let answered = || ANSWERED.load(Ordering::Acquire) == cpu.0;
    apic::send_startup(id, page);
    if !time::spin_until(SECOND_STARTUP, answered) {
        apic::send_startup(id, page);
        if !time::spin_until(PATIENCE, answered) {
            return false;
        }
    }
    let there = ANSWER_TSC.load(Ordering::Relaxed);
    if !(before..=time::tsc()).contains(&there) {
        let off = there.wrapping_sub(before).cast_signed();
        log::warn!("smp: cpu{}: TSC differs from the boot CPU's by {off} ticks; guests will see time jump", cpu.0);
    }
    true
}

/// Families 6 and above of Intel's and 15 and above of AMD's need no delay. SDM volume 2, CPUID leaf 1.
fn needs_init_delay() -> bool {
    let vendor = __cpuid(0).ebx.to_le_bytes();
    let signature = __cpuid(1).eax;
    let family = signature >> 8 & 0xf;
    let family = if family == 0xf { family + (signature >> 20 & 0xff) } else { family };
    match &vendor {
        b"Genu" => family < 6,
        b"Auth" | b"Hygo" => family < 15,
        _ => true,
    }
}

/// The first Rust code of a started CPU.
extern "C" fn arrived(cpu: CpuId, entry: Entry) -> ! {
    if let Err(missing) = cpu_features::check_same_as_boot_cpu() {
        log::error!("smp: cpu{} lacks {missing}, which the boot CPU has", cpu.0);
        super::panic::stop();
    }
    ANSWER_TSC.store(time::tsc(), Ordering::Relaxed);
    ANSWERED.store(cpu.0, Ordering::Release);
    entry(cpu)
}

/// Moves this CPU onto the stack of its block, for good, and goes on with `entry`.
///
/// # Safety
/// `cpu` is this CPU, and nothing is on that stack.
pub unsafe fn enter_block(cpu: CpuId, entry: Entry) -> ! {
    let top = percpu::stack_top(blocks::base(cpu));
    // SAFETY: the top of the stack is mapped and 16-byte aligned; what is on the old stack is not needed any more.
    unsafe { enter_stack(cpu, entry, top) }
}

/// # Safety
/// `top` is the 16-byte aligned top of an unused stack.
#[unsafe(naked)]
unsafe extern "C" fn enter_stack(cpu: CpuId, entry: Entry, top: u64) -> ! {
    naked_asm!(
        "mov rsp, rdx",
        // No caller: backtraces end here.
        "xor ebp, ebp",
        "push 0",
        "jmp rsi",
    )
}

/// Where the trampoline jumps to: our page tables, then the CPU's stack, then [`arrived`].
///
/// # Safety
/// Reached from the trampoline only, with the values that [`Trampoline::aim`] stored.
#[unsafe(naked)]
unsafe extern "C" fn leave_trampoline(cpu: CpuId, entry: Entry, top: u64, root: u64) -> ! {
    naked_asm!(
        "mov cr3, rcx",
        "mov rsp, rdx",
        "xor ebp, ebp",
        "push 0",
        "jmp {arrived}",
        arrived = sym arrived,
    )
}

fn root() -> u64 {
    idle_root().base().0
}
