//! The live seams: grants and event channels by hypercalls, XenStore by a connection of this domain's.

use super::platform::{Access, MAX_PIECES, Mapped, Piece, Platform};
use crate::contain::indivisible;
use crate::service::{Port, Waker};
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use guest_kernel::grant::{self, End, Mapping};
use guest_kernel::hypercall;
use guest_kernel::memory::{self, Run};
use guest_kernel::paging::PAGE_BYTES;
use log::warn;
use pv_abi::grant::*;

/// Hypercalls, for a service whose ports wake it.
pub struct Calls {
    waker: Waker,
    maps: Vec<GnttabMapGrantRef>,
    unmaps: Vec<GnttabUnmapGrantRef>,
    copies: Vec<GnttabCopy>,
    /// Where pieces are copied to, a page each.
    pages: Run,
}

impl Calls {
    /// Hypercalls for the service with this waker.
    ///
    /// # Errors
    /// When there is no memory for the pieces that are copied.
    pub fn new(waker: Waker) -> Result<Calls, memory::Error> {
        let pages = memory::lock()?.allocate_run(MAX_PIECES)?;
        Ok(Calls { waker, maps: Vec::new(), unmaps: Vec::new(), copies: Vec::new(), pages })
    }
}

/// The pages of a ring, mapped.
pub struct Ring(Mapping);

impl AsRef<[AtomicU32]> for Ring {
    fn as_ref(&self) -> &[AtomicU32] {
        let words = self.0.len() * PAGE_BYTES / 4;
        // SAFETY: the pages are mapped side by side as long as this lives. The other side may write them at any time, as
        // other CPUs write atomics.
        unsafe { core::slice::from_raw_parts(self.0.address().cast::<AtomicU32>(), words) }
    }
}

impl Platform for Calls {
    type Ring = Ring;
    type Port = Port;

    fn ring(&mut self, domain: u16, pages: &[u32]) -> Option<Ring> {
        indivisible(|| grant::map(domain, pages, grant::Access::Write)).ok().map(Ring)
    }

    fn port(&mut self, domain: u16, port: u32) -> Option<Port> {
        indivisible(|| Port::connect(domain, port, &self.waker)).ok()
    }

    fn rang(&mut self, port: &Port) -> bool {
        port.rang()
    }

    fn notify(&mut self, port: &Port) {
        port.notify();
    }

    fn map(&mut self, domain: u16, accesses: &[Access], mapped: &mut Vec<Option<Mapped>>) {
        self.maps.clear();
        self.maps.extend(accesses.iter().map(|access| {
            let read_only = if access.write { GrantMapFlags::empty() } else { GrantMapFlags::READONLY };
            GnttabMapGrantRef {
                flags: (GrantMapFlags::DEVICE_MAP | read_only).bits(),
                gref: access.gref,
                dom: domain,
                status: GNTST_GENERAL_ERROR,
                ..GnttabMapGrantRef::default()
            }
        }));
        // What is held is written down.
        indivisible(|| {
            // SAFETY: nothing is mapped: the pages are held for a device only.
            let called = unsafe { hypercall::grant_map(&mut self.maps) };
            mapped.extend(self.maps.iter().map(|map| {
                let held = called.is_ok() && map.status == GNTST_OKAY;
                held.then_some(Mapped { handle: map.handle, address: map.dev_bus_addr })
            }));
        });
    }

    fn unmap(&mut self, mapped: &[Mapped]) {
        indivisible(|| {
            self.unmaps.clear();
            self.unmaps.extend(mapped.iter().map(|mapped| GnttabUnmapGrantRef {
                handle: mapped.handle,
                dev_bus_addr: mapped.address,
                status: GNTST_GENERAL_ERROR,
                ..GnttabUnmapGrantRef::default()
            }));
            // SAFETY: nothing is mapped there.
            let called = unsafe { hypercall::grant_unmap(&mut self.unmaps) };
            let refused = self.unmaps.iter().filter(|unmap| unmap.status != GNTST_OKAY).count();
            if called.is_err() || refused > 0 {
                warn!("{refused} pages of guests can't be let go: {called:?}");
            }
        });
    }

    fn copy(&mut self, domain: u16, pieces: &[Piece]) {
        let first = self.pages.machine_address() / PAGE_BYTES as u64;
        self.copies.clear();
        self.copies.extend(pieces.iter().zip(first..).map(|(piece, mfn)| {
            let source = End::Grant { domain, reference: piece.gref, offset: 0 };
            let bytes = u16::try_from(piece.bytes).unwrap_or(0);
            grant::copy_request(source, End::Frame { mfn, offset: 0 }, bytes)
        }));
        self.copies.iter_mut().for_each(|copy| copy.status = GNTST_GENERAL_ERROR);
        // SAFETY: the pages are this object's, and nobody reads them now.
        if unsafe { hypercall::grant_copy(&mut self.copies) }.is_err() {
            self.copies.iter_mut().for_each(|copy| copy.status = GNTST_GENERAL_ERROR);
        }
    }

    fn piece(&self, index: usize) -> Option<&[u8]> {
        let copy = self.copies.get(index).filter(|copy| copy.status == GNTST_OKAY)?;
        // SAFETY: the page is one of the run, which is mapped for good, and only `copy` writes there.
        let page = unsafe { self.pages.start().as_ptr().add(index * PAGE_BYTES) };
        // SAFETY: as above; the length is within a page.
        Some(unsafe { core::slice::from_raw_parts(page, usize::from(copy.len)) })
    }
}
