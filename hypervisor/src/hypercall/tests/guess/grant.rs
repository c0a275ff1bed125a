//! Guesses at grants: what a domain writes in its table, and calls about it.

use super::*;
use crate::grant::Uses;
use crate::mm::operation::PageTableMem;
use pv_abi::grant::*;

/// References and handles that tests meet at.
const LOW: u64 = 4;

impl Guess<'_, '_> {
    /// A call about grants.
    pub(super) fn grants(&mut self, at: u64) -> (u32, Vec<u64>) {
        let count = 1 + self.random.next(3);
        let command = match self.random.next(20) {
            0..8 => self.list(at, count, Guess::map_grant, GNTTABOP_MAP_GRANT_REF),
            8..13 => self.list(at, count, Guess::unmap_grant, GNTTABOP_UNMAP_GRANT_REF),
            13 => self.list(at, count, Guess::replace_grant, GNTTABOP_UNMAP_AND_REPLACE),
            14..17 => self.list(at, count, Guess::copy_grant, GNTTABOP_COPY),
            17 => self.list(at, count, Guess::swap_grants, GNTTABOP_SWAP_GRANT_REF),
            18 => {
                let nr_frames = self.random.next(4) as u32;
                let request =
                    GnttabSetupTable { dom: self.granter(), nr_frames, frame_list: at + INPUTS, ..Default::default() };
                self.world.fake.put(at, request.as_bytes());
                return (number::GRANT_TABLE_OP, vec![GNTTABOP_SETUP_TABLE.into(), at, 1]);
            }
            _ => self.random.next(14) as u32,
        };
        (number::GRANT_TABLE_OP, vec![command.into(), at, if self.odd(40) { 1 << 20 } else { count }])
    }

    fn list<T: IntoBytes + zerocopy::Immutable>(
        &mut self,
        at: u64,
        count: u64,
        mut one: impl FnMut(&mut Self) -> T,
        command: u32,
    ) -> u32 {
        for n in 0..count {
            let request = one(self);
            self.world.fake.put(at + n * size_of::<T>() as u64, request.as_bytes());
        }
        command
    }

    fn granter(&mut self) -> u16 {
        const ODD: [u16; 3] = [2, 0x7ff0, 0x7ff1];
        if self.odd(20) { ODD[self.random.next(3) as usize] } else { self.random.next(2) as u16 }
    }

    fn reference(&mut self) -> u32 {
        const ODD: [u32; 4] = [511, 512, 1024, u32::MAX];
        if self.odd(20) { ODD[self.random.next(4) as usize] } else { self.random.next(LOW) as u32 }
    }

    /// Where a mapping is or could be; with `by_entry` as a machine address.
    fn host_addr(&mut self, by_entry: bool) -> u64 {
        if by_entry {
            return self.table(Level::L1).0.wrapping_shl(12) | self.index() << 3 | if self.odd(20) { 4 } else { 0 };
        }
        if self.odd(20) { u64::MAX } else { self.index() << 12 }
    }

    fn map_grant(&mut self) -> GnttabMapGrantRef {
        let flags = match self.random.next(12) {
            0 => self.random.next(32) as u32,
            n => {
                [1, 2, 3][n as usize % 3] | [0, 4][self.random.next(2) as usize] | [0, 16][self.random.next(2) as usize]
            }
        };
        GnttabMapGrantRef {
            host_addr: self.host_addr(flags & 16 != 0),
            flags,
            gref: self.reference(),
            dom: self.granter(),
            ..Default::default()
        }
    }

    /// A handle of the domain, and what it stands for.
    fn handle(&mut self) -> (u32, Option<(Mfn, Uses)>) {
        let handles = self.world.fake.grants().numbered_handles();
        if handles.is_empty() || self.odd(10) {
            return (self.random.next(300) as u32, None);
        }
        let (number, mfn, uses) = handles[self.random.next(handles.len() as u64) as usize];
        (number, Some((mfn, uses)))
    }

    /// Where that frame is mapped by the tables of the domain, if it is; as an address or as an entry.
    fn place_of(&mut self, mfn: Mfn) -> u64 {
        let by_entry = self.odd(2);
        let machine = self.world.fake.machine;
        let own = DomainId(self.world.fake.domain as u16);
        for (n, frame) in (0..).zip(&machine.frames) {
            let table = frame.owner() == Some(own) && kind_of(frame.state()) == FrameType::L1;
            for index in (0..if table { 8 } else { 0 }).filter(|_| table) {
                let entry = machine.memory.read(Mfn(n), index);
                if entry & P != 0 && entry >> 12 & 0xff_ffff_ffff == mfn.0 && !self.odd(3) {
                    return if by_entry { n << 12 | (index as u64) << 3 } else { (index as u64) << 12 };
                }
            }
        }
        self.host_addr(by_entry)
    }

    fn unmap_grant(&mut self) -> GnttabUnmapGrantRef {
        let (handle, known) = self.handle();
        let host_addr = match known {
            _ if self.odd(6) => 0,
            Some((mfn, _)) => self.place_of(mfn),
            None => self.host_addr(false),
        };
        let dev_bus_addr = match known {
            _ if self.odd(2) => 0,
            Some((mfn, _)) => mfn.base().0,
            None => 0x5000,
        };
        GnttabUnmapGrantRef { host_addr, dev_bus_addr, handle, ..Default::default() }
    }

    fn replace_grant(&mut self) -> GnttabUnmapAndReplace {
        let GnttabUnmapGrantRef { host_addr, handle, .. } = self.unmap_grant();
        let new_addr = if self.odd(4) { 0 } else { self.host_addr(false) };
        GnttabUnmapAndReplace { host_addr, new_addr, handle, ..Default::default() }
    }

    fn copy_end(&mut self, by_grant: bool) -> GnttabCopyPtr {
        let offset = [0, 8, 100, 4000, 4095][self.random.next(5) as usize];
        let (u, domid) = if by_grant {
            (self.reference().into(), self.granter())
        } else {
            (self.frame(|_| true).0, if self.odd(20) { 0 } else { 0x7ff0 })
        };
        GnttabCopyPtr { u, domid, offset, _pad: 0 }
    }

    fn copy_grant(&mut self) -> GnttabCopy {
        let flags = self.random.next(4) as u16;
        let (source, dest) = (self.copy_end(flags & 1 != 0), self.copy_end(flags & 2 != 0));
        GnttabCopy { source, dest, len: [0, 1, 8, 96, 4096][self.random.next(5) as usize], flags, ..Default::default() }
    }

    fn swap_grants(&mut self) -> GnttabSwapGrantRef {
        GnttabSwapGrantRef { ref_a: self.reference(), ref_b: self.reference(), ..Default::default() }
    }

    /// The domain writes an entry of its table.
    pub fn write_grant(&mut self) {
        let own = self.world.fake.domain;
        let gref = self.random.next(LOW) as u32;
        let frame = self.frame(|_| true).0 & 0xffff_ffff;
        let flags = match self.random.next(8) {
            0 => 0,
            1 => self.random.next(0x200),
            n => [GTF_PERMIT_ACCESS, GTF_PERMIT_ACCESS | GTF_READONLY][n as usize % 2].into(),
        };
        // Bits that say that it is in use would mislead nobody but the domain, and the check.
        let flags = flags & !u64::from(GTF_READING | GTF_WRITING);
        let value = frame << 32 | self.random.next(2) << 16 | flags;
        let Some(page) = self.world.fake.grants().frame(0) else { return };
        if self.world.fake.grants().uses_of(gref) == (0, 0) {
            self.world.tampered.remove(&(own, gref));
        } else {
            self.world.tampered.insert((own, gref));
        }
        self.world.fake.machine.memory.write(page, gref as usize, value);
    }
}
