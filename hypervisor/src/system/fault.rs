//! Page faults of guests.
//!
//! In this order: a descriptor in the guest's LDT that the CPU looked for, or an `iretq` that QEMU can't do; a store to a
//! page table, which the guest may have asked us to carry out; an access that the page tables allow by now, made through a
//! translation that was older; all else is left to the guest kernel.

use pv_abi::trap::VMASST_TYPE_WRITABLE_PAGETABLES;

use super::descriptors::{self, Filled};
use super::memory::Memory;
use super::world::World;
use crate::addr::{GuestVa, Mfn};
use crate::arch::descriptors::window_offset;
use crate::bounce::Exception;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::emulate::Outcome;
use crate::emulate::iretq::iretq;
use crate::emulate::table_store::{self, NotChanged, TableEntry};
use crate::guest::GuestRegisters;
use crate::mm::pending::Pending;
use crate::mm::perform::Unfinished;
use crate::mm::walk::Access;

/// Bits of the error code, SDM volume 3, 4.7.
const PRESENT: u32 = 1 << 0;
const WRITE: u32 = 1 << 1;
const USER: u32 = 1 << 2;
const FETCH: u32 = 1 << 4;

/// The exception for the guest's handler, if a page fault at `address`, where no page is present, is left to it. `None`:
/// [`page_fault`] is to be asked, as for all there may be more to.
#[inline]
pub fn guests_own(vcpu: &Vcpu, regs: &GuestRegisters, address: u64) -> Option<Exception> {
    // What is not present is in no TLB and no page table of the guest's; what the CPU itself reads are descriptors.
    if regs.error_code & USER != 0 { Some(exception(vcpu, regs.error_code, address)) } else { None }
}

/// Carries out a store to a page table that is a [common](table_store::common) one, if the page fault at `address` is such.
/// Else nothing has changed, and [`page_fault`] is to be asked.
#[inline(always)]
pub fn common_store(vcpu: &mut Vcpu, regs: &mut GuestRegisters, world: &mut World<'_>, address: u64) -> bool {
    if !may_be_table_store(vcpu, regs) || !vcpu.pending.is_drained() {
        return false;
    }
    let (Some(root), Some(address_in_space)) = (vcpu.roots.kernel, GuestVa::new(address)) else { return false };
    let memory = Memory(world.domain);
    let mut entry = AtOnce { memory, root, address: address_in_space, pending: &mut vcpu.pending };
    table_store::common::common_store(&vcpu.stores, regs, world, address, &mut entry)
}

/// Handles a page fault that the guest took in ring 3 at `address`.
#[inline(never)]
pub fn page_fault(vcpu: &mut Vcpu, regs: &mut GuestRegisters, world: &mut World<'_>, address: u64) -> Outcome {
    let code = regs.error_code;
    // The CPU reads descriptors with its own rights, whoever runs.
    if code & USER == 0
        && let Some(offset) = window_offset(address)
    {
        let address = vcpu.ldt.base.map_or(0, GuestVa::get).wrapping_add(offset);
        return match descriptors::fill(world.domain, vcpu, &mut world.local.tables, offset) {
            Filled::Yes | Filled::Again => Outcome::Resume,
            Filled::No => raise(vcpu, code, address),
        };
    }
    if code & USER == 0
        && let Some(outcome) = iretq(vcpu, regs, world)
    {
        return outcome;
    }
    if let Some(outcome) = store_to_table(vcpu, regs, world, address) {
        return outcome;
    }
    // What is not present is in no TLB, so there is nothing to be done about it.
    if code & PRESENT != 0 && is_allowed(vcpu, world, code, address) && !is_repeated(vcpu, regs, address) {
        return Outcome::Resume;
    }
    raise(vcpu, code, address)
}

/// Whether the fault may be a store to a page table, and the guest wants that to be carried out.
#[inline]
fn may_be_table_store(vcpu: &Vcpu, regs: &GuestRegisters) -> bool {
    table_store::may_be_table_store(vcpu, regs) && vcpu.assists.has(VMASST_TYPE_WRITABLE_PAGETABLES)
}

/// Carries out a store to a page table, if the guest wants that and it is one.
fn store_to_table(vcpu: &mut Vcpu, regs: &mut GuestRegisters, world: &mut World<'_>, address: u64) -> Option<Outcome> {
    if !may_be_table_store(vcpu, regs) {
        return None;
    }
    let root = vcpu.roots.kernel?;
    let address_in_space = GuestVa::new(address)?;
    let memory = Memory(world.domain);
    // What an earlier call left is finished first.
    if !vcpu.pending.is_drained() && memory.step(&mut vcpu.pending, |op, _| op.drain()).is_err() {
        return Some(Outcome::Resume);
    }
    let mut entry = Entry { memory, root, address: address_in_space, pending: Pending::new() };
    let outcome = table_store::store_to_table(vcpu, regs, world, address, &mut entry);
    if !entry.pending.is_drained() {
        // Meanwhile other vCPUs have dropped all other references to the table: ours was the last, and its entries are to be
        // let go of, by this vCPU's next call.
        vcpu.pending.adopt(&mut entry.pending);
    }
    outcome
}

/// What may be an entry of an L1 table, where the guest has mapped the table.
struct Entry<'a> {
    memory: Memory<'a>,
    root: Mfn,
    address: GuestVa,
    /// What becomes the vCPU's: that is in use until then.
    pending: Pending,
}

impl TableEntry for Entry<'_> {
    #[inline(always)]
    fn change(&mut self, mut make: impl FnMut(u64) -> Option<u64>) -> Result<(), NotChanged> {
        let (root, address) = (self.root, self.address);
        self.memory.step(&mut self.pending, |op, _| op.change_mapped_table(root, address, &mut make)).map_err(|why| {
            match why {
                Unfinished::Again => NotChanged::Again,
                Unfinished::Refused(_) => NotChanged::Refused,
            }
        })
    }
}

/// As [`Entry`], but changed if that can be done at once.
struct AtOnce<'a> {
    memory: Memory<'a>,
    root: Mfn,
    address: GuestVa,
    pending: &'a mut Pending,
}

impl TableEntry for AtOnce<'_> {
    #[inline(always)]
    fn change(&mut self, make: impl FnMut(u64) -> Option<u64>) -> Result<(), NotChanged> {
        let changed = self.memory.change_mapped_table(self.pending, self.root, self.address, make);
        if changed { Ok(()) } else { Err(NotChanged::Again) }
    }
}

/// Gives the fault to the guest.
fn raise(vcpu: &Vcpu, code: u32, address: u64) -> Outcome {
    Outcome::Raise(exception(vcpu, code, address))
}

/// The fault as the guest's handler is to see it.
#[inline]
fn exception(vcpu: &Vcpu, code: u32, address: u64) -> Exception {
    vcpu.info.set_cr2(address);
    // Both of the guest's modes are ring 3 to the CPU; the guest wants to know which of its own it was.
    let from_user = if vcpu.mode == Mode::User { USER } else { 0 };
    Exception::page_fault(code & !USER | from_user)
}

/// Whether the page tables allow the access that faulted.
fn is_allowed(vcpu: &mut Vcpu, world: &World<'_>, code: u32, address: u64) -> bool {
    let (Some(root), Some(address)) = (vcpu.root(), GuestVa::new(address)) else { return false };
    let access = Access { write: code & WRITE != 0, fetch: code & FETCH != 0 };
    let allowed = Memory(world.domain).step(&mut vcpu.pending, |op, _| Ok(op.allows(root, address, access)));
    allowed == Ok(true)
}

/// Whether the same instruction faulted here just before, and that was absorbed: then there is more to it.
fn is_repeated(vcpu: &mut Vcpu, regs: &GuestRegisters, address: u64) -> bool {
    let fault = Some((regs.rip, address));
    core::mem::replace(&mut vcpu.absorbed_fault, fault) == fault
}
