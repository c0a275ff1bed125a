//! Control registers and other privileged instructions, as a kernel in ring 3 meets them.

use crate::check::{Told, UNMAPPED, equal, holds, trapped};
use guest_kernel::start::start_info;
use guest_kernel::trap::Caught;
use guest_kernel::{catch, hypercall, memory, probe};

const TASK_SWITCHED: u64 = 1 << 3;

/// What reading the control registers gives.
pub fn registers() -> Told {
    let cr0 = probe::cr0();
    let protected_paging = 1 | 1 << 31;
    equal("CR0: PE, PG", cr0.map(|value| value & protected_paging), Ok(protected_paging))?;
    equal("CR0: TS", cr0.map(|value| value & TASK_SWITCHED), Ok(0))?;
    let root = memory::machine_frame_at(start_info().pt_base).unwrap_or(0);
    equal("CR3: the root table's frame", probe::cr3(), Ok(root << 12))?;
    let _ = probe::read(UNMAPPED + 8);
    equal("CR2: the last fault", probe::cr2(), Ok(UNMAPPED + 8))?;
    // PAE, OSFXSR, OSXMMEXCPT.
    let base = 1 << 5 | 1 << 9 | 1 << 10;
    equal("CR4", probe::cr4().map(|value| value & base), Ok(base))?;
    trapped("CR8", probe::cr8().err(), 13, 0)
}

/// Writes of what is there already, and of what a guest may not change.
pub fn writes() -> Told {
    let cr3 = probe::cr3().unwrap_or(0);
    equal("CR3 as it is", write_cr3(cr3), Ok(()))?;
    let cr4 = probe::cr4().unwrap_or(0);
    equal("CR4 as it is", write_cr4(cr4), Ok(()))?;
    // SMEP, SMAP and the rest belong to the hypervisor; PAE can't go.
    let _ = write_cr4((cr4 | 1 << 20 | 1 << 21 | 1 << 13) & !(1 << 5));
    equal("CR4 unchanged", probe::cr4(), Ok(cr4))?;
    let cr0 = probe::cr0().unwrap_or(0);
    let _ = write_cr0(cr0 & !(1 << 31));
    equal("CR0 unchanged", probe::cr0(), Ok(cr0))
}

/// CR0.TS: the next FPU instruction is a #NM, which clears the flag before it is delivered.
pub fn task_switched() -> Told {
    let cr0 = probe::cr0().unwrap_or(0);
    equal("FPU at start", probe::fnop(), None)?;
    equal("set TS", write_cr0(cr0 | TASK_SWITCHED), Ok(()))?;
    equal("TS set", probe::cr0().map(|value| value & TASK_SWITCHED), Ok(TASK_SWITCHED))?;
    trapped("FPU with TS", probe::fnop(), 7, 0)?;
    equal("TS after #NM", probe::cr0().map(|value| value & TASK_SWITCHED), Ok(0))?;
    equal("FPU after #NM", probe::fnop(), None)?;

    equal("set TS again", write_cr0(cr0 | TASK_SWITCHED), Ok(()))?;
    equal("clts", probe::clts(), None)?;
    equal("TS after clts", probe::cr0().map(|value| value & TASK_SWITCHED), Ok(0))?;
    equal("FPU after clts", probe::fnop(), None)
}

macro_rules! write_control_register {
    ($($name:ident = $text:literal;)*) => {$(
        fn $name(value: u64) -> Result<(), Caught> {
            // SAFETY: the stories write what the register holds, what the hypervisor must refuse or ignore, and TS.
            unsafe { catch!([$text] value = in(reg) value,) }.map_or(Ok(()), Err)
        }
    )*};
}

write_control_register! {
    write_cr0 = "mov cr0, {value}";
    write_cr3 = "mov cr3, {value}";
    write_cr4 = "mov cr4, {value}";
}

/// Instructions that a PV kernel has no use for: #GP at the instruction.
pub fn privileged_instructions() -> Told {
    let address = start_info().pt_base;
    // SAFETY: each of them traps; the verdict says so if one doesn't.
    let attempts = unsafe {
        [
            ("hlt", catch!(["hlt"])),
            ("swapgs", catch!(["swapgs"])),
            ("lgdt", catch!(["lgdt [{value}]"] value = in(reg) address,)),
            ("lidt", catch!(["lidt [{value}]"] value = in(reg) address,)),
            ("ltr", catch!(["ltr {value:x}"] value = in(reg) 0xe040u64,)),
            ("lldt", catch!(["lldt {value:x}"] value = in(reg) 0u64,)),
            ("invlpg", catch!(["invlpg [{value}]"] value = in(reg) address,)),
            ("lmsw", catch!(["lmsw {value:x}"] value = in(reg) 1u64,)),
            ("mov cr8", catch!(["mov cr8, {value}"] value = in(reg) 0u64,)),
            ("sysretq", catch!([".byte 0x48, 0x0f, 0x07"])),
        ]
    };
    attempts.into_iter().try_for_each(|(what, caught)| trapped(what, caught, 13, 0))?;
    // SAFETY: without access to devices a guest's cache flush does nothing.
    equal("wbinvd", unsafe { catch!(["wbinvd"]) }, None)
}

/// `cli` and `sti` need I/O privilege; with it they do nothing. `popf` never faults.
pub fn interrupt_flag() -> Told {
    trapped("cli", probe::cli(), 13, 0)?;
    trapped("sti", probe::sti(), 13, 0)?;
    // SAFETY: clearing IF and setting IOPL by popf is ignored in ring 3.
    equal("popf", unsafe { catch!(["pushfq; xor qword ptr [rsp], 0x3200; popfq"]) }, None)?;
    if hypercall::set_iopl(1).is_ok() {
        equal("cli with privilege", probe::cli(), None)?;
        equal("sti with privilege", probe::sti(), None)?;
        trapped("ud2", probe::ud2(), 6, 0)?;
        let mask = probe::last_frame().map(|frame| frame.upcall_mask());
        equal("upcall mask untouched", mask, Some(1))?;
        equal("privilege given back", hypercall::set_iopl(0), Ok(()))?;
        trapped("cli without privilege", probe::cli(), 13, 0)?;
    }
    Ok(())
}

/// `rdtsc` works natively and goes forward.
pub fn time_stamp_counter() -> Told {
    // SAFETY: the instruction only sets rax and rdx.
    equal("rdtsc", unsafe { catch!(["rdtsc"] out("rdx") _,) }, None)?;
    let mut last = probe::rdtsc();
    for _ in 0..1000 {
        let now = probe::rdtsc();
        holds("backwards", now >= last)?;
        last = now;
    }
    Ok(())
}
