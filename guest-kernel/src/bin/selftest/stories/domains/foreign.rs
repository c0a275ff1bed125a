//! Frames of another domain, and what becomes of them when it ends.

use super::{came_back, done, free_pages, info};
use crate::check::{Ending, Told, equal, fail, holds, refused};
use alloc::format;
use guest_kernel::control::calls;
use guest_kernel::control::foreign::Foreign;
use guest_kernel::hypercall::{Owner, mmuext, mmuext_op};
use guest_kernel::memory;
use pv_abi::domctl::{CreateDomain, DomainInfoFlags};
use pv_abi::errno::Errno;

/// A domain with a few frames.
fn domain_with(frames: &mut [u64]) -> Result<u16, Ending> {
    let config =
        CreateDomain { max_vcpus: 1, max_grant_frames: -1, max_maptrack_frames: -1, ..CreateDomain::default() };
    let id = calls::create_domain(0, config).map_err(|errno| Ending::Fail(format!("createdomain: {errno:?}")))?;
    done("max_mem", calls::set_max_pages(id, frames.len() as u64))?;
    equal("extents", calls::populate(id, frames, 0), Ok(frames.len() as u64))?;
    Ok(id)
}

fn open(id: u16, frame: u64) -> Result<Foreign, Ending> {
    Foreign::map(id, &[frame]).map_err(|error| Ending::Fail(format!("a mapping of domain {id}: {error}")))
}

/// A frame that is mapped stays what it is when its domain ends, and the domain stays as dying; both go with the mapping.
pub fn outlives_its_domain() -> Told {
    let mut free = None;
    for round in 0..3 {
        let mut frames = [0, 1, 2, 3];
        let id = domain_with(&mut frames)?;
        let mut window = open(id, frames[1])?;
        equal("a new frame's first word", window.word(0), 0)?;
        window.write(0, &0x5151_5151_u64.to_le_bytes());
        done("destroy", calls::destroy_domain(id))?;
        let dying = info(id)?;
        holds("dying, and mapped yet", dying.flags & DomainInfoFlags::DYING.bits() != 0)?;
        equal("what was written", window.word(0), 0x5151_5151)?;
        done("destroying a dying one", calls::destroy_domain(id))?;
        drop(window);
        refused("the domain", calls::destroy_domain(id), Errno::ESRCH)?;
        let now = free_pages()?;
        if round > 0 {
            came_back("a round", *free.get_or_insert(now), now)?;
        }
    }
    Ok(())
}

/// A frame that is mapped writable can't become a table of its domain, and no frame of anybody else is taken in a domain's
/// name.
pub fn rules() -> Told {
    let mut frames = [0, 1];
    let id = domain_with(&mut frames)?;
    let mut other_frames = [0];
    let other = domain_with(&mut other_frames)?;
    let pin = |owner, frame| {
        // SAFETY: no frame of ours is touched.
        unsafe { mmuext_op(&[mmuext::pin(1, frame)], None, Owner { pages: owner, tables: None }) }
    };
    let window = open(id, frames[0])?;
    holds("pinning a frame that is mapped writable", pin(id, frames[0]).is_err())?;
    drop(window);
    done("pinning it then", pin(id, frames[0]))?;
    if Foreign::map(id, &[frames[0]]).is_ok() {
        fail("a table was mapped writable")?;
    }
    holds(
        "a frame of another domain",
        pin(id, other_frames[0]).is_err() && Foreign::map(id, &[other_frames[0]]).is_err(),
    )?;
    holds(
        "a domain that isn't there",
        Foreign::map(id + 100, &[frames[1]]).err() == Some(memory::Error::Refused(Errno::ESRCH)),
    )?;
    done("destroy", calls::destroy_domain(id))?;
    done("destroy", calls::destroy_domain(other))
}
