//! `physdev_op` and `bind_pirq`: arguments, codes, and who may. What the rules do is tested beside them.

use super::mmu::address;
use super::world::*;
use super::*;
use crate::device::interrupts::Table;
use crate::device::pirq::{PIRQS, Source};
use crate::device::tests::{LINES, NO_FUNCTION, OWN_LINE, WITH_TABLE, WITHOUT_TABLE};
use crate::mm::entry::Entry;
use crate::mm::tests::machine::DEVICES;
use pv_abi::domid::{DOMID_IO, DOMID_SELF};
use pv_abi::event::{EVTCHNOP_BIND_PIRQ, EVTCHNOP_CLOSE, EvtchnBindPirq, EvtchnPort};
use pv_abi::physdev::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const ENODEV: i64 = Errno::ENODEV.code();
const EOPNOTSUPP: i64 = Errno::EOPNOTSUPP.code();

/// A table of messages in a device frame.
const TABLE: Table = Table { base: DEVICES[0].start << 12, address: (DEVICES[0].start << 12) + 0x100, entries: 4 };

impl World<'_> {
    /// Makes a call; its result, and what the struct holds then.
    fn with_struct<T: IntoBytes + FromBytes + Immutable>(&mut self, nr: u32, command: u32, mut request: T) -> (i64, T) {
        self.fake.put(BASE, request.as_bytes());
        let result = self.result(nr, &[command.into(), BASE]);
        request.as_mut_bytes().copy_from_slice(&self.fake.memory[..size_of::<T>()]);
        (result, request)
    }

    fn physdev<T: IntoBytes + FromBytes + Immutable>(&mut self, command: u32, request: T) -> (i64, T) {
        self.with_struct(number::PHYSDEV_OP, command, request)
    }

    fn map(&mut self, request: PhysdevMapPirq) -> (i64, i32) {
        let (result, request) = self.physdev(PHYSDEVOP_MAP_PIRQ, request);
        (result, request.pirq)
    }

    /// Changes the mapping of address 0, in the name of `DOMID_IO`.
    fn map_device(&mut self, entry: Entry) -> i64 {
        self.result(number::UPDATE_VA_MAPPING_OTHERDOMAIN, &[address(0), entry.0, 0, DOMID_IO.into()])
    }

    fn bind(&mut self, pirq: u32) -> (i64, u32) {
        let request = EvtchnBindPirq { pirq, flags: 0, port: 99 };
        let (result, request) = self.with_struct(number::EVENT_CHANNEL_OP, EVTCHNOP_BIND_PIRQ, request);
        (result, request.port)
    }
}

fn any() -> PhysdevMapPirq {
    PhysdevMapPirq { domid: DOMID_SELF, index: -1, pirq: -1, ..Default::default() }
}

fn line(index: i32) -> PhysdevMapPirq {
    PhysdevMapPirq { kind: MAP_PIRQ_TYPE_GSI, index, ..any() }
}

fn entry(table_base: u64, entry_nr: i32) -> PhysdevMapPirq {
    let devfn = i32::from(WITH_TABLE.devfn);
    PhysdevMapPirq { kind: MAP_PIRQ_TYPE_MSI_SEG, devfn, table_base, entry_nr, ..any() }
}

#[test]
fn a_domain_without_hardware_is_refused() {
    let machine = machine();
    let world = &mut World::new(&machine);
    assert_eq!(world.map(line(1)).0, EPERM);
    assert_eq!(world.map(PhysdevMapPirq { domid: 0, ..line(1) }).0, EPERM);
    assert_eq!(world.map(PhysdevMapPirq { domid: 77, ..line(1) }).0, ESRCH);
    assert_eq!(
        world.physdev(PHYSDEVOP_UNMAP_PIRQ, PhysdevUnmapPirq { domid: DOMID_SELF, ..Default::default() }).0,
        EPERM
    );
    assert_eq!(world.physdev(PHYSDEVOP_SETUP_GSI, PhysdevSetupGsi::default()).0, EPERM);
    assert_eq!(world.physdev(PHYSDEVOP_GET_FREE_PIRQ, PhysdevGetFreePirq::default()).0, EPERM);
    assert_eq!(world.physdev(PHYSDEVOP_PCI_DEVICE_ADD, PhysdevPciDevice::default()).0, EPERM);
    assert_eq!(world.physdev(PHYSDEVOP_PCI_DEVICE_REMOVE, PhysdevPciDevice::default()).0, EPERM);
    assert_eq!(world.physdev(PHYSDEVOP_APIC_READ, PhysdevApic::default()).0, EPERM);
    assert_eq!(world.physdev(PHYSDEVOP_APIC_WRITE, PhysdevApic::default()).0, EPERM);
    assert_eq!(world.physdev(PHYSDEVOP_EOI, PhysdevEoi::default()).0, EINVAL);
    assert_eq!(world.bind(1), (EPERM, 99));
    // Anybody may ask what is to be done for an interrupt.
    let (result, query) = world.physdev(PHYSDEVOP_IRQ_STATUS_QUERY, PhysdevIrqStatusQuery { irq: 1, flags: 0 });
    assert_eq!((result, query.flags), (0, XENIRQSTAT_NEEDS_EOI));
    assert_eq!(world.physdev(PHYSDEVOP_IRQ_STATUS_QUERY, PhysdevIrqStatusQuery { irq: PIRQS, flags: 0 }).0, EINVAL);
    assert_eq!(world.fake.controllers.connections(), 0);
}

#[test]
fn a_line_is_mapped_bound_ended_and_closed() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(0);
    let level = PhysdevSetupGsi { gsi: 3, triggering: 1, polarity: 1, _pad: 0 };
    assert_eq!(world.physdev(PHYSDEVOP_SETUP_GSI, level).0, 0);
    assert_eq!(world.map(line(3)), (0, 3));
    let (result, port) = world.bind(3);
    assert_eq!((result, world.bind(3).0), (0, EEXIST));
    let source = Source::Pin { gsi: 3 };
    let is_masked = |world: &World<'_>| world.fake.controllers.of(source).unwrap().1;
    let (vector, masked) = world.fake.controllers.of(source).unwrap();
    assert!(!masked);
    assert!(world.fake.hardware.interrupts.arrived(vector).is_some());
    assert!(is_masked(world) && world.fake.domains[0].events.is_pending(port).unwrap());
    assert_eq!(world.physdev(PHYSDEVOP_EOI, PhysdevEoi { irq: 3 }).0, 0);
    assert!(!is_masked(world));
    assert_eq!(world.with_struct(number::EVENT_CHANNEL_OP, EVTCHNOP_CLOSE, EvtchnPort { port }).0, 0);
    assert!(is_masked(world));
    let unmap = PhysdevUnmapPirq { domid: 0, _pad: 0, pirq: 3 };
    assert_eq!(
        (world.physdev(PHYSDEVOP_UNMAP_PIRQ, unmap).0, world.physdev(PHYSDEVOP_UNMAP_PIRQ, unmap).0),
        (0, EINVAL)
    );
    assert_eq!(world.physdev(PHYSDEVOP_EOI, PhysdevEoi { irq: 3 }).0, EINVAL);
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(0);
    assert_eq!(world.map(line(-1)).0, EINVAL);
    assert_eq!(world.map(line(LINES as i32)).0, EINVAL);
    assert_eq!(world.map(line(OWN_LINE as i32)).0, EBUSY);
    assert_eq!(world.map(PhysdevMapPirq { pirq: PIRQS as i32, ..line(1) }).0, EINVAL);
    assert_eq!(world.map(PhysdevMapPirq { domid: 1, ..line(1) }).0, EOPNOTSUPP);
    assert_eq!(world.map(PhysdevMapPirq { kind: MAP_PIRQ_TYPE_UNKNOWN, ..any() }).0, EINVAL);
    assert_eq!(world.map(PhysdevMapPirq { kind: MAP_PIRQ_TYPE_MULTI_MSI, ..any() }).0, EOPNOTSUPP);
    let (bus, devfn) = (NO_FUNCTION.bus.into(), NO_FUNCTION.devfn.into());
    assert_eq!(world.map(PhysdevMapPirq { kind: MAP_PIRQ_TYPE_MSI, bus, devfn, ..any() }).0, ENODEV);
    let without = PhysdevMapPirq { devfn: WITHOUT_TABLE.devfn.into(), ..entry(TABLE.base, 0) };
    assert_eq!(world.map(without).0, ENODEV);
    assert_eq!(world.fake.controllers.connections(), 0);
}

/// Where its table of messages is, a function says; that it may be in RAM, nobody has to believe.
#[test]
fn a_table_of_messages_is_no_ram_and_the_hypervisors_to_write() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(0);
    let ram = Table { base: 0x3000, address: 0x3000, entries: 4 };
    let across = Table { address: TABLE.address + 0xef0, ..TABLE };
    for table in [ram, across] {
        world.fake.controllers.set_table(table);
        assert_eq!(world.map(entry(table.base, 0)).0, EINVAL);
    }
    world.fake.controllers.set_table(TABLE);
    assert_eq!(world.map(entry(TABLE.base + 0x1000, 0)).0, EINVAL);
    let device = Entry(DEVICES[0].start << 12 | 3);
    assert_eq!(world.map_device(device), 0);
    assert_eq!(world.map_device(Entry(0)), 0);
    assert_eq!(world.map(entry(TABLE.base, 4)).0, EINVAL);
    assert_eq!(world.map(entry(TABLE.base, 3)), (0, PIRQS as i32 - 1));
    assert_eq!(world.map_device(device), EPERM);
    assert_eq!(world.map_device(Entry(device.0 & !2)), 0);
}

#[test]
fn in_the_name_of_devices_no_ram_is_mapped() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let device = Entry(DEVICES[1].start << 12 | 3);
    assert_eq!(world.map_device(device), EPERM);
    world.run(0);
    assert_eq!(world.map_device(device), 0);
    for domain in 0..2 {
        let ram = world.fake.domains[domain].first[DATA as usize + 6];
        assert_eq!(world.map_device(Entry(ram.0 << 12 | 1)), EBUSY);
        assert_eq!(world.map_device(Entry(ram.0 << 12 | 3)), EBUSY);
    }
    assert_eq!(world.map_device(Entry((DEVICES[1].start + 1) << 12 | 1)), EPERM);
    // Named as another domain's, a device's frame isn't.
    let args = [address(0), device.0 & !2, 0, 1];
    assert_eq!(world.result(number::UPDATE_VA_MAPPING_OTHERDOMAIN, &args), EPERM);
}
