//! The rest of a vCPU that memory stories lean on: CR0.TS by hypercall, the FSGSBASE instructions, ports of user mode,
//! and lists of memory calls.

use super::ground::*;
use super::user::{CODE, UserSpace, program};
use crate::check::{BAD_POINTERS, HYPERVISOR, NON_CANONICAL, Told, call, equal, reads, refused, skip, trapped};
use guest_kernel::hypercall::{self, mmuext, multicall_entry, multicall_result};
use guest_kernel::trap::{Caught, TrapFrame};
use guest_kernel::{catch, probe};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::hypercall::{FPU_TASKSWITCH, MMU_UPDATE, MMUEXT_OP, PHYSDEV_OP, UPDATE_VA_MAPPING};
use pv_abi::mmu::{MmuUpdate, UVMF_INVLPG};
use pv_abi::physdev::{PHYSDEVOP_SET_IOBITMAP, PhysdevSetIobitmap};

const TASK_SWITCHED: u64 = 1 << 3;
const FSGSBASE: u64 = 1 << 16;

/// `fpu_taskswitch` sets and clears CR0.TS.
pub fn task_switch() -> Told {
    let set = |on: u64| call(FPU_TASKSWITCH, [on]);
    for on in [1, 2, u64::from(u32::MAX)] {
        equal("set", set(on), Ok(0))?;
        equal("TS", probe::cr0().map(|value| value & TASK_SWITCHED), Ok(TASK_SWITCHED))?;
        trapped("FPU", probe::fnop(), 7, 0)?;
        equal("TS after the trap", probe::cr0().map(|value| value & TASK_SWITCHED), Ok(0))?;
    }
    equal("set", set(1), Ok(0))?;
    equal("clear", set(0), Ok(0))?;
    equal("TS", probe::cr0().map(|value| value & TASK_SWITCHED), Ok(0))?;
    equal("FPU", probe::fnop(), None)
}

/// `mov` to CR4.
fn set_cr4(value: u64) -> Option<Caught> {
    // SAFETY: the stories change FSGSBASE only.
    unsafe { catch!(["mov cr4, {value}"] value = in(reg) value,) }
}

/// `wrfsbase`, `rdfsbase` and the same for GS work while CR4 says so, and are #UD else.
pub fn fsgsbase() -> Told {
    if probe::cpuid(7, 0).ebx & 1 == 0 {
        return skip("this CPU has no FSGSBASE");
    }
    let cr4 = probe::cr4().unwrap_or(0);
    equal("switch off", set_cr4(cr4 & !FSGSBASE), None)?;
    equal("CR4", probe::cr4(), Ok(cr4 & !FSGSBASE))?;
    // SAFETY: nothing of the kernel is addressed through FS.
    trapped("rdfsbase", unsafe { catch!(["rdfsbase rax"]) }, 6, 0)?;
    equal("switch on", set_cr4(cr4 | FSGSBASE), None)?;
    equal("CR4", probe::cr4(), Ok(cr4 | FSGSBASE))?;
    for base in [0u64, 0x1234_5678, 0x7fff_ffff_f000, HYPERVISOR, 0xffff_ffff_8000_0000] {
        let (fs, gs): (u64, u64);
        // SAFETY: as above, nor through GS.
        let caught = unsafe {
            catch!(["wrfsbase {base}", "wrgsbase {base}", "rdfsbase {fs}", "rdgsbase {gs}"] base = in(reg) base,
                fs = out(reg) fs, gs = out(reg) gs,)
        };
        equal("write and read", caught, None)?;
        equal("bases", [fs, gs], [base, base])?;
        // The hypervisor knows them, and keeps them over a call and a trap.
        equal("FS by MSR", probe::rdmsr(0xc000_0100), Ok(base))?;
        equal("GS by MSR", probe::rdmsr(0xc000_0101), Ok(base))?;
        let _ = hypercall::yield_now();
        equal("FS after a yield", probe::rdmsr(0xc000_0100), Ok(base))?;
    }
    equal("switch off", set_cr4(cr4 & !FSGSBASE), None)
}

/// User mode may use the ports whose bits are clear, and the kernel may use none by it.
pub fn ports() -> Told {
    let set = |address: u64, ports: u32| {
        let bitmap = PhysdevSetIobitmap { bitmap: address, nr_ports: ports, _pad: 0 };
        call(PHYSDEV_OP, [u64::from(PHYSDEVOP_SET_IOBITMAP), reads(&bitmap)])
    };
    for ports in [65537, u32::MAX] {
        refused("ports", set(0, ports), Errno::EINVAL)?;
    }
    for pointer in BAD_POINTERS {
        refused("argument", call(PHYSDEV_OP, [u64::from(PHYSDEVOP_SET_IOBITMAP), pointer]), Errno::EFAULT)?;
    }
    // Port 0x61 only.
    let mut bits = [0xffu8; 32];
    bits[0x61 / 8] &= !(1 << (0x61 % 8));
    let space = UserSpace::new(program!["in al, dx", "syscall"])?;
    let touch = |port: u64| space.run(TrapFrame { rdx: port, ..space.start() });
    let refused_at = |what: &str, port: u64| {
        let frame = touch(port);
        equal(what, (frame.vector(), frame.rip), (13, CODE))
    };
    refused_at("without a bitmap", 0x61)?;
    equal("set", set(reads(&bits), 256), Ok(0))?;
    equal("a port whose bit is clear", touch(0x61).vector(), super::user::SYSCALL)?;
    for port in [0x60, 0x62, 0x100, 0x1061, 0xffff] {
        refused_at("another port", port)?;
    }
    equal("shorter", set(reads(&bits), 0x61), Ok(0))?;
    refused_at("behind the bitmap's end", 0x61)?;
    equal("no bitmap", set(0, 0), Ok(0))?;
    refused_at("afterwards", 0x61)
}

/// Memory calls in a list: each has its result, and a refusal doesn't stop the others.
pub fn lists() -> Told {
    let tree = Tree::protected()?;
    let [page, window] = [Page::new(), Page::new()];
    page.write(0, 8);
    let good = [MmuUpdate { ptr: page.slot(1), val: 9 }];
    let bad = [MmuUpdate { ptr: page.slot(1) | 4, val: 9 }];
    let (pin, unpin) = ([mmuext::pin(4, tree.l4.mfn)], [mmuext::unpin(tree.l4.mfn)]);
    let own = u64::from(DOMID_SELF);
    let map = |entry: u64| multicall_entry(UPDATE_VA_MAPPING, [window.address, entry, UVMF_INVLPG, 0, 0, 0]);
    let update = |list: &[MmuUpdate; 1]| multicall_entry(MMU_UPDATE, [reads(list), 1, 0, own, 0, 0]);
    let operation = |list| multicall_entry(MMUEXT_OP, [list, 1, 0, own, 0, 0]);
    let mut list = [
        map(page.entry(WRITE)),
        update(&bad),
        update(&good),
        operation(reads(&pin)),
        operation(reads(&pin)),
        map(tree.l4.entry(WRITE)),
        operation(reads(&unpin)),
        multicall_entry(MMU_UPDATE, [NON_CANONICAL, 1, 0, own, 0, 0]),
    ];
    // SAFETY: the calls are about pages of the story's.
    equal("list", unsafe { hypercall::multicall(&mut list) }, Ok(0))?;
    let want =
        [Ok(0), Err(Errno::ENOSYS), Ok(0), Ok(0), Err(Errno::EINVAL), Err(Errno::EBUSY), Ok(0), Err(Errno::EFAULT)];
    equal("results", list.each_ref().map(multicall_result), want)?;
    equal("words behind the new mapping", [window.read(0), window.read(1)], [8, 9])
}
