//! Each kind of unusable kernel is refused for its own reason, in words that name the culprit.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use pv_abi::elfnote::*;
use pv_abi::start_info::StartFlags;

use super::elf_file::{ElfFile, LoadSpec};
use super::memory::{FakeMemory, built};
use crate::*;
use addresses::Mfn;

fn refusal_of_bytes(bytes: &[u8]) -> Refusal {
    KernelImage::parse(bytes).err().unwrap()
}

fn refusal(change: impl FnOnce(&mut ElfFile)) -> Refusal {
    let mut file = ElfFile::plain();
    change(&mut file);
    refusal_of_bytes(&file.bytes())
}

fn patched(offset: usize, bytes: &[u8]) -> Refusal {
    let mut file = ElfFile::plain().bytes();
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
    refusal_of_bytes(&file)
}

fn load(paddr: u64, memory_len: u64) -> LoadSpec {
    LoadSpec { paddr, memory_len, data: vec![] }
}

#[test]
fn the_plain_kernel_is_accepted() {
    let bytes = ElfFile::plain().bytes();
    let image = KernelImage::parse(&bytes).ok().unwrap();
    assert_eq!((image.base().get(), image.entry().get()), (0, 0x10_0000));
    assert!(Layout::plan(&image, 2048, 0).is_ok());
}

#[test]
fn files_that_are_no_x86_64_kernels() {
    assert_eq!(refusal_of_bytes(b""), Refusal::NotElf);
    assert_eq!(refusal_of_bytes(b"MZ\0\0 HdrS, a bzImage perhaps"), Refusal::NotElf);
    assert_eq!(refusal_of_bytes(b"\x7fELF\x02\x01\x01"), Refusal::BrokenElf);
    assert_eq!(patched(4, &[1]), Refusal::Not64Bit);
    assert_eq!(patched(4, &[7]), Refusal::Not64Bit);
    assert_eq!(patched(5, &[2]), Refusal::NotLittleEndian);
    assert_eq!(patched(16, &[1]), Refusal::FileType(1));
    assert_eq!(patched(18, &[40]), Refusal::Machine(40));
    assert_eq!(patched(32, &u64::MAX.to_le_bytes()), Refusal::BrokenElf);
    assert_eq!(patched(54, &[0]), Refusal::BrokenElf);
}

#[test]
fn segments_that_do_not_fit() {
    assert_eq!(refusal(|f| f.loads.clear()), Refusal::NoSegments);
    // The second program header is the segment's: its file offset, then its size in the file.
    let header = 64 + 56;
    assert!(matches!(patched(header + 8, &(1u64 << 40).to_le_bytes()), Refusal::OutsideFile { .. }));
    assert!(matches!(patched(header + 8, &u64::MAX.to_le_bytes()), Refusal::OutsideFile { .. }));
    assert_eq!(patched(header + 32, &8192u64.to_le_bytes()), Refusal::SegmentTooLong { paddr: 0x10_0000 });
    assert_eq!(
        refusal(|f| f.loads = vec![load(0x2000, 0x1001), load(0x3000, 1)]),
        Refusal::SegmentsOverlap { at: 0x3000 }
    );
    assert_eq!(
        refusal(|f| f.loads = vec![load(u64::MAX - 100, 50)]),
        Refusal::SegmentAddress { paddr: u64::MAX - 100, len: 50 }
    );
    assert!(matches!(
        refusal(|f| _ = f.number(XEN_ELFNOTE_PADDR_OFFSET, 0x20_0000)),
        Refusal::SegmentAddress { paddr: 0x10_0000, .. }
    ));
}

/// The messages are what the owner of the machine reads in the boot log.
#[test]
fn notes_that_ask_for_what_there_is_not() {
    let says = |change: &dyn Fn(&mut ElfFile)| refusal(change).to_string();
    assert_eq!(refusal(|f| f.notes.clear()), Refusal::NoXenNotes);
    assert_eq!(
        says(&|f| _ = f.text(XEN_ELFNOTE_XEN_VERSION, "xen-2.0")),
        "ELF note XEN_VERSION is 'xen-2.0', need 'xen-3.0'"
    );
    assert_eq!(says(&|f| _ = f.without(XEN_ELFNOTE_XEN_VERSION)), "ELF note XEN_VERSION is missing");
    assert_eq!(
        says(&|f| _ = f.note(XEN_ELFNOTE_LOADER, b"odd\n\xff")),
        "ELF note LOADER is 'odd\\n\\xff', need 'generic'"
    );
    assert_eq!(
        says(&|f| _ = f.note(XEN_ELFNOTE_ENTRY, &[1, 2, 3])),
        "ELF note ENTRY has 3 bytes, need a number of 1, 2, 4 or 8"
    );
    assert_eq!(
        says(&|f| _ = f.number(XEN_ELFNOTE_HV_START_LOW, 0xffff_8800_0000_0000)),
        "ELF note HV_START_LOW is 0xffff880000000000, above the hypervisor's start"
    );
    for name in ["dom0", "supervisor_mode_kernel", "auto_translated_physmap", "made_up"] {
        let features = [b"!writable_page_tables|!pae_pgdir_above_4gb|!".as_slice(), name.as_bytes()].concat();
        assert_eq!(refusal(|f| _ = f.note(XEN_ELFNOTE_FEATURES, &features)), Refusal::Feature(name.into()));
    }
}

#[test]
fn notes_that_are_harmless() {
    let changes: [fn(&mut ElfFile); 7] = [
        |f| _ = f.text(XEN_ELFNOTE_XEN_VERSION, "xen-3.0-x86_64"),
        |f| _ = f.without(XEN_ELFNOTE_LOADER).text(XEN_ELFNOTE_GUEST_OS, "linux"),
        |f| _ = f.note(XEN_ELFNOTE_FEATURES, b"dom0|made_up|!writable_page_tables"),
        |f| _ = f.number(XEN_ELFNOTE_HV_START_LOW, 0xffff_8000_0000_0000),
        |f| _ = f.note(XEN_ELFNOTE_L1_MFN_VALID, &[1; 16]),
        |f| _ = f.note(99, &[]),
        |f| f.notes_in_section = true,
    ];
    for change in changes {
        let mut file = ElfFile::plain();
        change(&mut file);
        assert_eq!(KernelImage::parse(&file.bytes()).err(), None);
    }
}

#[test]
fn addresses_outside_the_guest_or_the_image() {
    let number = |kind, value| refusal(|f| _ = f.number(kind, value));
    let not_guest = |start| Refusal::NotGuestRange { what: "kernel image", start };
    for base in [0x0000_7fff_fff0_0000, 0x0000_8000_0000_0000, 0xffff_8000_0000_0000, u64::MAX << 12] {
        assert_eq!(number(XEN_ELFNOTE_VIRT_BASE, base), not_guest(base));
    }
    let misaligned = |note, address| Refusal::Misaligned { note, address };
    assert_eq!(number(XEN_ELFNOTE_VIRT_BASE, 0x801), misaligned("VIRT_BASE", 0x801));
    assert_eq!(number(XEN_ELFNOTE_HYPERCALL_PAGE, 0x10_0010), misaligned("HYPERCALL_PAGE", 0x10_0010));
    let outside = |note, address| Refusal::OutsideImage { note, address };
    for address in [0, 0xf_ffff, 0x10_1000, u64::MAX] {
        assert_eq!(number(XEN_ELFNOTE_ENTRY, address), outside("ENTRY", address));
    }
    assert_eq!(number(XEN_ELFNOTE_HYPERCALL_PAGE, 0x10_1000), outside("HYPERCALL_PAGE", 0x10_1000));
    assert_eq!(number(XEN_ELFNOTE_INIT_P2M, 0x10_0000), Refusal::P2mOverlap(0x10_0000));
}

/// What depends on the domain and not on the kernel alone.
fn plan(change: impl FnOnce(&mut ElfFile), nr_pages: u64, ramdisk_len: u64) -> Refusal {
    let mut file = ElfFile::plain();
    change(&mut file);
    let bytes = file.bytes();
    Layout::plan(&KernelImage::parse(&bytes).ok().unwrap(), nr_pages, ramdisk_len).err().unwrap()
}

#[test]
fn domains_of_the_wrong_size() {
    assert_eq!(plan(|_| {}, 1023, 0).to_string(), "needs at least 4096 KiB of memory, has 4092 KiB");
    assert!(matches!(plan(|_| {}, 0, 0), Refusal::TooSmall { needed: 1024, given: 0 }));
    let p2m_at_0 = |f: &mut ElfFile| {
        f.entry += 0x40_0000;
        f.number(XEN_ELFNOTE_VIRT_BASE, 0x40_0000).number(XEN_ELFNOTE_INIT_P2M, 0);
    };
    assert!(matches!(plan(p2m_at_0, 0, 0), Refusal::TooSmall { .. }));
    assert!(matches!(plan(|_| {}, 1 << 20, u64::MAX), Refusal::TooSmall { .. }));
    assert!(matches!(plan(|_| {}, 1 << 20, 1 << 40), Refusal::TooSmall { .. }));
    assert_eq!(plan(|_| {}, u64::MAX, 0), Refusal::TooLarge(u64::MAX));
}

#[test]
fn start_areas_outside_the_guests_range() {
    // The image still fits below the hole, but its tables and slack do not.
    let end_of_low_half = 0x8000_0000_0000;
    let base = end_of_low_half - 0x10_1000;
    let low = |f: &mut ElfFile| {
        f.entry += base;
        f.number(XEN_ELFNOTE_VIRT_BASE, base);
    };
    assert_eq!(plan(low, 1 << 20, 0), Refusal::NotGuestRange { what: "boot area", start: base });

    let high = |p2m: u64| {
        move |f: &mut ElfFile| {
            f.entry += 0xffff_8800_0000_0000;
            f.number(XEN_ELFNOTE_VIRT_BASE, 0xffff_8800_0000_0000).number(XEN_ELFNOTE_INIT_P2M, p2m);
        }
    };
    let edge = end_of_low_half - 4096;
    let what = "physical-to-machine table";
    assert_eq!(plan(high(edge), 1 << 20, 0), Refusal::NotGuestRange { what, start: edge });
    let bytes = {
        let mut file = ElfFile::plain();
        high(0xffff_87ff_ffff_f000)(&mut file);
        file.bytes()
    };
    assert_eq!(refusal_of_bytes(&bytes), Refusal::NotGuestRange { what, start: 0xffff_87ff_ffff_f000 });

    let overlap = |f: &mut ElfFile| {
        f.entry += 0x40_0000;
        f.number(XEN_ELFNOTE_VIRT_BASE, 0x40_0000).number(XEN_ELFNOTE_INIT_P2M, 0x3f_f000);
    };
    assert_eq!(plan(overlap, 1 << 20, 0), Refusal::P2mOverlap(0x3f_f000));
}

#[test]
fn a_build_that_does_not_match_its_plan_writes_nothing() {
    let bytes = ElfFile::plain().bytes();
    let image = KernelImage::parse(&bytes).ok().unwrap();
    let layout = Layout::plan(&image, 2048, 10).unwrap();
    let attempt = |command_line: &str, ramdisk: &[u8]| {
        let flags = StartFlags::empty();
        let params = Params { command_line, ramdisk, shared_info: Mfn(1), flags, store_port: 0, console_port: 0 };
        let mut memory = FakeMemory::new(2048);
        let refused = built(build(&image, &layout, &params, &mut memory)).err();
        assert!(refused.is_none() || memory.is_untouched());
        refused
    };
    let longest: Vec<u8> = vec![b'x'; 1024];
    let longest = core::str::from_utf8(&longest).unwrap();
    assert_eq!(attempt("", &[0; 9]), Some(Refusal::OtherPlan));
    assert_eq!(attempt(longest, &[0; 10]), Some(Refusal::CommandLine(1024)));
    assert_eq!(attempt(&longest[1..], &[0; 10]), None);
}
