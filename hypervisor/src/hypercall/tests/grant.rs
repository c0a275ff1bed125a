//! Grants between two domains, by calls: the refusals that a single domain doesn't get to see, the ends of domains, and that
//! pages which the hypervisor writes are never tables. What is random is in `random`, what one domain can tell by itself
//! in the suite `grants`.

use super::fake::GRANT_LIMITS;
use super::requests::*;
use super::world::*;
use super::*;
use crate::mm::operation::PageTableMem;
use pv_abi::grant::*;
use pv_abi::mmu::MMUEXT_PIN_L1_TABLE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const GRANTER: u16 = 0;
const MAPPER: u16 = 1;
const DEVICE: u32 = GrantMapFlags::DEVICE_MAP.bits();
const HOST: u32 = GrantMapFlags::HOST_MAP.bits();
const READ_ONLY: u32 = GrantMapFlags::READONLY.bits();
/// A vCPU of the granter.
const OTHER: usize = 0;

impl World<'_> {
    fn grant_op<T: IntoBytes + FromBytes + Immutable>(&mut self, command: u32, request: T) -> T {
        self.fake.put(REQUEST, request.as_bytes());
        assert_eq!(self.result(number::GRANT_TABLE_OP, &[command.into(), REQUEST, 1]), 0);
        let start = usize::try_from(REQUEST - BASE).unwrap();
        T::read_from_bytes(&self.fake.memory[start..start + size_of::<T>()]).unwrap()
    }

    /// Writes an entry of a domain's table.
    fn set_grant(&self, domain: u16, gref: usize, flags: u16, to: u16, mfn: Mfn) {
        let page = self.fake.domains[usize::from(domain)].grants.frame(0).unwrap();
        self.fake.machine.memory.write(page, gref, mfn.0 << 32 | u64::from(to) << 16 | u64::from(flags));
    }

    fn flags(&self, domain: u16, gref: usize) -> u16 {
        let page = self.fake.domains[usize::from(domain)].grants.frame(0).unwrap();
        self.fake.machine.memory.read(page, gref) as u16
    }

    fn map_grant(&mut self, host_addr: u64, flags: u32, gref: u32) -> (i16, u32) {
        let request = GnttabMapGrantRef { host_addr, flags, gref, dom: GRANTER, ..Default::default() };
        let done = self.grant_op(GNTTABOP_MAP_GRANT_REF, request);
        (done.status, done.handle)
    }

    fn unmap_grant(&mut self, host_addr: u64, handle: u32) -> i16 {
        let request = GnttabUnmapGrantRef { host_addr, handle, ..Default::default() };
        self.grant_op(GNTTABOP_UNMAP_GRANT_REF, request).status
    }
}

/// A frame of the granter's that it has granted to the mapper under reference 9.
fn granted(world: &World<'_>) -> Mfn {
    let mfn = world.fake.domains[usize::from(GRANTER)].first[DATA as usize + 6];
    world.set_grant(GRANTER, 9, GTF_PERMIT_ACCESS, MAPPER, mfn);
    mfn
}

#[test]
fn a_frame_of_another_domain_is_mapped_by_its_grant_alone() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let mfn = granted(world);
    assert_ne!(world.mmu_update(&[(world.at(L1, 2), entry(mfn, P | RW))]).0, 0);
    let (status, handle) = world.map_grant(0x2000, HOST, 9);
    assert_eq!(status, GNTST_OKAY);
    assert_eq!(world.flags(GRANTER, 9), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    // The table with the mapping is as good as any, but what the guest writes back is refused.
    assert_ne!(world.mmu_update(&[(world.at(L1, 1), world.read(L1, 2))]).0, 0);
    assert_eq!(world.map_grant(0x1000, HOST, 8).0, GNTST_GENERAL_ERROR);
    assert_eq!(world.unmap_grant(0x1000, handle), GNTST_GENERAL_ERROR);
    assert_eq!(world.unmap_grant(0x2000, handle), GNTST_OKAY);
    assert_eq!((world.flags(GRANTER, 9), world.read(L1, 2)), (GTF_PERMIT_ACCESS, 0));
    assert_eq!(world.unmap_grant(0x2000, handle), GNTST_BAD_HANDLE);
    world.set_grant(GRANTER, 9, GTF_PERMIT_ACCESS, MAPPER, Mfn(1 << 20));
    assert_eq!(world.map_grant(0x2000, HOST, 9).0, GNTST_BAD_PAGE);
    // A frame of the mapper's is none of the granter's.
    world.set_grant(GRANTER, 9, GTF_PERMIT_ACCESS, MAPPER, world.mfn(DATA));
    assert_eq!(world.map_grant(0x2000, HOST | READ_ONLY, 9).0, GNTST_BAD_PAGE);
}

#[test]
fn a_use_that_grows_is_one_that_is_granted_now() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let mfn = granted(world);
    let (status, reader) = world.map_grant(0x2000, HOST | READ_ONLY, 9);
    assert_eq!(status, GNTST_OKAY);
    // Taken back by force, given to another, granted for reading.
    for (flags, to) in [(0, 0), (GTF_PERMIT_ACCESS, MAPPER + 1), (GTF_PERMIT_ACCESS | GTF_READONLY, MAPPER)] {
        world.set_grant(GRANTER, 9, flags | GTF_READING, to, mfn);
        assert_eq!(world.map_grant(0x1000, HOST, 9).0, GNTST_GENERAL_ERROR, "{flags:#x}");
    }
    world.set_grant(GRANTER, 9, GTF_PERMIT_ACCESS | GTF_READING, MAPPER, mfn);
    let (status, writer) = world.map_grant(0x1000, HOST, 9);
    assert_eq!(status, GNTST_OKAY);
    assert_eq!([world.unmap_grant(0x1000, writer), world.unmap_grant(0x2000, reader)], [GNTST_OKAY; 2]);
}

#[test]
fn cpus_flush_before_the_granter_learns_of_the_end() {
    let machine = machine();
    let world = &mut World::new(&machine);
    granted(world);
    let (_, handle) = world.map_grant(0x2000, HOST, 9);
    world.fake.record.flushes.clear();
    assert_eq!(world.unmap_grant(0x2000, handle), GNTST_OKAY);
    assert_eq!(world.fake.record.flushes, [world.fake.machine.translations[1].load()]);
}

#[test]
fn handles_have_a_limit() {
    let machine = machine();
    let mut world = World::new(&machine);
    let mfn = granted(&world);
    let handles = GRANT_LIMITS.maptrack_frames * 256;
    for n in 0..handles {
        // No grant is used more than 128 times.
        let gref = 9 + n / 100;
        world.set_grant(GRANTER, gref as usize, world.flags(GRANTER, gref as usize) | 1, MAPPER, mfn);
        assert_eq!(world.map_grant(0, DEVICE, gref).0, GNTST_OKAY, "{n}");
    }
    assert_eq!(world.map_grant(0, DEVICE, 20).0, GNTST_NO_SPACE);
    world.end();
}

#[test]
fn pages_that_the_hypervisor_writes_are_never_tables() {
    let machine = machine();
    let mut world = World::new(&machine);
    let own = &world.fake.domains[1];
    for mfn in [own.shared_mfn, own.grants.frame(0).unwrap()] {
        assert_ne!(world.operate(MMUEXT_PIN_L1_TABLE, mfn.0, 0), 0);
        assert_ne!(world.mmu_update(&[(world.at(OTHER_L2, 1), 0), (world.at(L2, 1), entry(mfn, P | RW))]).0, 0);
        assert_eq!(world.mmu_update(&[(world.at(L1, 0), entry(mfn, P | RW))]).0, 0, "it can be mapped");
        assert_eq!(world.mmu_update(&[(world.at(L1, 0), 0)]).0, 0);
    }
    world.end();
}

#[test]
fn tables_grow_to_their_limit_and_only_those_in_charge_see_them() {
    let machine = machine();
    let mut world = World::new(&machine);
    let setup = |world: &mut World<'_>, dom, nr_frames| {
        let request = GnttabSetupTable { dom, nr_frames, frame_list: INPUTS, ..Default::default() };
        world.grant_op(GNTTABOP_SETUP_TABLE, request).status
    };
    assert_eq!(setup(&mut world, MAPPER, 3), GNTST_GENERAL_ERROR);
    assert_eq!(setup(&mut world, GRANTER, 1), GNTST_PERMISSION_DENIED);
    assert_eq!(setup(&mut world, MAPPER, 2), GNTST_OKAY);
    let frames = [0, 1].map(|n| world.fake.domains[1].grants.frame(n).unwrap().0);
    assert_eq!([world.fake.word(INPUTS), world.fake.word(INPUTS + 8)], frames);
    world.run(OTHER);
    assert_eq!(setup(&mut world, MAPPER, 2), GNTST_OKAY);
    world.fake.allocations = super::fake::Failing::after(0);
    assert_eq!(setup(&mut world, GRANTER, 2), GNTST_GENERAL_ERROR);
    assert_eq!(world.fake.domains[0].grants.frames(), 1);
    world.end();
}

#[test]
fn versions_are_1() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for (version, result) in [(1, 0), (2, ENOSYS), (3, EINVAL)] {
        world.fake.put(REQUEST, GnttabSetVersion { version }.as_bytes());
        assert_eq!(world.result(number::GRANT_TABLE_OP, &[GNTTABOP_SET_VERSION.into(), REQUEST, 1]), result);
        assert_eq!(world.fake.word(REQUEST) as u32, 1);
    }
    for command in [GNTTABOP_TRANSFER, GNTTABOP_CACHE_FLUSH] {
        let result = world.result(number::GRANT_TABLE_OP, &[command.into(), REQUEST, 1]);
        assert_eq!(result, Errno::EOPNOTSUPP.code());
    }
    assert_eq!(world.result(number::GRANT_TABLE_OP, &[GNTTABOP_DUMP_TABLE.into(), REQUEST, 1]), ENOSYS);
}
