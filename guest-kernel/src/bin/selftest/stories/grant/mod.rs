//! Grant tables. A domain may grant to itself: so one domain can tell of both sides, on Xen too.

pub mod attack;
pub mod calls;
pub mod copies;
pub mod library;
pub mod maps;
pub mod pair;
pub mod refusals;
pub mod unmaps;

use crate::check::{Ending, Told, equal};
use crate::stories::event::refusal;
use crate::stories::mmu::ground::*;
use alloc::format;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_kernel::grant::{self, Access, Grant};
use guest_kernel::hypercall::{self, Answer, grant_table_op};
use guest_kernel::paging::PAGE_SIZE;
use pv_abi::domid::DOMID_SELF;
use pv_abi::grant::*;

/// A domain that isn't there.
pub const STRANGER: u16 = 0x7000;

pub const HOST: u32 = GrantMapFlags::HOST_MAP.bits();
pub const DEVICE: u32 = GrantMapFlags::DEVICE_MAP.bits();
pub const READ_ONLY: u32 = GrantMapFlags::READONLY.bits();
pub const BY_ENTRY: u32 = GrantMapFlags::CONTAINS_PTE.bits();

/// The domain's own number: the hypervisor tells it where a port waits for the domain itself.
pub fn own_id() -> Result<u16, Ending> {
    let port = hypercall::alloc_unbound(DOMID_SELF, DOMID_SELF).map_err(refusal)?;
    let status = hypercall::port_status(port).map_err(refusal)?;
    hypercall::close_port(port).map_err(refusal)?;
    u16::try_from(status.detail).map_err(|_| Ending::Fail("no number".into()))
}

/// One request.
pub fn op<T>(command: u32, request: &mut T) -> Answer {
    // SAFETY: stories pair command and structure as the header does, and map and copy where Rust has nothing.
    unsafe { grant_table_op(command, core::slice::from_mut(request)) }
}

/// Maps a grant of this domain's; status, handle and device address.
pub fn map_at(host_addr: u64, flags: u32, gref: u32) -> Result<GnttabMapGrantRef, Ending> {
    let mut request = GnttabMapGrantRef { host_addr, flags, gref, dom: own_id()?, status: 77, ..Default::default() };
    op(GNTTABOP_MAP_GRANT_REF, &mut request).map_err(refusal)?;
    Ok(request)
}

/// A mapping that must be made; its handle.
pub fn mapped(host_addr: u64, flags: u32, gref: u32) -> Result<u32, Ending> {
    let done = map_at(host_addr, flags, gref)?;
    equal(&format!("map {gref} with flags {flags:#x}"), done.status, GNTST_OKAY)?;
    Ok(done.handle)
}

/// The status of a mapping.
pub fn map_status(host_addr: u64, flags: u32, gref: u32) -> Result<i16, Ending> {
    map_at(host_addr, flags, gref).map(|done| done.status)
}

/// The status of ending a mapping.
pub fn unmap(host_addr: u64, dev_bus_addr: u64, handle: u32) -> Result<i16, Ending> {
    let mut request = GnttabUnmapGrantRef { host_addr, dev_bus_addr, handle, status: 77, ..Default::default() };
    op(GNTTABOP_UNMAP_GRANT_REF, &mut request).map_err(refusal)?;
    Ok(request.status)
}

/// A host mapping that must end.
pub fn unmapped(host_addr: u64, handle: u32) -> Told {
    equal("unmap", unmap(host_addr, 0, handle)?, GNTST_OKAY)
}

/// What should not have failed in the library.
pub fn failed(error: grant::Error) -> Ending {
    Ending::Fail(format!("grants: {error:?}"))
}

/// A page of this domain's, granted to itself.
pub fn granted(page: Page, access: Access) -> Result<Grant, Ending> {
    grant::grant(own_id()?, page.mfn, access).map_err(failed)
}

/// The entry of a reference.
pub fn entry(reference: u32) -> Result<&'static AtomicU64, Ending> {
    let entry = grant::table_entry(reference).map_err(failed)?;
    entry.ok_or_else(|| Ending::Fail(format!("no entry {reference}")))
}

/// The flags of a grant in use.
pub fn flags(grant: &Grant) -> Result<u16, Ending> {
    Ok((entry(grant.reference())?.load(SeqCst) & 0xffff) as u16)
}

/// A grant that must end.
pub fn ended(grant: Grant) -> Told {
    grant.end().or_else(|grant| crate::check::fail(&format!("grant {} is in use", grant.reference())))
}

/// The address of a page of the window.
pub const fn page_at(index: u64) -> u64 {
    WINDOW + index * PAGE_SIZE
}

/// A page with a word of its own at the start of each line.
pub fn patterned(seed: u64) -> Page {
    let page = Page::new();
    (0..512).for_each(|index| page.write(index, seed << 32 | index as u64));
    page
}
