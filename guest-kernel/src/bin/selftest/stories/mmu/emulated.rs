//! Plain stores to page tables, which the hypervisor emulates where the assist is on (`VMASST_TYPE_writable_pagetables`).
//! What happens without it is not said: Xen emulates them all the same.

use super::ground::*;
use crate::check::{Told, equal, holds, trapped};
use core::arch::asm;
use guest_kernel::catch;
use guest_kernel::hypercall::vm_assist;
use guest_kernel::paging::{PRESENT, WRITABLE};
use guest_kernel::probe;
use guest_kernel::trap::Caught;
use pv_abi::trap::{VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES};

/// The write bit's number in an entry.
const WRITABLE_BIT: u32 = WRITABLE.trailing_zeros();

/// Stores to tables are emulated from here on, or fault.
pub fn assist(on: bool) -> Told {
    let command = if on { VMASST_CMD_ENABLE } else { VMASST_CMD_DISABLE };
    equal("vm_assist", vm_assist(command, VMASST_TYPE_WRITABLE_PAGETABLES), Ok(0))
}

/// A plain store to an entry.
fn store(entry: u64, value: u64) -> Option<Caught> {
    // SAFETY: the entry is in a table of the story's.
    unsafe { probe::write(entry, value) }.err()
}

/// An instruction with a memory operand at `{at}`; the value is what it trapped with.
macro_rules! instruction {
    ($text:literal, $at:expr $(, $name:ident = $value:expr)*) => {
        // SAFETY: the operand is an entry in a table of the story's.
        unsafe { catch!([$text] at = in(reg) $at, $($name = in(reg) $value,)*) }
    };
}

/// Stores of all sizes change entries of level 1 tables as an update would.
pub fn stores() -> Told {
    assist(true)?;
    let tree = Tree::hooked()?;
    let [first, second] = [Page::new(), Page::new()];
    first.write(0, 1);
    second.write(0, 2);
    let at = tree.l1.address + 8;
    for (page, word) in [(first, 1), (second, 2)] {
        equal("store", store(at, page.entry(WRITE)), None)?;
        flush()?;
        equal("word behind it", probe::read(WINDOW + 4096), Ok(word))?;
    }
    equal("store of nothing", store(at, 0), None)?;
    flush()?;
    trapped("behind it", probe::read(WINDOW + 4096).err(), 14, 0)?;
    equal("store of something not present", store(at, 0x7fe), None)?;
    equal("the entry", tree.l1.read(1), 0x7fe)?;
    equal("a byte of nothing", instruction!("mov byte ptr [{at}], 0", at), None)?;
    equal("the entry", tree.l1.read(1), 0x700)?;
    equal("two bytes", instruction!("mov word ptr [{at}], 0x6f0", at), None)?;
    equal("the entry", tree.l1.read(1), 0x6f0)?;
    equal("four bytes", instruction!("mov dword ptr [{at}], 0x6e0", at), None)?;
    equal("the entry", tree.l1.read(1), 0x6e0)?;

    // The lowest byte alone: the page appears, and the write bit goes.
    equal("an entry", store(at, first.entry(WRITE & !PRESENT)), None)?;
    equal("its lowest byte", instruction!("mov byte ptr [{at}], 0x63", at), None)?;
    flush()?;
    equal("word behind it", probe::read(WINDOW + 4096), Ok(1))?;
    equal("its lowest byte", instruction!("mov byte ptr [{at}], 0x61", at), None)?;
    flush()?;
    // SAFETY: the store must fault.
    trapped("store behind it", unsafe { probe::write(WINDOW + 4096, 0) }.err(), 14, 3)?;
    assist(false)
}

/// Instructions that read, change and write an entry.
pub fn read_modify_write() -> Told {
    assist(true)?;
    let tree = Tree::hooked()?;
    let [first, second] = [Page::new(), Page::new()];
    let at = tree.l1.address + 8;
    let entry = || tree.l1.read(1);
    equal("xchg", exchange(at, first.entry(WRITE)), Ok(0))?;
    let old = entry();
    equal("xchg", exchange(at, second.entry(WRITE)), Ok(old))?;

    let old = entry();
    equal("cmpxchg of another", compare_exchange(at, old ^ 1 << 9, first.entry(WRITE)), Ok(old))?;
    equal("the entry", entry(), old)?;
    equal("cmpxchg", compare_exchange(at, old, first.entry(WRITE)), Ok(old))?;
    holds("the entry", entry() >> 12 & 0xff_ffff_ffff == first.mfn)?;

    let writable = || entry() & WRITABLE != 0;
    equal("lock and byte", instruction!("lock and byte ptr [{at}], 0xfd", at), None)?;
    equal("write bit", writable(), false)?;
    equal("lock or byte", instruction!("lock or byte ptr [{at}], 2", at), None)?;
    equal("write bit", writable(), true)?;
    equal("and dword", instruction!("and dword ptr [{at}], 0xfffffffd", at), None)?;
    equal("write bit", writable(), false)?;
    equal("or qword", instruction!("or qword ptr [{at}], {bits}", at, bits = WRITABLE), None)?;
    equal("write bit", writable(), true)?;
    equal("and qword", instruction!("and qword ptr [{at}], {bits}", at, bits = !WRITABLE), None)?;
    equal("write bit", writable(), false)?;
    equal("lock bts", instruction!("lock bts qword ptr [{at}], {bit}", at, bit = u64::from(WRITABLE_BIT)), None)?;
    equal("write bit", writable(), true)?;
    equal("lock btr", instruction!("lock btr qword ptr [{at}], {bit}", at, bit = u64::from(WRITABLE_BIT)), None)?;
    equal("write bit", writable(), false)?;
    equal("or word", instruction!("or word ptr [{at}], 2", at), None)?;
    equal("write bit", writable(), true)?;
    flush()?;
    first.write(0, 6);
    equal("word behind it", probe::read(WINDOW + 4096), Ok(6))?;
    assist(false)
}

/// `xchg`: what was there.
fn exchange(at: u64, value: u64) -> Result<u64, Caught> {
    let mut old = value;
    // SAFETY: the entry is in a table of the story's.
    let caught = unsafe { catch!(["xchg [{at}], {old}"] at = in(reg) at, old = inout(reg) old,) };
    caught.map_or(Ok(old), Err)
}

/// `lock cmpxchg`: what was there.
fn compare_exchange(at: u64, expected: u64, new: u64) -> Result<u64, Caught> {
    let old;
    // SAFETY: the entry is in a table of the story's.
    let caught = unsafe {
        catch!(["mov rax, {expected}", "lock cmpxchg [{at}], {new}", "mov {old}, rax"] at = in(reg) at,
            expected = in(reg) expected, new = in(reg) new, old = out(reg) old,)
    };
    caught.map_or(Ok(old), Err)
}

/// Flags after an emulated instruction are those of the instruction.
pub fn flags() -> Told {
    assist(true)?;
    let tree = Tree::hooked()?;
    let page = Page::new();
    equal("entry", set(tree.l1.slot(1), page.entry(READ)), Ok(0))?;
    let at = tree.l1.address + 8;
    let (was_clear, was_set, zero): (u8, u8, u8);
    // SAFETY: the entry is in a table of the story's.
    unsafe {
        asm!(
            "lock bts qword ptr [{at}], {bit}", "setc {first}",
            "lock bts qword ptr [{at}], {bit}", "setc {second}",
            "lock and byte ptr [{at}], 0", "setz {third}",
            at = in(reg) at, bit = in(reg) u64::from(WRITABLE_BIT),
            first = out(reg_byte) was_clear, second = out(reg_byte) was_set, third = out(reg_byte) zero,
        );
    }
    equal("carry of a bit that was clear, then set", (was_clear, was_set), (0, 1))?;
    equal("zero", zero, 1)?;
    assist(false)
}

/// Stores that fault: to upper tables, and of entries that an update would refuse.
pub fn refusals() -> Told {
    let tree = Tree::hooked()?;
    let page = Page::new();
    assist(true)?;
    equal("pin the root", operate(guest_kernel::hypercall::mmuext::pin(4, tree.l4.mfn)), Ok(0))?;
    for table in [tree.l4, tree.l3, tree.l2] {
        let entry = table.read(0);
        trapped("store to an upper table", store(table.address, entry), 14, 3)?;
        trapped("store of nothing", store(table.address + 0x800, 0), 14, 3)?;
        equal("entry after it", table.read(0), entry)?;
    }
    for (what, entry) in [("a table", tree.l1.entry(WRITE)), ("no such frame", 0xff_ffff_ffff << 12 | READ)] {
        trapped(what, store(tree.l1.address + 8, entry), 14, 3)?;
        equal("entry after it", tree.l1.read(1), 0)?;
    }
    // Data that is only mapped read-only.
    page.protect()?;
    trapped("store to a page mapped read-only", store(page.address, 0), 14, 3)?;
    assist(false)
}
