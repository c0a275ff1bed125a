//! Guesses at arguments: mostly plausible ones, as a guest's would be, with an odd one now and then.

mod grant;

use super::fake::BASE;
use super::requests::{OWN, extents, operation};
use super::world::{P, RW, US, World, domain_of, entry};
use super::*;
use crate::mm::m2p::INVALID_ENTRY;
use crate::mm::state::{FrameType, Level};
use crate::mm::tests::Random;
use pv_abi::hypercall::MulticallEntry;
use pv_abi::memory::*;
use pv_abi::mmu::*;
use std::vec;
use std::vec::Vec;
use zerocopy::IntoBytes;

/// What a call is about.
#[derive(Clone, Copy, Debug)]
pub enum Subject {
    Updates,
    Operations,
    Mapping,
    OtherMapping,
    Gdt,
    Descriptor,
    Decrease,
    Increase,
    Populate,
    Exchange,
    Assist,
    Grants,
    Multicall,
}

/// Bytes of the window for the arguments of one vCPU, and of one call in a list.
const PER_VCPU: u64 = 0x4000;
const PER_CALL: u64 = 0xc00;
/// Where in those: what a call's structure points to.
const DONE: u64 = 0x600;
const BITMAP: u64 = 0x608;
const INPUTS: u64 = 0x700;
const OUTPUTS: u64 = 0x800;

pub struct Guess<'a, 'b> {
    pub world: &'a mut World<'b>,
    pub random: &'a mut Random,
}

impl Guess<'_, '_> {
    /// A call of the current vCPU: the number and the arguments, with what they point to in place.
    pub fn call(&mut self, subject: Subject) -> (u32, Vec<u64>) {
        let at = BASE + self.world.current as u64 * PER_VCPU;
        match subject {
            Subject::Multicall => self.multicall(at),
            _ => self.single(subject, at),
        }
    }

    fn multicall(&mut self, at: u64) -> (u32, Vec<u64>) {
        const SINGLE: [Subject; 12] = [
            Subject::Grants,
            Subject::Updates,
            Subject::Operations,
            Subject::Mapping,
            Subject::Mapping,
            Subject::OtherMapping,
            Subject::Gdt,
            Subject::Descriptor,
            Subject::Decrease,
            Subject::Populate,
            Subject::Exchange,
            Subject::Increase,
        ];
        let count = 1 + self.random.next(4);
        for n in 0..count {
            let subject = SINGLE[self.random.next(SINGLE.len() as u64) as usize];
            let (number, mut args) = self.single(subject, at + (n + 1) * PER_CALL);
            args.resize(6, 0);
            let entry = MulticallEntry { op: number.into(), result: 0, args: args.try_into().unwrap() };
            self.world.fake.put(at + 64 * n, entry.as_bytes());
        }
        (number::MULTICALL, vec![at, count])
    }

    fn single(&mut self, subject: Subject, at: u64) -> (u32, Vec<u64>) {
        match subject {
            Subject::Updates => self.updates(at),
            Subject::Operations => self.operations(at),
            Subject::Mapping => (number::UPDATE_VA_MAPPING, self.mapping(at)),
            Subject::OtherMapping => {
                let mut args = self.mapping(at);
                args.push(self.named());
                (number::UPDATE_VA_MAPPING_OTHERDOMAIN, args)
            }
            Subject::Gdt => self.gdt(at),
            Subject::Descriptor => {
                let kind = [FrameType::Descriptors, FrameType::None][self.random.next(2) as usize];
                let page = self.frame(|state| kind_of(state) == kind);
                (number::UPDATE_DESCRIPTOR, vec![page.base().0 + 8 * self.index(), self.descriptor()])
            }
            Subject::Decrease => self.reservation(at, XENMEM_DECREASE_RESERVATION),
            Subject::Increase => self.reservation(at, XENMEM_INCREASE_RESERVATION),
            Subject::Populate => self.reservation(at, XENMEM_POPULATE_PHYSMAP),
            Subject::Exchange => self.exchange(at),
            Subject::Grants => self.grants(at),
            Subject::Assist | Subject::Multicall => (number::VM_ASSIST, vec![self.random.next(2), 32]),
        }
    }

    /// One in so many is odd.
    fn odd(&mut self, rarity: u64) -> bool {
        self.random.next(rarity) == 0
    }

    /// An index into a table; most are low, so that updates meet.
    pub fn index(&mut self) -> u64 {
        const ODD: [u64; 6] = [7, 255, 256, 271, 272, 511];
        if self.odd(8) { ODD[self.random.next(6) as usize] } else { self.random.next(4) }
    }

    /// A frame of the domain whose state fits, if there is one; else any number.
    fn frame(&mut self, fits: impl Fn(State) -> bool) -> Mfn {
        let own = DomainId(domain_of(self.world.current) as u16);
        let other = DomainId(1 - own.0);
        let owner = if self.odd(12) { other } else { own };
        let frames = &self.world.fake.machine.frames;
        let fitting = |(_, frame): &(u64, &crate::mm::frame::Frame)| {
            frame.owner() == Some(owner) && frame.state().has_allocation() && fits(frame.state())
        };
        let fitting: Vec<u64> = (0..).zip(frames).filter(fitting).map(|(n, _)| n).collect();
        if fitting.is_empty() || self.odd(40) {
            const ODD: [u64; 5] = [64, 1 << 30, 1 << 40, u64::MAX >> 12, u64::MAX];
            let mfn = Mfn(if self.odd(4) { ODD[self.random.next(5) as usize] } else { self.random.next(66) });
            // What is written to a grant table is a grant, which the check would have to know.
            let mut tables = self.world.fake.domains.iter().flat_map(|domain| [0, 1].map(|n| domain.grants.frame(n)));
            return if tables.any(|table| table == Some(mfn)) { Mfn(65) } else { mfn };
        }
        Mfn(fitting[self.random.next(fitting.len() as u64) as usize])
    }

    /// A frame that is a table of the level, or could become one.
    fn table(&mut self, level: Level) -> Mfn {
        let kind = if self.odd(3) { FrameType::None } else { level.frame_type() };
        self.frame(|state| kind_of(state) == kind)
    }

    fn level(&mut self) -> Level {
        [Level::L1, Level::L1, Level::L2, Level::L3, Level::L4][self.random.next(5) as usize]
    }

    /// An entry for a table of the level.
    fn entry(&mut self, level: Level) -> u64 {
        let mfn = match level.below() {
            Some(below) => self.table(below),
            None if self.odd(10) => Mfn(9),
            None => self.frame(|state| matches!(kind_of(state), FrameType::None | FrameType::Writable)),
        };
        let present = if self.odd(6) { 0 } else { P };
        let write = if self.odd(2) { 0 } else { RW };
        let odd = if self.odd(20) { 1 << self.random.next(64) } else { 0 };
        entry(Mfn(mfn.0 & 0xff_ffff_ffff), present | write | (self.random.next(2) * US) | odd)
    }

    /// An entry for some table.
    pub fn any_entry(&mut self) -> u64 {
        let level = self.level();
        self.entry(level)
    }

    /// The domain that a call names.
    fn named(&mut self) -> u64 {
        match self.random.next(20) {
            0 => self.random.next(4),
            1 | 2 if self.world.fake.domain == 0 => 1,
            3 => 1 << 16 | OWN,
            _ => OWN,
        }
    }

    /// Where the number of requests done goes.
    fn done(&mut self, at: u64) -> u64 {
        match self.random.next(10) {
            0 => 0,
            1 if self.odd(4) => 8,
            _ => at + DONE,
        }
    }

    fn updates(&mut self, at: u64) -> (u32, Vec<u64>) {
        let count = 1 + self.random.next(12);
        for n in 0..count {
            let level = self.level();
            let (page, index, value) = (self.table(level), self.index(), self.entry(level));
            let (command, value) = match self.random.next(20) {
                0 => (MMU_MACHPHYS_UPDATE, self.random.next(100)),
                1 | 2 => (MMU_PT_UPDATE_PRESERVE_AD, value),
                3 => (self.random.next(8), value),
                4..7 => (MMU_NORMAL_PT_UPDATE, 0),
                _ => (MMU_NORMAL_PT_UPDATE, value),
            };
            let update = MmuUpdate { ptr: (page.0 << 12 | index << 3) ^ command, val: value };
            self.world.fake.put(at + 16 * n, update.as_bytes());
        }
        (number::MMU_UPDATE, vec![at, count, self.done(at), self.named()])
    }

    fn operations(&mut self, at: u64) -> (u32, Vec<u64>) {
        self.world.fake.put_words(at + BITMAP, &[self.random.next(4)]);
        let count = 1 + self.random.next(4);
        for n in 0..count {
            let operation = self.operation(at);
            self.world.fake.put(at + 24 * n, operation.as_bytes());
        }
        (number::MMUEXT_OP, vec![at, count, self.done(at), self.named()])
    }

    fn operation(&mut self, at: u64) -> MmuextOp {
        let level = self.level();
        match self.random.next(24) {
            0..7 => operation(MMUEXT_PIN_L1_TABLE + level as u32 - 1, self.table(level).0, 0),
            7..12 => operation(MMUEXT_UNPIN_TABLE, self.frame(State::is_pinned).0, 0),
            12..14 => operation(MMUEXT_NEW_BASEPTR, self.table(Level::L4).0, 0),
            14 => operation(MMUEXT_NEW_USER_BASEPTR, 0, 0),
            15..17 => operation(MMUEXT_NEW_USER_BASEPTR, self.table(Level::L4).0, 0),
            17 => {
                let flush = MMUEXT_TLB_FLUSH_LOCAL + self.random.next(6) as u32;
                operation(flush, self.index() << 12, if self.odd(8) { 0 } else { at + BITMAP })
            }
            18..20 => operation(MMUEXT_SET_LDT, self.index() << 12, self.random.next(2) * 1024),
            20 => operation(MMUEXT_CLEAR_PAGE, self.frame(|state| kind_of(state) == FrameType::None).0, 0),
            21 => {
                let to = self.frame(|state| kind_of(state) == FrameType::None);
                operation(MMUEXT_COPY_PAGE, to.0, self.frame(|_| true).0)
            }
            _ => operation(self.random.next(24) as u32, self.frame(|_| true).0, 0),
        }
    }

    fn mapping(&mut self, at: u64) -> Vec<u64> {
        self.world.fake.put_words(at + BITMAP, &[self.random.next(4)]);
        let upper = if self.odd(3) { self.index() << (21 + 9 * self.random.next(3)) } else { 0 };
        let address = if self.odd(40) { u64::MAX } else { upper | self.index() << 12 };
        let flush = self.random.next(4);
        let scope = [UVMF_LOCAL, UVMF_ALL, at + BITMAP, 8][self.random.next(4) as usize];
        vec![address, self.entry(Level::L1), flush | scope]
    }

    fn gdt(&mut self, at: u64) -> (u32, Vec<u64>) {
        let pages = self.random.next(4);
        for n in 0..pages {
            let kind = [FrameType::Descriptors, FrameType::None][self.random.next(2) as usize];
            let mfn = self.frame(|state| kind_of(state) == kind);
            self.world.fake.put_words(at + 8 * n, &[mfn.0]);
        }
        (number::SET_GDT, vec![at, pages * 512])
    }

    fn descriptor(&mut self) -> u64 {
        const KINDS: [u64; 4] = [0, 0x00af_9b00_0000_ffff, 0x0000_8900_0000_0067, 0x00cf_f300_0000_ffff];
        KINDS[self.random.next(4) as usize]
    }

    /// Numbers of frames for requests about memory.
    fn put_frames(&mut self, at: u64, count: u64) {
        for n in 0..count {
            let unused = !self.odd(4);
            let mfn = self.frame(|state| !unused || state.references() == 1);
            self.world.fake.put_words(at + 8 * n, &[mfn.0]);
        }
    }

    fn reservation(&mut self, at: u64, command: u32) -> (u32, Vec<u64>) {
        let (count, order) = (self.random.next(5), if self.odd(3) { 1 } else { 0 });
        match command {
            XENMEM_DECREASE_RESERVATION => self.put_frames(at + INPUTS, count),
            _ => (0..count).for_each(|n| self.world.fake.put_words(at + INPUTS + 8 * n, &[n ^ INVALID_ENTRY])),
        }
        let start = if self.odd(10) { 0 } else { at + INPUTS };
        self.world.fake.put(at, extents(start, count, order).as_bytes());
        (number::MEMORY_OP, vec![command.into(), at])
    }

    fn exchange(&mut self, at: u64) -> (u32, Vec<u64>) {
        let groups = 1 + self.random.next(2);
        let (inputs, outputs) =
            [((2, 0), (1, 1)), ((1, 1), (2, 0)), ((1, 0), (1, 0)), ((4, 0), (1, 2))][self.random.next(4) as usize];
        self.put_frames(at + INPUTS, inputs.0 * groups);
        self.put_frames(at + OUTPUTS, outputs.0 * groups);
        let request = MemoryExchange {
            input: extents(at + INPUTS, inputs.0 * groups, inputs.1),
            output: extents(at + OUTPUTS, outputs.0 * groups, outputs.1),
            nr_exchanged: if self.odd(20) { self.random.next(5) } else { 0 },
        };
        self.world.fake.put(at, request.as_bytes());
        (number::MEMORY_OP, vec![XENMEM_EXCHANGE.into(), at])
    }
}

/// What a frame in that state is in use as.
fn kind_of(state: State) -> FrameType {
    if state.type_references() == 0 { FrameType::None } else { state.frame_type() }
}
