//! FIFO delivery: the calls that set it up.

use super::{FAR, NOBODY, refusal, unbound};
use crate::check::{Told, equal, skip};
use crate::stories::mmu::ground::{Page, Tree};
use guest_kernel::event::fifo;
use guest_kernel::{hypercall, vcpu};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::event::{EVTCHN_FIFO_LINK_BITS, FifoControlBlock};

/// The last place in a page that holds a control block.
const LAST: u32 = 4096 - 72;

const _: () = assert!(size_of::<FifoControlBlock>() == 72);

/// Registers a control block in a page of a story's own.
pub fn init_control(mfn: u64, offset: u32, vcpu: u32) -> Result<u8, Errno> {
    // SAFETY: the pages are the story's alone, for good, or no page that a guest may give.
    unsafe { hypercall::init_control(mfn, offset, vcpu) }
}

/// Adds a page of a story's own.
pub fn expand_array(mfn: u64) -> Result<(), Errno> {
    // SAFETY: as above.
    unsafe { hypercall::expand_array(mfn) }
}

/// Places for control blocks.
pub fn control() -> Told {
    let (control, other) = (Page::new(), Page::new());
    for offset in [4, 1, LAST + 8, 4096, u32::MAX, u32::MAX - 7] {
        equal("a place outside or askew", init_control(control.mfn, offset, 0), Err(Errno::EINVAL))?;
    }
    for mfn in [u64::MAX, 1 << 40, 1 << 52] {
        equal("no frame", init_control(mfn, 0, 0), Err(Errno::EINVAL))?;
    }
    equal("no such vCPU", init_control(control.mfn, 0, NOBODY), Err(Errno::ENOENT))?;
    equal("no such vCPU", init_control(control.mfn, 0, u32::MAX), Err(Errno::ENOENT))?;

    // After so many refusals delivery is still 2-level, and no page is held.
    equal("array before control block", expand_array(other.mfn), Err(Errno::EOPNOTSUPP))?;
    equal("last place", init_control(control.mfn, LAST, 0).map(u32::from), Ok(EVTCHN_FIFO_LINK_BITS))?;
    equal("twice", init_control(other.mfn, 0, 0), Err(Errno::EINVAL))?;
    equal("add words", expand_array(other.mfn), Ok(()))
}

/// A second vCPU's control block, in the same page.
pub fn two_vcpus() -> Told {
    if vcpu::count() < 2 {
        return skip("one vCPU");
    }
    let control = Page::new();
    equal("second", init_control(control.mfn, 128, 1).map(drop), Ok(()))?;
    equal("first", init_control(control.mfn, 0, 0).map(drop), Ok(()))?;
    equal("second again", init_control(control.mfn, 256, 1), Err(Errno::EINVAL))
}

/// Page tables are no place for anything, nor are pages of others.
pub fn tables() -> Told {
    let tree = Tree::hooked()?;
    let tables = [tree.l3, tree.l2, tree.l1];
    for page in tables {
        equal("control block in a table", init_control(page.mfn, 0, 0), Err(Errno::EINVAL))?;
    }
    equal("control block", init_control(Page::new().mfn, 0, 0).map(drop), Ok(()))?;
    for page in tables {
        equal("words in a table", expand_array(page.mfn), Err(Errno::EINVAL))?;
    }
    for mfn in [u64::MAX, 1 << 40] {
        equal("no frame", expand_array(mfn), Err(Errno::EINVAL))?;
    }
    equal("add words", expand_array(Page::new().mfn), Ok(()))
}

/// A page in use can't become a table; after a reset it can.
pub fn held() -> Told {
    let (control, words) = (Page::new(), Page::new());
    equal("control block", init_control(control.mfn, 0, 0).map(drop), Ok(()))?;
    equal("words", expand_array(words.mfn), Ok(()))?;
    for page in [control, words] {
        page.protect()?;
        let pinned = crate::stories::mmu::ground::operate(hypercall::mmuext::pin(1, page.mfn));
        equal("pin as a table", pinned, Err(Errno::EINVAL))?;
    }
    equal("reset", hypercall::reset_ports(DOMID_SELF), Ok(()))?;
    for page in [control, words] {
        let pinned = crate::stories::mmu::ground::operate(hypercall::mmuext::pin(1, page.mfn));
        equal("pin after the reset", pinned, Ok(0))?;
    }
    equal("words after the reset", expand_array(Page::new().mfn), Err(Errno::EOPNOTSUPP))
}

/// There are words for so many ports, and no more. All may be in one page, for all the hypervisor cares.
pub fn all_words() -> Told {
    equal("control block", init_control(Page::new().mfn, 0, 0).map(drop), Ok(()))?;
    let words = Page::new();
    for _ in 0..fifo::PORTS / fifo::PORTS_IN_PAGE {
        equal("add words", expand_array(words.mfn), Ok(()))?;
    }
    equal("one more", expand_array(words.mfn), Err(Errno::ENOSPC))
}

/// Priorities from 0 to 15.
pub fn priorities() -> Told {
    equal("control block", init_control(Page::new().mfn, 0, 0).map(drop), Ok(()))?;
    let port = unbound()?;
    for priority in 0..16 {
        equal("set_priority", hypercall::set_priority(port, priority), Ok(()))?;
    }
    for priority in [16, 17, u32::MAX] {
        equal("too high", hypercall::set_priority(port, priority), Err(Errno::EINVAL))?;
    }
    for port in [FAR, u32::MAX] {
        equal("no such port", hypercall::set_priority(port, 1), Err(Errno::EINVAL))?;
    }
    hypercall::close_port(port).map_err(refusal)
}
