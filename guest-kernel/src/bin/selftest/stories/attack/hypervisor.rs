//! The hypervisor's own part of every address space: L4 slots 256 to 271.

use super::writable::is_sealed;
use crate::check::{Told, equal, holds, refused};
use crate::stories::mmu::ground::*;
use crate::stories::mmu::user::{CODE, UserSpace, program};
use alloc::format;
use guest_kernel::hypercall::mmuext::{new_base, new_user_base, pin, unpin};
use guest_kernel::trap::TrapFrame;
use guest_kernel::{memory, probe};
use pv_abi::errno::Errno;
use pv_abi::memory::{HYPERVISOR_VIRT_START, MACH2PHYS_VIRT_END};

const SLOTS: core::ops::Range<usize> = 256..272;

/// What a guest has in these slots of a new root is never used, and in a root in use they can't be changed.
pub fn slots() -> Told {
    let tree = Tree::new();
    SLOTS.for_each(|slot| tree.l4.write(slot, tree.l3.entry(TABLE)));
    tree.tables().into_iter().try_for_each(Page::protect)?;
    equal("pin", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    for slot in SLOTS {
        holds("the guest's entry in a root", tree.l4.read(slot) >> 12 & 0xff_ffff_ffff != tree.l3.mfn)?;
        for value in [0, tree.l3.entry(TABLE), tree.l4.read(slot), tree.l4.read(slot) | 2, tree.l4.read(slot) & !1] {
            refused("slot", set(tree.l4.slot(slot), value), Errno::EINVAL)?;
            refused("slot of the root in use", set(root_slot(slot), value), Errno::EINVAL)?;
        }
    }
    equal("as user root", operate(new_user_base(tree.l4.mfn)), Ok(0))?;
    equal("none", operate(new_user_base(0)), Ok(0))?;
    is_sealed(tree.l4)?;
    // Let go, filled again and used anew, many times.
    for _ in 0..3 {
        equal("unpin", operate(unpin(tree.l4.mfn)), Ok(0))?;
        tree.l4.unprotect()?;
        SLOTS.for_each(|slot| tree.l4.write(slot, tree.l3.entry(TABLE)));
        tree.l4.protect()?;
        equal("pin", operate(pin(4, tree.l4.mfn)), Ok(0))?;
        holds("the guest's entry", SLOTS.clone().all(|slot| tree.l4.read(slot) >> 12 & 0xff_ffff_ffff != tree.l3.mfn))?;
    }
    Ok(())
}

/// A root of the guest's own making, with its kernel and these slots, in force: nothing of the guest's is there.
pub fn own_root() -> Told {
    let before = root();
    let Some(from) = memory::address_of_frame(before) else { return holds("no root", false) };
    let (own, tree) = (Page::new(), Tree::protected()?);
    tree.data.write(0, 0x1122_3344);
    (0..512).for_each(|slot| own.write(slot, probe::read(from + 8 * slot as u64).unwrap_or(0)));
    SLOTS.for_each(|slot| own.write(slot, tree.l3.entry(TABLE)));
    own.protect()?;
    equal("switch", operate(new_base(own.mfn)), Ok(0))?;
    let found = SLOTS.clone().find(|slot| probe::read(0xffff_0000_0000_0000 | (*slot as u64) << 39) == Ok(0x1122_3344));
    equal("a hypercall", root(), own.mfn)?;
    equal("switch back", operate(new_base(before)), Ok(0))?;
    equal("slot with the guest's page", found, None)
}

/// Addresses all over the hypervisor's part: the first of each level 3 and many level 2 entries.
fn addresses() -> impl Iterator<Item = u64> {
    let coarse = (MACH2PHYS_VIRT_END..HYPERVISOR_VIRT_START + (16 << 39)).step_by(1 << 30);
    // The first gibibyte of each slot more closely.
    let fine = (1..16).flat_map(|slot| {
        let start = HYPERVISOR_VIRT_START + (slot << 39);
        (start..start + (1 << 30)).step_by((2 << 20) + 0x1238)
    });
    coarse.chain(fine)
}

/// Nothing of it can be read, written or run, by the kernel.
pub fn kernel_access() -> Told {
    for address in addresses() {
        let read = probe::read(address);
        holds(&format!("read of {address:#x}: {read:?}"), read.is_err_and(|caught| caught.vector == 14))?;
        // SAFETY: the store must fault.
        let stored = unsafe { probe::write(address, 0) };
        holds(&format!("store to {address:#x}"), stored.is_err_and(|caught| caught.vector == 14))?;
        // SAFETY: the fetch must fault.
        let fetched = unsafe { probe::jump(address) };
        holds(&format!("jump to {address:#x}"), fetched.is_some_and(|caught| caught.vector == 14))?;
    }
    Ok(())
}

/// Nor by user mode.
pub fn user_access() -> Told {
    let space = UserSpace::new(program!["mov rax, [rdi]", "syscall", "mov [rdi], rax", "syscall", "jmp rdi"])?;
    for address in addresses().step_by(7) {
        for rip in [CODE, CODE + 5, CODE + 10] {
            let frame = space.run(TrapFrame { rdi: address, rip, ..space.start() });
            equal(&format!("{address:#x}"), (frame.vector(), frame.error_code & 4), (14, 4))?;
        }
    }
    Ok(())
}
