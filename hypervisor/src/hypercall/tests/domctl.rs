//! `domctl` and `sysctl`: domain 0 controls domain 1.

use super::fake::{FRAMES, MAX_FRAMES, PARKED};
use super::requests::*;
use super::vcpu::context;
use super::world::*;
use super::*;
use crate::domain::{Crash, ShutdownReason};
use crate::event::DEFAULT_MAX_PORTS;
use crate::grant::Limits;
use crate::mm::state::FrameType;
use pv_abi::domctl::*;
use pv_abi::event::EVTCHNOP_RESET;
use pv_abi::memory::{MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP};
use pv_abi::mmu::*;
use pv_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_REBOOT};
use pv_abi::sysctl::*;
use pv_abi::vcpu::{VcpuContextFlags, VcpuGuestContext};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

const EACCES: i64 = Errno::EACCES.code();
const EOPNOTSUPP: i64 = Errno::EOPNOTSUPP.code();
/// A vCPU of the control domain.
const CONTROL: usize = 0;
/// Where payloads point to.
const BUFFER: u64 = INPUTS;

impl World<'_> {
    fn put_domctl<T: IntoBytes + Immutable>(&mut self, cmd: u32, domain: u16, payload: &T) {
        let request = Domctl { cmd, interface_version: XEN_DOMCTL_INTERFACE_VERSION, domain, ..Domctl::default() };
        self.fake.put(REQUEST, request.as_bytes());
        self.fake.put(REQUEST + 16, payload.as_bytes());
    }

    fn domctl<T: IntoBytes + Immutable>(&mut self, cmd: u32, domain: u16, payload: &T) -> i64 {
        self.put_domctl(cmd, domain, payload);
        self.result(number::DOMCTL, &[REQUEST])
    }

    /// The payload of the answer.
    fn answer<T: FromBytes + KnownLayout + Immutable>(&self, at: u64) -> T {
        let start = (at - super::fake::BASE) as usize;
        T::read_from_prefix(&self.fake.memory[start..]).unwrap().0
    }

    fn sysctl<T: IntoBytes + Immutable>(&mut self, cmd: u32, payload: &T) -> i64 {
        let request = Sysctl { cmd, interface_version: XEN_SYSCTL_INTERFACE_VERSION, u: [0; 16] };
        self.fake.put(REQUEST, request.as_bytes());
        self.fake.put(REQUEST + 8, payload.as_bytes());
        self.result(number::SYSCTL, &[REQUEST])
    }

    /// A frame that domain 1 started with.
    fn theirs(&self, pfn: u64) -> Mfn {
        self.fake.domains[1].first[pfn as usize]
    }
}

#[test]
fn arguments_are_looked_at_in_xens_order() {
    let machine = machine();
    let world = &mut World::new(&machine);
    assert_eq!(world.result(number::DOMCTL, &[0]), EFAULT);
    assert_eq!(world.result(number::SYSCTL, &[0]), EFAULT);
    world.fake.put(REQUEST, Domctl { cmd: XEN_DOMCTL_PAUSEDOMAIN, domain: 9, ..Domctl::default() }.as_bytes());
    assert_eq!(world.result(number::DOMCTL, &[REQUEST]), EACCES);
    assert_eq!(world.result(number::SYSCTL, &[REQUEST]), EACCES);
    for command in 0..=100 {
        let known = matches!(command, XEN_DOMCTL_CREATEDOMAIN | XEN_DOMCTL_GETDOMAININFO);
        assert_eq!(world.domctl(command, 9, &()), if known { EPERM } else { ESRCH }, "{command}");
        assert_eq!(world.domctl(command, 0, &()), EPERM, "{command}");
        assert_eq!(world.domctl(command, 1, &()), EPERM, "{command} on itself");
        assert_eq!(world.sysctl(command, &()), EPERM, "{command}");
    }
    assert!(world.fake.record.created.is_empty());
    world.run(CONTROL);
    for command in [XEN_DOMCTL_IRQ_PERMISSION, XEN_DOMCTL_IOMEM_PERMISSION, XEN_DOMCTL_IOPORT_PERMISSION] {
        assert_eq!(world.domctl(command, 1, &()), EOPNOTSUPP);
    }
    for command in [0, 6, 99, u32::MAX] {
        assert_eq!(world.domctl(command, 1, &()), ENOSYS);
        if command != XEN_SYSCTL_GETDOMAININFOLIST {
            assert_eq!(world.sysctl(command, &()), ENOSYS);
        }
    }
}

#[test]
fn only_pv_domains_are_created() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(CONTROL);
    let plain = CreateDomain { max_grant_frames: -1, max_maptrack_frames: 0, ..CreateDomain::default() };
    let good = CreateDomain { max_vcpus: 3, handle: [5; 16], grant_opts: 2, ..plain };
    for (highest, ports) in [(1023, 1024), (u32::MAX, u32::MAX), (0, DEFAULT_MAX_PORTS)] {
        let limited = CreateDomain { max_evtchn_port: highest, ..good };
        assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &limited), 0);
        assert_eq!(world.fake.record.created.pop().map(|new| new.max_ports), Some(ports));
    }
    assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &good), 0);
    assert_eq!(world.answer::<Domctl>(REQUEST).domain, 2);
    assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 7, &good), 0);
    assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0x7ff0, &good), 0, "a reserved number means any");
    let asked: Vec<_> = world.fake.record.created.iter().map(|new| (new.id, new.vcpus, new.handle)).collect();
    assert_eq!(asked, [None, Some(DomainId(7)), None].map(|id| (id, 3, [5; 16])));
    let grants = world.fake.record.created[0].grants;
    assert_eq!(grants, Limits { maptrack_frames: 0, ..Limits::DEFAULT });
    assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 1, &good), EEXIST);
    let arch = |emulation_flags, misc_flags| ArchDomainConfig { emulation_flags, misc_flags };
    for (bad, errno) in [
        (CreateDomain { max_vcpus: 0, ..good }, EINVAL),
        (CreateDomain { max_vcpus: 33, ..good }, EINVAL),
        (CreateDomain { flags: CreateDomainFlags::HVM.bits(), ..good }, EINVAL),
        (CreateDomain { flags: 1 << 31, ..good }, EINVAL),
        (CreateDomain { iommu_opts: 1, ..good }, EINVAL),
        (CreateDomain { vmtrace_size: 1, ..good }, EINVAL),
        (CreateDomain { grant_opts: 3, ..good }, EINVAL),
        (CreateDomain { grant_opts: 0x10, ..good }, EINVAL),
        (CreateDomain { arch: arch(1, 0), ..good }, EINVAL),
        (CreateDomain { arch: arch(0, 1), ..good }, EINVAL),
        (CreateDomain { max_grant_frames: 0, ..good }, EINVAL),
        (CreateDomain { max_grant_frames: 65, ..good }, EINVAL),
        (CreateDomain { max_maptrack_frames: 1025, ..good }, EINVAL),
        (CreateDomain { cpupool_id: 1, ..good }, ENOENT),
    ] {
        assert_eq!(world.domctl(XEN_DOMCTL_CREATEDOMAIN, 0, &bad), errno, "{bad:?}");
    }
    assert_eq!(world.fake.record.created.len(), 3);
}

#[test]
fn a_domain_is_paused_told_of_and_ended() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(CONTROL);
    for own in [XEN_DOMCTL_PAUSEDOMAIN, XEN_DOMCTL_DESTROYDOMAIN, XEN_DOMCTL_MAX_VCPUS] {
        assert_eq!(world.domctl(own, 0, &MaxVcpus { max: 3 }), EINVAL, "{own} on itself");
    }
    assert_eq!(world.domctl(XEN_DOMCTL_UNPAUSEDOMAIN, 1, &()), EINVAL);
    assert_eq!(world.domctl(XEN_DOMCTL_PAUSEDOMAIN, 1, &()), 0);
    assert_eq!(world.domctl(XEN_DOMCTL_PAUSEDOMAIN, 1, &()), Errno::EOVERFLOW.code());
    assert_eq!(world.domctl(XEN_DOMCTL_SETDOMAINHANDLE, 1, &SetDomainHandle { handle: [9; 16] }), 0);
    assert_eq!(world.domctl(XEN_DOMCTL_MAX_MEM, 1, &MaxMem { max_memkb: 4 * 25 + 3 }), 0);
    assert_eq!(world.domctl(XEN_DOMCTL_MAX_VCPUS, 1, &MaxVcpus { max: 3 }), 0);
    assert_eq!(world.domctl(XEN_DOMCTL_MAX_VCPUS, 1, &MaxVcpus { max: 2 }), EINVAL);
    let told = |world: &mut World<'_>| {
        assert_eq!(world.domctl(XEN_DOMCTL_GETDOMAININFO, 1, &()), 0);
        world.answer::<GetDomainInfo>(REQUEST + 16)
    };
    let info = told(world);
    assert_eq!((info.domain, info.flags), (1, DomainInfoFlags::PAUSED.bits()));
    assert_eq!((info.tot_pages, info.max_pages), (FRAMES, 25));
    assert_eq!((info.nr_online_vcpus, info.max_vcpu_id, info.handle), (1, 2, [9; 16]));
    assert_eq!(info.shared_info_frame, world.fake.domains[1].shared_mfn.0);
    assert_eq!(world.domctl(XEN_DOMCTL_GETDOMAININFO, 2, &()), ESRCH);
    assert_eq!(world.domctl(XEN_DOMCTL_GETDOMAININFO, 0x7ff0, &()), EINVAL);
    assert_eq!(world.domctl(XEN_DOMCTL_UNPAUSEDOMAIN, 1, &()), 0);
    for (end, reason) in [
        (End::Shutdown(ShutdownReason::Reboot), SHUTDOWN_REBOOT),
        (End::Crash(Crash::NoHandler { vector: 6 }), SHUTDOWN_CRASH),
    ] {
        let facts = world.fake.domains[1].facts.clone();
        facts.set(DomainFacts { shutdown: Some(end), ..facts.get() });
        assert_eq!(told(world).flags, DomainInfoFlags::SHUTDOWN.bits() | reason << XEN_DOMINF_SHUTDOWNSHIFT);
    }
    assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUINFO, 1, &GetVcpuInfo { vcpu: 1, ..GetVcpuInfo::default() }), 0);
    assert_eq!(world.answer::<GetVcpuInfo>(REQUEST + 16).online, 0);
    assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUINFO, 1, &GetVcpuInfo { vcpu: 3, ..GetVcpuInfo::default() }), ESRCH);
    assert_eq!(world.domctl(XEN_DOMCTL_DESTROYDOMAIN, 1, &()), 0, "with a restart");
    assert!(told(world).flags & DomainInfoFlags::DYING.bits() != 0);
    world.put_extents(MemoryReservation { domid: 1, ..extents(INPUTS, 1, 0) }, &[0]);
    let populate = XENMEM_POPULATE_PHYSMAP.into();
    assert_eq!(
        world.result(number::MEMORY_OP, &[populate, REQUEST]),
        0,
        "one that is being taken apart gets no memory"
    );
}

#[test]
fn the_machine_is_told_of() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(CONTROL);
    assert_eq!(world.sysctl(XEN_SYSCTL_PHYSINFO, &()), 0);
    let info: PhysInfo = world.answer(REQUEST + 8);
    assert_eq!((info.nr_cpus, info.max_cpu_id, info.capabilities), (2, 1, PhysCaps::PV.bits()));
    assert_eq!(
        (info.free_pages, info.total_pages),
        (world.fake.allocator.free_frames(), world.fake.allocator.total_frames())
    );
    assert_eq!(world.sysctl(XEN_SYSCTL_AVAILHEAP, &AvailHeap::default()), 0);
    assert_eq!(world.answer::<AvailHeap>(REQUEST + 8).avail_bytes, info.free_pages << 12);
    for (first, room, found) in [(0, 9, 2), (0, 1, 1), (1, 9, 1), (2, 9, 0), (0, 0, 0), (0xffff, 9, 0)] {
        let list = GetDomainInfoList {
            first_domain: first,
            max_domains: room,
            buffer: BUFFER,
            ..GetDomainInfoList::default()
        };
        assert_eq!(world.sysctl(XEN_SYSCTL_GETDOMAININFOLIST, &list), 0);
        assert_eq!(world.answer::<GetDomainInfoList>(REQUEST + 8).num_domains, found);
        if found > 0 {
            assert_eq!(world.answer::<GetDomainInfo>(BUFFER).domain, first);
        }
    }
    let nowhere = GetDomainInfoList { max_domains: 1, buffer: 8, ..GetDomainInfoList::default() };
    assert_eq!(world.sysctl(XEN_SYSCTL_GETDOMAININFOLIST, &nowhere), EFAULT);
}

#[test]
fn memory_of_another_domain_is_given_and_taken() {
    for budget in [3, 20, BUDGET] {
        let machine = machine();
        let mut world = World::new(&machine);
        world.take_off(FIRST);
        world.run(CONTROL);
        let request = MemoryReservation { domid: 1, ..extents(INPUTS, 12, 0) };
        world.put_extents(request, &(100..112).collect::<Vec<_>>());
        let room = (MAX_FRAMES - FRAMES).cast_signed();
        let mut spent = budget;
        let call = [XENMEM_POPULATE_PHYSMAP.into(), REQUEST];
        // Each restart has more, since one frame costs more than the least budget.
        let populated = world.call_within(number::MEMORY_OP, &call, || {
            spent += budget;
            spent
        });
        assert_eq!(populated.1, room);
        let first = Mfn(world.fake.word(INPUTS));
        assert_eq!(machine.table().get(first).unwrap().owner(), Some(DomainId(1)));
        assert_eq!(machine.memory.known_as(first), 100);
        assert_eq!(world.fake.frames().run(|frames| frames.allocated()), FRAMES, "the caller has what it had");
        // One of its own, which is not the other's to give back.
        let own = world.mfn(DATA + 6).0;
        world.put_extents(MemoryReservation { domid: 1, ..extents(INPUTS, 2, 0) }, &[first.0, own]);
        let decrease = [XENMEM_DECREASE_RESERVATION.into(), REQUEST];
        assert_eq!(world.call_within(number::MEMORY_OP, &decrease, || budget).1, 1);
        assert_eq!(machine.table().get(first).unwrap().owner(), None);
        world.end();
    }
}

#[test]
fn tables_of_another_domain_are_pinned() {
    for budget in [1, 2, 7, BUDGET] {
        let machine = machine();
        let mut world = World::new(&machine);
        world.take_off(FIRST);
        world.run(CONTROL);
        let (root, leaf, own) = (world.theirs(OTHER_L4), world.theirs(OTHER_L1), world.mfn(OTHER_L4));
        let mut operate = |operation: MmuextOp| {
            world.put_operations(&[operation]);
            let mut spent = budget;
            let grow = || {
                spent += 1;
                spent
            };
            let result = world.call_within(number::MMUEXT_OP, &[REQUEST, 1, 0, 1], grow).1;
            (result, world.state_of(root).is_pinned())
        };
        assert_eq!(operate(operation(MMUEXT_PIN_L4_TABLE, root.0, 0)), (0, true));
        assert_eq!(operate(operation(MMUEXT_PIN_L4_TABLE, own.0, 0)).0, EINVAL, "the caller's own");
        assert_eq!(operate(operation(MMUEXT_CLEAR_PAGE, leaf.0, 0)).0, EINVAL, "a table");
        for command in [MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR, MMUEXT_SET_LDT, MMUEXT_TLB_FLUSH_ALL] {
            assert_eq!(operate(operation(command, root.0, 0)).0, EPERM);
        }
        assert_eq!(operate(operation(MMUEXT_UNPIN_TABLE, root.0, 0)), (0, false));
        assert_eq!(operate(operation(MMUEXT_CLEAR_PAGE, leaf.0, 0)).0, 0);
        world.end();
    }
}

#[test]
fn a_vcpu_of_another_domain_gets_its_state() {
    for budget in [1, 3, BUDGET] {
        let machine = machine();
        let mut world = World::new(&machine);
        let mut wanted = context(&world);
        wanted.flags |= VcpuContextFlags::ONLINE.bits();
        world.run(CONTROL);
        let at = VcpuContext { vcpu: PARKED.into(), ctxt: BUFFER, ..VcpuContext::default() };
        assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUCONTEXT, 1, &at), Errno::ENODATA.code());
        assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUCONTEXT, 0, &at), EINVAL, "the caller's own");
        assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUCONTEXT, 1, &VcpuContext { vcpu: 3, ..at }), EINVAL);
        assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUCONTEXT, 1, &VcpuContext { ctxt: 0, ..at }), EOPNOTSUPP);
        assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUCONTEXT, 1, &VcpuContext { ctxt: 8, ..at }), EFAULT);
        // Tables of the caller don't become the other's.
        let mut mine = wanted.clone();
        mine.ctrlreg[3] = world.mfn(L4).base().0;
        world.fake.put(BUFFER, mine.as_bytes());
        assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUCONTEXT, 1, &at), EINVAL);

        world.fake.put(BUFFER, wanted.as_bytes());
        world.put_domctl(XEN_DOMCTL_SETVCPUCONTEXT, 1, &at);
        let mut spent = budget;
        let result = world.call_within(number::DOMCTL, &[REQUEST], || {
            spent += 1;
            spent
        });
        assert_eq!(result.1, 0);
        let link = &world.fake.domains[1].events.vcpus()[usize::from(PARKED)];
        assert!(link.is_initialised() && link.is_up());
        // Now it has a state: other registers, but no other memory.
        let mut others = wanted.clone();
        let changes: [fn(&mut VcpuGuestContext); 6] = [
            |context| context.ctrlreg[3] += 0x1000,
            |context| context.ctrlreg[1] = 0x1000,
            |context| context.gdt_ents += 512,
            |context| context.gdt_frames[0] += 1,
            |context| (context.ldt_base, context.ldt_ents) = (0x1000, 4),
            |context| context.flags &= !VcpuContextFlags::IN_KERNEL.bits(),
        ];
        for change in changes {
            others.clone_from(&wanted);
            change(&mut others);
            world.fake.put(BUFFER, others.as_bytes());
            assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUCONTEXT, 1, &at), EOPNOTSUPP);
        }
        wanted.user_regs.rip += 0x10;
        wanted.kernel_sp += 0x100;
        wanted.flags |= VcpuContextFlags::I387_VALID.bits();
        wanted.fpu_ctxt[160..176].copy_from_slice(&[0xab; 16]);
        // Of CR4 the guest has TSD and DE here.
        wanted.ctrlreg[4] = u64::MAX;
        world.fake.put(BUFFER, wanted.as_bytes());
        assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUCONTEXT, 1, &at), 0);

        assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUCONTEXT, 1, &at), 0);
        let mut read: Box<VcpuGuestContext> = VcpuGuestContext::new_box_zeroed().unwrap();
        *read = world.answer(BUFFER);
        let (got, want) = (read.user_regs, wanted.user_regs);
        assert_eq!(
            (got.rip, got.rsp, got.rdi, got.cs, got.ss),
            (want.rip, want.rsp, want.rdi, want.cs | 3, want.ss | 3)
        );
        assert_eq!((got.rflags, read.flags), (want.rflags | 0x202, wanted.flags));
        assert_eq!(
            (read.ctrlreg[3], read.ctrlreg[1], read.gdt_frames[0]),
            (wanted.ctrlreg[3], 0, wanted.gdt_frames[0])
        );
        assert_eq!((read.trap_ctxt[14].address, read.trap_ctxt[3].flags), (wanted.trap_ctxt[14].address, 3));
        assert_eq!((read.kernel_sp, read.event_callback_eip), (wanted.kernel_sp, wanted.event_callback_eip));
        assert_eq!(read.gs_base_kernel, wanted.gs_base_kernel);
        assert_eq!((read.fpu_ctxt, read.ctrlreg[4]), (wanted.fpu_ctxt, 0x66c));
        world.end();
    }
}

#[test]
fn hypercall_stubs_go_to_pages_that_could_be_written() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(CONTROL);
    let page = world.theirs(DATA + 6);
    assert_eq!(world.domctl(XEN_DOMCTL_HYPERCALL_INIT, 1, &HypercallInit { gmfn: page.0 }), 0);
    assert_eq!(world.fake.record.hypercall_pages, [page]);
    for bad in [world.theirs(L1), world.mfn(DATA + 6), Mfn(9), Mfn(u64::MAX)] {
        assert_eq!(world.domctl(XEN_DOMCTL_HYPERCALL_INIT, 1, &HypercallInit { gmfn: bad.0 }), EACCES, "{bad:?}");
    }
    assert_eq!(world.state_of(page).type_references(), 0);
    assert_eq!(world.state_of(page).frame_type(), FrameType::Writable);
}

#[test]
fn weight_and_cap_are_set_and_told() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(CONTROL);
    let op = |cmd, weight, cap| SchedulerOp {
        sched_id: XEN_SCHEDULER_CREDIT,
        cmd,
        credit: SchedCredit { weight, cap },
        ..SchedulerOp::default()
    };
    let get = op(XEN_DOMCTL_SCHEDOP_GETINFO, 77, 77);
    let told = |world: &mut World<'_>| {
        assert_eq!(world.domctl(XEN_DOMCTL_SCHEDULER_OP, 1, &get), 0);
        let SchedCredit { weight, cap } = world.answer::<SchedulerOp>(REQUEST + 16).credit;
        (weight, cap)
    };
    assert_eq!(told(world), (256, 0));
    assert!(world.fake.record.rescheduled.is_empty(), "nothing has changed");
    // A weight of 0 and a cap of 65535 leave what there is.
    for (weight, cap, expected) in [
        (1, 50, (1, 50)),
        (u16::MAX, 320, (u16::MAX, 320)),
        (0, 0, (u16::MAX, 0)),
        (512, u16::MAX, (512, 0)),
        (0, u16::MAX - 1, (512, u16::MAX - 1)),
        (0, u16::MAX, (512, u16::MAX - 1)),
    ] {
        assert_eq!(world.domctl(XEN_DOMCTL_SCHEDULER_OP, 1, &op(XEN_DOMCTL_SCHEDOP_PUTINFO, weight, cap)), 0);
        assert_eq!(told(world), expected);
    }
    assert_eq!(world.fake.record.rescheduled, [DomainId(1); 6]);
    let put = op(XEN_DOMCTL_SCHEDOP_PUTINFO, 9, 9);
    for bad in [
        SchedulerOp { sched_id: XEN_SCHEDULER_CREDIT2, ..put },
        SchedulerOp { sched_id: 0, ..put },
        SchedulerOp { sched_id: u32::MAX, ..get },
        SchedulerOp { cmd: 2, ..put },
        SchedulerOp { cmd: u32::MAX, ..put },
    ] {
        assert_eq!(world.domctl(XEN_DOMCTL_SCHEDULER_OP, 1, &bad), EINVAL, "{bad:?}");
    }
    assert_eq!(told(world), (512, u16::MAX - 1));
    assert_eq!(world.domctl(XEN_DOMCTL_SCHEDULER_OP, 0, &put), 0, "itself");
    assert_eq!(world.domctl(XEN_DOMCTL_SCHEDULER_OP, 2, &put), ESRCH);
    assert_eq!(world.sysctl(XEN_SYSCTL_SCHED_ID, &SchedId::default()), 0);
    assert_eq!(world.answer::<SchedId>(REQUEST + 8).sched_id, XEN_SCHEDULER_CREDIT);
}

#[test]
fn affinities_are_set_and_told() {
    const VCPU: u32 = 1;
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(CONTROL);
    let map = |bitmap, nr_bits| XenctlBitmap { bitmap, nr_bits, _pad: 0 };
    let hard = |bits| VcpuAffinity {
        vcpu: VCPU,
        flags: VcpuAffinityFlags::HARD.bits(),
        cpumap_hard: map(BUFFER, bits),
        ..VcpuAffinity::default()
    };
    let both = VcpuAffinityFlags::HARD | VcpuAffinityFlags::SOFT;
    let affinity = |world: &World<'_>| world.fake.domains[1].events.vcpus()[VCPU as usize].affinity().load();
    // There are two CPUs. What is asked for beyond is dropped, and so is the last byte's rest.
    for (bits, wanted, got) in
        [(64, u64::MAX, 0b11), (64, 0b10, 0b10), (2, 0b1111, 0b11), (1, 0b11, 0b01), (200, 0b110, 0b10)]
    {
        world.fake.put(BUFFER, &[0xee; 64]);
        world.fake.put_words(BUFFER, &[wanted, u64::MAX, u64::MAX, u64::MAX]);
        assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, 1, &hard(bits)), 0);
        assert_eq!(affinity(world), CpuSet::from_bits(got));
        for (flags, hard_at, soft_at) in [(VcpuAffinityFlags::HARD, BUFFER, 0), (both, BUFFER + 128, BUFFER)] {
            // The answer of the call that sets is overwritten and told again.
            let bytes: Vec<u8> = world.answer::<[u8; 64]>(BUFFER).into();
            let length = bits.div_ceil(8) as usize;
            assert_eq!(bytes[0], got as u8, "{bits} bits");
            assert!(bytes[1..length].iter().all(|&byte| byte == 0), "zeros up to the end: {bytes:x?}");
            assert!(bytes[length.max(32)..].iter().all(|&byte| byte == 0xee), "and not beyond: {bytes:x?}");
            world.fake.put(BUFFER, &vec![0x55; length]);
            let get = VcpuAffinity {
                flags: flags.bits(),
                cpumap_hard: map(hard_at, bits),
                cpumap_soft: map(soft_at, bits),
                ..hard(bits)
            };
            assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUAFFINITY, 1, &get), 0);
        }
    }
    assert_eq!(world.fake.record.rescheduled, [DomainId(1); 5]);
    // With no bit asked for, nothing is told.
    assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUAFFINITY, 1, &hard(0)), 0);

    // What is preferred is remembered, and told as far as the vCPU may use it.
    let soft = VcpuAffinity { flags: VcpuAffinityFlags::SOFT.bits(), cpumap_soft: map(BUFFER, 64), ..hard(64) };
    for (wanted, got) in [(0b01, 0), (0b11, 0b10), (u64::MAX, 0b10)] {
        world.fake.put_words(BUFFER, &[wanted]);
        assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, 1, &soft), 0);
        assert_eq!(world.fake.word(BUFFER), got);
        world.fake.put_words(BUFFER, &[77]);
        assert_eq!(world.domctl(XEN_DOMCTL_GETVCPUAFFINITY, 1, &soft), 0);
        assert_eq!((world.fake.word(BUFFER), affinity(world)), (got, CpuSet::from_bits(0b10)));
    }
    for command in [XEN_DOMCTL_SETVCPUAFFINITY, XEN_DOMCTL_GETVCPUAFFINITY] {
        for (bad, errno) in [
            (VcpuAffinity { vcpu: 3, ..hard(64) }, EINVAL),
            (VcpuAffinity { vcpu: u32::MAX, ..hard(64) }, EINVAL),
            (VcpuAffinity { flags: 0, ..hard(64) }, EINVAL),
            (VcpuAffinity { cpumap_hard: map(0, 64), ..hard(64) }, EINVAL),
            (VcpuAffinity { cpumap_soft: map(0, 64), ..soft }, EINVAL),
            (hard(u32::MAX), EINVAL),
            (hard(4097), EINVAL),
            (VcpuAffinity { cpumap_hard: map(8, 64), ..hard(64) }, EFAULT),
        ] {
            assert_eq!(world.domctl(command, 1, &bad), errno, "{command}: {bad:?}");
        }
    }
    for none in [0, 0b100, u64::MAX << 2] {
        world.fake.put_words(BUFFER, &[none]);
        assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, 1, &hard(64)), EINVAL, "{none:#x}: no CPU that is there");
    }
    world.fake.put_words(BUFFER, &[0b01]);
    assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, 1, &hard(0)), EINVAL, "no bit");
    assert_eq!(affinity(world), CpuSet::from_bits(0b10), "what is refused changes nothing");
    assert_eq!(world.fake.record.rescheduled.len(), 5);
    // Undoing a pin that the ABI calls temporary: there are none.
    let force = VcpuAffinity { flags: VcpuAffinityFlags::FORCE.bits(), ..hard(64) };
    assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, 1, &force), 0);
    assert_eq!(world.domctl(XEN_DOMCTL_SETVCPUAFFINITY, 0, &hard(64)), 0, "itself");
}

#[test]
fn the_log_is_told_from_anywhere_in_it() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(CONTROL);
    let text: Vec<u8> = (0..600u32).map(|n| (n % 251) as u8).collect();
    world.fake.log.write(&text);
    let mut read = |incremental, index, count, clear| {
        let request = ReadConsole { clear, incremental, index, buffer: BUFFER, count, ..ReadConsole::default() };
        assert_eq!(world.sysctl(XEN_SYSCTL_READCONSOLE, &request), 0);
        let told: ReadConsole = world.answer(REQUEST + 8);
        let bytes: Vec<u8> = world.answer::<[u8; 700]>(BUFFER)[..told.count as usize].into();
        (bytes, told.index)
    };
    assert_eq!(read(0, 9, 700, 0), (text.clone(), 600));
    assert_eq!(read(1, 9, 700, 0), (text[9..].to_vec(), 600));
    assert_eq!(read(1, 9, 300, 0), (text[9..309].to_vec(), 309));
    assert_eq!(read(1, 600, 700, 0), (vec![], 600));
    assert_eq!(read(1, 601, 700, 0), (text.clone(), 600), "not there yet");
    assert_eq!(read(0, 0, 100, 1), (text[..100].to_vec(), 100));
    assert_eq!(read(0, 0, 700, 0), (text[100..].to_vec(), 600), "what was told is gone");
    let nowhere = ReadConsole { buffer: 8, count: 5, ..ReadConsole::default() };
    assert_eq!(world.sysctl(XEN_SYSCTL_READCONSOLE, &nowhere), EFAULT);
}

#[test]
fn each_cpu_is_a_core() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(CONTROL);
    let cpus = world.fake.machine().cpus;
    for (room, cputopo, told) in [(9, BUFFER, cpus), (1, BUFFER, 1), (0, BUFFER, 0), (0, 0, cpus)] {
        world.fake.put(BUFFER, &[0xff; 64]);
        let request = CpuTopoInfo { num_cpus: room, cputopo, ..CpuTopoInfo::default() };
        assert_eq!(world.sysctl(XEN_SYSCTL_CPUTOPOINFO, &request), 0);
        assert_eq!(world.answer::<CpuTopoInfo>(REQUEST + 8).num_cpus, told);
        let written = if cputopo == 0 { 0 } else { told };
        for cpu in 0..4 {
            let place: CpuTopo = world.answer(BUFFER + 12 * u64::from(cpu));
            let wanted = if cpu < written { (cpu, 0) } else { (u32::MAX, u32::MAX) };
            assert_eq!((place.core, place.socket), wanted);
        }
    }
    let nowhere = CpuTopoInfo { num_cpus: 1, cputopo: 8, ..CpuTopoInfo::default() };
    assert_eq!(world.sysctl(XEN_SYSCTL_CPUTOPOINFO, &nowhere), EFAULT);
}

#[test]
fn the_ports_of_a_paused_domain_are_reset() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let events = world.fake.domains[1].events.clone();
    let port = events.alloc_unbound(DomainId(0)).unwrap();
    world.run(CONTROL);
    world.fake.put_words(REQUEST, &[1]);
    let reset = [EVTCHNOP_RESET.into(), REQUEST];
    assert_eq!(world.result(number::EVENT_CHANNEL_OP, &reset), EINVAL, "it runs");
    assert_eq!(world.domctl(XEN_DOMCTL_PAUSEDOMAIN, 1, &()), 0);
    world.fake.put_words(REQUEST, &[1]);
    assert_eq!(world.result(number::EVENT_CHANNEL_OP, &reset), 0);
    assert_eq!(events.close(port), Err(Errno::EINVAL), "it is closed");
    world.fake.put_words(REQUEST, &[9]);
    assert_eq!(world.result(number::EVENT_CHANNEL_OP, &reset), ESRCH);
    assert_eq!(world.domctl(XEN_DOMCTL_DESTROYDOMAIN, 1, &()), 0);
    world.fake.put_words(REQUEST, &[1]);
    assert_ne!(world.result(number::EVENT_CHANNEL_OP, &reset), 0, "it ends");
}
