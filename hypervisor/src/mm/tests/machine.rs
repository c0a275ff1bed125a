//! The made-up machine. With `REAL` its tables have 512 entries; else 8, of which 2 are the hypervisor's.

use core::mem;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::collections::BTreeSet;
use std::vec::Vec;

use crate::addr::{CpuId, DomainId, GuestVa, Mfn};
use crate::grant::GrantMemory;
use crate::mm::devices::DeviceFrames;
use crate::mm::entry::Entry;
use crate::mm::flush::{AtomicCpuSet, CpuSet, FlushClock};
use crate::mm::frame::{Frame, FrameTable};
use crate::mm::m2p::{INVALID_ENTRY, MachineToPhys};
use crate::mm::operation::{Mmu, PageTableMem, Space};
use crate::mm::shadow::{self, Source};
use crate::mm::state::{FrameType, Level, Usage};
use crate::mm::walk::index_of;

pub const DOMAINS: usize = 2;
/// What the hypervisor writes to its slots of an L4 table: no valid entry, to show when one is taken for the guest's.
pub const HYPERVISOR_ENTRY: u64 = 0xbad0_0000_0000_0003;
/// A device frame in the middle of the table, and one above it.
pub const DEVICES: [Range<u64>; 2] = [9..10, 1 << 30..(1 << 30) + 1];

const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;

/// Everything that is shared between CPUs.
pub struct Machine<const REAL: bool> {
    pub frames: Vec<Frame>,
    pub clock: FlushClock,
    pub memory: Memory<REAL>,
    pub translations: [AtomicCpuSet; DOMAINS],
    pub devices: DeviceFrames,
    pub cpus: u32,
}

impl<const REAL: bool> Machine<REAL> {
    pub fn new(frames: u64, cpus: u32) -> Machine<REAL> {
        let machine = Machine {
            frames: (0..frames).map(|_| Frame::ZERO).collect(),
            clock: FlushClock::new(),
            // The frames of shadow roots are the hypervisor's own, behind all others.
            memory: Memory::new(frames + u64::from(cpus)),
            translations: [const { AtomicCpuSet::new() }; DOMAINS],
            devices: DeviceFrames::new(DEVICES.to_vec()),
            cpus,
        };
        machine.table().mark_device(Mfn(DEVICES[0].start), 1);
        machine
    }

    pub fn table(&self) -> FrameTable<'_> {
        FrameTable::new(&self.frames, Mfn(0))
    }

    /// The shadow root of a CPU.
    pub fn shadow(&self, cpu: u32) -> Mfn {
        Mfn(self.frames.len() as u64 + u64::from(cpu))
    }

    pub fn online(&self) -> CpuSet {
        CpuSet::first(self.cpus)
    }

    pub fn mmu(&self) -> Mmu<'_, Memory<REAL>> {
        let frames = self.table();
        Mmu { frames, clock: &self.clock, memory: &self.memory, online: self.online(), l1tf_limit: None }
    }

    pub fn space(&self, domain: usize) -> Space<'_> {
        let devices = if domain == 0 { &self.devices } else { DeviceFrames::none() };
        Space { domain: DomainId(domain as u16), cpus: &self.translations[domain], devices }
    }
}

/// The contents of all frames.
pub struct Memory<const REAL: bool> {
    words: Vec<AtomicU64>,
    m2p: Vec<AtomicU64>,
}

impl<const REAL: bool> Memory<REAL> {
    fn new(frames: u64) -> Memory<REAL> {
        let words = (0..frames as usize * Self::ENTRIES).map(|_| AtomicU64::new(0)).collect();
        Memory { words, m2p: (0..frames).map(|_| AtomicU64::new(INVALID_ENTRY)).collect() }
    }

    fn word(&self, page: Mfn, index: usize) -> &AtomicU64 {
        assert!(index < Self::ENTRIES);
        &self.words[page.0 as usize * Self::ENTRIES + index]
    }

    pub fn clear(&self, page: Mfn) {
        (0..Self::ENTRIES).for_each(|index| self.word(page, index).store(0, SeqCst));
    }

    pub fn known_as(&self, mfn: Mfn) -> u64 {
        self.m2p[mfn.0 as usize].load(SeqCst)
    }
}

impl<const REAL: bool> PageTableMem for Memory<REAL> {
    const ENTRIES: usize = if REAL { 512 } else { 8 };
    const HYPERVISOR_SLOTS: Range<usize> = if REAL { 256..272 } else { 4..6 };

    fn read(&self, page: Mfn, index: usize) -> u64 {
        self.word(page, index).load(SeqCst)
    }

    fn write(&self, page: Mfn, index: usize, value: u64) {
        self.word(page, index).store(value, SeqCst);
    }

    fn compare_exchange(&self, page: Mfn, index: usize, old: u64, new: u64) -> Result<(), u64> {
        self.word(page, index).compare_exchange(old, new, SeqCst, SeqCst).map(|_| ())
    }

    fn write_hypervisor_slots(&self, l4: Mfn) {
        Self::HYPERVISOR_SLOTS.for_each(|index| self.write(l4, index, HYPERVISOR_ENTRY));
    }

    fn show_machine_to_phys(&self, l4: Mfn, visible: bool) {
        self.write(l4, Self::HYPERVISOR_SLOTS.start, if visible { HYPERVISOR_ENTRY } else { 0 });
    }
}

impl GrantMemory for Memory<true> {
    fn clear_bits(&self, page: Mfn, index: usize, bits: u64) {
        self.word(page, index).fetch_and(!bits, SeqCst);
    }

    /// A byte at a time, so that nothing else is touched.
    fn copy(&self, to: Mfn, to_offset: usize, from: Mfn, from_offset: usize, len: usize) {
        for n in 0..len {
            let (from, to) = (from.0 as usize * 4096 + from_offset + n, to.0 as usize * 4096 + to_offset + n);
            let byte = self.words[from / 8].load(SeqCst) >> (from % 8 * 8) & 0xff;
            let word = &self.words[to / 8];
            word.store(word.load(SeqCst) & !(0xff << (to % 8 * 8)) | byte << (to % 8 * 8), SeqCst);
        }
    }
}

impl<const REAL: bool> MachineToPhys for Memory<REAL> {
    fn store(&self, mfn: Mfn, entry: u64) {
        self.m2p[mfn.0 as usize].store(entry, SeqCst);
    }
}

/// A page that a CPU can reach without looking at a table again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Cached {
    mfn: Mfn,
    writable: bool,
    owner: Option<DomainId>,
}

/// A CPU's TLB and paging-structure caches. They only lose anything in a full flush. The same goes for what its shadow root
/// has shown it.
pub struct Tlb {
    pages: BTreeSet<Cached>,
    tables: BTreeSet<(Mfn, Level, Option<DomainId>)>,
    /// What the shadow root is a copy of.
    shadow: Source,
}

impl Default for Tlb {
    fn default() -> Tlb {
        Tlb { pages: BTreeSet::new(), tables: BTreeSet::new(), shadow: Source::NONE }
    }
}

impl Tlb {
    pub fn flush<const REAL: bool>(&mut self, machine: &Machine<REAL>, cpu: u32) {
        let ticket = machine.clock.begin();
        *self = Tlb { shadow: self.shadow, ..Tlb::default() };
        machine.clock.done(CpuId(cpu), ticket);
    }

    /// CR3 was loaded.
    pub fn load_root<const REAL: bool>(&mut self, machine: &Machine<REAL>, root: Mfn) {
        self.tables.insert((root, Level::L4, machine.table().known(root).owner()));
    }

    /// The CPU begins to run a guest, on its shadow root, with `root` in CR3 until then.
    pub fn enter_guest<const REAL: bool>(&mut self, machine: &Machine<REAL>, cpu: u32, root: Mfn) {
        let (memory, shadow) = (&machine.memory, machine.shadow(cpu));
        let source = Source { root, flushed: machine.clock.latest(CpuId(cpu)) };
        let renewed = shadow::renew(memory, shadow, mem::replace(&mut self.shadow, source), source);
        for index in shadow::copied_slots::<Memory<REAL>>().into_iter().flatten() {
            let entry = Entry(memory.read(shadow, index));
            assert!(!renewed || entry.0 == memory.read(root, index), "slot {index} is no copy");
            if !Memory::<REAL>::HYPERVISOR_SLOTS.contains(&index) && entry.is_present() {
                // What it sees now it remembers; what it saw before it could remember.
                let known = self.sees_table(machine, entry);
                assert!(renewed || known, "slot {index} of a shadow root is older than the CPU's flush");
            }
        }
    }

    /// The guest that runs with `root` faults at an address, or flushes it.
    pub fn follow<const REAL: bool>(&mut self, machine: &Machine<REAL>, cpu: u32, root: Mfn, address: GuestVa) {
        if self.shadow.root != root {
            return;
        }
        let shadow = machine.shadow(cpu);
        shadow::follow(&machine.memory, shadow, root, address);
        assert!(!shadow::follow(&machine.memory, shadow, root, address), "a guest would try again for ever");
        let entry = Entry(machine.memory.read(shadow, index_of(address, Level::L4)));
        if entry.is_present() {
            self.sees_table(machine, entry);
        }
    }

    /// Remembers the L3 table that an entry names. Whether it did so before.
    fn sees_table<const REAL: bool>(&mut self, machine: &Machine<REAL>, entry: Entry) -> bool {
        let owner = machine.table().known(entry.frame()).owner();
        !self.tables.insert((entry.frame(), Level::L3, owner))
    }

    /// The CPU walks one step from any table it knows of, sets accessed and dirty bits, and keeps what it finds.
    pub fn walk<const REAL: bool>(&mut self, machine: &Machine<REAL>, which: usize, index: usize) {
        let Some(&(page, level, _)) = self.tables.iter().nth(which % self.tables.len().max(1)) else { return };
        let index = index % Memory::<REAL>::ENTRIES;
        let entry = Entry(machine.memory.read(page, index));
        let hypervisor = level == Level::L4 && Memory::<REAL>::HYPERVISOR_SLOTS.contains(&index);
        if hypervisor || !entry.is_present() || machine.table().is_device(entry.frame()) {
            return;
        }
        let dirty = if level == Level::L1 && entry.is_writable() { DIRTY } else { 0 };
        machine.memory.write(page, index, entry.0 | ACCESSED | dirty);
        let owner = machine.table().known(entry.frame()).owner();
        if let Some(below) = level.below() {
            self.tables.insert((entry.frame(), below, owner));
        } else {
            self.pages.insert(Cached { mfn: entry.frame(), writable: entry.is_writable(), owner });
        }
    }

    /// The guest stores through any writable translation the CPU has, however old.
    pub fn store<const REAL: bool>(&self, machine: &Machine<REAL>, which: usize, index: usize, value: u64) {
        let mut writable = self.pages.iter().filter(|page| page.writable);
        let count = writable.clone().count().max(1);
        if let Some(page) = writable.nth(which % count) {
            machine.memory.write(page.mfn, index % Memory::<REAL>::ENTRIES, value);
        }
    }

    /// Nothing that the CPU can reach on its own is what it must not reach.
    pub fn check<const REAL: bool>(&self, machine: &Machine<REAL>) {
        for &(mfn, level, owner) in &self.tables {
            let frame = machine.table().known(mfn);
            let state = frame.state();
            if state.usage() != Usage::InUse || frame.owner().is_none() {
                // Free: its contents are what they were, and it is flushed before they change.
                continue;
            }
            assert_eq!(frame.owner(), owner, "a CPU walks {mfn:?}, which changed hands");
            let same = state.type_references() == 0 || state.frame_type() == level.frame_type();
            assert!(same, "a CPU walks {mfn:?} as {level:?}, and it is {state:?}");
        }
        for page in &self.pages {
            let frame = machine.table().known(page.mfn);
            let state = frame.state();
            if state.usage() != Usage::InUse || frame.owner().is_none() {
                continue;
            }
            assert_eq!(frame.owner(), page.owner, "a CPU maps {:?}, which changed hands", page.mfn);
            let harmless = state.type_references() == 0 || state.frame_type() == FrameType::Writable;
            assert!(!page.writable || harmless, "a CPU can write to {:?}, and it is {state:?}", page.mfn);
        }
    }
}
