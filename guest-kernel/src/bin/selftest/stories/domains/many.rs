//! Many children at once.

use super::{PAGES, came_back, child, done, free_pages, info, wait};
use crate::check::{Ending, Told, equal};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use guest_kernel::control::calls;
use guest_kernel::{println, time};
use pv_abi::domctl::{DomainInfoFlags, GetDomainInfo};

/// How many.
const COUNT: usize = 100;

/// A hundred children of 5 MiB are there at once, each runs, and all are destroyed; three times, and the third leaves as much
/// free as the second. Before that the hypervisor's heap has grown to what it takes, or nearly so.
pub fn hundred() -> Told {
    let mut free = Vec::new();
    for round in 1..=3 {
        let started = time::now().unwrap_or(0);
        let children: Vec<u16> = (0..COUNT).map(|_| child("child-sleeper")).collect::<Result<_, _>>()?;
        children.iter().try_for_each(|&id| done("unpause", calls::unpause_domain(id)))?;
        for &id in &children {
            wait("ran", id, |info| info.cpu_time > 0)?;
        }
        let mut list = vec![GetDomainInfo::default(); COUNT + 8];
        let listed = calls::domain_list(1, &mut list).map_err(|errno| Ending::Fail(format!("the list: {errno:?}")))?;
        let alive = list[..listed].iter().filter(|info| {
            let gone = DomainInfoFlags::SHUTDOWN | DomainInfoFlags::DYING | DomainInfoFlags::PAUSED;
            children.contains(&info.domain)
                && info.flags & gone.bits() == 0
                && info.tot_pages == PAGES
                && info.cpu_time > 0
        });
        equal("children that run at once", alive.count(), COUNT)?;
        let with = free_pages()?;
        children.iter().try_for_each(|&id| done("destroy", calls::destroy_domain(id)))?;
        equal("domains from 1 up", calls::domain_list(1, &mut list), Ok(0))?;
        free.push(free_pages()?);
        let took = (time::now().unwrap_or(0) - started) / 1_000_000;
        println!("round {round}: {took} ms, {with} pages free with {COUNT} children, {} without", free[free.len() - 1]);
        info(0)?;
    }
    came_back("the third round", free[1], free[2])
}
