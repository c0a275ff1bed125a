//! Mappings of other domains' frames, in a window of kernel addresses.
//!
//! What is mapped may change at any moment, whatever the access: a front end writes it as it likes. So there are no
//! references to it, only addresses.

use super::pages::Pages;
use super::{Access, Error, WINDOW};
use crate::hypercall;
use crate::memory;
use crate::paging::PAGE_SIZE;
use crate::sync::{Mutex, Once};
use alloc::vec::Vec;
use core::ops::Range;
use pv_abi::grant::{GNTST_GENERAL_ERROR, GNTST_OKAY, GnttabMapGrantRef, GnttabUnmapGrantRef, GrantMapFlags};

/// Pages that can be mapped at the same time: 64 MiB.
const PAGES: usize = 16_384;

static FREE: Once<Result<Mutex<Pages>, memory::Error>> = Once::new();

/// Frames of a domain, mapped side by side until this is dropped.
#[derive(Debug)]
#[must_use = "what is mapped stays so until this is dropped"]
pub struct Mapping {
    first: usize,
    /// For each page its handle and its machine address.
    pages: Vec<(u32, u64)>,
}

/// Maps grants of `domain`, one page each, in this order.
///
/// # Errors
/// The first refusal; then nothing is mapped.
pub fn map(domain: u16, references: &[u32], access: Access) -> Result<Mapping, Error> {
    let mut mapping = None;
    map_list([(domain, references, access)], |mapped| mapping = Some(mapped))?;
    mapping.ok_or(Error::Full)
}

/// [`map`] for several mappings at once, with one call. `each` gets them in their order.
///
/// # Errors
/// The first refusal, with its place among all references of the list; then nothing is mapped.
pub fn map_list<'a>(
    list: impl IntoIterator<Item = (u16, &'a [u32], Access)>,
    mut each: impl FnMut(Mapping),
) -> Result<(), Error> {
    let free = window()?;
    let mut runs = Vec::new();
    let mut requests = Vec::new();
    for (domain, references, access) in list {
        let Some(first) = free.lock().take(references.len()) else {
            runs.into_iter().for_each(give_back);
            return Err(Error::Full);
        };
        requests.extend((first..).zip(references).map(|(page, &gref)| request(page, domain, gref, access)));
        runs.push(first..first + references.len());
    }
    // SAFETY: the addresses are the window's, where nothing lives, and nobody else has them.
    let called = unsafe { hypercall::grant_map(&mut requests) };
    let refused = requests.iter().position(|request| request.status != GNTST_OKAY);
    if called.is_err() || refused.is_some() {
        let mapped = requests.iter().filter(|request| request.status == GNTST_OKAY);
        if unmap(mapped.map(|request| (request.host_addr, request.handle)).collect()) {
            runs.into_iter().for_each(give_back);
        }
        called?;
        let index = refused.unwrap_or(0);
        return Err(Error::Status(index, requests[index].status));
    }
    let mut requests = requests.iter();
    for run in runs {
        let pages = requests.by_ref().take(run.len()).map(|request| (request.handle, request.dev_bus_addr));
        each(Mapping { first: run.start, pages: pages.collect() });
    }
    Ok(())
}

impl Mapping {
    /// The address of the first page.
    pub const fn address(&self) -> *mut u8 {
        address(self.first) as *mut u8
    }

    /// Its pages.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The machine address of a page, for devices.
    pub fn machine_address(&self, page: usize) -> Option<u64> {
        self.pages.get(page).map(|(_, address)| *address)
    }

    /// The hypervisor's handle for a page.
    pub fn handle(&self, page: usize) -> Option<u32> {
        self.pages.get(page).map(|(handle, _)| *handle)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        unmap_all(core::slice::from_mut(self));
    }
}

/// Unmaps several mappings with one call, and one flush of TLBs for 32 pages: cheaper than to drop them one by one.
pub fn unmap_list(mut mappings: Vec<Mapping>) {
    unmap_all(&mut mappings);
}

/// Unmaps what is mapped; then there are no pages left to be unmapped when it is dropped.
fn unmap_all(mappings: &mut [Mapping]) {
    let mut pages = Vec::with_capacity(mappings.iter().map(Mapping::len).sum());
    for Mapping { first, pages: mapped } in &*mappings {
        pages.extend((*first..).zip(mapped).map(|(page, (handle, _))| (address(page), *handle)));
    }
    // Pages that would not be unmapped are lost: nobody must find them in the way.
    let unmapped = unmap(pages);
    for Mapping { first, pages } in mappings {
        if unmapped {
            give_back(*first..*first + pages.len());
        }
        pages.clear();
    }
}

/// Unmaps pages by address and handle; whether all of them are.
fn unmap(pages: Vec<(u64, u32)>) -> bool {
    if pages.is_empty() {
        return true;
    }
    let request = |(host_addr, handle)| GnttabUnmapGrantRef {
        host_addr,
        handle,
        status: GNTST_GENERAL_ERROR,
        ..GnttabUnmapGrantRef::default()
    };
    let mut requests: Vec<_> = pages.into_iter().map(request).collect();
    // SAFETY: the pages are the window's, and whoever had them does no longer.
    let called = unsafe { hypercall::grant_unmap(&mut requests) };
    called.is_ok() && requests.iter().all(|request| request.status == GNTST_OKAY)
}

fn request(page: usize, dom: u16, gref: u32, access: Access) -> GnttabMapGrantRef {
    let read_only = match access {
        Access::Read => GrantMapFlags::READONLY,
        Access::Write => GrantMapFlags::empty(),
    };
    GnttabMapGrantRef {
        host_addr: address(page),
        flags: (GrantMapFlags::HOST_MAP | read_only).bits(),
        gref,
        dom,
        status: GNTST_GENERAL_ERROR,
        ..GnttabMapGrantRef::default()
    }
}

/// The address of a page of the window.
const fn address(page: usize) -> u64 {
    WINDOW + page as u64 * PAGE_SIZE
}

fn give_back(pages: Range<usize>) {
    if let Ok(free) = window() {
        free.lock().give_back(pages.start, pages.len());
    }
}

/// Which pages are free. The first who asks makes the window's page tables.
fn window() -> Result<&'static Mutex<Pages>, Error> {
    let make = || {
        memory::lock()?.make_tables(WINDOW..address(PAGES))?;
        Ok(Mutex::new(Pages::new(PAGES)))
    };
    FREE.call_once(make).as_ref().map_err(|error| Error::Memory(*error))
}
