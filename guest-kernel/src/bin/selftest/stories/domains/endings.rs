//! The virtual interrupt that tells the control domain of ends.

use super::{child, done, info};
use crate::check::{Ending, Told, equal, holds};
use crate::stories::smp::wait_until;
use alloc::format;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_kernel::control::calls;
use guest_kernel::control::foreign::Foreign;
use guest_kernel::{event, hypercall, time};
use pv_abi::domctl::{CreateDomain, DomainInfoFlags};
use pv_abi::errno::Errno;
use pv_abi::event::VIRQ_DOM_EXC;

static TOLD: AtomicU32 = AtomicU32::new(0);

/// The interrupt came, since this was last asked. If it didn't, it has a minute to come. It may come twice: by the CPU that took
/// the last of a domain apart, and by the call that waited for that.
fn told(what: &str) -> Told {
    wait_until(&format!("the interrupt when {what}"), || TOLD.load(SeqCst) > 0)?;
    time::sleep(50_000_000);
    TOLD.store(0, SeqCst);
    Ok(())
}

/// None came since it was last asked.
fn silent(what: &str) -> Told {
    time::sleep(20_000_000);
    equal(&format!("interrupts when {what}"), TOLD.swap(0, SeqCst), 0)
}

/// It comes when a child shuts down, when it crashes, when it is destroyed, and when the last of its frames goes that was
/// mapped yet; and not otherwise. The domain is then what the interrupt says.
pub fn told_of_ends() -> Told {
    let port = event::init()
        .and_then(|()| event::bind_virq(VIRQ_DOM_EXC, 0, |_| _ = TOLD.fetch_add(1, SeqCst)))
        .map_err(|errno| Ending::Fail(format!("bind_virq: {errno:?}")))?;
    event::enable();
    let shut_down = DomainInfoFlags::SHUTDOWN.bits();
    for story in ["shutdown-poweroff", "shutdown-reboot", "crash-no-handler"] {
        let id = child(story)?;
        silent("a child was made")?;
        done("unpause", calls::unpause_domain(id))?;
        told(&format!("{story} was told"))?;
        holds("it has shut down", info(id)?.flags & shut_down != 0)?;
        silent("nothing happened")?;
        done("destroy", calls::destroy_domain(id))?;
        told(&format!("the child of {story} was destroyed"))?;
    }
    // One that runs.
    let id = child("child-busy")?;
    done("unpause", calls::unpause_domain(id))?;
    done("pause", calls::pause_domain(id))?;
    done("unpause", calls::unpause_domain(id))?;
    silent("a child ran and was paused")?;
    done("destroy", calls::destroy_domain(id))?;
    told("a running child was destroyed")?;

    let config =
        CreateDomain { max_vcpus: 1, max_grant_frames: -1, max_maptrack_frames: -1, ..CreateDomain::default() };
    let id = calls::create_domain(0, config).map_err(|errno| Ending::Fail(format!("createdomain: {errno:?}")))?;
    done("max_mem", calls::set_max_pages(id, 1))?;
    let mut frames = [0];
    equal("extents", calls::populate(id, &mut frames, 0), Ok(1))?;
    let mapping = Foreign::map(id, &frames).map_err(|error| Ending::Fail(format!("a mapping: {error}")))?;
    done("destroy", calls::destroy_domain(id))?;
    told("a domain died")?;
    holds("it is dying", info(id)?.flags & DomainInfoFlags::DYING.bits() != 0)?;
    silent("it stayed")?;
    drop(mapping);
    told("it went")?;
    equal("the domain", calls::domain_info(id).map(|info| info.domain == id), Err(Errno::ESRCH))?;

    // One that waits for the interrupt is woken.
    let id = child("shutdown-poweroff")?;
    event::disable();
    done("unpause", calls::unpause_domain(id))?;
    while TOLD.load(SeqCst) == 0 {
        done("block", hypercall::block())?;
        event::disable();
    }
    event::enable();
    done("destroy", calls::destroy_domain(id))?;
    done("close", event::close(port).map(|()| 0))
}
