//! Control over other domains. The control domain's ramdisk is this kernel's own ELF file, and so its children tell stories
//! too.

pub mod child;
pub mod endings;
pub mod foreign;
pub mod interface;
pub mod life;
pub mod many;
pub mod refusals;
pub mod shares;

use crate::check::{Ending, Told, fail, holds};
use alloc::format;
use guest_kernel::control::{self, New, calls};
use guest_kernel::time;
use pv_abi::domctl::GetDomainInfo;

/// Memory of a child: 5 MiB.
pub const PAGES: u64 = 1280;

/// Builds a paused child of 5 MiB that will tell `story`; its number.
pub fn child(story: &str) -> Result<u16, Ending> {
    let module = control::module().map_err(|error| Ending::Fail(format!("the memory: {error}")))?;
    let Some(kernel) = module else { return Err(Ending::Skip("there is no ramdisk".into())) };
    let command_line = format!("story={story}");
    let (command_line, handle) = (&*command_line, [0; 16]);
    control::create(&New { kernel, ramdisk: &[], command_line, pages: PAGES, vcpus: 1, handle })
        .map(|created| created.id)
        .map_err(|error| Ending::Fail(format!("creating a child: {error}")))
}

/// What there is to tell of a domain; it must be there.
pub fn info(id: u16) -> Result<GetDomainInfo, Ending> {
    match calls::domain_info(id) {
        Ok(info) if info.domain == id => Ok(info),
        other => Err(Ending::Fail(format!("domain {id}: {other:x?}"))),
    }
}

/// Waits until a domain is as asked.
pub fn wait(what: &str, id: u16, is: impl Fn(&GetDomainInfo) -> bool) -> Result<GetDomainInfo, Ending> {
    const TRIES: u32 = 6000;
    for _ in 0..TRIES {
        let info = info(id)?;
        if is(&info) {
            return Ok(info);
        }
        time::sleep(10_000_000);
    }
    fail(&format!("domain {id} never {what}: {:x?}", info(id)?)).map(|()| GetDomainInfo::default())
}

/// Free pages of the machine.
pub fn free_pages() -> Result<u64, Ending> {
    calls::physical_info().map(|info| info.free_pages).map_err(|errno| Ending::Fail(format!("physinfo: {errno:?}")))
}

/// Ends the story unless as many pages are free as were before, or so many less as the hypervisor's heap grows by at a time.
/// It does so when several CPUs have something there at once that they had one after the other before.
pub fn came_back(what: &str, before: u64, now: u64) -> Told {
    const STEP: u64 = 16;
    holds(&format!("free pages after {what}: {now}, before: {before}"), now == before || now + STEP == before)
}

/// A call that must succeed.
pub fn done(what: &str, answer: guest_kernel::hypercall::Answer) -> Told {
    answer.map(drop).or_else(|errno| fail(&format!("{what}: {errno:?}")))
}
