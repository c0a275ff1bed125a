//! GDT, LDT, TSS and IDT of one CPU.
//!
//! The layout of the GDT is part of the guest ABI (`xen/arch-x86/xen-x86_64.h`): the first 14 pages hold the guest's
//! own descriptors, ours start at byte 0xe000, three of them usable by guests (ring 3 code and data).
//!
//! A guest's own descriptor pages appear in the running CPU's block ([`GuestTables`]), writable for the CPU, which notes
//! in a descriptor that it was loaded. What a guest may have in them is checked by `mm`.

use core::arch::asm;
use core::ptr;

use super::entry;
use super::mm::blocks::{self, Shown};
use super::percpu::{self, BLOCK_PAGES, GDT_PAGE, IST_TOP_PAGES, LDT_PAGE, TSS_PAGE};
use super::vectors;
use crate::addr::{Mfn, PAGE_SIZE};
use crate::domain::vcpu::{GDT_PAGES, Gdt, LDT_PAGES, Ldt};
use crate::guest::GuestRegisters;

/// Hypervisor code segment. `syscall` loads the next one as SS.
pub const HYPERVISOR_CS: u16 = 0xe008;
/// Hypervisor data and stack segment.
pub const HYPERVISOR_SS: u16 = 0xe010;
/// The task-state segment: two GDT slots.
const TSS_SELECTOR: u16 = 0xe040;
/// The running guest's LDT: two GDT slots.
const LDT_SELECTOR: u16 = 0xe050;

/// Bytes 0xe000 up to the end of our page of the GDT.
const GDT_LIMIT: u16 = 0xefff;

/// Our descriptors, from byte 0xe000 on. SDM volume 3, 3.4.5; present, accessed and S set in all.
const SEGMENTS: [u64; 8] = [
    0,
    0x00af_9b00_0000_ffff, // 0xe008: ring 0 code, 64-bit
    0x00cf_9300_0000_ffff, // 0xe010: ring 0 data
    0,
    0x00cf_fb00_0000_ffff, // 0xe020: ring 3 code, 32-bit (FLAT_RING3_CS32)
    0x00cf_f300_0000_ffff, // 0xe028: ring 3 data (FLAT_RING3_SS)
    0x00af_fb00_0000_ffff, // 0xe030: ring 3 code, 64-bit (FLAT_RING3_CS64)
    0,
];

/// Offsets in the 64-bit task-state segment, SDM volume 3, figure 9-11.
mod tss {
    pub const RSP0: usize = 0x04;
    pub const IST1: usize = 0x24;
    pub const IO_MAP_BASE: usize = 0x66;
    pub const SIZE: u16 = 0x68;
}

/// Interrupt-stack-table numbers; the stacks are in [`IST_TOP_PAGES`] in this order.
mod ist {
    pub const DOUBLE_FAULT: u8 = 1;
    pub const NMI: u8 = 2;
    pub const MACHINE_CHECK: u8 = 3;
    pub const DEBUG: u8 = 4;
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// The interrupt descriptor table, one for all CPUs: it holds no per-CPU address.
#[repr(C, align(4096))]
struct Idt([[u64; 2]; 256]);

/// The table's last byte.
const IDT_LIMIT: u16 = 0xfff;
const _: () = assert!(size_of::<Idt>() == IDT_LIMIT as usize + 1);

static IDT: spin::Once<Idt> = spin::Once::new();

/// Fills and loads this CPU's GDT, TSS and IDT. `block` is the base of its block, see [`percpu`].
///
/// # Safety
/// `block` must be this CPU's own block, mapped as [`percpu::backing`] says and zeroed; no other code runs on the CPU
/// meanwhile, and interrupts are off.
pub unsafe fn load(block: u64) {
    let gdt = (block + (GDT_PAGE * PAGE_SIZE) as u64) as *mut u64;
    let tss = (block + (TSS_PAGE * PAGE_SIZE) as u64) as *mut u8;
    let rsp0 =
        percpu::top_of(block) + core::mem::offset_of!(percpu::CpuTop, regs) as u64 + size_of::<GuestRegisters>() as u64;
    // SAFETY: both pages are ours, mapped writable and large enough for what is written.
    unsafe {
        tss.add(tss::RSP0).cast::<u64>().write_unaligned(rsp0);
        for (number, page) in IST_TOP_PAGES.into_iter().enumerate() {
            let top = block + (page * PAGE_SIZE) as u64;
            tss.add(tss::IST1 + 8 * number).cast::<u64>().write_unaligned(top);
        }
        // No I/O bitmap: every port access from ring 3 faults and is decided by `emulate`.
        tss.add(tss::IO_MAP_BASE).cast::<u16>().write_unaligned(tss::SIZE);

        ptr::copy_nonoverlapping(SEGMENTS.as_ptr(), gdt, SEGMENTS.len());
        let [low, high] = tss_descriptor(tss as u64);
        gdt.add((TSS_SELECTOR as usize - 0xe000) / 8).write(low);
        gdt.add((TSS_SELECTOR as usize - 0xe000) / 8 + 1).write(high);
    }
    const { assert!(BLOCK_PAGES > TSS_PAGE) };
    let idt = IDT.call_once(build_idt);
    let gdt_pointer = TablePointer { limit: GDT_LIMIT, base: block };
    let idt_pointer = TablePointer { limit: IDT_LIMIT, base: idt as *const Idt as u64 };
    // SAFETY: the tables are complete and stay where they are for as long as the machine runs; CS and SS name flat
    // ring 0 segments in the new GDT, so execution goes on at the next instruction; null is legal in DS to GS.
    unsafe {
        asm!(
            "lgdt [{gdt}]",
            "push {cs}",
            "lea {tmp}, [rip + 2f]",
            "push {tmp}",
            "retfq",
            "2:",
            "mov ss, {ss:e}",
            "xor {tmp:e}, {tmp:e}",
            "mov ds, {tmp:e}",
            "mov es, {tmp:e}",
            "mov fs, {tmp:e}",
            "mov gs, {tmp:e}",
            "lidt [{idt}]",
            "ltr {tr:x}",
            // No LDT, whatever the firmware left.
            "lldt {tmp:x}",
            gdt = in(reg) &gdt_pointer,
            idt = in(reg) &idt_pointer,
            cs = in(reg) u64::from(HYPERVISOR_CS),
            ss = in(reg) u64::from(HYPERVISOR_SS),
            tr = in(reg) TSS_SELECTOR,
            tmp = out(reg) _,
        );
    }
}

/// Where the interrupt descriptor table is, in one page.
pub fn idt() -> u64 {
    IDT.get().map_or(0, |idt| idt as *const Idt as u64)
}

/// A present 64-bit TSS descriptor, SDM volume 3, figure 9-4.
const fn tss_descriptor(base: u64) -> [u64; 2] {
    system_descriptor(base, tss::SIZE as u64 - 1, 0x9)
}

/// A present system descriptor with a limit below 64 KiB, for ring 0, SDM volume 3, 3.5.
const fn system_descriptor(base: u64, limit: u64, kind: u64) -> [u64; 2] {
    let low = limit | (base & 0xff_ffff) << 16 | (0x80 | kind) << 40 | (base >> 24 & 0xff) << 56;
    [low, base >> 32]
}

/// What the descriptor tables of this CPU show of its guest.
pub struct GuestTables {
    gdt: Gdt,
    ldt: [Option<Mfn>; LDT_PAGES],
    ldt_entries: u32,
}

impl Default for GuestTables {
    fn default() -> GuestTables {
        GuestTables::new()
    }
}

impl GuestTables {
    /// Nothing.
    pub const fn new() -> GuestTables {
        GuestTables { gdt: Gdt::new_const(), ldt: [None; LDT_PAGES], ldt_entries: 0 }
    }

    /// Shows `frames` at the start of the GDT, and zeros behind them.
    ///
    /// Each frame must be held as a descriptor page for as long as it is shown.
    pub fn show_gdt(&mut self, frames: &Gdt) {
        for page in 0..GDT_PAGES {
            let (old, new) = (self.gdt.get(page), frames.get(page));
            if old != new {
                let what = new.map_or(Shown::Zeros, |&mfn| Shown::Frame(mfn));
                // SAFETY: these are the guest's pages of the GDT; the frame is held as the caller says.
                unsafe { blocks::show(percpu::cpu(), page, what) };
            }
        }
        self.gdt = frames.clone();
    }

    /// Makes `ldt` this CPU's LDT, with those pages that were looked up already; the others fault.
    ///
    /// Each frame must be held as a descriptor page for as long as it is shown.
    pub fn show_ldt(&mut self, ldt: &Ldt) {
        // Hardly a vCPU has one. Without descriptors there are no pages either.
        if (self.ldt_entries, ldt.entries) == (0, 0) {
            return;
        }
        for (number, (shown, &wanted)) in self.ldt.iter_mut().zip(&ldt.pages).enumerate() {
            if *shown != wanted {
                let what = wanted.map_or(Shown::Nothing, Shown::Frame);
                // SAFETY: these are the LDT's pages; the frame is held as the caller says.
                unsafe { blocks::show(percpu::cpu(), percpu::LDT_PAGE + number, what) };
                *shown = wanted;
            }
        }
        if self.ldt_entries != ldt.entries {
            self.ldt_entries = ldt.entries;
            load_ldt(ldt.entries);
        }
    }
}

/// Loads LDTR for a table of `entries` descriptors in this CPU's window; for 0, with null.
fn load_ldt(entries: u32) {
    let block = blocks::base(percpu::cpu());
    let selector = if entries == 0 { 0 } else { LDT_SELECTOR };
    if let Some(limit) = (8 * u64::from(entries)).checked_sub(1) {
        let [low, high] = system_descriptor(block + (LDT_PAGE * PAGE_SIZE) as u64, limit, 0x2);
        let gdt = (block + (GDT_PAGE * PAGE_SIZE) as u64) as *mut u64;
        let slot = gdt.wrapping_add((LDT_SELECTOR as usize - 0xe000) / 8);
        // SAFETY: the slots are ours, in this CPU's own page of the GDT.
        unsafe {
            slot.write_volatile(low);
            slot.add(1).write_volatile(high);
        }
    }
    // SAFETY: null, or an LDT descriptor that was just written. The hypervisor uses no selector of the LDT.
    unsafe { asm!("lldt {0:x}", in(reg) selector, options(nostack, preserves_flags)) };
}

/// How far into this CPU's LDT an address is, if it is in there.
pub fn window_offset(address: u64) -> Option<u64> {
    let start = blocks::base(percpu::cpu()) + (LDT_PAGE * PAGE_SIZE) as u64;
    address.checked_sub(start).filter(|&offset| offset < (LDT_PAGES * PAGE_SIZE) as u64)
}

/// The vector of a gate that is always open to guests, as in Xen: kernels use it for nothing but system calls, and it saves
/// them a #GP. No device may get it.
const SYSTEM_CALL: usize = vectors::GUEST_SYSTEM_CALL as usize;

/// An interrupt gate, SDM volume 3, figure 7-8.
fn gate(handler: u64, dpl: u8, ist: u8) -> [u64; 2] {
    let low = handler & 0xffff
        | u64::from(HYPERVISOR_CS) << 16
        | u64::from(ist) << 32
        | (0x8e | u64::from(dpl) << 5) << 40
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

fn build_idt() -> Idt {
    let mut gates = [[0; 2]; 256];
    for (vector, slot) in gates.iter_mut().enumerate() {
        // Of all `int n`, these may be executed by a guest; any other is a #GP that `emulate` decodes.
        let dpl = if matches!(vector, 3 | 4 | SYSTEM_CALL) { 3 } else { 0 };
        let ist = match vector {
            1 => ist::DEBUG,
            2 => ist::NMI,
            8 => ist::DOUBLE_FAULT,
            18 => ist::MACHINE_CHECK,
            _ => 0,
        };
        *slot = gate(entry::stub_address(vector), dpl, ist);
    }
    Idt(gates)
}
