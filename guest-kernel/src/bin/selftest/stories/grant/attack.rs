//! Attacks on grants: races between both sides, and everything that isn't the domain's.

use super::*;
use crate::check::{BAD_POINTERS, call, holds};
use crate::stories::event::start;
use core::sync::atomic::{AtomicBool, AtomicU32};
use guest_kernel::hypercall::mmuext::{pin, unpin};
use guest_kernel::{hypercall, smp};
use pv_abi::hypercall::GRANT_TABLE_OP;

const ROUNDS: u32 = 3000;

/// Nothing refers to the page any more: it can become a table.
fn unused(page: Page) -> Told {
    page.unprotect()?;
    (0..512).for_each(|index| page.write(index, 0));
    page.protect()?;
    equal("the page can be a table", operate(pin(1, page.mfn)), Ok(0))?;
    equal("and none", operate(unpin(page.mfn)), Ok(0))
}

/// A vCPU changes the entry all the time, while others map and unmap what they can.
pub fn changing_entries() -> Told {
    start(3)?;
    let _tree = Tree::hooked()?;
    let page = patterned(1);
    let grant = granted(page, Access::Write)?;
    let (own, word, reference) = (own_id()?, entry(grant.reference())?, grant.reference());
    let good = word.load(SeqCst);
    let left = AtomicU32::new(2);
    let made = smp::everywhere(3, |id| {
        let mut made = 0;
        if id == 0 {
            while left.load(SeqCst) > 0 {
                for value in [good, good | 4, 0, good ^ 1 << 16, good | 0x18, 0xffff_ff00 << 32 | good & 0xffff_ffff] {
                    word.store(value, SeqCst);
                }
            }
            return 0;
        }
        for round in 0..ROUNDS {
            let flags = if round % 2 == 0 { HOST } else { HOST | READ_ONLY };
            let host_addr = page_at(u64::from(id));
            let mut request = GnttabMapGrantRef { host_addr, flags, gref: reference, dom: own, ..Default::default() };
            if op(GNTTABOP_MAP_GRANT_REF, &mut request).is_ok() && request.status == GNTST_OKAY {
                let mut request = GnttabUnmapGrantRef { host_addr, handle: request.handle, ..Default::default() };
                let _ = op(GNTTABOP_UNMAP_GRANT_REF, &mut request);
                made += u32::from(request.status == GNTST_OKAY);
            }
        }
        left.fetch_sub(1, SeqCst);
        made
    });
    guest_kernel::println!("{made:?} mappings");
    word.store(good, SeqCst);
    unused(page)?;
    // No pin is left over, either: the bits come and go as they should.
    let handle = mapped(page_at(1), HOST | READ_ONLY, reference)?;
    equal("flags", flags(&grant)? & (GTF_READING | GTF_WRITING), GTF_READING)?;
    unmapped(page_at(1), handle)?;
    ended(grant)
}

/// Several vCPUs end the same mapping: one does, and the page and the handle are given back once.
pub fn double_unmap() -> Told {
    start(3)?;
    let _tree = Tree::hooked()?;
    let page = patterned(1);
    let grant = granted(page, Access::Write)?;
    let handle = AtomicU32::new(0);
    let round = AtomicU32::new(0);
    let ended_by = AtomicU32::new(0);
    let wrong = AtomicBool::new(false);
    let arrived = AtomicU32::new(0);
    let own = own_id()?;
    let reference = grant.reference();
    smp::everywhere(3, |id| {
        for n in 1..=ROUNDS / 3 {
            if id == 0 {
                let address = page_at(1);
                let mut request = GnttabMapGrantRef {
                    host_addr: address,
                    flags: HOST,
                    gref: reference,
                    dom: own,
                    ..Default::default()
                };
                let mapped = op(GNTTABOP_MAP_GRANT_REF, &mut request).is_ok() && request.status == GNTST_OKAY;
                wrong.fetch_or(!mapped, SeqCst);
                handle.store(request.handle, SeqCst);
                ended_by.store(0, SeqCst);
                arrived.store(0, SeqCst);
                round.store(n, SeqCst);
            }
            while round.load(SeqCst) != n {
                let _ = hypercall::yield_now();
            }
            let mut request = GnttabUnmapGrantRef {
                host_addr: page_at(1),
                handle: handle.load(SeqCst),
                status: 77,
                ..Default::default()
            };
            wrong.fetch_or(op(GNTTABOP_UNMAP_GRANT_REF, &mut request).is_err(), SeqCst);
            match request.status {
                GNTST_OKAY => _ = ended_by.fetch_add(1, SeqCst),
                GNTST_BAD_HANDLE => {}
                _ => wrong.store(true, SeqCst),
            }
            arrived.fetch_add(1, SeqCst);
            if id == 0 {
                while arrived.load(SeqCst) != 3 {
                    let _ = hypercall::yield_now();
                }
                wrong.fetch_or(ended_by.load(SeqCst) != 1, SeqCst);
            }
        }
    });
    holds("each mapping ended once", !wrong.load(SeqCst))?;
    equal("flags", flags(&grant)? & (GTF_READING | GTF_WRITING), 0)?;
    unused(page)?;
    ended(grant)
}

/// The granted page becomes a table and no table while others map it; it is never both.
pub fn changing_types() -> Told {
    start(3)?;
    let tree = Tree::hooked()?;
    let page = Page::read_only(&[])?;
    let grant = granted(page, Access::Write)?;
    let (own, reference) = (own_id()?, grant.reference());
    let left = AtomicU32::new(2);
    let wrong = AtomicU32::new(0);
    let made = smp::everywhere(3, |id| {
        let mut made = 0;
        if id == 0 {
            while left.load(SeqCst) > 0 {
                if operate(pin(1, page.mfn)).is_ok() {
                    // As long as it is a table no entry has it writable.
                    let writable =
                        |index| tree.l1.read(index) & 3 == 3 && tree.l1.read(index) >> 12 & 0xff_ffff == page.mfn;
                    wrong.fetch_add(u32::from(writable(1) || writable(2)), SeqCst);
                    made += 1;
                    let _ = operate(unpin(page.mfn));
                }
            }
            return made;
        }
        for _ in 0..ROUNDS {
            let host_addr = page_at(u64::from(id));
            let mut request =
                GnttabMapGrantRef { host_addr, flags: HOST, gref: reference, dom: own, ..Default::default() };
            if op(GNTTABOP_MAP_GRANT_REF, &mut request).is_ok() && request.status == GNTST_OKAY {
                let mut request = GnttabUnmapGrantRef { host_addr, handle: request.handle, ..Default::default() };
                let _ = op(GNTTABOP_UNMAP_GRANT_REF, &mut request);
                made += u32::from(request.status == GNTST_OKAY);
            }
        }
        left.fetch_sub(1, SeqCst);
        made
    });
    guest_kernel::println!("{made:?} pins and mappings");
    equal("a table that is writable", wrong.load(SeqCst), 0)?;
    unused(page)?;
    ended(grant)
}

/// All that a domain could name of others: their references, and frames that aren't its own.
pub fn others() -> Told {
    let tree = Tree::hooked()?;
    let own = own_id()?;
    let page = Page::new();
    for dom in (0..40).filter(|dom| *dom != own) {
        for gref in (0..600).chain([u32::MAX, 1 << 31]) {
            let mut request =
                GnttabMapGrantRef { host_addr: page_at(1), flags: HOST | READ_ONLY, gref, dom, ..Default::default() };
            equal("map", op(GNTTABOP_MAP_GRANT_REF, &mut request), Ok(0))?;
            holds("another's grant", request.status < 0)?;
        }
    }
    if is_privileged() {
        return Ok(());
    }
    let grant = granted(page, Access::Write)?;
    let word = entry(grant.reference())?;
    let is = word.load(SeqCst);
    // Frames of the neighbour, the hypervisor and nobody; all but the domain's own have another owner.
    let (mut refused, mut taken) = (0, 0);
    for frame in 0..0x1_0000 {
        word.store(is & 0xffff_ffff | frame << 32, SeqCst);
        let mut request = GnttabMapGrantRef {
            host_addr: page_at(1),
            flags: HOST,
            gref: grant.reference(),
            dom: own,
            ..Default::default()
        };
        equal("map", op(GNTTABOP_MAP_GRANT_REF, &mut request), Ok(0))?;
        if request.status == GNTST_OKAY {
            let mine = guest_kernel::memory::address_of_frame(frame).is_some();
            holds("a frame that isn't ours", mine || frame == 0 || is_shared(frame))?;
            unmapped(page_at(1), request.handle)?;
            taken += 1;
        } else {
            refused += 1;
        }
    }
    guest_kernel::println!("{refused} refused, {taken} taken");
    holds("some are others'", refused > 1000)?;
    equal("the table", tree.l1.read(1), 0)?;
    word.store(is, SeqCst);
    ended(grant)
}

/// Is it a page that the hypervisor shares with the domain: for information, or a table of grants?
fn is_shared(frame: u64) -> bool {
    let mut frames = [0; 2];
    let listed = hypercall::grant_setup_table(DOMID_SELF, &mut frames[..1]).is_ok();
    frame == guest_kernel::start::start_info().shared_info / PAGE_SIZE || listed && frames.contains(&frame)
}

/// Every operation with odd contents, odd counts and odd places. Lists end where the page does: behind it nothing is mapped.
pub fn arguments() -> Told {
    let page = Tree::hooked()?.data;
    for value in [0, u64::MAX, 0xffff_ffff_0000_0000, 1 << 63, 0x1_0000_0001, 0x0003_0003_0003_0003] {
        for command in (0..16).filter(|command| *command != GNTTABOP_SET_VERSION.into()) {
            for count in [0, 1, 2, 30, 100, 0x7fff_ffff, 0x8000_0000, u64::MAX] {
                for address in [WINDOW, WINDOW + 4, WINDOW + 4000].into_iter().chain(BAD_POINTERS) {
                    (0..512).for_each(|word| page.write(word, value));
                    // Any answer will do; what counts is the neighbour, and that this goes on.
                    let _ = call(GRANT_TABLE_OP, [command, address, count]);
                }
            }
        }
    }
    equal("a call that is good", hypercall::grant_set_version(1), Ok(1))
}
