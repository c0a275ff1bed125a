//! The hypervisor's own image: where its parts are, by the symbols of `hypervisor.ld`.

use core::ops::Range;

use super::{PageFlags, direct_map, translate};
use crate::addr::MachineAddr;

unsafe extern "C" {
    static __text_start: u8;
    static __entry_end: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __data_end: u8;
}

/// A part of the image with rights of its own. All are page-aligned.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub range: Range<u64>,
    pub flags: PageFlags,
}

/// The image's sections: text, read-only data, data.
pub(super) fn sections() -> [Section; 3] {
    let read = PageFlags::GLOBAL;
    let section = |start: *const u8, end: *const u8, flags| Section { range: start as u64..end as u64, flags };
    [
        section(&raw const __text_start, &raw const __text_end, read),
        section(&raw const __rodata_start, &raw const __rodata_end, read | PageFlags::NO_EXECUTE),
        section(
            &raw const __data_start,
            &raw const __data_end,
            read | PageFlags::NO_EXECUTE | PageFlags::WRITABLE | PageFlags::DIRTY,
        ),
    ]
}

/// The code that runs between a guest and the hypervisor, at the start of text.
pub(super) fn entry_code() -> Range<u64> {
    &raw const __text_start as u64..&raw const __entry_end as u64
}

/// A writable address for a byte of the image, through the boot loader's map of all memory.
///
/// Only good between [`early`](crate::arch::boot::early) and [`memory`](crate::arch::boot::memory): in our own tables
/// text and read-only data are writable nowhere.
///
/// # Panics
/// When `address` is not mapped.
pub fn boot_alias(address: u64) -> *mut u8 {
    let frame = translate(address).expect("an address of the image");
    direct_map(MachineAddr(frame.base().0 + MachineAddr(address).page_offset() as u64))
}
