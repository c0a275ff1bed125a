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

use super::barriers::clear_buffers;
use super::isolation::{self, detour, from_shadow};
use super::mm::{self, shadow};
use super::percpu::{BLOCK_SIZE, CpuTop, STACK_GAP};
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
    /// Of [`syscall`] and [`reflected_trap`] only: another call is to be made, with all registers saved.
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
const ROOT: usize = core::mem::offset_of!(CpuTop, root) - REGS_IN_TOP;
const DATA_SEGMENT: usize = core::mem::offset_of!(CpuTop, data_segment) - REGS_IN_TOP;
// Bytes from the start of the CPU's block.
const TOP_IN_BLOCK: usize = BLOCK_SIZE - size_of::<CpuTop>();
const ROOT_IN_BLOCK: usize = TOP_IN_BLOCK + core::mem::offset_of!(CpuTop, root);
const SHADOW_IN_BLOCK: usize = TOP_IN_BLOCK + core::mem::offset_of!(CpuTop, shadow);
const STACKS_USED_IN_BLOCK: usize = TOP_IN_BLOCK + core::mem::offset_of!(CpuTop, stacks_used);

/// Pushes the registers that a called function may destroy, above an error code and vector that are on the stack already.
macro_rules! push_scratch {
    () => {
        concat!(push_first!(), "; ", push_other_scratch!())
    };
}

/// The beginning of [`push_scratch`], long enough for a detour.
macro_rules! push_first {
    () => {
        "push r9; push r8; push r10"
    };
}

/// The rest of it.
macro_rules! push_other_scratch {
    () => {
        "push rdx; push rsi; push rdi; push rax; push rcx; push r11"
    };
}

/// Pushes those that a called function preserves.
macro_rules! push_preserved {
    () => {
        "push rbx; push rbp; push r12; push r13; push r14; push r15"
    };
}

/// The reverse of [`push_scratch`].
macro_rules! pop_scratch {
    () => {
        "pop r11; pop rcx; pop rax; pop rdi; pop rsi; pop rdx; pop r10; pop r8; pop r9"
    };
}

/// The reverse of [`push_scratch`] and [`push_preserved`].
macro_rules! pop_general {
    () => {
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx; pop r11; pop rcx; pop rax; pop rdi; pop rsi; pop rdx; \
         pop r10; pop r8; pop r9"
    };
}

// The following have the guest's registers in `CpuTop` at RSP + STACK_GAP, which leaves RSP aligned for a call, and what is
// pushed outside the page of `CpuTop`. Plain moves, which need no instruction to bring RSP to a place and back.

/// Stores what `syscall` leaves, apart from RSP, which the stub has stored, and [`push_preserved`]'s registers.
macro_rules! store_syscall {
    () => {
        concat!(
            detour!(
                "mov [rsp + {gap} + 8 * 8], rax; mov rax, [rsp + {gap} + {root}]; mov cr3, rax; \
                 mov rax, [rsp + {gap} + 8 * 8]",
                "mov [rsp + {gap} + 8 * 8], rax"
            ),
            "; mov [rsp + {gap} + 9 * 8], rdi; mov [rsp + {gap} + 10 * 8], rsi; mov [rsp + {gap} + 11 * 8], rdx; \
             mov [rsp + {gap} + 12 * 8], r10; mov [rsp + {gap} + 13 * 8], r8; mov [rsp + {gap} + 14 * 8], r9; \
             mov [rsp + {gap} + {rip}], rcx; mov [rsp + {gap} + {rflags}], r11"
        )
    };
}

/// Stores [`push_preserved`]'s registers.
macro_rules! store_preserved {
    () => {
        "mov [rsp + {gap}], r15; mov [rsp + {gap} + 1 * 8], r14; mov [rsp + {gap} + 2 * 8], r13; \
         mov [rsp + {gap} + 3 * 8], r12; mov [rsp + {gap} + 4 * 8], rbp; mov [rsp + {gap} + 5 * 8], rbx"
    };
}

/// Loads the registers that hold arguments and results, on the way to the guest.
macro_rules! load_arguments {
    () => {
        concat!(
            detour!(to_shadow!(), "mov rax, [rsp + {gap} + 8 * 8]"),
            "; mov rdi, [rsp + {gap} + 9 * 8]; mov rsi, [rsp + {gap} + 10 * 8]; mov rdx, [rsp + {gap} + 11 * 8]; \
             mov r10, [rsp + {gap} + 12 * 8]; mov r8, [rsp + {gap} + 13 * 8]; mov r9, [rsp + {gap} + 14 * 8]"
        )
    };
}

/// Goes to the shadow root. From here on only the page of `CpuTop` is touched.
macro_rules! to_shadow {
    () => {
        "call {enter_shadow}; mov cr3, rax"
    };
}

/// Returns to the guest by `sysretq`. [`push_preserved`]'s registers are loaded.
macro_rules! leave_fast {
    () => {
        concat!(
            load_arguments!(),
            "; ",
            clear_buffers!("{gap}", "mov rcx, [rsp + {gap} + {rip}]"),
            "; mov r11, [rsp + {gap} + {rflags}]; mov rsp, [rsp + {gap} + {rsp}]; sysretq"
        )
    };
}

global_asm!(
    ".pushsection .text.entry, \"ax\", @progbits",
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
    "jmp {reflected_trap}",
    ".else",
    "jmp {trap}",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    ".popsection",
    system_call = const GUEST_SYSTEM_CALL,
    trap = sym trap,
    page_fault = sym page_fault,
    reflected_trap = sym reflected_trap,
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
#[unsafe(link_section = ".text.entry")]
extern "C" fn trap() -> ! {
    naked_asm!(
        detour!(from_shadow!(), push_first!()),
        push_other_scratch!(),
        push_preserved!(),
        "cld",
        smap_site!("0xca"),
        "test byte ptr [rsp + {cs}], 3",
        "jz {from_hypervisor}",
        "jmp {from_guest}",
        cs = const CS,
        block_size = const BLOCK_SIZE,
        root_in_block = const ROOT_IN_BLOCK,
        shadow_in_block = const SHADOW_IN_BLOCK,
        from_hypervisor = sym from_hypervisor,
        from_guest = sym from_guest,
    )
}

/// A page fault. Where no page is present it is mostly left to the guest kernel; else mostly a store to a page table, which
/// has a way of its own.
///
/// One that comes from an older entry in the shadow root is made good in the detour, and nobody else learns of it.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
extern "C" fn page_fault() -> ! {
    naked_asm!(
        detour!(
            concat!(
                from_shadow!(),
                "; test byte ptr [rsp + 2 * 8], 3; jz 7f; ",
                push_scratch!(),
                "; sub rsp, {gap} + 6 * 8; call {follow_fault}; test al, al; jz 6f; ",
                to_shadow!(),
                // On a CPU that has no need for it, `verw` does nothing.
                "; verw word ptr [rsp + {gap} + {data_segment}]; add rsp, {gap} + 6 * 8; ",
                pop_scratch!(),
                "; add rsp, 8; jmp {guest_iretq}; 6: add rsp, {gap} + 6 * 8; ",
                pop_scratch!(),
                "; 7:"
            ),
            "test byte ptr [rsp], 1; jz {reflected_trap}"
        ),
        push_scratch!(),
        push_preserved!(),
        "cld",
        smap_site!("0xca"),
        "test byte ptr [rsp + {cs}], 3",
        "jz {from_hypervisor}",
        "mov rdi, rsp",
        "mov rsi, [rsp + {system}]",
        "sub rsp, {gap}",
        "call {page_fault_from_guest}",
        "jmp {leave}",
        gap = const STACK_GAP,
        data_segment = const DATA_SEGMENT,
        cs = const CS,
        system = const SYSTEM,
        block_size = const BLOCK_SIZE,
        root_in_block = const ROOT_IN_BLOCK,
        shadow_in_block = const SHADOW_IN_BLOCK,
        enter_shadow = sym enter_shadow,
        follow_fault = sym follow_fault,
        guest_iretq = sym guest_iretq,
        reflected_trap = sym reflected_trap,
        from_hypervisor = sym from_hypervisor,
        page_fault_from_guest = sym system::page_fault_from_guest,
        leave = sym leave,
    )
}

/// As [`trap`], for what is nearly always left to the guest kernel, which is entered without much ado: RBX, RBP and R12
/// to R15 are saved only when there is more to it, as in [`syscall`].
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
extern "C" fn reflected_trap() -> ! {
    naked_asm!(
        detour!(from_shadow!(), push_first!()),
        push_other_scratch!(),
        "cld",
        smap_site!("0xca"),
        "test byte ptr [rsp + {cs} - 6 * 8], 3",
        "jz 3f",
        "sub rsp, {gap} + 6 * 8",
        "lea rdi, [rsp + {gap}]",
        "mov rsi, [rsp + {gap} + {system}]",
        "call {reflected_trap_from_guest}",
        "test eax, eax",
        "jnz 2f",
        leave_fast!(),
        "2:",
        store_preserved!(),
        "add rsp, {gap}",
        "jmp {from_guest}",
        "3:",
        push_preserved!(),
        "jmp {from_hypervisor}",
        gap = const STACK_GAP,
        data_segment = const DATA_SEGMENT,
        cs = const CS,
        block_size = const BLOCK_SIZE,
        root_in_block = const ROOT_IN_BLOCK,
        shadow_in_block = const SHADOW_IN_BLOCK,
        rip = const RIP,
        rflags = const RFLAGS,
        rsp = const RSP,
        system = const SYSTEM,
        enter_shadow = sym enter_shadow,
        reflected_trap_from_guest = sym system::reflected_trap_from_guest,
        from_hypervisor = sym from_hypervisor,
        from_guest = sym from_guest,
    )
}

/// A trap on an interrupt stack. One that came from a guest moves to the main stack and goes on as any other.
///
/// The detour: where ring 0 was on the shadow root it goes back to that. #DF and #MC don't come back.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
extern "C" fn ist_trap() -> ! {
    naked_asm!(
        detour!(
            concat!(
                "push rax; push rdx; mov rdx, rsp; and rdx, -{block_size}; mov byte ptr [rdx + {stacks_used_in_block}], 1; \
                 mov rax, cr3; cmp rax, [rdx + {shadow_in_block}]; jne 6f; mov rax, [rdx + {root_in_block}]; mov cr3, rax; \
                 test byte ptr [rsp + 4 * 8], 3; jnz 6f; pop rdx; pop rax; ",
                push_scratch!(),
                "; ",
                push_preserved!(),
                "; cld; mov rdi, rsp; mov rbx, rsp; and rsp, -16; call {trap_from_hypervisor}; mov rsp, rbx; \
                 and rbx, -{block_size}; mov rax, [rbx + {shadow_in_block}]; mov cr3, rax; ",
                pop_general!(),
                "; add rsp, 8; iretq; 6: pop rdx; pop rax"
            ),
            push_first!()
        ),
        push_other_scratch!(),
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
        trap_from_hypervisor = sym super::trap::trap_from_hypervisor,
        words = const WORDS,
        block_size = const BLOCK_SIZE,
        root_in_block = const ROOT_IN_BLOCK,
        shadow_in_block = const SHADOW_IN_BLOCK,
        stacks_used_in_block = const STACKS_USED_IN_BLOCK,
        regs_in_block = const TOP_IN_BLOCK + REGS_IN_TOP,
    )
}

/// RSP = the guest's registers in `CpuTop`, all of them. The stack is misaligned by 8 here, as after a `call`'s push.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
extern "C" fn from_guest() -> ! {
    naked_asm!(
        "mov rdi, rsp",
        "mov rsi, [rsp + {system}]",
        "sub rsp, {gap}",
        "call {trap_from_guest}",
        "jmp {leave}",
        gap = const STACK_GAP,
        system = const SYSTEM,
        trap_from_guest = sym system::trap_from_guest,
        leave = sym leave,
    )
}

/// RSP = registers of interrupted hypervisor code. If the answer is not null, the trap was the guest's after
/// all (a return to it faulted), and the answer points at its registers in `CpuTop`.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
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

/// EAX = [`Exit::Fast`] or [`Exit::Full`], RSP + STACK_GAP = the guest's registers in `CpuTop`.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
extern "C" fn leave() -> ! {
    naked_asm!(
        "test eax, eax",
        "jnz 2f",
        "mov r15, [rsp + {gap}]; mov r14, [rsp + {gap} + 1 * 8]; mov r13, [rsp + {gap} + 2 * 8]",
        "mov r12, [rsp + {gap} + 3 * 8]; mov rbp, [rsp + {gap} + 4 * 8]; mov rbx, [rsp + {gap} + 5 * 8]",
        leave_fast!(),
        "2:",
        detour!(to_shadow!(), "add rsp, {gap}"),
        pop_general!(),
        clear_buffers!("-15 * 8", "add rsp, 8; jmp {guest_iretq}"),
        gap = const STACK_GAP,
        data_segment = const DATA_SEGMENT,
        rip = const RIP,
        rflags = const RFLAGS,
        rsp = const RSP,
        enter_shadow = sym enter_shadow,
        guest_iretq = sym guest_iretq,
    )
}

/// The one `iretq` to guests, alone at a known address so that a fault on it can be told from any other.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
pub extern "C" fn guest_iretq() -> ! {
    naked_asm!("iretq")
}

/// What goes to CR3 for a guest, on a CPU with a shadow root.
extern "C" fn enter_shadow() -> u64 {
    isolation::enter_shadow(system::latest_flush())
}

/// Whether a guest's page fault was the shadow root's, which now shows what the guest's own root does.
extern "C" fn follow_fault() -> bool {
    shadow::follow(mm::fault_address())
}

/// Starts running guests on this CPU, whose state `cpu` is. What is on its stack is abandoned.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
pub extern "C" fn run_guests(cpu: &'static RefCell<Cpu>) -> ! {
    naked_asm!(
        "and rsp, -{block_size}",
        "add rsp, {regs_in_block}",
        "mov [rsp + {system}], rdi",
        "mov rsi, rdi",
        "mov rdi, rsp",
        "sub rsp, {gap}",
        "call {first_guest}",
        "jmp {leave}",
        gap = const STACK_GAP,
        block_size = const BLOCK_SIZE,
        regs_in_block = const TOP_IN_BLOCK + REGS_IN_TOP,
        system = const SYSTEM,
        first_guest = sym system::first_guest,
        leave = sym leave,
    )
}

/// Where a CPU's stub for `syscall` from 64-bit code goes: a hypercall, mostly. The stub has stored the guest's RSP, and
/// RSP + STACK_GAP = the guest's registers in `CpuTop`; RCX and R11 are the guest's RIP and RFLAGS.
///
/// RBX, RBP and R12 to R15 stay in their registers, which the called function preserves, and are saved only when more is
/// to be done than to go back. RCX and R11 are RIP and RFLAGS once more, CS and SS are constants: the called function
/// stores those if they are wanted. That saves 20 instructions of every hypercall.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
pub extern "C" fn syscall() -> ! {
    naked_asm!(
        store_syscall!(),
        "lea rdi, [rsp + {gap}]",
        "mov rsi, [rsp + {gap} + {system}]",
        "call {entry}",
        "test eax, eax",
        "jnz 2f",
        leave_fast!(),
        "2:",
        "cmp eax, {full}",
        "jne 3f",
        load_arguments!(),
        clear_buffers!("{gap}", "mov rcx, [rsp + {gap} + {rcx}]"),
        "mov r11, [rsp + {gap} + {r11}]",
        "add rsp, {gap} + {rip}",
        "jmp {guest_iretq}",
        // The vCPU may change.
        "3:",
        store_preserved!(),
        "lea rdi, [rsp + {gap}]",
        "mov rsi, [rsp + {gap} + {system}]",
        "call {finish}",
        "jmp {leave}",
        gap = const STACK_GAP,
        data_segment = const DATA_SEGMENT,
        root = const ROOT,
        full = const Exit::Full as u32,
        rcx = const RCX,
        r11 = const R11,
        rip = const RIP,
        rflags = const RFLAGS,
        rsp = const RSP,
        system = const SYSTEM,
        enter_shadow = sym enter_shadow,
        entry = sym system::syscall_from_guest,
        finish = sym system::finish_syscall,
        guest_iretq = sym guest_iretq,
        leave = sym leave,
    )
}

/// `syscall` from 32-bit code: always the guest's own system call, never a hypercall. As for [`syscall`] else.
#[unsafe(naked)]
#[unsafe(link_section = ".text.entry")]
pub extern "C" fn syscall32() -> ! {
    naked_asm!(
        store_syscall!(),
        store_preserved!(),
        "mov [rsp + {gap} + {r11}], r11",
        "mov [rsp + {gap} + {rcx}], rcx",
        "mov dword ptr [rsp + {gap} + {error_code}], 0",
        "mov dword ptr [rsp + {gap} + {error_code} + 4], {vector}",
        "mov qword ptr [rsp + {gap} + {cs_at}], {cs}",
        "mov qword ptr [rsp + {gap} + {ss_at}], {ss}",
        "add rsp, {gap}",
        "jmp {from_guest}",
        gap = const STACK_GAP,
        root = const ROOT,
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
#[unsafe(link_section = ".text.entry")]
pub extern "C" fn sysenter() -> ! {
    naked_asm!(
        detour!(
            "push rax; mov rax, [rsp + 8 + {root_above}]; mov cr3, rax; pop rax",
            "push {flat_ss}"
        ),
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
        root_above = const ROOT - size_of::<GuestRegisters>(),
        vector = const SYSENTER,
        from_guest = sym from_guest,
    )
}

const _: () = assert!(R11 == 6 * 8 && RCX == 7 * 8 && ERROR_CODE == 15 * 8 && RIP == 16 * 8);
const _: () = assert!(Exit::Fast as u32 == 0);
