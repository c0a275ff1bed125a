//! The stores that Linux makes for each page that it takes from a process or shares with a child, by a way that takes a
//! third of the steps: all that can be found out about them is, when they are decoded, and what is seldom so, from a single
//! step to a refusal, is left to [`store_to_table`](super::store_to_table).

use super::super::cpu::GuestCpu;
use super::super::encoding::{Base, Memory};
use super::super::fetch::Code;
use super::super::instruction::{AddressSize, Gpr, OperandSize, Segment};
use super::super::{RFLAGS_TF, advance};
use super::TableEntry;
use super::arithmetic;
use super::decode::{Action, Binary, Register, Source, Store};
use super::known::KnownStores;
use crate::guest::GuestRegisters;
use pv_abi::trap::FLAT_RING3_CS64;

/// A store to an address that is a register plus a constant: `xchg` of a whole entry with a register, as in
/// `ptep_get_and_clear`, or `and` of a byte with a constant, as in `ptep_set_wrprotect`.
///
/// As numbers, with which both are the same up to the end: with a branch for each, the compiler makes two ways of it.
#[derive(Clone, Copy, Debug)]
pub struct Common {
    base: Word,
    displacement: u64,
    /// The bits of the operand that `and` clears, or all that are exchanged.
    cleared: u64,
    /// The register that is exchanged.
    register: Word,
    /// All bits if it is exchanged, else none.
    exchanged: u64,
    length: u8,
}

/// The place of a general register's value: its number among the words of [`GuestRegisters`].
#[derive(Clone, Copy, Debug)]
struct Word(u8);

impl Word {
    fn of(gpr: Gpr) -> Word {
        Word(gpr.word())
    }

    #[inline]
    fn of_regs(self, regs: &mut GuestRegisters) -> &mut u64 {
        &mut regs.words()[usize::from(self.0)]
    }
}

impl Common {
    /// `None` for other stores.
    pub(super) fn of(store: &Store) -> Option<Common> {
        let &Store { action, size, to, length } = store;
        let Memory {
            segment: Segment::Flat,
            base: Base::Register(base),
            index: None,
            displacement,
            size: AddressSize::Bits64,
        } = to
        else {
            return None;
        };
        let (cleared, register, exchanged) = match (action, size) {
            (Action::Xchg(Register { gpr, high_byte: false }), OperandSize::Qword) => (u64::MAX, gpr, u64::MAX),
            (Action::Binary(Binary::And, Source::Immediate(value)), OperandSize::Byte) => (!value & 0xff, Gpr::Rax, 0),
            _ => return None,
        };
        let (base, register) = (Word::of(base), Word::of(register));
        Some(Common { base, displacement, cleared, register, exchanged, length })
    }
}

/// Carries out the instruction that took a page fault at `fault_address`, if it is a common store to `entry`, which that
/// address names, and was decoded before. Else nothing has changed, and [`store_to_table`](super::store_to_table) is to be
/// asked.
///
/// The caller has asked [`may_be_table_store`](super::may_be_table_store).
#[inline(always)]
pub fn common_store(
    stores: &KnownStores,
    regs: &mut GuestRegisters,
    cpu: &mut impl GuestCpu,
    fault_address: u64,
    entry: &mut impl TableEntry,
) -> bool {
    if (regs.cs & 0xffff) as u16 != FLAT_RING3_CS64 || regs.rflags & RFLAGS_TF != 0 {
        return false;
    }
    let Some(code) = Code::fetch_in_page(cpu, regs.rip) else { return false };
    let Some(store) = stores.common(regs.rip, &code) else { return false };
    if store.base.of_regs(regs).wrapping_add(store.displacement) != fault_address {
        return false;
    }
    // What is exchanged may not lie in two entries.
    if fault_address & store.exchanged & 7 != 0 {
        return false;
    }
    let shift = fault_address % 8 * 8;
    let (cleared, set) = (store.cleared << shift, *store.register.of_regs(regs) & store.exchanged);
    let mut was = 0;
    let changed = entry.change(|old| {
        was = old;
        Some(old & !cleared | set)
    });
    if changed.is_err() {
        return false;
    }
    if store.exchanged == 0 {
        let (to, value) = (was >> shift & 0xff, !store.cleared & 0xff);
        regs.rflags = arithmetic::binary(Binary::And, OperandSize::Byte, to, value, regs.rflags).rflags;
    } else {
        *store.register.of_regs(regs) = was;
    }
    // A guest address: see `Code::words`.
    advance(regs, regs.rip.wrapping_add(store.length.into()));
    true
}
