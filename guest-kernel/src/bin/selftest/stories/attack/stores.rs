//! Stores to page tables by every instruction that can store: those that the hypervisor emulates are judged as updates
//! are, and the others fault.

use super::writable::{is_sealed, tables_in_use};
use crate::check::{Told, equal, holds};
use crate::stories::mmu::emulated::assist;
use crate::stories::mmu::ground::*;
use alloc::format;
use guest_kernel::trap::{Caught, RECOVERY};
use guest_kernel::{catch, probe};

type Attempt = (&'static str, Option<Caught>);

/// Tries to store `value` at `at`, in many ways; what each trapped with.
fn attempts(at: u64, value: u64) -> [Attempt; 14] {
    // SAFETY: the callers name places that can't be written; registers that change are declared or put back.
    unsafe {
        [
            ("mov", catch!(["mov [{at}], {value}"] at = in(reg) at, value = in(reg) value,)),
            ("movnti", catch!(["movnti [{at}], {value}"] at = in(reg) at, value = in(reg) value,)),
            ("xchg", catch!(["xchg [{at}], {value}"] at = in(reg) at, value = inout(reg) value => _,)),
            ("xadd", catch!(["xadd [{at}], {value}"] at = in(reg) at, value = inout(reg) value => _,)),
            ("lock xadd", catch!(["lock xadd [{at}], {value}"] at = in(reg) at, value = inout(reg) value => _,)),
            ("add", catch!(["add [{at}], {value}"] at = in(reg) at, value = in(reg) value,)),
            ("sub", catch!(["neg {value}", "sub [{at}], {value}"] at = in(reg) at, value = inout(reg) value => _,)),
            ("lock or", catch!(["lock or [{at}], {value}"] at = in(reg) at, value = in(reg) value,)),
            ("lock xor", catch!(["lock xor [{at}], {value}"] at = in(reg) at, value = in(reg) value,)),
            (
                "cmpxchg",
                catch!(["xor eax, eax", "lock cmpxchg [{at}], {value}"] at = in(reg) at, value = in(reg) value,),
            ),
            ("stosq", catch!(["mov rax, {value}", "stosq"] value = in(reg) value, inout("rdi") at => _,)),
            (
                "rep stosq",
                catch!(["mov rax, {value}", "rep stosq"] value = in(reg) value, inout("rdi") at => _,
                    inout("rcx") 1u64 => _,),
            ),
            (
                "rep movsq",
                catch!(["rep movsq"] inout("rdi") at => _, inout("rsi") &raw const value => _, inout("rcx") 1u64 => _,),
            ),
            // Both entries of an aligned pair.
            (
                "cmpxchg16b",
                catch!(["lea rax, [rip + 3f]", "mov [rip + {slot}], rax", "xor eax, eax", "xor edx, edx",
                    "xchg {value}, rbx", "lock cmpxchg16b [{at}]", "3: xchg {value}, rbx"] at = in(reg) at & !15,
                    value = inout(reg) value => _, slot = sym RECOVERY, in("rcx") value, out("rdx") _,),
            ),
        ]
    }
}

/// A writable mapping of a table, by all of them, in tables of all levels.
pub fn all_instructions() -> Told {
    assist(true)?;
    let tree = tables_in_use()?;
    for table in tree.tables() {
        for target in tree.tables() {
            for index in [2usize, 511] {
                for (what, caught) in attempts(table.address + 8 * index as u64, target.entry(WRITE)) {
                    let is_refused = matches!(caught, Some(Caught { vector: 14, error_code: 3 }));
                    holds(&format!("{what}: {caught:?}"), is_refused)?;
                    equal(what, table.read(index), 0)?;
                }
            }
        }
        is_sealed(table)?;
    }
    assist(false)
}

/// Stores across the border of two entries, or of the table and what is mapped behind it: done as a whole, or not at all.
pub fn across_borders() -> Told {
    const FIRST: u64 = 0x1122_3344_5566_7700;
    const SECOND: u64 = 0x0fed_cba9_8765_4320;
    assist(true)?;
    let tree = tables_in_use()?;
    for offset in 1..8u64 {
        for (index, value) in [(1, FIRST), (2, SECOND)] {
            equal("not present", set(tree.l1.slot(index), value), Ok(0))?;
        }
        let at = tree.l1.address + 8 + offset;
        for width in [1, 2, 4, 8] {
            let before = [tree.l1.read(1), tree.l1.read(2)];
            // SAFETY: the store is made, emulated or refused as the hypervisor likes.
            let caught = unsafe {
                match width {
                    1 => catch!(["mov byte ptr [{at}], 0"] at = in(reg) at,),
                    2 => catch!(["mov word ptr [{at}], 0"] at = in(reg) at,),
                    4 => catch!(["mov dword ptr [{at}], 0"] at = in(reg) at,),
                    _ => catch!(["mov qword ptr [{at}], 0"] at = in(reg) at,),
                }
            };
            let whole = u128::from(before[0]) | u128::from(before[1]) << 64;
            let stored = whole & !(((1 << (8 * width)) - 1) << (8 * offset));
            let after = u128::from(tree.l1.read(1)) | u128::from(tree.l1.read(2)) << 64;
            let want = if caught.is_some() { whole } else { stored };
            equal(&format!("{width} bytes at {offset}: {caught:?}"), after, want)?;
        }
    }
    // The table's last bytes, and a plain page's first ones.
    let page = Page::new();
    let (border, last) = (WINDOW + 6 * 4096, 511);
    equal("the table", map(border - 4096, tree.l1.entry(READ)), Ok(0))?;
    equal("the page", map(border, page.entry(WRITE)), Ok(0))?;
    for offset in 1..8u64 {
        equal("not present", set(tree.l1.slot(last), FIRST), Ok(0))?;
        page.write(0, SECOND);
        // SAFETY: as above.
        let caught = unsafe { probe::write(border - offset, 0) }.err();
        equal("the page", page.read(0) == SECOND, caught.is_some())?;
        equal("the table", tree.l1.read(last) == FIRST, caught.is_some())?;
    }
    assist(false)
}

/// A bit by a number beyond its operand: the bit's own place counts, and that is another table's.
pub fn far_bits() -> Told {
    assist(true)?;
    let tree = tables_in_use()?;
    let plain = Page::new();
    for table in tree.tables() {
        let distance = (table.address.wrapping_sub(plain.address)).wrapping_mul(8);
        for bit in [8 * 4088, 8 * 4088 + 1, 8 * 4088 + 63, 1] {
            let number = distance.wrapping_add(bit);
            let before = [table.read(511), table.read(0)];
            // SAFETY: the bit lies in a table of the story's.
            let caught =
                unsafe { catch!(["lock btc [{at}], {number}"] at = in(reg) plain.address, number = in(reg) number,) };
            let after = [table.read(511), table.read(0)];
            holds("a bit of an upper table", table.mfn == tree.l1.mfn || caught.is_some())?;
            holds("it trapped, and it was done", caught.is_none() || after == before)?;
            if caught.is_none() {
                equal("back", updates(&[(table.slot(511), before[0]), (table.slot(0), before[1])]), Ok(0))?;
            }
        }
        is_sealed(table)?;
    }
    equal("the plain page", (0..512).all(|index| plain.read(index) == 0), true)?;
    assist(false)
}
