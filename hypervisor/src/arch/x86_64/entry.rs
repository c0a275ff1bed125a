//! The doors between guests and the hypervisor, in assembly: exceptions, interrupts, `syscall`, and the way back.
//!
//! Every entry ends with a complete [`GuestRegisters`] in memory and one call into `system`:
//! * from a guest, the registers lie in [`CpuTop`](super::percpu::CpuTop) at the top of the main stack;
//! * from the hypervisor itself (a guest copy that faults, an interrupt in the idle loop, or a bug) they lie where
//!   the CPU was, and the call is [`trap_from_hypervisor`].
//!
//! This is the one file of `arch` that names `system`.
//!
//! Attacks that shaped it:
//! * A guest may set RFLAGS.AC and so disarm SMAP: the `syscall` flag mask clears it, and `clac` does on traps.
//! * `mov ss` followed by `syscall` delivers a pending #DB in ring 0 on the *guest's* stack pointer (XSA-260): #DB,
//!   like NMI, #MC and #DF, has a stack of its own and is moved to the main stack when it came from a guest.
//! * `sysret` to a non-canonical address faults in ring 0 on the guest's stack (XSA-7): such a return takes `iretq`.
//! * `iretq` itself may fault on what the guest asked for. The fault then belongs to the guest; see
//!   [`super::trap::trap_from_hypervisor`].

use core::arch::{global_asm, naked_asm};

use pv_abi::trap::{FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_SS64};

use super::percpu::{BLOCK_SIZE, CpuTop};
use super::uaccess::smap_site;
use crate::guest::GuestRegisters;
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
    /// By `iretq`: all registers as in [`GuestRegisters`].
    Full = 0,
    /// By `sysretq`: RCX and R11 are lost, CS and SS are the flat ring 3 segments. RIP must be canonical.
    Fast = 1,
    /// Of a 64-bit `syscall` only: another call is to be made, with all registers saved.
    NotYet = 2,
}

// Bytes from the start of `GuestRegisters`.
const VECTOR: usize = core::mem::offset_of!(GuestRegisters, vector);
const RIP: usize = core::mem::offset_of!(GuestRegisters, rip);
const CS: usize = core::mem::offset_of!(GuestRegisters, cs);
const RFLAGS: usize = core::mem::offset_of!(GuestRegisters, rflags);
const RSP: usize = core::mem::offset_of!(GuestRegisters, rsp);
const WORDS: usize = size_of::<GuestRegisters>() / 8;
const REGS_IN_TOP: usize = core::mem::offset_of!(CpuTop, regs);

/// Pushes the general registers above an error code and vector that are on the stack already.
macro_rules! push_general {
    () => {
        "push r9; push r8; push r10; push rdx; push rsi; push rdi; push rax; push rcx; push r11; push rbx; push rbp; \
         push r12; push r13; push r14; push r15"
    };
}

/// The reverse of [`push_general`].
macro_rules! pop_general {
    () => {
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx; pop r11; pop rcx; pop rax; pop rdi; pop rsi; pop rdx; \
         pop r10; pop r8; pop r9"
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
    ".else",
    "jmp {trap}",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    trap = sym trap,
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
        push_general!(),
        "cld",
        smap_site!("0xca"),
        "mov rdi, rsp",
        "test byte ptr [rsp + {cs}], 3",
        "jz {from_hypervisor}",
        "jmp {from_guest}",
        cs = const CS,
        from_hypervisor = sym from_hypervisor,
        from_guest = sym from_guest,
    )
}

/// A trap on an interrupt stack. One that came from a guest moves to the main stack and goes on as any other.
#[unsafe(naked)]
extern "C" fn ist_trap() -> ! {
    naked_asm!(
        push_general!(),
        "cld",
        smap_site!("0xca"),
        "mov rdi, rsp",
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
        "mov rdi, rdx",
        "jmp {from_guest}",
        cs = const CS,
        from_hypervisor = sym from_hypervisor,
        from_guest = sym from_guest,
        words = const WORDS,
        block_size = const BLOCK_SIZE,
        regs_in_block = const BLOCK_SIZE - size_of::<CpuTop>() + REGS_IN_TOP,
    )
}

/// RDI = RSP = the guest's registers in `CpuTop`. The stack is misaligned by 8 here, as after a `call`'s push.
#[unsafe(naked)]
extern "C" fn from_guest() -> ! {
    naked_asm!(
        "sub rsp, 8",
        "call {trap_from_guest}",
        "add rsp, 8",
        "jmp {leave}",
        trap_from_guest = sym system::trap_from_guest,
        leave = sym leave,
    )
}

/// RDI = RSP = registers of interrupted hypervisor code. If the answer is not null, the trap was the guest's after
/// all (a return to it faulted), and the answer points at its registers in `CpuTop`.
#[unsafe(naked)]
extern "C" fn from_hypervisor() -> ! {
    naked_asm!(
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
        "mov rdi, rax",
        "jmp {from_guest}",
        trap_from_hypervisor = sym super::trap::trap_from_hypervisor,
        from_guest = sym from_guest,
    )
}

/// EAX = [`Exit`], RSP = the guest's registers in `CpuTop`.
#[unsafe(naked)]
extern "C" fn leave() -> ! {
    naked_asm!(
        "test eax, eax",
        "jz 2f",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "add rsp, 2 * 8",
        "pop rax", "pop rdi", "pop rsi", "pop rdx", "pop r10", "pop r8", "pop r9",
        "mov rcx, [rsp + {rip}]",
        "mov r11, [rsp + {flags}]",
        "mov rsp, [rsp + {rsp}]",
        "sysretq",
        "2:",
        pop_general!(),
        "add rsp, 8",
        "jmp {guest_iretq}",
        flags = const RFLAGS - 15 * 8,
        rip = const RIP - 15 * 8,
        rsp = const RSP - 15 * 8,
        guest_iretq = sym guest_iretq,
    )
}

/// The one `iretq` to guests, alone at a known address so that a fault on it can be told from any other.
#[unsafe(naked)]
pub extern "C" fn guest_iretq() -> ! {
    naked_asm!("iretq")
}

/// Starts running guests on this CPU. What is on its stack is abandoned.
#[unsafe(naked)]
pub extern "C" fn run_guests() -> ! {
    naked_asm!(
        "and rsp, -{block_size}",
        "add rsp, {regs_in_block}",
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {first_guest}",
        "add rsp, 8",
        "jmp {leave}",
        block_size = const BLOCK_SIZE,
        regs_in_block = const BLOCK_SIZE - size_of::<CpuTop>() + REGS_IN_TOP,
        first_guest = sym system::first_guest,
        leave = sym leave,
    )
}

/// Pushes what every `syscall` entry saves, down to RAX.
///
/// On arrival RAX is the guest's RSP, the guest's RAX lies in the SS slot of `CpuTop::regs`, and RSP points at that slot;
/// RCX and R11 are the guest's RIP and RFLAGS.
macro_rules! push_syscall {
    () => {
        "push rax; push r11; push {cs}; push rcx; push 0; push r9; push r8; push r10; push rdx; push rsi; push rdi; \
         push qword ptr [rsp + 11 * 8]; mov qword ptr [rsp + 12 * 8], {flat_ss}"
    };
}

/// Where a CPU's stub for `syscall` from 64-bit code goes: a hypercall, mostly.
///
/// RBX, RBP and R12 to R15 stay in their registers, which the called function preserves, and are saved only when more is
/// to be done than to go back. RCX and R11 are RIP and RFLAGS once more. That saves 14 instructions of every hypercall.
#[unsafe(naked)]
pub extern "C" fn syscall() -> ! {
    naked_asm!(
        push_syscall!(),
        "sub rsp, 9 * 8",
        "lea rdi, [rsp + 8]",
        "call {entry}",
        "cmp eax, {fast}",
        "jb 2f",
        "ja 3f",
        "add rsp, 9 * 8",
        "pop rax", "pop rdi", "pop rsi", "pop rdx", "pop r10", "pop r8", "pop r9",
        "mov rcx, [rsp + {rip}]",
        "mov r11, [rsp + {flags}]",
        "mov rsp, [rsp + {rsp}]",
        "sysretq",
        // By `iretq`.
        "2:",
        "add rsp, 7 * 8",
        "pop r11", "pop rcx", "pop rax", "pop rdi", "pop rsi", "pop rdx", "pop r10", "pop r8", "pop r9",
        "add rsp, 8",
        "jmp {guest_iretq}",
        // The vCPU may change.
        "3:",
        "mov [rsp + 1 * 8], r15",
        "mov [rsp + 2 * 8], r14",
        "mov [rsp + 3 * 8], r13",
        "mov [rsp + 4 * 8], r12",
        "mov [rsp + 5 * 8], rbp",
        "mov [rsp + 6 * 8], rbx",
        "lea rdi, [rsp + 8]",
        "call {finish}",
        "add rsp, 8",
        "jmp {leave}",
        cs = const FLAT_RING3_CS64,
        flat_ss = const FLAT_RING3_SS64,
        fast = const Exit::Fast as u32,
        rip = const RIP - 15 * 8,
        flags = const RFLAGS - 15 * 8,
        rsp = const RSP - 15 * 8,
        entry = sym system::syscall_from_guest,
        finish = sym system::finish_syscall,
        guest_iretq = sym guest_iretq,
        leave = sym leave,
    )
}

/// `syscall` from 32-bit code: always the guest's own system call, never a hypercall.
#[unsafe(naked)]
pub extern "C" fn syscall32() -> ! {
    naked_asm!(
        push_syscall!(),
        "push rcx; push r11; push rbx; push rbp; push r12; push r13; push r14; push r15",
        "mov dword ptr [rsp + {vector_at}], {vector}",
        "mov rdi, rsp",
        "jmp {from_guest}",
        cs = const FLAT_RING3_CS32,
        flat_ss = const FLAT_RING3_SS64,
        vector_at = const VECTOR,
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
        push_general!(),
        "mov rdi, rsp",
        "jmp {from_guest}",
        flat_ss = const FLAT_RING3_SS64,
        vector = const SYSENTER,
        from_guest = sym from_guest,
    )
}

const _: () = assert!(VECTOR == 15 * 8 + 4 && RIP == 16 * 8 && RFLAGS == 18 * 8);
const _: () = assert!((Exit::Full as u32) < (Exit::Fast as u32) && (Exit::Fast as u32) < (Exit::NotYet as u32));
