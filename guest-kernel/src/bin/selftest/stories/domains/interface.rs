//! Smaller parts of the control interface: the log, places of CPUs, ports, registers, preferences.

use super::{child, done, info, wait};
use crate::check::{Ending, Told, equal, holds, refused};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use guest_kernel::control::calls;
use guest_kernel::{hypercall, time};
use pv_abi::domctl::CreateDomain;
use pv_abi::errno::Errno;
use pv_abi::sysctl::CpuTopo;
use pv_abi::vcpu::{VcpuContextFlags, VcpuGuestContext};
use zerocopy::FromZeros;

fn failed(what: &str) -> impl Fn(Errno) -> Ending + '_ {
    move |errno| Ending::Fail(format!("{what}: {errno:?}"))
}

/// The hypervisor's log begins with its name, can be read on from anywhere, and gets a line when a child crashes.
pub fn log() -> Told {
    let mut bytes = vec![0; 32 << 10];
    let (count, end) = calls::read_log(None, &mut bytes).map_err(failed("readconsole"))?;
    let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
    holds("the hypervisor's first line", text.contains("INFO  Pavise "))?;
    holds("our own start", text.contains("d0 (control)"))?;
    let (part, next) = calls::read_log(None, &mut bytes[..10]).map_err(failed("readconsole"))?;
    equal("a part", (part, &bytes[..10]), (10, &text.as_bytes()[..10]))?;
    let (rest, _) = calls::read_log(Some(next), &mut bytes).map_err(failed("readconsole"))?;
    holds("the rest", bytes[..rest].starts_with(&text.as_bytes()[10..]))?;

    let id = child("crash-no-handler")?;
    done("unpause", calls::unpause_domain(id))?;
    wait("shut down", id, |info| info.flags & pv_abi::domctl::DomainInfoFlags::SHUTDOWN.bits() != 0)?;
    // It has shut down before the hypervisor says why.
    let crash = format!("d{id}: crashed");
    let mut news = String::new();
    while !news.contains(&crash) {
        time::sleep(10_000_000);
        let (count, _) = calls::read_log(Some(end), &mut bytes).map_err(failed("readconsole"))?;
        news = String::from_utf8_lossy(&bytes[..count]).into_owned();
    }
    holds("nothing from before", !news.contains("INFO  Pavise "))?;
    done("destroy", calls::destroy_domain(id))
}

/// The machine's two CPUs are two cores of one socket.
pub fn topology() -> Told {
    let mut list = [CpuTopo { core: 77, socket: 77, node: 77 }; 4];
    equal("CPUs", calls::cpu_topology(&mut list), Ok(2))?;
    let cpu = |core| CpuTopo { core, socket: 0, node: 0 };
    equal("places", list, [cpu(0), cpu(1), CpuTopo { core: 77, socket: 77, node: 77 }, list[2]])?;
    equal("with room for one", calls::cpu_topology(&mut list[..1]), Ok(1))
}

/// A domain has as many ports as it was created for, and the control domain resets them while it is paused.
pub fn ports() -> Told {
    const HIGHEST: u32 = 5;
    let config = CreateDomain {
        max_vcpus: 1,
        max_evtchn_port: HIGHEST,
        max_grant_frames: -1,
        max_maptrack_frames: -1,
        ..CreateDomain::default()
    };
    let id = calls::create_domain(0, config).map_err(failed("createdomain"))?;
    let fill = || {
        for port in 1..=HIGHEST {
            equal("a port for the child", hypercall::alloc_unbound(id, 0), Ok(port))?;
        }
        equal("one too many", hypercall::alloc_unbound(id, 0), Err(Errno::ENOSPC))
    };
    let reset = || hypercall::reset_ports(id).map(|()| 0);
    fill()?;
    let ours = hypercall::bind_interdomain(id, 2).map_err(failed("bind_interdomain"))?;
    done("resetting one that is paused", reset())?;
    refused("its port", hypercall::bind_interdomain(id, 2).map(u64::from), Errno::EINVAL)?;
    fill()?;
    done("unpause", calls::unpause_domain(id))?;
    refused("resetting one that isn't paused", reset(), Errno::EINVAL)?;
    done("closing ours", hypercall::close_port(ours).map(|()| 0))?;
    done("destroy", calls::destroy_domain(id))?;
    refused("resetting nobody", reset(), Errno::ESRCH)
}

/// Registers of a child that has run are read, changed and read again, those of the FPU too; and it runs on with them.
pub fn registers() -> Told {
    const XMM5: core::ops::Range<usize> = 160 + 5 * 16..160 + 6 * 16;
    const PATTERN: [u8; 16] = *b"not the child's.";
    let id = child("child-busy")?;
    done("unpause", calls::unpause_domain(id))?;
    let ran = wait("ran", id, |info| info.cpu_time > 20_000_000)?;
    done("pause", calls::pause_domain(id))?;
    let new = || VcpuGuestContext::new_box_zeroed().map_err(|_| Ending::Fail("no memory".into()));
    let (mut state, mut again) = (new()?, new()?);
    done("reading the context", calls::read_context(id, 0, &mut state))?;
    holds("it has FPU registers", state.flags & VcpuContextFlags::I387_VALID.bits() != 0)?;
    equal(
        "control word and MXCSR",
        (&state.fpu_ctxt[..2], &state.fpu_ctxt[24..28]),
        (&[0x7f, 3][..], &[0x80, 0x1f, 0, 0][..]),
    )?;
    holds("CR4", state.ctrlreg[4] & 1 << 5 != 0)?;

    let mut other = new()?;
    other.clone_from(&state);
    other.ctrlreg[3] += 4096;
    refused("other tables", calls::set_context(id, 0, &other), Errno::EOPNOTSUPP)?;
    state.fpu_ctxt[XMM5].copy_from_slice(&PATTERN);
    state.user_regs.r15 ^= 0x5151;
    // Of the last entry into the hypervisor, and of no use to a guest.
    (state.user_regs.error_code, state.user_regs.entry_vector) = (0, 0);
    done("changing registers", calls::set_context(id, 0, &state))?;
    done("reading them", calls::read_context(id, 0, &mut again))?;
    equal("r15", again.user_regs.r15, state.user_regs.r15)?;
    equal("xmm5", &again.fpu_ctxt[XMM5], &PATTERN[..])?;
    equal("all registers", again.user_regs, state.user_regs)?;
    holds("all gates", again.trap_ctxt == state.trap_ctxt)?;

    done("unpause", calls::unpause_domain(id))?;
    wait("ran on", id, |info| info.cpu_time > ran.cpu_time + 50_000_000)?;
    done("pause", calls::pause_domain(id))?;
    done("reading the context", calls::read_context(id, 0, &mut again))?;
    equal("xmm5 after it ran", &again.fpu_ctxt[XMM5], &PATTERN[..])?;
    holds("it lives", info(id)?.flags & pv_abi::domctl::DomainInfoFlags::SHUTDOWN.bits() == 0)?;
    done("destroy", calls::destroy_domain(id))
}

/// CPUs that a vCPU is to prefer are remembered, and don't change where it may run.
pub fn soft_affinity() -> Told {
    let id = child("child-busy")?;
    equal("at first", calls::soft_affinity(id, 0), Ok(0b11))?;
    equal("the first CPU", calls::set_soft_affinity(id, 0, 0b01), Ok(0b01))?;
    equal("when asked", calls::soft_affinity(id, 0), Ok(0b01))?;
    equal("where it may run", calls::affinity(id, 0), Ok(0b11))?;
    equal("only on the other", calls::set_affinity(id, 0, 0b10), Ok(0b10))?;
    equal("then there is none", calls::soft_affinity(id, 0), Ok(0))?;
    done("unpause", calls::unpause_domain(id))?;
    wait("ran", id, |info| info.cpu_time > 0)?;
    time::sleep(20_000_000);
    equal("its CPU", calls::vcpu_info(id, 0).map(|info| info.cpu), Ok(1))?;
    done("destroy", calls::destroy_domain(id))
}
