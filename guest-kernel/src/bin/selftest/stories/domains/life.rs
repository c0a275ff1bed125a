//! One child from its creation to its end.

use super::{PAGES, came_back, child, done, free_pages, info, wait};
use crate::check::{Told, equal, holds, refused};
use alloc::format;
use guest_kernel::control::calls;
use guest_kernel::{println, time};
use pv_abi::domctl::{DomainInfoFlags, GetDomainInfo, XEN_DOMINF_SHUTDOWNSHIFT};
use pv_abi::errno::Errno;
use pv_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_WATCHDOG};
use pv_abi::vcpu::{VcpuContextFlags, VcpuGuestContext};
use zerocopy::FromZeros;

fn has(info: &GetDomainInfo, flag: DomainInfoFlags) -> bool {
    info.flags & flag.bits() == flag.bits()
}

/// A child is built, runs, shuts down with its reason and stays until it is destroyed; and nothing is lost.
pub fn from_create_to_destroy() -> Told {
    let endings = [
        ("shutdown-poweroff", SHUTDOWN_POWEROFF),
        ("shutdown-reboot", SHUTDOWN_REBOOT),
        ("shutdown-watchdog", SHUTDOWN_WATCHDOG),
        ("shutdown-crash", SHUTDOWN_CRASH),
        ("crash-no-handler", SHUTDOWN_CRASH),
    ];
    // The first child makes the hypervisor's heap and ours grow.
    let mut free = None;
    for (story, reason) in endings {
        let id = child(story)?;
        let new = info(id)?;
        equal("pages", (new.tot_pages, new.max_pages), (PAGES, PAGES))?;
        holds("paused and not shut down", has(&new, DomainInfoFlags::PAUSED) && !has(&new, DomainInfoFlags::SHUTDOWN))?;
        equal("vCPUs", (new.nr_online_vcpus, new.max_vcpu_id, new.cpu_time), (1, 0, 0))?;
        done("unpause", calls::unpause_domain(id))?;
        let end = wait("shut down", id, |info| has(info, DomainInfoFlags::SHUTDOWN))?;
        equal("reason", end.flags >> XEN_DOMINF_SHUTDOWNSHIFT & 0xff, reason)?;
        equal("pages of one that has shut down", end.tot_pages, PAGES)?;
        holds("time on a CPU", end.cpu_time > 0)?;
        done("destroy", calls::destroy_domain(id))?;
        refused("destroying it again", calls::destroy_domain(id), Errno::ESRCH)?;
        let now = free_pages()?;
        came_back(story, *free.get_or_insert(now), now)?;
        println!("{story}: reason {reason}, {now} pages free");
    }
    Ok(())
}

/// A paused child doesn't run, however often it was paused, and its state can be read.
pub fn pauses() -> Told {
    let id = child("child-busy")?;
    refused("a second context", calls::set_context(id, 0, &context()), Errno::EOPNOTSUPP)?;
    done("unpause", calls::unpause_domain(id))?;
    refused("unpausing one that isn't paused", calls::unpause_domain(id), Errno::EINVAL)?;
    for round in 0..3 {
        let before = wait("ran", id, |info| info.cpu_time > 0)?.cpu_time;
        wait("ran on", id, |info| info.cpu_time > before)?;
        done("pause", calls::pause_domain(id))?;
        done("a second pause", calls::pause_domain(id))?;
        let mut state = context();
        done("reading the context", calls::read_context(id, 0, &mut state))?;
        holds("in kernel mode, and up", {
            let flags = VcpuContextFlags::IN_KERNEL | VcpuContextFlags::ONLINE;
            state.flags & flags.bits() == flags.bits()
        })?;
        holds("its code", state.user_regs.rip >= 0xffff_ffff_8010_0000 && state.ctrlreg[3] != 0)?;
        let stopped = info(id)?;
        holds("paused", has(&stopped, DomainInfoFlags::PAUSED) && !has(&stopped, DomainInfoFlags::RUNNING))?;
        time::sleep(50_000_000);
        equal("time on a CPU while paused", info(id)?.cpu_time, stopped.cpu_time)?;
        done("unpause", calls::unpause_domain(id))?;
        time::sleep(50_000_000);
        equal("time on a CPU while paused once", info(id)?.cpu_time, stopped.cpu_time)?;
        done("the last unpause", calls::unpause_domain(id))?;
        wait(&format!("ran again in round {round}"), id, |info| info.cpu_time > stopped.cpu_time)?;
    }
    // It runs when it is ended.
    done("destroy", calls::destroy_domain(id))
}

fn context() -> alloc::boxed::Box<VcpuGuestContext> {
    VcpuGuestContext::new_box_zeroed().unwrap_or_else(|_| unreachable!("the heap has some KiB"))
}
