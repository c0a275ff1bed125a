//! Grants, of this domain to itself: what a back end pays for a page.

use crate::meter::{Effort, Measured};
use crate::scratch::Pages;
use guest_kernel::grant::{self, Access, End, Grant, copy_request};
use guest_kernel::hypercall::{self, grant_table_op};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::grant::{
    GNTTABOP_COPY, GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GnttabMapGrantRef, GnttabUnmapGrantRef,
    GrantMapFlags,
};

static PAGES: Pages<2> = Pages::new();

/// A page is mapped for writing by its grant, and unmapped.
pub fn map_unmap(effort: Effort) -> Measured {
    let (dom, grant) = granted(0)?;
    let host_addr = PAGES.page(1).address;
    let flags = GrantMapFlags::HOST_MAP.bits();
    let mut map = GnttabMapGrantRef { host_addr, flags, gref: grant.reference(), dom, ..Default::default() };
    let mut unmap = GnttabUnmapGrantRef { host_addr, ..Default::default() };
    let measured = effort.count(1, || {
        let mapped = op(GNTTABOP_MAP_GRANT_REF, &mut map);
        unmap.handle = map.handle;
        let unmapped = op(GNTTABOP_UNMAP_GRANT_REF, &mut unmap);
        mapped | unmapped | i64::from(map.status) | i64::from(unmap.status)
    });
    end(grant)?;
    measured
}

/// 4 KiB are copied from a granted page to one of the domain's own.
pub fn copy_page(effort: Effort) -> Measured {
    let (domain, grant) = granted(0)?;
    let source = End::Grant { domain, reference: grant.reference(), offset: 0 };
    let dest = End::Frame { mfn: PAGES.page(1).frame, offset: 0 };
    let mut request = copy_request(source, dest, 4096);
    let measured = effort.count(1, || op(GNTTABOP_COPY, &mut request) | i64::from(request.status));
    end(grant)?;
    measured
}

/// The domain's number, which a port that waits for itself tells, and a page that it granted to itself.
fn granted(page: usize) -> Result<(u16, Grant), Errno> {
    let port = hypercall::alloc_unbound(DOMID_SELF, DOMID_SELF)?;
    let domain = u16::try_from(hypercall::port_status(port)?.detail).map_err(|_| Errno::EINVAL)?;
    hypercall::close_port(port)?;
    let grant = grant::grant(domain, PAGES.page(page).frame, Access::Write).map_err(|_| Errno::ENOMEM)?;
    Ok((domain, grant))
}

fn end(grant: Grant) -> Result<(), Errno> {
    grant.end().map_err(|_| Errno::EBUSY)
}

fn op<T>(command: u32, request: &mut T) -> i64 {
    // SAFETY: what is mapped and copied to are `PAGES`, which hold nothing.
    match unsafe { grant_table_op(command, core::slice::from_mut(request)) } {
        Ok(_) => 0,
        Err(errno) => errno.code(),
    }
}
