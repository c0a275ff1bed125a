//! FPU and vector registers: each vCPU's are its own, whatever others do.

use super::{start_all, vcpus};
use crate::check::{Told, equal, holds};
use crate::stories::event;
use core::arch::global_asm;
use guest_kernel::probe::enable_avx;
use guest_kernel::{hypercall, smp, time};
use pv_abi::hypercall::SCHED_OP;
use pv_abi::sched::{SCHEDOP_POLL, SCHEDOP_YIELD, SchedPoll};

/// What the registers of a vCPU hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
struct State {
    vectors: [[u64; 4]; 16],
    mxcsr: u32,
    x87_control: u16,
}

global_asm!(
    ".pushsection .text.fpu_story, \"ax\", @progbits",
    // fn(state, calls, argument): loads the registers, makes so many sched_op calls, stores them. No other code of the
    // vCPU runs between.
    ".macro FPU_STORY name, move, register",
    ".globl \\name",
    "\\name:",
    "    push rbx",
    "    push r12",
    "    push r13",
    "    mov rbx, rdi",
    "    mov r12, rsi",
    "    mov r13, rdx",
    "    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "        \\move \\register\\number, [rbx + 32 * \\number]",
    "    .endr",
    "    ldmxcsr [rbx + 512]",
    "    fldcw [rbx + 516]",
    "2:  mov eax, {sched_op}",
    "    mov edi, {poll}",
    "    mov rsi, r13",
    "    test r13, r13",
    "    jnz 3f",
    "    mov edi, {yield_}",
    "3:  syscall",
    "    dec r12",
    "    jnz 2b",
    "    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "        \\move [rbx + 32 * \\number], \\register\\number",
    "    .endr",
    "    stmxcsr [rbx + 512]",
    "    fnstcw [rbx + 516]",
    "    pop r13",
    "    pop r12",
    "    pop rbx",
    "    ret",
    ".endm",
    "FPU_STORY hold_sse, movups, xmm",
    "FPU_STORY hold_avx, vmovups, ymm",
    ".popsection",
    sched_op = const SCHED_OP,
    poll = const SCHEDOP_POLL,
    yield_ = const SCHEDOP_YIELD,
);

unsafe extern "sysv64" {
    fn hold_sse(state: *mut State, calls: u64, argument: u64);
    fn hold_avx(state: *mut State, calls: u64, argument: u64);
}

/// What a vCPU has in its registers in a round: other vectors, and another way to round.
fn pattern(id: u32, round: u64, words: usize) -> State {
    let seed = u64::from(id) << 56 | round << 16;
    let word = |at: usize| (seed | at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    State {
        vectors: core::array::from_fn(|vector| {
            core::array::from_fn(|at| if at < words { word(4 * vector + at) } else { 0 })
        }),
        mxcsr: 0x1f80 | (id & 3) << 13,
        x87_control: 0x037f | [0, 1, 2, 3][id as usize % 4] << 10,
    }
}

/// Rounds of a vCPU in which its registers were not as it left them.
fn spoilt(id: u32, with_avx: bool) -> usize {
    let rounds = (0..40).filter(|round| {
        let want = pattern(id, *round, if with_avx { 4 } else { 2 });
        let mut found = want;
        // SAFETY: kernel code uses none of these registers; the calls read nothing.
        unsafe { if with_avx { hold_avx(&raw mut found, 25, 0) } else { hold_sse(&raw mut found, 25, 0) } }
        found != want
    });
    rounds.count()
}

/// Every vCPU with SSE registers of its own, yielding to the others all the time.
pub fn sse() -> Told {
    event::start(vcpus())?;
    let spoilt = smp::everywhere(vcpus(), |id| spoilt(id, false));
    holds("registers of another", spoilt.iter().all(|rounds| *rounds == 0))
}

/// The same with AVX registers; some vCPUs have them, others don't.
pub fn avx() -> Told {
    event::start(vcpus())?;
    let spoilt = smp::everywhere(vcpus(), |id| {
        let with_avx = id % 3 != 2 && enable_avx();
        spoilt(id, with_avx)
    });
    holds("registers of another", spoilt.iter().all(|rounds| *rounds == 0))
}

/// A vCPU that never used a register finds what the ABI says, not what another left there.
pub fn fresh() -> Told {
    let count = start_all()?;
    let mut mine = pattern(7, 7, 2);
    // SAFETY: as above.
    unsafe { hold_sse(&raw mut mine, 1, 0) };
    let found = smp::everywhere(count, |id| {
        if id == 0 {
            return [0; 2];
        }
        let mut low = [u64::MAX; 2];
        // SAFETY: a store from a register that nobody uses.
        unsafe { core::arch::asm!("movups [{at}], xmm5", at = in(reg) &raw mut low) };
        low
    });
    equal("xmm5 of each", found, alloc::vec![[0; 2]; count as usize])
}

/// A vCPU that sleeps finds its registers when it wakes.
pub fn sleep() -> Told {
    event::start(vcpus())?;
    let spoilt = smp::everywhere(vcpus(), |id| {
        let ports = hypercall::bind_ipi(id);
        let poll = SchedPoll {
            ports: ports.as_ref().map_or(0, |port| (&raw const *port) as u64),
            nr_ports: 1,
            _pad: 0,
            timeout: time::now().unwrap_or(0) + 20_000_000,
        };
        let want = pattern(id, 99, 2);
        let mut found = want;
        // SAFETY: the calls read `poll`, which lives.
        unsafe { hold_sse(&raw mut found, 1, (&raw const poll) as u64) };
        found != want
    });
    holds("registers of another", !spoilt.contains(&true))
}
