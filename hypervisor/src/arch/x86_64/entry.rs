//! The doors between guests and the hypervisor, in assembly: exceptions, interrupts, `syscall`, and the way back.
//!
//! Every entry ends with a [`GuestRegisters`] in memory and one call into `system`, or two: one for what is frequent and
//! needs only some registers, the other with all of them.
//! * from a guest, the registers lie in [`CpuTop`](super::percpu::CpuTop) at the top of the main stack;
//! * from the hypervisor itself (a guest copy that faults, an interrupt in the idle loop, or a bug) they lie where
//!   the CPU was, and the call is [`trap_from_hypervisor`].
//!
//! Of `arch`, only this file and `trap.rs` name `system`.
//!
//! Attacks that shaped it:
//! * A guest may set RFLAGS.AC and so disarm SMAP: the `syscall` flag mask clears it, and `clac` does on traps.
//! * `mov ss` followed by `syscall` delivers a pending #DB in ring 0 on the *guest's* stack pointer (XSA-260): #DB,
//!   like NMI, #MC and #DF, has a stack of its own and is moved to the main stack when it came from a guest.
//! * `sysret` to a non-canonical address faults in ring 0 on the guest's stack (XSA-7): such a return takes `iretq`.
//! * `iretq` itself may fault on what the guest asked for. The fault then belongs to the guest; see
//!   [`super::trap::trap_from_hypervisor`].

use core::arch::{global_asm, naked_asm};
use core::cell::RefCell;

use pv_abi::trap::{FLAT_RING3_CS32, FLAT_RING3_SS64};

use super::percpu::{BLOCK_SIZE, CpuTop};
use super::uaccess::smap_site;
use super::vectors::GUEST_SYSTEM_CALL;
use crate::guest::GuestRegisters;
use crate::system::Cpu;
use crate::system::entry as system;

/// `GuestRegisters::vector` of a 64-bit `syscall`.
pub const SYSCALL: u32 = 0x100;
/// `GuestRegisters::vector` of a `syscall` from 32-bit code.
pub const SYSCALL32: u32 = 0x101;
/// `GuestRegisters::vector` of a `sysenter`.
pub const SYSENTER: u32 = 0x102;

/// How to return to a guest: what `system` answers to an entry stub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Exit {
    /// By `sysretq`: RCX and R11 are lost, CS and SS are the flat ring 3 segments. RIP must be canonical.
    Fast = 0,
    /// By `iretq`: all registers as in [`GuestRegisters`].
    Full = 1,
    /// Of [`syscall`] and [`own_trap`] only: another call is to be made, with all registers saved.
    NotYet = 2,
}

// Bytes from the start of `GuestRegisters`.
const R11: usize = core::mem::offset_of!(GuestRegisters, r11);
const RCX: usize = core::mem::offset_of!(GuestRegisters, rcx);
const ERROR_CODE: usize = core::mem::offset_of!(GuestRegisters, error_code);
const RIP: usize = core::mem::offset_of!(GuestRegisters, rip);
const CS: usize = core::mem::offset_of!(GuestRegisters, cs);
const RFLAGS: usize = core::mem::offset_of!(GuestRegisters, rflags);
const RSP: usize = core::mem::offset_of!(GuestRegisters, rsp);
const SS: usize = core::mem::offset_of!(GuestRegisters, ss);
const WORDS: usize = size_of::<GuestRegisters>() / 8;
const REGS_IN_TOP: usize = core::mem::offset_of!(CpuTop, regs);
const SYSTEM: usize = core::mem::offset_of!(CpuTop, system) - REGS_IN_TOP;

/// Pushes the registers that a called function may destroy, above an error code and vector that are on the stack already.
macro_rules! push_scratch {
    () => {
        "push r9; push r8; push r10; push rdx; push rsi; push rdi; push rax; push rcx; push r11"
    };
}

/// Pushes those that a called function preserves.
macro_rules! push_preserved {
    () => {
        "push rbx; push rbp; push r12; push r13; push r14; push r15"
    };
}

/// The reverse of [`push_scratch`] and [`push_preserved`].
macro_rules! pop_general {
    () => {
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx; pop r11; pop rcx; pop rax; pop rdi; pop rsi; pop rdx; \
         pop r10; pop r8; pop r9"
    };
}

// The following have the guest's registers in `CpuTop` at RSP + 8, which leaves RSP aligned for a call. Plain moves, which
// need no instruction to bring RSP to a place and back.

/// Stores what `syscall` leaves, apart from RSP, which the stub has stored, and [`push_preserved`]'s registers.
macro_rules! store_syscall {
    () => {
        "mov [rsp + 9 * 8], rax; mov [rsp + 10 * 8], rdi; mov [rsp + 11 * 8], rsi; mov [rsp + 12 * 8], rdx; \
         mov [rsp + 13 * 8], r10; mov [rsp + 14 * 8], r8; mov [rsp + 15 * 8], r9; mov [rsp + 8 + {rip}], rcx; \
         mov [rsp + 8 + {rflags}], r11"
    };
}

/// Stores [`push_preserved`]'s registers.
macro_rules! store_preserved {
    () => {
        "mov [rsp + 1 * 8], r15; mov [rsp + 2 * 8], r14; mov [rsp + 3 * 8], r13; mov [rsp + 4 * 8], r12; \
         mov [rsp + 5 * 8], rbp; mov [rsp + 6 * 8], rbx"
    };
}

/// Loads the registers that hold arguments and results.
macro_rules! load_arguments {
    () => {
        "mov rax, [rsp + 9 * 8]; mov rdi, [rsp + 10 * 8]; mov rsi, [rsp + 11 * 8]; mov rdx, [rsp + 12 * 8]; \
         mov r10, [rsp + 13 * 8]; mov r8, [rsp + 14 * 8]; mov r9, [rsp + 15 * 8]"
    };
}

/// Returns to the guest by `sysretq`. [`push_preserved`]'s registers are loaded.
macro_rules! leave_fast {
    () => {
        concat!(
            load_arguments!(),
            "; mov rcx, [rsp + 8 + {rip}]; mov r11, [rsp + 8 + {rflags}]; mov rsp, [rsp + 8 + {rsp}]; sysretq"
        )
    };
}

global_asm!(
    // One 16-byte stub per vector.
    ".balign 16",
    ".globl pavise_trap_stubs",
    "pavise_trap_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    // Vectors for which the CPU pushes an error code: 8, 10 to 14, 17, 21, 29, 30 (SDM volume 3, table 7-1).
    ".if (vector == 8) | (vector == 17) | (vector == 21) | (vector == 29) | (vector == 30)",
    ".elseif (vector >= 10) & (vector <= 14)",
    ".else",
    "push 0",
    ".endif",
    "mov dword ptr [rsp + 4], vector",
    ".if (vector == 1) | (vector == 2) | (vector == 8) | (vector == 18)",
    "jmp {ist_trap}",
    ".elseif vector == 14",
    "jmp {page_fault}",
    ".elseif vector == {system_call}",
    "jmp {own_trap}",
    ".else",
    "jmp {trap}",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    system_call = const GUEST_SYSTEM_CALL,
    trap = sym trap,
    page_fault = sym page_fault,
    own_trap = sym own_trap,
    ist_trap = sym ist_trap,
);

unsafe extern "C" {
    #[link_name = "pavise_trap_stubs"]
    static TRAP_STUBS: [u8; 0];
}

/// Address of the stub of `vector`.
pub fn stub_address(vector: usize) -> u64 {
    (&raw const TRAP_STUBS) as u64 + 16 * vector as u64
}

/// A trap on the main stack (from a guest) or on whatever stack the hypervisor was on.
#[unsafe(naked)]
extern "C" fn trap() -> ! {
    naked_asm!(
        push_scratch!(),
        push_preserved!(),
        "cld",
        smap_site!("0xca"),
        "test byte ptr [rsp + {cs}], 3",
        "jz {from_hypervisor}",
        "jmp {from_guest}",
        cs = const CS,
        from_hypervisor = sym from_hypervisor,
        from_guest = sym from_guest,
    )
}

/// A page fault. Where no page is present it is mostly the guest kernel's own affair; else mostly a store to a page table.
#[unsafe(naked)]
extern "C" fn page_fault() -> ! {
    naked_asm!(
        "test byte ptr [rsp], 1",
        "jz {own_trap}",
        "jmp {trap}",
        own_trap = sym own_trap,
        trap = sym trap,
    )
}

/// As [`trap`], for what is nearly always left to the guest kernel, which is entered without much ado: RBX, RBP and R12
/// to R15 are saved only when there is more to it, as in [`syscall`].
#[unsafe(naked)]
extern "C" fn own_trap() -> ! {
    naked_asm!(
        push_scratch!(),
        "cld",
        smap_site!("0xca"),
        "test byte ptr [rsp + {cs} - 6 * 8], 3",
        "jz 3f",
        "sub rsp, 7 * 8",
        "lea rdi, [rsp + 8]",
        "mov rsi, [rsp + 8 + {system}]",
        "call {own_trap_from_guest}",
        "test eax, eax",
        "jnz 2f",
        leave_fast!(),
        "2:",
        store_preserved!(),
        "add rsp, 8",
        "jmp {from_guest}",
        "3:",
        push_preserved!(),
        "jmp {from_hypervisor}",
        cs = const CS,
        rip = const RIP,
        rflags = const RFLAGS,
        rsp = const RSP,
        system = const SYSTEM,
        own_trap_from_guest = sym system::own_trap_from_guest,
        from_hypervisor = sym from_hypervisor,
        from_guest = sym from_guest,
    )
}

/// A trap on an interrupt stack. One that came from a guest moves to the main stack and goes on as any other.
#[unsafe(naked)]
extern "C" fn ist_trap() -> ! {
    naked_asm!(
        push_scratch!(),
        push_preserved!(),
        "cld",
        smap_site!("0xca"),
        "test byte ptr [rsp + {cs}], 3",
        "jz {from_hypervisor}",
        "mov rsi, rsp",
        "mov rax, rsp",
        "and rax, -{block_size}",
        "lea rdi, [rax + {regs_in_block}]",
        "mov rdx, rdi",
        "mov ecx, {words}",
        "rep movsq",
        "mov rsp, rdx",
        "jmp {from_guest}",
        cs = const CS,
        from_hypervisor = sym from_hypervisor,
        from_guest = sym from_guest,
        words = const WORDS,
        block_size = const BLOCK_SIZE,
        regs_in_block = const BLOCK_SIZE - size_of::<CpuTop>() + REGS_IN_TOP,
    )
}

/// RSP = the guest's registers in `CpuTop`, all of them. The stack is misaligned by 8 here, as after a `call`'s push.
#[unsafe(naked)]
extern "C" fn from_guest() -> ! {
    naked_asm!(
        "mov rdi, rsp",
        "mov rsi, [rsp + {system}]",
        "sub rsp, 8",
        "call {trap_from_guest}",
        "jmp {leave}",
        system = const SYSTEM,
        trap_from_guest = sym system::trap_from_guest,
        leave = sym leave,
    )
}

/// RSP = registers of interrupted hypervisor code. If the answer is not null, the trap was the guest's after
/// all (a return to it faulted), and the answer points at its registers in `CpuTop`.
#[unsafe(naked)]
extern "C" fn from_hypervisor() -> ! {
    naked_asm!(
        "mov rdi, rsp",
        "mov rbx, rsp",
        "and rsp, -16",
        "call {trap_from_hypervisor}",
        "test rax, rax",
        "jnz 2f",
        "mov rsp, rbx",
        pop_general!(),
        "add rsp, 8",
        "iretq",
        "2:",
        "mov rsp, rax",
        "jmp {from_guest}",
        trap_from_hypervisor = sym super::trap::trap_from_hypervisor,
        from_guest = sym from_guest,
    )
}

/// EAX = [`Exit::Fast`] or [`Exit::Full`], RSP + 8 = the guest's registers in `CpuTop`.
#[unsafe(naked)]
extern "C" fn leave() -> ! {
    naked_asm!(
        "test eax, eax",
        "jnz 2f",
        "mov r15, [rsp + 1 * 8]; mov r14, [rsp + 2 * 8]; mov r13, [rsp + 3 * 8]; mov r12, [rsp + 4 * 8]",
        "mov rbp, [rsp + 5 * 8]; mov rbx, [rsp + 6 * 8]",
        leave_fast!(),
        "2:",
        "add rsp, 8",
        pop_general!(),
        "add rsp, 8",
        "jmp {guest_iretq}",
        rip = const RIP,
        rflags = const RFLAGS,
        rsp = const RSP,
        guest_iretq = sym guest_iretq,
    )
}

/// The one `iretq` to guests, alone at a known address so that a fault on it can be told from any other.
#[unsafe(naked)]
pub extern "C" fn guest_iretq() -> ! {
    naked_asm!("iretq")
}

/// Starts running guests on this CPU, whose state `cpu` is. What is on its stack is abandoned.
#[unsafe(naked)]
pub extern "C" fn run_guests(cpu: &'static RefCell<Cpu>) -> ! {
    naked_asm!(
        "and rsp, -{block_size}",
        "add rsp, {regs_in_block}",
        "mov [rsp + {system}], rdi",
        "mov rsi, rdi",
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {first_guest}",
        "jmp {leave}",
        block_size = const BLOCK_SIZE,
        regs_in_block = const BLOCK_SIZE - size_of::<CpuTop>() + REGS_IN_TOP,
        system = const SYSTEM,
        first_guest = sym system::first_guest,
        leave = sym leave,
    )
}

/// Where a CPU's stub for `syscall` from 64-bit code goes: a hypercall, mostly. The stub has stored the guest's RSP, and
/// RSP + 8 = the guest's registers in `CpuTop`; RCX and R11 are the guest's RIP and RFLAGS.
///
/// RBX, RBP and R12 to R15 stay in their registers, which the called function preserves, and are saved only when more is
/// to be done than to go back. RCX and R11 are RIP and RFLAGS once more, CS and SS are constants: the called function
/// stores those if they are wanted. That saves 20 instructions of every hypercall.
#[unsafe(naked)]
pub extern "C" fn syscall() -> ! {
    naked_asm!(
        store_syscall!(),
        "lea rdi, [rsp + 8]",
        "mov rsi, [rsp + 8 + {system}]",
        "call {entry}",
        "test eax, eax",
        "jnz 2f",
        leave_fast!(),
        "2:",
        "cmp eax, {full}",
        "jne 3f",
        load_arguments!(),
        "mov rcx, [rsp + 8 + {rcx}]",
        "mov r11, [rsp + 8 + {r11}]",
        "add rsp, 8 + {rip}",
        "jmp {guest_iretq}",
        // The vCPU may change.
        "3:",
        store_preserved!(),
        "lea rdi, [rsp + 8]",
        "mov rsi, [rsp + 8 + {system}]",
        "call {finish}",
        "jmp {leave}",
        full = const Exit::Full as u32,
        rcx = const RCX,
        r11 = const R11,
        rip = const RIP,
        rflags = const RFLAGS,
        rsp = const RSP,
        system = const SYSTEM,
        entry = sym system::syscall_from_guest,
        finish = sym system::finish_syscall,
        guest_iretq = sym guest_iretq,
        leave = sym leave,
    )
}

/// `syscall` from 32-bit code: always the guest's own system call, never a hypercall. As for [`syscall`] else.
#[unsafe(naked)]
pub extern "C" fn syscall32() -> ! {
    naked_asm!(
        store_syscall!(),
        store_preserved!(),
        "mov [rsp + 8 + {r11}], r11",
        "mov [rsp + 8 + {rcx}], rcx",
        "mov dword ptr [rsp + 8 + {error_code}], 0",
        "mov dword ptr [rsp + 8 + {error_code} + 4], {vector}",
        "mov qword ptr [rsp + 8 + {cs_at}], {cs}",
        "mov qword ptr [rsp + 8 + {ss_at}], {ss}",
        "add rsp, 8",
        "jmp {from_guest}",
        rcx = const RCX,
        r11 = const R11,
        error_code = const ERROR_CODE,
        rip = const RIP,
        rflags = const RFLAGS,
        cs_at = const CS,
        ss_at = const SS,
        cs = const FLAT_RING3_CS32,
        ss = const FLAT_RING3_SS64,
        vector = const SYSCALL32,
        from_guest = sym from_guest,
    )
}

/// `sysenter`: the CPU loaded RSP from an MSR with the end of `CpuTop::regs`; the guest's RIP and RSP are not known.
#[unsafe(naked)]
pub extern "C" fn sysenter() -> ! {
    naked_asm!(
        "push {flat_ss}",
        "push 0",
        "pushfq",
        // `sysenter` clears IF alone. NT would make our `iretq` fault (XSA-339), TF would step through us, AC would
        // disarm SMAP, DF would turn string instructions round.
        "push 2",
        "popfq",
        "push 3",
        "push 0",
        "sub rsp, 8",
        "mov dword ptr [rsp + 4], {vector}",
        push_scratch!(),
        push_preserved!(),
        "jmp {from_guest}",
        flat_ss = const FLAT_RING3_SS64,
        vector = const SYSENTER,
        from_guest = sym from_guest,
    )
}

const _: () = assert!(R11 == 6 * 8 && RCX == 7 * 8 && ERROR_CODE == 15 * 8 && RIP == 16 * 8);
const _: () = assert!(Exit::Fast as u32 == 0);
