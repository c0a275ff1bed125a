//! The operations of `mmuext_op` that flush, and the call's own arguments.

use super::ground::*;
use crate::check::{
    BAD_POINTERS, HYPERVISOR, NON_CANONICAL, Told, UNMAPPED, call, equal, holds, reads, refused, trapped,
};
use guest_kernel::hypercall::mmuext::*;
use guest_kernel::hypercall::{self, Answer, Owner};
use guest_kernel::probe;
use pv_abi::domid::{DOMID_INVALID, DOMID_SELF};
use pv_abi::errno::Errno;
use pv_abi::hypercall::MMUEXT_OP;
use pv_abi::mmu::{MMUEXT_SET_LDT, MmuextOp};

/// Every form of flush makes a changed entry count.
pub fn translations() -> Told {
    let tree = Tree::hooked()?;
    let other = Page::new();
    tree.data.write(0, 1);
    other.write(0, 2);
    let mask = [1u64];
    let flushes = [
        flush_here(),
        flush_all(),
        flush_some(reads(&mask)),
        flush_address_here(WINDOW),
        flush_address_all(WINDOW),
        flush_address_some(WINDOW, reads(&mask)),
    ];
    for flush in flushes {
        for (page, word) in [(other, 2), (tree.data, 1)] {
            equal("change an entry", set(tree.l1.slot(0), page.entry(WRITE)), Ok(0))?;
            equal("flush", operate(flush), Ok(0))?;
            equal("word behind it", probe::read(WINDOW), Ok(word))?;
        }
        equal("take it out", set(tree.l1.slot(0), 0), Ok(0))?;
        equal("flush", operate(flush), Ok(0))?;
        trapped("behind it", probe::read(WINDOW).err(), 14, 0)?;
    }
    Ok(())
}

/// Flushes of addresses that aren't any, and for vCPUs that don't exist, do nothing.
pub fn odd_targets() -> Told {
    let mask = [u64::MAX; 4];
    for address in [UNMAPPED, NON_CANONICAL, HYPERVISOR, 1 << 63, u64::MAX] {
        equal("here", operate(flush_address_here(address)), Ok(0))?;
        equal("all", operate(flush_address_all(address)), Ok(0))?;
        equal("some", operate(flush_address_some(address, reads(&mask))), Ok(0))?;
    }
    equal("all bits", operate(flush_some(reads(&mask))), Ok(0))?;
    let nobody = [0u64; 4];
    equal("no bits", operate(flush_some(reads(&nobody))), Ok(0))?;
    for pointer in [UNMAPPED, NON_CANONICAL, HYPERVISOR, u64::MAX - 2] {
        refused("mask", operate(flush_some(pointer)), Errno::EINVAL)?;
        refused("mask", operate(flush_address_some(WINDOW, pointer)), Errno::EINVAL)?;
    }
    Ok(())
}

/// Operations that a domain without devices may not use, and numbers that name none.
pub fn other_operations() -> Told {
    for operation in [flush_cache(), flush_cache_global()] {
        let answer = operate(operation);
        if is_privileged() {
            equal("flush the caches", answer, Ok(0))?;
        } else {
            refused("flush the caches", answer, Errno::EACCES)?;
        }
    }
    for operation in [mark_super(0), unmark_super(0)] {
        refused("superpage", operate(operation), Errno::EOPNOTSUPP)?;
    }
    for cmd in [14, 21, 22, 100, u32::MAX] {
        refused("unknown operation", operate(MmuextOp { cmd, ..flush_here() }), Errno::ENOSYS)?;
    }
    Ok(())
}

fn counted(list: &[MmuextOp]) -> (Answer, u32) {
    let mut done = 0x5a5a;
    // SAFETY: the lists flush, or name pages of the story's.
    let answer = unsafe { hypercall::mmuext_op(list, Some(&mut done), Owner::SELF) };
    (answer, done)
}

/// The list is done in order, up to the first refusal; the count says how far.
pub fn counts() -> Told {
    let tree = Tree::protected()?;
    let bad = MmuextOp { cmd: 99, ..flush_here() };
    equal("no operations", counted(&[]), (Ok(0), 0))?;
    equal("two", counted(&[flush_here(), flush_all()]), (Ok(0), 2))?;
    equal("first bad", counted(&[bad, pin(1, tree.l1.mfn)]), (Err(Errno::ENOSYS), 0))?;
    let list = [pin(1, tree.l1.mfn), flush_here(), bad, unpin(tree.l1.mfn)];
    equal("third bad", counted(&list), (Err(Errno::ENOSYS), 2))?;
    equal("the first was done, the last not", operate(unpin(tree.l1.mfn)), Ok(0))?;
    let list = [flush_here(); 1024];
    equal("a long list", counted(&list), (Ok(0), 1024))
}

/// Lists that can't be read, and domains that don't exist.
pub fn arguments() -> Told {
    let by = |list: u64, count: u64, owner: u16| call(MMUEXT_OP, [list, count, 0, u64::from(owner)]);
    for pointer in BAD_POINTERS {
        refused(&alloc::format!("list at {pointer:#x}"), by(pointer, 1, DOMID_SELF), Errno::EFAULT)?;
    }
    for count in [0x7fff_ffff, 1 << 27] {
        refused("a huge list", by(HYPERVISOR, count, DOMID_SELF), Errno::EFAULT)?;
    }
    equal("no list", by(0, 0, DOMID_SELF), Ok(0))?;
    let list = [flush_here()];
    for owner in [DOMID_INVALID, 0x7000, 1000] {
        refused("nobody's tables", by(reads(&list), 1, owner), Errno::ESRCH)?;
    }
    let answer = operate(MmuextOp { cmd: MMUEXT_SET_LDT, _pad: u32::MAX, arg1: 0, arg2: 0 });
    holds("padding counts", answer == Ok(0))
}
