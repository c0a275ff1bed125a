//! User mode: the switch of root tables, the ways into the kernel, and the way back.

use super::ground::*;
use super::user::{CODE, DATA, STACK, SYSCALL, UserSpace, program};
use crate::check::{Told, equal, holds};
use guest_kernel::hypercall::mmuext::new_user_base;
use guest_kernel::hypercall::{unregister_callback, vm_assist};
use guest_kernel::paging::USER;
use guest_kernel::start::image;
use guest_kernel::trap::TrapFrame;
use pv_abi::memory::MACH2PHYS_VIRT_START;
use pv_abi::trap::{CALLBACKTYPE_SYSCALL, FLAT_USER_CS, FLAT_USER_SS, VMASST_CMD_ENABLE, VMASST_TYPE_M2P_STRICT};

/// What a trap from user mode is: vector, error code, and that it came from there.
fn arrived(what: &str, frame: &TrapFrame, vector: u8, error_code: u64) -> Told {
    equal(what, (frame.vector(), frame.error_code), (vector, error_code))?;
    equal("privilege bits of cs", frame.cs & 3, 3)
}

/// A system call: registers go there and back, and the return is where the call was.
pub fn system_call() -> Told {
    let space =
        UserSpace::new(program!["add rbx, 1", "mov [rsp - 8], rbx", "stc", "syscall", "add rbx, 1", "syscall"])?;
    let frame = TrapFrame { rbx: 10, rdi: 1, r8: 2, r15: 3, rax: 4, ..space.start() };
    let first = space.run(frame);
    arrived("system call", &first, SYSCALL, 0)?;
    equal("rbx", first.rbx, 11)?;
    equal("rdi, r8, r15, rax", [first.rdi, first.r8, first.r15, first.rax], [1, 2, 3, 4])?;
    equal("rcx is rip", first.rcx, first.rip)?;
    equal("rsp", first.rsp, STACK)?;
    equal("carry in r11", first.r11 & 1, 1)?;
    equal("the program's store", space.data.read(511), 11)?;

    let second = space.run(TrapFrame { rax: 77, rcx: 88, r11: 99, ..first });
    arrived("second system call", &second, SYSCALL, 0)?;
    equal("rbx", second.rbx, 12)?;
    equal("rax", second.rax, 77)
}

/// Exceptions and software interrupts from user mode.
pub fn traps() -> Told {
    let cases: [(&str, &[u8], u8, u64, u64); 8] = [
        ("int3", program!["int3"], 3, 0, 1),
        ("ud2", program!["ud2"], 6, 0, 0),
        ("int 0x80", program!["int 0x80"], 0x80, 0, 2),
        ("hlt", program!["hlt"], 13, 0, 0),
        ("cli", program!["cli"], 13, 0, 0),
        ("mov from CR3", program!["mov rax, cr3"], 13, 0, 0),
        ("rdmsr", program!["mov ecx, 0xc0000080", "rdmsr"], 13, 0, 5),
        ("in", program!["in al, 0x80"], 13, 0, 0),
    ];
    for (what, program, vector, error_code, offset) in cases {
        let space = UserSpace::new(program)?;
        let frame = space.run(space.start());
        arrived(what, &frame, vector, error_code)?;
        equal("rip", frame.rip, CODE + offset)?;
        equal("rsp", frame.rsp, STACK)?;
    }
    Ok(())
}

/// Page faults of user mode carry the user bit. The kernel's pages aren't there, whatever their addresses.
pub fn page_faults() -> Told {
    const PRESENT: u64 = 1;
    const WRITTEN: u64 = 2;
    const FROM_USER: u64 = 4;
    const FETCH: u64 = 16;
    let space = UserSpace::new(program!["mov rax, [rdi]", "syscall", "mov [rdi], rax", "syscall", "jmp rdi"])?;
    let [read, write, jump] = [0, 5, 10].map(|offset| TrapFrame { rip: CODE + offset, ..space.start() });
    let kernel = image().start;
    // SAFETY: the kernel's first bytes are mapped.
    holds("the kernel reads its image", unsafe { (kernel as *const u64).read_volatile() } != 0)?;
    let cases = [
        ("read of nothing", read, 0x1000, FROM_USER),
        ("write to nothing", write, 0x1000, FROM_USER | WRITTEN),
        ("write to code", write, CODE, FROM_USER | WRITTEN | PRESENT),
        ("jump to nothing", jump, 0x1000, FROM_USER | FETCH),
        ("read of the kernel", read, kernel, FROM_USER),
        ("write to the kernel", write, kernel, FROM_USER | WRITTEN),
        ("jump to the kernel", jump, kernel, FROM_USER | FETCH),
        ("read of the kernel's tables", read, guest_kernel::start::start_info().pt_base, FROM_USER),
    ];
    for (what, frame, address, error_code) in cases {
        let frame = space.run(TrapFrame { rdi: address, ..frame });
        arrived(what, &frame, 14, error_code)?;
        equal("address", guest_kernel::probe::cr2(), Ok(address))?;
    }
    let frame = space.run(TrapFrame { rdi: DATA, ..read });
    arrived("read of its data", &frame, SYSCALL, 0)?;
    // A page that the kernel takes away is gone.
    equal("take the page away", set(leaf_slot(DATA).unwrap_or(0), space.data.entry(READ | USER)), Ok(0))?;
    flush()?;
    let frame = space.run(TrapFrame { rdi: DATA, ..write });
    arrived("write to what was its data", &frame, 14, FROM_USER | WRITTEN | PRESENT)
}

/// User mode sees the machine-to-physical table, unless the kernel asks for it to be hidden; never the hypervisor.
pub fn hypervisors_slots() -> Told {
    equal("assist", vm_assist(VMASST_CMD_ENABLE, VMASST_TYPE_M2P_STRICT), Ok(0))?;
    let space = UserSpace::new(program!["mov rax, [rdi]", "syscall", "mov [rdi], rax", "syscall"])?;
    let strict = space.run(TrapFrame { rdi: MACH2PHYS_VIRT_START, ..space.start() });
    equal("read of the hidden table", (strict.vector(), strict.error_code & 4), (14, 4))?;
    for address in [0xffff_8080_0000_0000, 0xffff_8300_0000_0000, 0xffff_87ff_ffff_f000] {
        for rip in [CODE, CODE + 5] {
            let frame = space.run(TrapFrame { rdi: address, rip, ..space.start() });
            equal("the hypervisor's", (frame.vector(), frame.error_code & 4), (14, 4))?;
        }
    }
    Ok(())
}

/// Returns that the CPU refuses: the kernel learns of them, at the place where they would have led.
pub fn bad_returns() -> Told {
    let space = UserSpace::new(program!["syscall"])?;
    let good = space.start();
    for rip in [0x0000_8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63] {
        let frame = space.run(TrapFrame { rip, ..good });
        holds("to no address", matches!(frame.vector(), 13 | 14))?;
        equal("rip", frame.rip, rip)?;
    }
    for (what, cs, ss) in [
        ("no code segment", 0x0b, u64::from(FLAT_USER_SS)),
        ("data as code", u64::from(FLAT_USER_SS), u64::from(FLAT_USER_SS)),
        ("the hypervisor's code", 0xe00b, u64::from(FLAT_USER_SS)),
        ("code as stack", u64::from(FLAT_USER_CS), u64::from(FLAT_USER_CS)),
        ("no stack segment", u64::from(FLAT_USER_CS), 0x13),
        ("the hypervisor's data", u64::from(FLAT_USER_CS), 0xe013),
    ] {
        let frame = space.run(TrapFrame { cs, ss, ..good });
        holds(what, matches!(frame.vector(), 10..=13))?;
        equal("privilege bits", frame.cs & 3, 3)?;
    }
    let frame = space.run(good);
    arrived("a good one after them", &frame, SYSCALL, 0)
}

/// Flags that a program may have, and those that it may not.
pub fn flags() -> Told {
    const IOPL: u64 = 3 << 12;
    const NESTED_TASK: u64 = 1 << 14;
    const VIRTUAL_8086: u64 = 1 << 17;
    const ALIGNMENT: u64 = 1 << 18;
    let space = UserSpace::new(program!["pushfq", "pop rbx", "int 0x80"])?;
    let frame = space.run(TrapFrame { rflags: 2 | IOPL | VIRTUAL_8086 | ALIGNMENT | 1, ..space.start() });
    arrived("flags", &frame, 0x80, 0)?;
    equal("in user mode", frame.rbx & (IOPL | VIRTUAL_8086 | ALIGNMENT | 1), ALIGNMENT | 1)?;
    equal("in the frame", frame.rflags & (IOPL | VIRTUAL_8086 | ALIGNMENT | 1), ALIGNMENT | 1)?;
    let frame = space.run(TrapFrame { rflags: 2 | NESTED_TASK, ..space.start() });
    arrived("nested task", &frame, 0x80, 0)?;
    let frame = space.run(TrapFrame { rflags: 2 | 1 << 8, ..space.start() });
    arrived("single step", &frame, 1, 0)?;
    equal("behind one instruction", frame.rip, CODE + 1)
}

/// Without a user root there is no way to user mode; without a callback no system call.
pub fn without_callback() -> Told {
    let space = UserSpace::new(program!["nop", "syscall"])?;
    let answer = unregister_callback(CALLBACKTYPE_SYSCALL);
    if answer.is_ok() {
        let frame = space.run(space.start());
        arrived("system call", &frame, 6, 0)?;
        equal("rip", frame.rip, CODE + 1)?;
    }
    equal("no user root", operate(new_user_base(0)), Ok(0))?;
    space.tree.l4.unprotect()
}
