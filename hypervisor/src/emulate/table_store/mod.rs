//! Stores of a guest kernel to a page that is an L1 page table.
//!
//! Such a page is mapped read-only, so the store faults. Kernels change single entries this way nevertheless, with
//! `xchg`, `lock and`, `cmpxchg` and the like, where a hypercall could not tell them what was there. So the instruction
//! is carried out here, as a checked update of the one entry that it means (ABI: `VMASST_TYPE_writable_pagetables`).
//!
//! * `decode`: bytes to a `Store`; [`known`]: those that were decoded before; `common`: those made most;
//! * `arithmetic`: values and flags.
//!
//! Invariants:
//! * The only effect on memory is one [`TableEntry::change`] that succeeds, of the entry that faulted. What may be in a page
//!   table is decided behind it, never here.
//! * All or nothing: registers change after the entry, if that succeeds; after it nothing can fail.
//! * The work is bounded: a repeated string instruction makes one step.
//! * Whatever is not known to be such a store is none, and the guest's own page fault.

mod arithmetic;
pub mod common;
pub(super) mod decode;
pub mod known;

use super::cpu::{GuestCpu, Progress};
use super::encoding::{Base, Memory};
use super::execute::Context;
use super::fetch::Code;
use super::instruction::{Gpr, OperandSize};
use super::{Outcome, complete, is_64_bit, next_rip, single_step};
use crate::domain::vcpu::{Mode, Vcpu};
use crate::guest::GuestRegisters;
use arithmetic::{Computed, ZF};
use decode::{Action, Register, Source, Store};

/// The page-table entry that a fault address names: the eight bytes around it, in an L1 table of the guest's domain.
pub trait TableEntry {
    /// Puts what `make` makes of its value in the place of that, by the rules for page tables and at once; if that is `None`,
    /// it stays. `make` is asked again if others change the entry meanwhile, and what it said last counts.
    ///
    /// # Errors
    /// See [`NotChanged`]; nothing has changed then.
    fn change(&mut self, make: impl FnMut(u64) -> Option<u64>) -> Result<(), NotChanged>;
}

/// Why an entry was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotChanged {
    /// The new value is not allowed, or no L1 table is there: the guest gets its page fault.
    Refused,
    /// Not now: the guest is to execute the instruction again.
    Again,
}

/// The error code (SDM volume 3, 4.7) of a write from ring 3 to a page that is present.
const WRITE_TO_PRESENT: u32 = 0b111;

/// Can a page fault be a store to a page table at all? To be asked before looking for the entry, which costs more.
/// `regs` are those of the fault, with the CPU's error code.
#[inline]
pub fn may_be_table_store(vcpu: &Vcpu, regs: &GuestRegisters) -> bool {
    vcpu.mode == Mode::Kernel && regs.error_code == WRITE_TO_PRESENT
}

/// Carries out the instruction that took a page fault at `fault_address`, if it is a store to `entry`, which that
/// address names. `None` if it is none, or may not store that: the guest gets its page fault. Nothing has changed then.
pub fn store_to_table(
    vcpu: &mut Vcpu,
    regs: &mut GuestRegisters,
    cpu: &mut impl GuestCpu,
    fault_address: u64,
    entry: &mut impl TableEntry,
) -> Option<Outcome> {
    if !may_be_table_store(vcpu, regs) || !is_64_bit(regs, cpu) {
        return None;
    }
    let store = vcpu.stores.decode(regs.rip, &Code::fetch(cpu, regs.rip))?;
    let next = next_rip(regs.rip, store.length)?;
    let mut context = Context { vcpu, regs, cpu };
    if context.destination(&store, next) != fault_address {
        return None;
    }
    let operand = Operand::at(fault_address, store.size)?;
    let source = context.source(&store, next)?;
    let mut made = Made { value: None, rflags: 0, loaded: None };
    let changed = entry.change(|old| {
        made = execute(&store, operand.value(old), source, context.regs);
        made.value.map(|value| operand.merge(old, value))
    });
    match changed {
        Ok(()) => made.take_effect(store.size, context.regs),
        Err(NotChanged::Refused) => return None,
        Err(NotChanged::Again) => return Some(Outcome::Resume),
    }
    Some(match context.end_of_step(&store) {
        Progress::Done => complete(vcpu, regs, next),
        Progress::Again => single_step(vcpu, regs),
    })
}

/// What an instruction makes of its operands.
struct Made {
    /// The new value of the operand in memory; `None` if it stays as it is.
    value: Option<u64>,
    rflags: u64,
    /// A register, and what is loaded into it.
    loaded: Option<(Register, u64)>,
}

impl Made {
    fn new(Computed { value, rflags }: Computed) -> Made {
        Made { value: Some(value), rflags, loaded: None }
    }

    /// Changes the registers.
    #[inline]
    fn take_effect(self, size: OperandSize, regs: &mut GuestRegisters) {
        regs.rflags = self.rflags;
        if let Some((register, value)) = self.loaded {
            register.write(regs, size, value);
        }
    }
}

/// What becomes of the operand in memory, whose value is `old`, and of the registers.
#[inline]
fn execute(store: &Store, old: u64, source: u64, regs: &GuestRegisters) -> Made {
    let (size, rflags) = (store.size, regs.rflags);
    let moved = Made { value: Some(source), rflags, loaded: None };
    match store.action {
        Action::Mov(_) | Action::Movs { .. } | Action::Stos { .. } => moved,
        Action::Xchg(register) => Made { loaded: Some((register, old)), ..moved },
        Action::Cmpxchg(_) => {
            let accumulator = Register { gpr: Gpr::Rax, high_byte: false };
            let difference = arithmetic::subtract(size, accumulator.read(regs, size), old, 0, rflags);
            let moved = Made { rflags: difference.rflags, ..moved };
            if difference.rflags & ZF != 0 {
                return moved;
            }
            // A CPU would write the old value back; that it was read at once is all that can be seen of it.
            Made { value: None, loaded: Some((accumulator, old)), ..moved }
        }
        Action::Xadd(register) => {
            Made { loaded: Some((register, old)), ..Made::new(arithmetic::add(size, old, source, 0, rflags)) }
        }
        Action::Binary(operation, _) => Made::new(arithmetic::binary(operation, size, old, source, rflags)),
        Action::Unary(operation) => Made::new(arithmetic::unary(operation, size, old, rflags)),
        Action::Bit(operation, _) => Made::new(arithmetic::bit(operation, size, old, source, rflags)),
    }
}

impl<C: GuestCpu> Context<'_, C> {
    /// The address of the operand that is written.
    fn destination(&self, store: &Store, next: u64) -> u64 {
        let Action::Bit(_, Source::Register(register)) = store.action else { return self.address(store.to, next) };
        // The register is a signed number of bits, from the operand at the address given.
        let unused = 64 - store.size.bits();
        let index = (register.read(self.regs, store.size) << unused).cast_signed() >> unused;
        let operands = index.div_euclid(store.size.bits().cast_signed()).cast_unsigned();
        let distance = operands.wrapping_mul(store.size.bytes());
        self.address(Memory { displacement: store.to.displacement.wrapping_add(distance), ..store.to }, next)
    }

    fn address(&self, memory: Memory, next: u64) -> u64 {
        let base = match memory.base {
            Base::Zero => 0,
            Base::Register(gpr) => gpr.read(self.regs),
            Base::NextInstruction => next,
        };
        let index = memory.index.map_or(0, |(gpr, shift)| gpr.read(self.regs) << shift);
        let offset = memory.size.clip(base.wrapping_add(index).wrapping_add(memory.displacement));
        self.base_of(memory.segment).wrapping_add(offset)
    }

    /// The value of the operand that is not written; 0 if there is none. `None` if it can't be read, and for a string
    /// instruction that has nothing left to do.
    fn source(&mut self, store: &Store, next: u64) -> Option<u64> {
        let size = store.size;
        let register = |register: Register| register.read(self.regs, size);
        let value = match store.action {
            Action::Mov(Source::Immediate(value))
            | Action::Binary(_, Source::Immediate(value))
            | Action::Bit(_, Source::Immediate(value)) => value,
            Action::Mov(Source::Register(from))
            | Action::Binary(_, Source::Register(from))
            | Action::Bit(_, Source::Register(from))
            | Action::Xchg(from)
            | Action::Cmpxchg(from)
            | Action::Xadd(from) => register(from),
            Action::Unary(_) => 0,
            Action::Movs { repeat, .. } | Action::Stos { repeat } if self.is_exhausted(store.to.size, repeat) => {
                return None;
            }
            Action::Stos { .. } => self.regs.rax,
            Action::Movs { from, .. } => self.read(self.address(from, next), size)?,
        };
        Some(value & size.mask())
    }

    fn read(&mut self, from: u64, size: OperandSize) -> Option<u64> {
        let mut bytes = [0; 8];
        self.cpu.read_bytes(from, bytes.get_mut(..usize::try_from(size.bytes()).ok()?)?).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// String instructions move on after a step.
    fn end_of_step(&mut self, store: &Store) -> Progress {
        let address_size = store.to.size;
        let repeat = match store.action {
            Action::Movs { repeat, .. } => {
                self.move_on(Gpr::Rsi, store.size.bytes(), address_size);
                repeat
            }
            Action::Stos { repeat } => repeat,
            _ => return Progress::Done,
        };
        self.move_on(Gpr::Rdi, store.size.bytes(), address_size);
        self.count_down(address_size, repeat)
    }
}

/// The operand's place in its entry.
#[derive(Clone, Copy)]
struct Operand {
    shift: u64,
    mask: u64,
}

impl Operand {
    /// `None` if it isn't aligned to its size; so it lies in one entry, and the CPU's alignment check can't have found
    /// fault with it.
    fn at(address: u64, size: OperandSize) -> Option<Operand> {
        address.is_multiple_of(size.bytes()).then_some(Operand { shift: address % 8 * 8, mask: size.mask() })
    }

    /// Its value in an entry.
    fn value(self, entry: u64) -> u64 {
        entry >> self.shift & self.mask
    }

    /// The entry with another value in the operand's place.
    fn merge(self, entry: u64, value: u64) -> u64 {
        entry & !(self.mask << self.shift) | value << self.shift
    }
}
