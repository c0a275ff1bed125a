//! How arguments of the memory calls are laid out in the window.

use super::fake::BASE;
use super::world::World;
use pv_abi::domid::DOMID_SELF;
use pv_abi::hypercall as number;
use pv_abi::memory::{MemoryExchange, MemoryReservation};
use pv_abi::mmu::{MmuUpdate, MmuextOp};
use zerocopy::IntoBytes;

/// Where a call's structure or list is, and what it points to.
pub const REQUEST: u64 = BASE;
pub const DONE: u64 = BASE + 0x8000;
pub const BITMAP: u64 = BASE + 0x8008;
pub const INPUTS: u64 = BASE + 0x9000;
pub const OUTPUTS: u64 = BASE + 0xb000;

pub const OWN: u64 = DOMID_SELF as u64;

pub const fn operation(cmd: u32, arg1: u64, arg2: u64) -> MmuextOp {
    MmuextOp { cmd, _pad: 0, arg1, arg2 }
}

/// Extents whose numbers are at `start`.
pub fn extents(start: u64, count: u64, order: u32) -> MemoryReservation {
    MemoryReservation {
        extent_start: start,
        nr_extents: count,
        extent_order: order,
        domid: DOMID_SELF,
        ..Default::default()
    }
}

impl World<'_> {
    /// Machine address of an entry of one of the domain's first frames.
    pub fn at(&self, pfn: u64, index: u64) -> u64 {
        self.mfn(pfn).base().0 + 8 * index
    }

    /// Lays a list of updates out.
    pub fn put_updates(&mut self, list: &[(u64, u64)]) {
        for (n, &(ptr, val)) in (0..).zip(list) {
            self.fake.put(REQUEST + 16 * n, MmuUpdate { ptr, val }.as_bytes());
        }
    }

    /// Makes the updates: the result, and how many were done.
    pub fn mmu_update(&mut self, list: &[(u64, u64)]) -> (i64, u32) {
        self.put_updates(list);
        let result = self.result(number::MMU_UPDATE, &[REQUEST, list.len() as u64, DONE, OWN]);
        (result, self.fake.word(DONE) as u32)
    }

    /// Lays a list of operations out.
    pub fn put_operations(&mut self, list: &[MmuextOp]) {
        for (n, operation) in (0..).zip(list) {
            self.fake.put(REQUEST + 24 * n, operation.as_bytes());
        }
    }

    /// Makes the operations: the result, and how many were done.
    pub fn mmuext_op(&mut self, list: &[MmuextOp]) -> (i64, u32) {
        self.put_operations(list);
        let result = self.result(number::MMUEXT_OP, &[REQUEST, list.len() as u64, DONE, OWN]);
        (result, self.fake.word(DONE) as u32)
    }

    /// Makes one operation.
    pub fn operate(&mut self, cmd: u32, arg1: u64, arg2: u64) -> i64 {
        self.mmuext_op(&[operation(cmd, arg1, arg2)]).0
    }

    /// Lays out a request to change the reservation.
    pub fn put_extents(&mut self, request: MemoryReservation, numbers: &[u64]) {
        self.fake.put(REQUEST, request.as_bytes());
        self.fake.put_words(INPUTS, numbers);
    }

    /// Lays out an exchange.
    pub fn put_exchange(&mut self, request: MemoryExchange, inputs: &[u64], outputs: &[u64]) {
        self.fake.put(REQUEST, request.as_bytes());
        self.fake.put_words(INPUTS, inputs);
        self.fake.put_words(OUTPUTS, outputs);
    }
}
