//! Exceptions and software interrupts: which vector arrives, and with what error code.

use crate::check::{HYPERVISOR, M2P, Told, UNMAPPED, call, equal, holds, skip, trapped};
use alloc::vec::Vec;
use guest_kernel::start::{VIRT_BASE, start_info};
use guest_kernel::trap::{self, Caught, TrapFrame};
use guest_kernel::{catch, probe, shared};
use pv_abi::hypercall::SET_TRAP_TABLE;
use pv_abi::trap::TrapInfo;

/// The CPU's exceptions that need no page tables.
pub fn exceptions() -> Told {
    trapped("ud2", probe::ud2(), 6, 0)?;
    trapped("int3", probe::int3(), 3, 0)?;
    trapped("division by zero", probe::divide_by_zero(), 0, 0)?;
    trapped("hlt", probe::hlt(), 13, 0)?;
    trapped("access off the map", probe::read(1 << 63).err(), 13, 0)?;
    // An access through rbp counts as a stack access: #SS, where QEMU's software CPU raises #GP.
    // SAFETY: the load faults; rbp is put back.
    let stack = unsafe {
        catch!(["xchg rbp, {hole}", "lea rax, [rip + 3f]", "mov [rip + {slot}], rax", "mov rax, [rbp]", "3:",
            "xchg rbp, {hole}"] hole = inout(reg) 1u64 << 63 => _, slot = sym trap::RECOVERY,)
    };
    let stack_fault = matches!(stack, Some(Caught { vector: 12 | 13, error_code: 0 }));
    holds("stack access off the map", stack_fault)
}

/// Selectors that can't be loaded: the error code names them, without the privilege bits.
pub fn selectors() -> Told {
    // The guest's part of the GDT is empty at start, and there is no LDT.
    for (selector, error_code) in [(0x08u32, 0x08), (0x13, 0x10), (0xdff8, 0xdff8), (0x0f, 0x0c), (0xe04b, 0xe048)] {
        // SAFETY: the load traps and changes nothing.
        let caught = unsafe { catch!(["mov es, {selector:e}"] selector = in(reg) selector,) };
        trapped(&alloc::format!("selector {selector:#x}"), caught, 13, error_code)?;
    }
    // A selector that the hypervisor offers, and the null one.
    for selector in [0xe02bu32, 0] {
        // SAFETY: 64-bit code doesn't use ES's base or limit.
        let caught = unsafe { catch!(["mov es, {selector:e}"] selector = in(reg) selector,) };
        equal("flat selector", caught, None)?;
    }
    Ok(())
}

/// `int n` goes through when the gate's privilege level allows it; else #GP names the vector.
pub fn software_interrupts() -> Told {
    let closed = probe::int20();
    if closed.is_some_and(|caught| caught.error_code == 0x20 * 16 + 2) {
        // QEMU before 8 doubles the vector in the error code. A hypervisor that takes the vector from there, as Xen
        // does, delivers to a gate that nobody meant.
        return skip("this CPU reports the vector of int n wrong, and the hypervisor believes it");
    }
    trapped("int 0x20 closed", closed, 13, 0x20 * 8 + 2)?;
    trapped("int 13 closed", probe::int13(), 13, 13 * 8 + 2)?;
    // The guest kernel counts as ring 1.
    for dpl in [1, 2, 3] {
        trap::install(&[trap::gate(0x20, dpl), TrapInfo::default()]);
        trapped("int 0x20 open", probe::int20(), 0x20, 0)?;
        equal("the instruction before rip", opcode_before(probe::last_frame()), Some([0xcd, 0x20]))?;
    }
    trap::install(&[trap::gate(0x20, 0), TrapInfo::default()]);
    trapped("int 0x20 closed again", probe::int20(), 13, 0x20 * 8 + 2)?;
    Ok(())
}

/// The vectors that need no permission: 3, 4, and 0x80, which the hypervisor lets through whatever its gate says. With
/// no handler for 0x80 registered it is a #GP (XSA-259).
pub fn open_software_interrupts() -> Told {
    trapped("int3", probe::int3(), 3, 0)?;
    // SAFETY: the vectors 3 and 4 trap.
    trapped("int 3 in two bytes", unsafe { catch!([".byte 0xcd, 3"]) }, 3, 0)?;
    // SAFETY: as above.
    trapped("int 4", unsafe { catch!(["int 4"]) }, 4, 0)?;
    trapped("int 0x80", probe::int80(), 0x80, 0)?;
    equal("the instruction before rip", opcode_before(probe::last_frame()), Some([0xcd, 0x80]))?;

    let table = trap::default_table();
    equal("null table", call(SET_TRAP_TABLE, [0]), Ok(0))?;
    trap::install(&table[..0x80].iter().copied().chain([TrapInfo::default()]).collect::<Vec<_>>());
    trapped("int 0x80 unregistered", probe::int80(), 13, 0x80 * 8 + 2)?;
    let opcode = probe::last_frame().map(|frame| frame.rip).map(opcode_at);
    equal("the instruction at rip", opcode, Some([0xcd, 0x80]))
}

fn opcode_before(frame: Option<TrapFrame>) -> Option<[u8; 2]> {
    frame.map(|frame| opcode_at(frame.rip - 2))
}

fn opcode_at(rip: u64) -> [u8; 2] {
    // SAFETY: the address comes from a trap in our own text.
    unsafe { (rip as *const [u8; 2]).read() }
}

/// Page faults: the error code's bits, and the address where it can be seen.
pub fn page_faults() -> Told {
    const WRITE: u32 = 2;
    const PRESENT: u32 = 1;
    let page_table = start_info().pt_base;
    trapped("read of nothing", probe::read(UNMAPPED + 0x123).err(), 14, 0)?;
    trapped("write to nothing", write(UNMAPPED), 14, WRITE)?;
    trapped("write to a page table", write(page_table + 0x800), 14, WRITE | PRESENT)?;
    trapped("write to the machine-to-physical table", write(M2P), 14, WRITE | PRESENT)?;
    trapped("read below the first page", probe::read(VIRT_BASE - 8).err(), 14, 0)?;
    trapped("read at the very top", probe::read(u64::MAX - 7).err(), 14, 0)?;
    // SAFETY: nothing is mapped there.
    let fetch = unsafe { probe::jump(UNMAPPED) };
    trapped("jump to nothing", fetch, 14, 1 << 4)?;
    // Whether the hypervisor has something at that address is left to it.
    let private = probe::read(HYPERVISOR).err().map(|caught| (caught.vector, caught.error_code & !PRESENT));
    equal("read of the hypervisor", private, Some((14, 0)))?;

    for address in [UNMAPPED + 0x123, page_table + 7, VIRT_BASE - 8] {
        let _ = write(address);
        equal("cr2", probe::cr2(), Ok(address))?;
        holds("vcpu_info.arch.cr2", shared::fault_address().is_none_or(|shown| shown == address))?;
    }
    Ok(())
}

fn write(address: u64) -> Option<Caught> {
    // SAFETY: the stories name addresses that can't be written; the verdict says so if one can.
    unsafe { probe::write(address, 0) }.err()
}

/// Trap flag: one #DB behind the next instruction.
pub fn single_step() -> Told {
    fn stop_stepping(frame: &mut TrapFrame) {
        frame.rflags &= !(1 << 8);
        frame.rbx += 1;
        frame.r9 = frame.rip;
    }
    trap::set_handler(1, Some(stop_stepping));
    let (count, rip, want): (u64, u64, u64);
    // SAFETY: the handler clears the flag and changes only rbx and r9, which are declared.
    unsafe {
        core::arch::asm!(
            "xchg {saved}, rbx",
            "xor ebx, ebx",
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "popfq",
            "nop",
            "3: nop",
            "lea {want}, [rip + 3b]",
            "xchg {saved}, rbx",
            saved = inout(reg) 0u64 => count,
            want = out(reg) want,
            out("r9") rip,
        );
    }
    trap::set_handler(1, None);
    equal("steps", count, 1)?;
    equal("rip behind the step", rip, want)
}

/// An x87 error that the program asked for.
pub fn floating_point() -> Told {
    // Unmasks division by zero (control word bit 2), divides 1 by 0, and waits for the error.
    // SAFETY: the kernel uses no FPU registers.
    let caught = unsafe {
        catch!(["fninit", "push 0x37b", "fldcw [rsp]", "pop rax", "lea rax, [rip + 3f]", "mov [rip + {slot}], rax",
            "fld1", "fldz", "fdivp st(1), st", "fwait", "3:", "fninit"] slot = sym trap::RECOVERY,)
    };
    trapped("division by zero in the FPU", caught, 16, 0)
}
