//! Grants between two domains: each side of a story is told by one. They find each other as in `stories::pair`; the first
//! reference that a domain gives out is 8.

use super::*;
use crate::check::{fail, holds};
use crate::stories::pair::{connected, joined, number, wait};
use alloc::vec::Vec;
use guest_kernel::grant::{Mapping, map as map_grants};
use guest_kernel::println;
use guest_kernel::probe;

const PAGES: u32 = 64;
const ROUNDS: u64 = 20;

fn word(mapping: &Mapping, page: u32, index: usize) -> u64 {
    let at = mapping.address() as u64 + u64::from(page) * PAGE_SIZE + 8 * index as u64;
    probe::read(at).unwrap_or(0)
}

fn put(mapping: &Mapping, page: u32, index: usize, value: u64) {
    let at = mapping.address() as u64 + u64::from(page) * PAGE_SIZE + 8 * index as u64;
    // SAFETY: the page is mapped, and nothing of Rust's is there.
    let _ = unsafe { probe::write(at, value) };
}

fn signal(port: u32) -> Told {
    hypercall::send(port).map_err(refusal)
}

/// Grants pages, waits until they were written, takes them back, round after round.
pub fn granter() -> Told {
    let peer = number("peer")?;
    let pages: Vec<Page> = (0..PAGES).map(|n| patterned(n.into())).collect();
    let port = connected(peer)?;
    for round in 0..ROUNDS {
        let mut grants = Vec::new();
        for page in &pages {
            grants.push(grant::grant(peer, page.mfn, Access::Write).map_err(failed)?);
        }
        // The mapper reads which references these are.
        pages[0].write(511, round);
        grants.iter().zip(1..).for_each(|(grant, n)| pages[0].write(n, grant.reference().into()));
        equal("the first", grants[0].reference(), 8)?;
        signal(port)?;
        wait(port)?;
        for (page, n) in pages.iter().zip(0..) {
            equal("what the other wrote", page.read(500), round << 32 | n)?;
        }
        for grant in grants.into_iter().rev() {
            ended(grant)?;
        }
    }
    signal(port)?;
    wait(port)
}

/// Maps them, writes in each, lets them go.
pub fn mapper() -> Told {
    let peer = number("peer")?;
    let port = joined(peer)?;
    for round in 0..ROUNDS {
        wait(port)?;
        let list = map_grants(peer, &[8], Access::Write).map_err(failed)?;
        let references = (1..=PAGES).map(|n| u32::try_from(word(&list, 0, n as usize)));
        let references: Vec<u32> =
            references.collect::<Result<_, _>>().map_err(|_| Ending::Fail("no references".into()))?;
        equal("round", word(&list, 0, 511), round)?;
        let mapping = map_grants(peer, &references, Access::Write).map_err(failed)?;
        for page in 0..PAGES {
            equal("the granter's word", word(&mapping, page, 200), u64::from(page) << 32 | 200)?;
            put(&mapping, page, 500, round << 32 | u64::from(page));
        }
        drop(mapping);
        drop(list);
        signal(port)?;
    }
    wait(port)?;
    // All is taken back.
    match map_grants(peer, &[8], Access::Read) {
        Err(grant::Error::Status(0, GNTST_GENERAL_ERROR)) => signal(port),
        other => fail(&format!("mapping what is no grant: {other:?}")),
    }
}

/// Grants a page and ends while it is mapped.
pub fn leaver() -> Told {
    let peer = number("peer")?;
    let page = patterned(0x77);
    let port = connected(peer)?;
    let grant = grant::grant(peer, page.mfn, Access::Write).map_err(failed)?;
    equal("reference", grant.reference(), 8)?;
    signal(port)?;
    wait(port)?;
    holds("in use", grant.is_used())
}

/// Keeps what it mapped after the granter's end.
pub fn keeper() -> Told {
    let peer = number("peer")?;
    let port = joined(peer)?;
    wait(port)?;
    let mapping = map_grants(peer, &[8], Access::Write).map_err(failed)?;
    let second = map_grants(peer, &[8], Access::Read).map_err(failed)?;
    signal(port)?;
    crate::stories::smp::wait_until("the end of the granter", || {
        hypercall::port_status(port).is_ok_and(|status| status.status == pv_abi::event::EVTCHNSTAT_UNBOUND)
    })?;
    put(&mapping, 0, 3, 99);
    equal("the page as it was", [0, 3, 511].map(|n| word(&second, 0, n)), [0x77 << 32, 99, 0x77 << 32 | 511])?;
    holds("no more of it", map_grants(peer, &[8], Access::Read).is_err())?;
    drop(mapping);
    equal("the other mapping", word(&second, 0, 3), 99)?;
    // The other one goes with the domain.
    core::mem::forget(second);
    Ok(())
}

/// Grants pages to a domain that ends with them mapped; then nobody uses them.
pub fn bereaved() -> Told {
    let peer = number("peer")?;
    let pages: Vec<Page> = (0..PAGES).map(|n| patterned(n.into())).collect();
    let port = connected(peer)?;
    let mut grants = Vec::new();
    for page in &pages {
        grants.push(grant::grant(peer, page.mfn, Access::Write).map_err(failed)?);
    }
    signal(port)?;
    wait(port)?;
    holds("in use", grants.iter().all(Grant::is_used))?;
    signal(port)?;
    crate::stories::smp::wait_until("the end of the mapper", || !grants.iter().any(Grant::is_used))?;
    println!("nobody uses them");
    for (page, grant) in pages.iter().zip(grants) {
        ended(grant)?;
        page.protect()?;
        let pinned = operate(hypercall::mmuext::pin(1, page.mfn));
        holds("no page is held any more", pinned.is_err() || operate(hypercall::mmuext::unpin(page.mfn)).is_ok())?;
    }
    Ok(())
}

/// Maps them in all ways, overwrites some of the entries, and ends.
pub fn holder() -> Told {
    let peer = number("peer")?;
    let tree = Tree::hooked()?;
    let port = joined(peer)?;
    wait(port)?;
    let references: Vec<u32> = (8..8 + PAGES).collect();
    let mapping = map_grants(peer, &references, Access::Write).map_err(failed)?;
    let readers = map_grants(peer, &references, Access::Read).map_err(failed)?;
    let mut request = GnttabMapGrantRef { dom: peer, ..Default::default() };
    for (n, flags) in (0..).zip([DEVICE, DEVICE | READ_ONLY, HOST, HOST | DEVICE, HOST | BY_ENTRY]) {
        request.host_addr =
            if flags & BY_ENTRY == 0 { page_at(u64::from(n) + 1) } else { tree.l1.slot(n as usize + 1) };
        (request.flags, request.gref) = (flags, 8 + n);
        equal("map", op(GNTTABOP_MAP_GRANT_REF, &mut request), Ok(0))?;
        equal("status", request.status, GNTST_OKAY)?;
    }
    for n in [0u64, 2, 7] {
        let at = mapping.address() as u64 + n * PAGE_SIZE;
        equal("overwrite", map(at, 0), Ok(0))?;
    }
    // An ordinary update can't bring it back: the frame is another's.
    let mfn = mapping.machine_address(1).unwrap_or(0) >> 12;
    holds("another's frame", map(page_at(9), mfn << 12 | READ).is_err())?;
    holds("another's frame", set(tree.l1.slot(9), mfn << 12 | WRITE).is_err())?;
    signal(port)?;
    wait(port)?;
    core::mem::forget((mapping, readers));
    Ok(())
}
