//! The state in which a domain starts.

use crate::check::{Told, equal, holds};
use core::arch::asm;
use guest_kernel::start::{VIRT_BASE, command_line, start_info};
use guest_kernel::{cmdline, memory, println, probe};
use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};

/// The smallest story: the kernel came up, has a heap, and found its name on the command line.
pub fn hello() -> Told {
    println!("hello from a domain of {} pages", start_info().nr_pages);
    equal("story on the command line", cmdline::option(command_line(), "story"), Some("hello"))?;
    let (heap, _) = memory::heap_size();
    // The ABI promises 512 KiB of mapped memory behind the boot stack.
    holds("heap below 512 KiB", heap >= 512 << 10)?;
    equal("end of the mapping", (memory::mapped_end() - VIRT_BASE) % (4 << 20), 0)
}

macro_rules! selector {
    ($name:literal) => {{
        let value: u16;
        // SAFETY: reads a register.
        unsafe { asm!(concat!("mov {:x}, ", $name), out(reg) value, options(nomem, nostack)) };
        value
    }};
}

/// Segments: the hypervisor's flat selectors, null for data, all bases 0.
pub fn segments() -> Told {
    equal("cs", selector!("cs"), FLAT_KERNEL_CS)?;
    equal("ss", selector!("ss"), FLAT_KERNEL_SS)?;
    let data = [selector!("ds"), selector!("es"), selector!("fs"), selector!("gs")];
    equal("ds, es, fs, gs", data, [0; 4])?;
    for (what, msr) in [("FS", 0xc000_0100), ("GS", 0xc000_0101), ("user GS", 0xc000_0102)] {
        equal(what, probe::rdmsr(msr), Ok(0))?;
    }
    Ok(())
}
