//! Ways back to the guest that lead nowhere: through `sysret`, `iret`, and `iret` in a list of calls.

use crate::check::{HYPERVISOR, NON_CANONICAL, Told, equal, fail, holds};
use crate::stories::mmu::ground::*;
use crate::stories::mmu::user::{self, Came, SYSCALL, UserSpace, call_on_stack, program};
use guest_kernel::hypercall::multicall_entry;
use guest_kernel::paging::{USER, index};
use guest_kernel::trap::TrapFrame;
use pv_abi::hypercall::{IRET, MULTICALL, XEN_VERSION};
use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, FLAT_USER_CS, FLAT_USER_SS, IretContext};
use pv_abi::vcpu::VcpuContextFlags;
use pv_abi::version::XENVER_PAGESIZE;

/// The last page below the hole in the address space.
const LAST_PAGE: u64 = NON_CANONICAL - 4096;

/// A `syscall` that ends where canonical addresses end: its return address is none (XSA-7).
pub fn system_call_at_the_end() -> Told {
    let space = UserSpace::new(program!["syscall"])?;
    let tail = Page::new();
    // `syscall` in the last two bytes.
    tail.write(511, 0x050f << 48);
    let [l3, l2, l1] = [Page::new(), Page::new(), Page::new()];
    l1.write(index(LAST_PAGE, 1), tail.entry(READ | USER));
    l2.write(index(LAST_PAGE, 2), l1.entry(TABLE));
    l3.write(index(LAST_PAGE, 3), l2.entry(TABLE));
    [l1, l2, l3].into_iter().try_for_each(Page::protect)?;
    equal("the last page", set(space.tree.l4.slot(index(LAST_PAGE, 4)), l3.entry(TABLE)), Ok(0))?;

    let call = space.run(TrapFrame { rip: NON_CANONICAL - 2, ..space.start() });
    equal("system call", (call.vector(), call.rip), (SYSCALL, NON_CANONICAL))?;
    // Back to where it came from, by both forms of return.
    for in_syscall in [false, true] {
        let frame = if in_syscall { return_from_system_call(&call) } else { space.run(call) };
        holds("a return to no address", matches!(frame.vector(), 13 | 14))?;
        equal("in user mode", (frame.rip, frame.cs & 3), (NON_CANONICAL, 3))?;
    }
    let good = space.run(space.start());
    equal("a good one after them", good.vector(), SYSCALL)
}

/// Leaves for `frame` with an `iret` that says it returns from a system call, so that the hypervisor may use `sysret`.
fn return_from_system_call(frame: &TrapFrame) -> TrapFrame {
    user::leave(frame, VcpuContextFlags::IN_SYSCALL.bits())
}

/// Instruction pointers that lead nowhere, stacks that are none, and flags that user mode must not have, by `sysret`.
pub fn system_call_returns() -> Told {
    let space = UserSpace::new(program!["pushfq", "pop rbx", "int 0x80"])?;
    let good = space.start();
    for rip in [NON_CANONICAL, 0xffff_7fff_ffff_ffff, 1 << 63, HYPERVISOR, 0xffff_8000_0000_0000, u64::MAX] {
        let frame = return_from_system_call(&TrapFrame { rip, ..good });
        holds("instruction pointer", matches!(frame.vector(), 13 | 14))?;
        equal("cs", frame.cs & 3, 3)?;
    }
    for rsp in [NON_CANONICAL, 1 << 63, HYPERVISOR, 0xffff_8000_0000_0008, 8] {
        let frame = return_from_system_call(&TrapFrame { rsp, ..good });
        holds("stack pointer", matches!(frame.vector(), 12..=14))?;
    }
    // IOPL, NT, VM, and bits that don't exist.
    for rflags in [3 << 12, 1 << 14, 1 << 17, 1 << 22, 0xffff_ffff_0000_0000, 2 | 1 << 3 | 1 << 5 | 1 << 15] {
        let frame = return_from_system_call(&TrapFrame { rflags, ..good });
        equal("flags", (frame.vector(), frame.rbx & (3 << 12 | 1 << 17)), (0x80, 0))?;
    }
    for (cs, ss) in [(0xe00b, 0xe013), (0xe043, 0xe04b), (0x1b, 0x23), (FLAT_USER_SS.into(), FLAT_USER_CS.into())] {
        let frame = return_from_system_call(&TrapFrame { cs, ss, ..good });
        holds("selectors", matches!(frame.vector(), 10..=13 | 0x80))?;
        equal("cs", frame.cs & 3, 3)?;
    }
    Ok(())
}

/// `iret` within the kernel to places and selectors that don't work.
pub fn kernel_returns() -> Told {
    let _ = UserSpace::new(program!["syscall"])?;
    let code = Page::new();
    code.write(0, 0xcccc_cccc);
    equal("executable", map(code.address, code.entry(READ)), Ok(0))?;
    let kernel_cs = u64::from(FLAT_KERNEL_CS & !3);
    let good = TrapFrame {
        rip: code.address,
        cs: kernel_cs,
        rflags: 2,
        rsp: Page::new().address + 2048,
        ss: FLAT_KERNEL_SS.into(),
        ..TrapFrame::default()
    };
    for flags in [0, VcpuContextFlags::IN_SYSCALL.bits()] {
        equal("a good one", user::leave(&good, flags).vector(), 3)?;
        for rip in [NON_CANONICAL, 1 << 63, HYPERVISOR, 0xffff_8000_0000_0000] {
            let trap = user::leave(&TrapFrame { rip, ..good }, flags);
            holds("to no address", matches!(trap.vector(), 13 | 14))?;
        }
        for (cs, ss) in [
            (0xe008, good.ss),
            (0x08, good.ss),
            (0xe040, good.ss),
            (u64::from(FLAT_KERNEL_SS & !3), good.ss),
            (kernel_cs, 0xe010),
            (kernel_cs, 0x10),
            (kernel_cs, kernel_cs),
            (0, 0),
        ] {
            let trap = user::leave(&TrapFrame { cs, ss, ..good }, flags);
            holds("with bad selectors", matches!(trap.vector(), 3 | 10..=14))?;
        }
    }
    Ok(())
}

/// An `iret` in a list of calls must not leave the kernel with the rest of the list to come (XSA-213): what is behind
/// it is either done in the kernel, or not at all.
pub fn in_a_list() -> Told {
    let space = UserSpace::new(program!["syscall"])?;
    let mut list = [multicall_entry(XEN_VERSION, [u64::from(XENVER_PAGESIZE), 0, 0, 0, 0, 0]); 3];
    list[1] = multicall_entry(IRET, [0; 6]);
    let start = space.start();
    let frame = IretContext {
        rip: start.rip,
        cs: start.cs,
        rflags: start.rflags,
        rsp: start.rsp,
        ss: start.ss,
        ..IretContext::default()
    };
    match call_on_stack(MULTICALL, [list.as_mut_ptr() as u64, 3], (&raw const frame) as u64) {
        Came::Back(result) => equal("the whole list", (result, list[2].result), (0, 4096))?,
        Came::Trap(trap) => equal("the list so far", (trap.vector(), list[2].result), (SYSCALL, 0))?,
    }
    equal("the first call", list[0].result, 4096)
}

/// An `iret` frame may lie anywhere that the kernel can read, up to the last byte of a page. (Elsewhere it is the domain's
/// end: stories of the suite `crash`.)
pub fn odd_frames() -> Told {
    let space = UserSpace::new(program!["syscall"])?;
    let page = Page::new();
    let start = space.start();
    let words = [0, 0, 0, 0, start.rip, start.cs, start.rflags, start.rsp, start.ss];
    for offset in [0u64, 1, 8, 4096 - 72] {
        for (at, word) in (page.address + offset..).step_by(8).zip(words) {
            // SAFETY: the words lie in the page.
            unsafe { (at as *mut u64).write_unaligned(word) };
        }
        match call_on_stack(IRET, [0; 2], page.address + offset) {
            Came::Trap(trap) => equal("where it led", trap.vector(), SYSCALL)?,
            Came::Back(_) => return fail("an iret came back"),
        }
    }
    Ok(())
}
