//! The first instructions of a started CPU: from real mode below 1 MiB to long mode on our own page tables.
//!
//! CR3 is loaded while it has 32 bits, and the instruction after paging is switched on must be mapped where it is. So
//! the trampoline brings page tables of its own: they map its code page at its machine address, and the hypervisor.

use core::arch::global_asm;
use core::ptr;
use core::slice;

use super::{Entry, leave_trampoline, root};
use crate::addr::{CpuId, Mfn, PAGE_SIZE};
use crate::arch::mm::{PageFlags, direct_map, hypervisor_slots, layout, to_usize, zero_page};

/// Frames the trampoline needs: code, and one table of each level.
pub const FRAMES: u64 = 5;

global_asm!(
    ".pushsection .rodata.trampoline, \"a\"",
    ".balign 16",
    "pavise_trampoline:",
    ".code16",
    "cli",
    "cld",
    // The startup IPI set CS to the page; the offsets below are within it.
    "movw %cs, %ax",
    "movw %ax, %ds",
    "lgdtl pavise_trampoline_gdt_pointer - pavise_trampoline",
    // CR4: physical address extension alone.
    "movl $0x20, %eax",
    "movl %eax, %cr4",
    "movl pavise_trampoline_cr3 - pavise_trampoline, %eax",
    "movl %eax, %cr3",
    // EFER: long mode, no-execute.
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl $0x900, %eax",
    "wrmsr",
    // CR0: paging, write protection, numeric error, extension type, protection.
    "movl $0x80010031, %eax",
    "movl %eax, %cr0",
    "ljmpl *(pavise_trampoline_far_pointer - pavise_trampoline)",
    ".code64",
    "pavise_trampoline_long_mode:",
    "movl pavise_trampoline_cpu(%rip), %edi",
    "movq pavise_trampoline_entry(%rip), %rsi",
    "movq pavise_trampoline_stack(%rip), %rdx",
    "movq pavise_trampoline_root(%rip), %rcx",
    "jmpq *pavise_trampoline_leave(%rip)",
    ".balign 8",
    "pavise_trampoline_variables:",
    "pavise_trampoline_cpu: .quad 0",
    "pavise_trampoline_entry: .quad 0",
    "pavise_trampoline_stack: .quad 0",
    "pavise_trampoline_root: .quad 0",
    "pavise_trampoline_leave: .quad 0",
    // Null, and ring 0 code for 64-bit mode.
    "pavise_trampoline_gdt: .quad 0, 0x00af9b000000ffff",
    "pavise_trampoline_cr3: .long 0",
    "pavise_trampoline_far_pointer: .long 0",
    ".word 8, 0",
    "pavise_trampoline_gdt_pointer: .word 15",
    ".long 0",
    "pavise_trampoline_end:",
    ".popsection",
    options(att_syntax)
);

/// The variables at the end of the code, as assembled above.
#[repr(C, packed)]
struct Variables {
    cpu: u64,
    entry: u64,
    stack: u64,
    root: u64,
    leave: u64,
    gdt: [u64; 2],
    cr3: u32,
    far_offset: u32,
    far_selector: [u16; 2],
    gdt_limit: u16,
    gdt_base: u32,
}

unsafe extern "C" {
    static pavise_trampoline: u8;
    static pavise_trampoline_long_mode: u8;
    static pavise_trampoline_variables: u8;
    static pavise_trampoline_gdt: u8;
    static pavise_trampoline_end: u8;
}

/// The trampoline in place.
pub(super) struct Trampoline {
    code: Mfn,
}

impl Trampoline {
    /// Copies the code and makes its page tables.
    ///
    /// # Safety
    /// `code` is the first of [`FRAMES`] consecutive frames of unused RAM below 1 MiB.
    pub unsafe fn new(code: Mfn) -> Trampoline {
        let [l4, l3, l2, l1] = [1, 2, 3, 4].map(|n| code.offset(n));
        let table = PageFlags::PRESENT | PageFlags::WRITABLE | PageFlags::ACCESSED;
        let page = PageFlags::PRESENT | PageFlags::ACCESSED;
        // SAFETY: the frames are RAM and the caller's to give away; all indices are below 512.
        unsafe {
            for frame in [code, l4, l3, l2, l1] {
                zero_page(frame);
            }
            let entry = |table: Mfn, index: usize| direct_map(table.base()).cast::<u64>().add(index);
            entry(l4, 0).write(l3.base().0 | table.bits());
            entry(l3, 0).write(l2.base().0 | table.bits());
            entry(l2, 0).write(l1.base().0 | table.bits());
            entry(l1, to_usize(code.0)).write(code.base().0 | page.bits());
            for (index, value) in (layout::FIRST_SLOT..).zip(hypervisor_slots()) {
                entry(l4, index).write(value);
            }
        }
        let trampoline = Trampoline { code };
        trampoline.copy_code(l4);
        trampoline
    }

    fn copy_code(&self, l4: Mfn) {
        let start = &raw const pavise_trampoline;
        let offset_of = |symbol: *const u8| symbol as usize - start as usize;
        let size = offset_of(&raw const pavise_trampoline_end);
        const { assert!(size_of::<Variables>() < PAGE_SIZE / 2) };
        assert!(offset_of(&raw const pavise_trampoline_variables) + size_of::<Variables>() == size && size < PAGE_SIZE);
        let low = |offset: usize| u32::try_from(self.code.base().0 + offset as u64).expect("below 1 MiB");
        // SAFETY: the symbols bound the code in our read-only data; the frame is the trampoline's own and holds it.
        unsafe {
            let code = slice::from_raw_parts(start, size);
            ptr::copy_nonoverlapping(code.as_ptr(), direct_map(self.code.base()), size);
            let variables = self.variables();
            (&raw mut (*variables).cr3)
                .write_unaligned(low(0) + u32::try_from((l4.0 - self.code.0) << 12).expect("small"));
            (&raw mut (*variables).far_offset).write_unaligned(low(offset_of(&raw const pavise_trampoline_long_mode)));
            (&raw mut (*variables).gdt_base).write_unaligned(low(offset_of(&raw const pavise_trampoline_gdt)));
        }
    }

    fn variables(&self) -> *mut Variables {
        let offset = &raw const pavise_trampoline_variables as usize - &raw const pavise_trampoline as usize;
        direct_map(self.code.base()).wrapping_add(offset).cast()
    }

    /// Says where the next CPU that comes through goes. The CPU before it must have left.
    pub fn aim(&mut self, cpu: CpuId, stack: u64, entry: Entry) {
        let variables = self.variables();
        // SAFETY: the variables lie in the trampoline's own frame, which no CPU reads between two that come through.
        unsafe {
            (&raw mut (*variables).cpu).write_unaligned(cpu.0.into());
            (&raw mut (*variables).entry).write_unaligned(entry as usize as u64);
            (&raw mut (*variables).stack).write_unaligned(stack);
            (&raw mut (*variables).root).write_unaligned(root());
            (&raw mut (*variables).leave).write_unaligned(leave_trampoline as *const () as u64);
        }
    }

    /// The number of the code's page, as a startup IPI wants it.
    pub fn page(&self) -> u8 {
        u8::try_from(self.code.0).expect("below 1 MiB")
    }
}
