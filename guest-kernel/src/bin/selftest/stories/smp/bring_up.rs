//! Starting vCPUs.

use super::{start_all, vcpus, wait_until};
use crate::check::{NON_CANONICAL, Told, call, equal, holds, refused, refuses_bad_pointers, skip};
use crate::stories::event::refusal;
use crate::stories::mmu::ground::Page;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_kernel::{event, hypercall, probe, shared, smp, vcpu};
use pv_abi::errno::Errno;
use pv_abi::hypercall::VCPU_OP;
use pv_abi::vcpu::{VCPUOP_INITIALISE, VcpuGuestContext};

/// A vCPU that no domain has.
const NOBODY: u32 = 8191;

/// Each vCPU runs, knows who it is, and has the kernel's page tables.
pub fn start() -> Told {
    let count = start_all()?;
    equal("numbers", smp::everywhere(count, |_| vcpu::current()), (0..count).collect::<Vec<_>>())?;
    let roots = smp::everywhere(count, |_| probe::cr3());
    holds("page tables", roots.iter().all(|root| *root == roots[0]))?;
    let addresses = smp::everywhere(count, |id| {
        let address = 0x10_0000 + u64::from(id) * 0x1000;
        let caught = probe::read(address).err().map(|caught| caught.vector);
        (caught, shared::fault_address().map(|fault| fault - address))
    });
    equal("page faults of each", addresses, (0..count).map(|_| (Some(14), Some(0))).collect())
}

/// Who is up.
pub fn is_up() -> Told {
    equal("the first", hypercall::vcpu_is_up(0), Ok(1))?;
    for id in 1..vcpus() {
        equal("one that never ran", hypercall::vcpu_is_up(id), Ok(0))?;
        refused("up before it has a state", hypercall::vcpu_up(id), Errno::EINVAL)?;
        equal("down what is down", hypercall::vcpu_down(id), Ok(0))?;
    }
    for id in [vcpu::count(), NOBODY, u32::MAX] {
        refused("nobody is up", hypercall::vcpu_is_up(id), Errno::ENOENT)?;
        refused("nobody goes up", hypercall::vcpu_up(id), Errno::ENOENT)?;
        refused("nobody goes down", hypercall::vcpu_down(id), Errno::ENOENT)?;
    }
    for id in 1..start_all()? {
        equal("one that runs", hypercall::vcpu_is_up(id), Ok(1))?;
        equal("up what is up", hypercall::vcpu_up(id), Ok(0))?;
    }
    for command in [16, 99, u64::from(u32::MAX)] {
        refused("unknown operation", call(VCPU_OP, [command, 0, 0]), Errno::ENOSYS)?;
    }
    Ok(())
}

fn idle(_id: u32) -> ! {
    loop {
        let _ = hypercall::block();
    }
}

fn initialise(id: u32, context: &VcpuGuestContext) -> hypercall::Answer {
    // SAFETY: a vCPU that could start with a state from here has a stack, and does nothing.
    unsafe { hypercall::vcpu_initialise(id, context) }
}

/// First states that no guest may have; a good one, and it is the only one.
pub fn refusals() -> Told {
    if vcpus() < 2 {
        return skip("one vCPU");
    }
    event::init().map_err(refusal)?;
    vcpu::map_stack(1).map_err(|error| crate::check::Ending::Fail(alloc::format!("{error}")))?;
    let good = vcpu::context(1, idle);
    let plain = Page::new();
    let spoilt = |what: &str, spoil: &dyn Fn(&mut VcpuGuestContext)| {
        let mut context = vcpu::context(1, idle);
        spoil(&mut context);
        refused(what, initialise(1, &context), Errno::EINVAL)
    };
    spoilt("event callback off the map", &|context| context.event_callback_eip = NON_CANONICAL)?;
    spoilt("failsafe callback off the map", &|context| context.failsafe_callback_eip = 1 << 63)?;
    spoilt("handler off the map", &|context| context.trap_ctxt[14].address = NON_CANONICAL)?;
    spoilt("GS off the map", &|context| context.gs_base_kernel = NON_CANONICAL)?;
    spoilt("too large a GDT", &|context| context.gdt_ents = 7169)?;
    spoilt("too large an LDT", &|context| context.ldt_ents = 8193)?;
    spoilt("no root", &|context| context.ctrlreg[3] = 1 << 50)?;
    spoilt("a root that isn't one", &|context| context.ctrlreg[3] = plain.mfn << 12)?;
    refused("no such vCPU", initialise(NOBODY, &good), Errno::ENOENT)?;
    refuses_bad_pointers("state", |pointer| call(VCPU_OP, [VCPUOP_INITIALISE.into(), 1, pointer]))?;

    refused("up after refusals", hypercall::vcpu_up(1), Errno::EINVAL)?;
    equal("a good state", initialise(1, &good), Ok(0))?;
    equal("not up yet", hypercall::vcpu_is_up(1), Ok(0))?;
    refused("another", initialise(1, &good), Errno::EEXIST)?;
    refused("the first vCPU has one", initialise(0, &good), Errno::EEXIST)?;
    equal("up", hypercall::vcpu_up(1), Ok(0))?;
    equal("is up", hypercall::vcpu_is_up(1), Ok(1))?;
    refused("another while up", initialise(1, &good), Errno::EEXIST)
}

static SEEN: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

fn look(_id: u32) -> ! {
    let msr = |number| probe::rdmsr(number).unwrap_or(u64::MAX);
    let mask = shared::record().map_or(0, |record| record.upcall_mask.load(SeqCst));
    let values = [msr(0xc000_0100), msr(0xc000_0101), msr(0xc000_0102), 1 << 8 | u64::from(mask)];
    // The last one says that all are there.
    SEEN.iter().zip(values).for_each(|(slot, value)| slot.store(value, SeqCst));
    idle(0)
}

/// The state's segment bases are in force, and upcalls masked.
pub fn context() -> Told {
    if vcpus() < 2 {
        return skip("one vCPU");
    }
    event::init().map_err(refusal)?;
    vcpu::map_stack(1).map_err(|error| crate::check::Ending::Fail(alloc::format!("{error}")))?;
    let mut context = vcpu::context(1, look);
    context.fs_base = 0x1234_5000;
    context.gs_base_kernel = 0xffff_8888_0000_1000;
    context.gs_base_user = 0x7fff_0000_2000;
    equal("initialise", initialise(1, &context), Ok(0))?;
    equal("up", hypercall::vcpu_up(1), Ok(0))?;
    wait_until("the vCPU's report", || SEEN[3].load(SeqCst) != 0)?;
    let want = [context.fs_base, context.gs_base_kernel, context.gs_base_user, 1 << 8 | 1];
    equal("FS, GS, user GS, upcall mask", SEEN.each_ref().map(|slot| slot.load(SeqCst)), want)
}
