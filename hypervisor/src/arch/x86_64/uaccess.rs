//! Copies to and from guest memory, with a way out when they fault.
//!
//! The copy loops are the only hypervisor instructions that may fault on a guest address. Each has an entry in the
//! exception table (`.ex_table`: fault address, landing address); [`landing`] is asked by the trap handler. Before a
//! loop runs, the range is checked to lie in guest addresses, so a guest can't aim one at the hypervisor; and where
//! the CPU has SMAP, user pages are open only between `stac` and `clac` around the loop.

use core::arch::{asm, naked_asm};
use core::mem::MaybeUninit;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::guest::{Fault, GuestCopy, check_span};

/// A three-byte no-op that becomes `clac` (0xca) or `stac` (0xcb) at boot where the CPU has SMAP, see [`enable_smap`].
macro_rules! smap_site {
    ($opcode:literal) => {
        concat!(
            "771: .byte 0x0f, 0x1f, 0x00\n",
            ".pushsection .smap_sites, \"a\"\n",
            ".balign 4\n",
            ".long 771b - .\n",
            ".long ",
            $opcode,
            "\n.popsection",
        )
    };
}
pub(super) use smap_site;

/// As [`copy_user`], but inline, with a string instruction, and the count of what that moves; evaluates to how many of
/// those are left when it faulted, else 0.
macro_rules! copy_inline {
    ($instruction:literal, $to:expr, $from:expr, $count:expr) => {{
        let left: usize;
        // The copy is its user's responsibility. A fault lands behind it, with what is left in RCX.
        asm!(
            smap_site!("0xcb"), // stac
            concat!("2: rep ", $instruction),
            "3:",
            smap_site!("0xca"), // clac
            ".pushsection .ex_table, \"a\"",
            ".balign 4",
            ".long 2b - .",
            ".long 3b - .",
            ".popsection",
            inout("rcx") $count => left,
            inout("rdi") $to => _,
            inout("rsi") $from => _,
            options(nostack, preserves_flags),
        );
        left
    }};
}

/// Guest memory through the page tables that are loaded now.
pub struct CurrentGuest;

impl GuestCopy for CurrentGuest {
    #[inline]
    fn read_bytes(&mut self, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
        check_span(from, buf.len())?;
        // SAFETY: the source lies in guest addresses and may fault; the destination is a slice of ours.
        twice(from, buf.len(), || unsafe { copy_user(buf.as_mut_ptr() as u64, from, buf.len()) })
    }

    #[inline]
    fn write_bytes(&mut self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        check_span(to, bytes.len())?;
        // SAFETY: the destination lies in guest addresses, where no Rust object is, and may fault; the source is ours.
        twice(to, bytes.len(), || unsafe { copy_user(to, bytes.as_ptr() as u64, bytes.len()) })
    }

    #[inline(always)]
    fn read<T: FromBytes + IntoBytes>(&mut self, from: u64) -> Result<T, Fault> {
        check_span(from, size_of::<T>())?;
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: `from..` was checked to lie in guest addresses (`.ex_table` has the fault); `value` is large enough.
        unsafe { copy_value::<T>(value.as_mut_ptr() as u64, from) }.map_err(|()| Fault(from))?;
        // SAFETY: all its bytes were copied, and any bytes are a value.
        Ok(unsafe { value.assume_init() })
    }

    #[inline(always)]
    fn write<T: IntoBytes + Immutable>(&mut self, to: u64, value: &T) -> Result<(), Fault> {
        check_span(to, size_of::<T>())?;
        // SAFETY: `to..` was checked to lie in guest addresses, where no Rust object is; all of `value` may be read.
        unsafe { copy_value::<T>(to, &raw const *value as u64) }.map_err(|()| Fault(to))
    }
}

/// Copies a value. Tries once more, see [`twice`].
///
/// # Safety
/// As for [`copy_user`].
#[inline(always)]
unsafe fn copy_value<T>(to: u64, from: u64) -> Result<(), ()> {
    let len = size_of::<T>();
    // SAFETY: the caller answers for the ranges.
    let copied = unsafe {
        let left = match len % 8 {
            0 => copy_inline!("movsq", to, from, len / 8),
            4 => copy_inline!("movsd", to, from, len / 4),
            _ => copy_user(to, from, len),
        };
        left == 0 || copy_user(to, from, len) == 0
    };
    if copied { Ok(()) } else { Err(()) }
}

/// Tries a copy once more if it faulted: the translation may have been older than the page tables, and a fault drops the
/// translation that it came from.
#[inline]
fn twice(start: u64, len: usize, mut copy: impl FnMut() -> usize) -> Result<(), Fault> {
    if copy() == 0 {
        return Ok(());
    }
    match copy() {
        0 => Ok(()),
        left => Err(Fault(start.wrapping_add((len - left) as u64))),
    }
}

/// Copies `len` bytes; returns how many are left when it faulted, else 0.
///
/// # Safety
/// One of the ranges lies in guest addresses; the other is valid hypervisor memory for the access. The range in
/// guest addresses overlaps no Rust object.
#[unsafe(naked)]
unsafe extern "C" fn copy_user(to: u64, from: u64, len: usize) -> usize {
    naked_asm!(
        "mov rcx, rdx",
        "shr rcx, 3",
        "and edx, 7",
        smap_site!("0xcb"), // stac
        "2: rep movsq",
        "mov ecx, edx",
        "3: rep movsb",
        smap_site!("0xca"), // clac
        "xor eax, eax",
        "ret",
        // A fault in the word loop: RCX words and EDX bytes are left.
        "4:",
        smap_site!("0xca"),
        "lea rax, [rcx * 8 + rdx]",
        "ret",
        "5:",
        smap_site!("0xca"),
        "mov rax, rcx",
        "ret",
        ".pushsection .ex_table, \"a\"",
        ".balign 4",
        ".long 2b - .",
        ".long 4b - .",
        ".long 3b - .",
        ".long 5b - .",
        ".popsection",
    )
}

unsafe extern "C" {
    static __ex_table_start: [[i32; 2]; 0];
    static __ex_table_end: [[i32; 2]; 0];
    static __smap_sites_start: [[i32; 2]; 0];
    static __smap_sites_end: [[i32; 2]; 0];
}

/// The entries between two linker symbols.
///
/// # Safety
/// The symbols bound an array of such entries in read-only data.
unsafe fn table(start: *const [[i32; 2]; 0], end: *const [[i32; 2]; 0]) -> &'static [[i32; 2]] {
    let count = (end as usize - start as usize) / size_of::<[i32; 2]>();
    // SAFETY: as the caller says.
    unsafe { core::slice::from_raw_parts(start.cast(), count) }
}

/// Resolves an entry's field: an address relative to the field itself.
fn resolve(field: &i32) -> u64 {
    (field as *const i32 as u64).wrapping_add_signed(i64::from(*field))
}

/// Where to go on after a fault of the hypervisor at `rip`, if that was foreseen.
pub fn landing(rip: u64) -> Option<u64> {
    // SAFETY: the linker script bounds the section with these symbols; only this layout is put in it.
    let entries = unsafe { table(&raw const __ex_table_start, &raw const __ex_table_end) };
    entries.iter().find(|[fault, _]| resolve(fault) == rip).map(|[_, landing]| resolve(landing))
}

/// Turns the three-byte no-ops of `.smap_sites` into `clac` and `stac`.
///
/// # Safety
/// Called once, on the boot CPU before any other runs and before a guest exists, on a CPU with SMAP; `alias` gives a
/// writable address for an address in the hypervisor's text.
pub unsafe fn enable_smap(alias: impl Fn(u64) -> *mut u8) {
    // SAFETY: as in `landing`.
    let sites = unsafe { table(&raw const __smap_sites_start, &raw const __smap_sites_end) };
    for [site, opcode] in sites {
        let at = alias(resolve(site));
        // SAFETY: the three bytes are a no-op emitted by the macros; a site lies within one page as long as the
        // linker doesn't split it, so each byte is written through its own alias.
        unsafe {
            at.write_volatile(0x0f);
            alias(resolve(site) + 1).write_volatile(0x01);
            alias(resolve(site) + 2).write_volatile(opcode.to_le_bytes()[0]);
        }
    }
}
