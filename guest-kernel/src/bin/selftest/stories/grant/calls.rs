//! Size and version of the table, and the arguments of the call itself.

use super::{STRANGER, op, own_id};
use crate::check::{BAD_POINTERS, HYPERVISOR, NON_CANONICAL, Told, UNMAPPED, call, equal, holds, refused, writes};
use crate::stories::event::refusal;
use crate::stories::mmu::ground::Page;
use alloc::format;
use guest_kernel::hypercall;
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::grant::*;
use pv_abi::hypercall::GRANT_TABLE_OP;

fn setup(dom: u16, nr_frames: u32, frame_list: u64) -> hypercall::Answer {
    let mut request = GnttabSetupTable { dom, nr_frames, frame_list, status: 77, ..Default::default() };
    op(GNTTABOP_SETUP_TABLE, &mut request).map(|_| u64::from(request.status.cast_unsigned()))
}

fn status(status: i16) -> hypercall::Answer {
    Ok(u64::from(status.cast_unsigned()))
}

/// The table grows as far as it may, stays where it is, and is the caller's to see.
pub fn sizes() -> Told {
    let own = own_id()?;
    let size = || hypercall::grant_query_size(DOMID_SELF).map_err(refusal);
    let first = size()?;
    holds("sizes", first.nr_frames >= 1 && first.max_nr_frames >= 4 && first.max_nr_frames >= first.nr_frames)?;
    let list = Page::new();
    equal("one frame", setup(DOMID_SELF, 1, list.address), status(GNTST_OKAY))?;
    let frame = list.read(0);
    equal("more of them, by number", setup(own, 4, list.address), status(GNTST_OKAY))?;
    equal("the first is the same", list.read(0), frame)?;
    let frames = [0, 1, 2, 3].map(|index| list.read(index));
    holds("each is another", (1..4).all(|n| !frames[..n].contains(&frames[n])))?;
    equal("size", size()?.nr_frames.max(4), size()?.nr_frames)?;
    equal("a table never shrinks", setup(DOMID_SELF, 1, list.address), status(GNTST_OKAY))?;
    equal("size", size()?.nr_frames >= 4, true)?;
    equal("none", setup(DOMID_SELF, 0, 0), status(GNTST_OKAY))?;
    let most = first.max_nr_frames;
    equal("one too many", setup(DOMID_SELF, most + 1, list.address), status(GNTST_GENERAL_ERROR))?;
    equal("no such domain", setup(STRANGER, 1, list.address), status(GNTST_BAD_DOMAIN))?;
    equal("nowhere", setup(DOMID_SELF, 1, UNMAPPED), status(GNTST_BAD_VIRT_ADDR))?;
    refused("in the hypervisor", setup(DOMID_SELF, 1, HYPERVISOR), Errno::EFAULT)?;
    equal("a stranger's size", hypercall::grant_query_size(STRANGER), Err(Errno::EINVAL))
}

/// Version 1 is there, and a version that isn't is refused.
pub fn versions() -> Told {
    equal("set 1", hypercall::grant_set_version(1), Ok(1))?;
    let mut request = GnttabGetVersion { dom: DOMID_SELF, ..Default::default() };
    equal("get", op(GNTTABOP_GET_VERSION, &mut request), Ok(0))?;
    equal("version", request.version, 1)?;
    for version in [0, 3, u32::MAX] {
        let mut request = GnttabSetVersion { version };
        refused("an odd version", op(GNTTABOP_SET_VERSION, &mut request), Errno::EINVAL)?;
        equal("the version in use", request.version, 1)?;
    }
    request.dom = STRANGER;
    refused("a stranger's", op(GNTTABOP_GET_VERSION, &mut request), Errno::ESRCH)?;
    // Version 2 is there, or it isn't.
    let mut request = GnttabSetVersion { version: 2 };
    match op(GNTTABOP_SET_VERSION, &mut request) {
        Err(Errno::ENOSYS) => equal("the version in use", request.version, 1),
        Ok(_) => equal("back to 1", hypercall::grant_set_version(1), Ok(1)),
        Err(other) => Err(refusal(other)),
    }
}

/// Commands, counts and pointers.
pub fn arguments() -> Told {
    let mut request = GnttabQuerySize { dom: DOMID_SELF, ..Default::default() };
    let at = writes(&mut request);
    for command in [GNTTABOP_DUMP_TABLE, 13, 1000] {
        refused("a command", call(GRANT_TABLE_OP, [u64::from(command), at, 1]), Errno::ENOSYS)?;
    }
    refused("bits above the command", call(GRANT_TABLE_OP, [1 << 20 | 6, at, 1]), Errno::EINVAL)?;
    for command in [GNTTABOP_SETUP_TABLE, GNTTABOP_QUERY_SIZE, GNTTABOP_GET_STATUS_FRAMES].map(u64::from) {
        for count in [0, 2, 1 << 31] {
            refused("a count", call(GRANT_TABLE_OP, [command, at, count]), Errno::EINVAL)?;
        }
    }
    let lists = [
        GNTTABOP_MAP_GRANT_REF,
        GNTTABOP_UNMAP_GRANT_REF,
        GNTTABOP_UNMAP_AND_REPLACE,
        GNTTABOP_COPY,
        GNTTABOP_SWAP_GRANT_REF,
    ];
    for command in lists {
        let list = |at, count| call(GRANT_TABLE_OP, [u64::from(command), at, count]);
        equal(&format!("{command}: none"), list(at, 0), Ok(0))?;
        for count in [1 << 31, u64::from(u32::MAX)] {
            refused(&format!("{command}: {count} of them"), list(at, count), Errno::EINVAL)?;
        }
        for pointer in BAD_POINTERS {
            refused(&format!("{command} at {pointer:#x}"), list(pointer, 1), Errno::EFAULT)?;
        }
        refused(&format!("{command}: into the hole"), list(NON_CANONICAL - 8, 1), Errno::EFAULT)?;
        refused(&format!("{command}: very many"), list(0x7fff_0000_0000, 0x7fff_ffff), Errno::EFAULT)?;
    }
    Ok(())
}

/// Swapping, of entries that are in use, that aren't, and that aren't there.
pub fn swap() -> Told {
    use super::{Access, ended, entry, granted, mapped, page_at, patterned, unmapped};
    use crate::stories::mmu::ground::Tree;
    use core::sync::atomic::Ordering::SeqCst;
    let _tree = Tree::hooked()?;
    let (first, second) = (granted(patterned(1), Access::Write)?, granted(patterned(2), Access::Read)?);
    let [a, b] = [first.reference(), second.reference()];
    let [one, two] = [entry(a)?.load(SeqCst), entry(b)?.load(SeqCst)];
    let swap = |ref_a, ref_b| {
        let mut request = GnttabSwapGrantRef { ref_a, ref_b, status: 77, ..Default::default() };
        op(GNTTABOP_SWAP_GRANT_REF, &mut request).map(|_| u64::from(request.status.cast_unsigned()))
    };
    equal("swap", swap(a, b), status(GNTST_OKAY))?;
    equal("entries", [entry(a)?.load(SeqCst), entry(b)?.load(SeqCst)], [two, one])?;
    equal("the same", swap(a, a), status(GNTST_OKAY))?;
    equal("beyond the table", swap(a, 0x10_0000), status(GNTST_BAD_GNTREF))?;
    equal("beyond the table", swap(u32::MAX, a), status(GNTST_BAD_GNTREF))?;
    let handle = mapped(page_at(1), super::HOST | super::READ_ONLY, a)?;
    equal("one in use", swap(a, b), status(GNTST_EAGAIN))?;
    unmapped(page_at(1), handle)?;
    equal("swap back", swap(a, b), status(GNTST_OKAY))?;
    ended(first)?;
    ended(second)
}
