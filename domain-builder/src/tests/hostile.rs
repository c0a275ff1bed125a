//! No file makes the builder panic or leave the domain's memory.

use alloc::vec::Vec;

use proptest::prelude::*;
use pv_abi::elfnote::*;
use pv_abi::start_info::StartFlags;

use super::elf_file::ElfFile;
use super::memory::{FakeMemory, built};
use crate::*;
use addresses::Mfn;

const NR_PAGES: u64 = 4096;

/// Goes as far as the file lets it. The fake memory asserts that every write is inside the domain.
fn try_boot(file: &[u8]) -> Result<StartState, Refusal> {
    let image = KernelImage::parse(file)?;
    let ramdisk = [7; 5000];
    let layout = Layout::plan(&image, NR_PAGES, ramdisk.len() as u64)?;
    let params = Params {
        command_line: "x",
        ramdisk: &ramdisk,
        shared_info: Mfn(1),
        flags: StartFlags::empty(),
        store_port: 0,
        console_port: 0,
    };
    let mut memory = FakeMemory::new(NR_PAGES);
    let state = built(build(&image, &layout, &params, &mut memory))?;
    memory.walk(state.root);
    Ok(state)
}

/// A file with every note the builder acts upon.
fn rich() -> Vec<u8> {
    let mut file = ElfFile::plain();
    let base = 0xffff_ffff_8000_0000;
    file.number(XEN_ELFNOTE_VIRT_BASE, base)
        .number(XEN_ELFNOTE_PADDR_OFFSET, 0)
        .number(XEN_ELFNOTE_ENTRY, base + 0x10_0000)
        .number(XEN_ELFNOTE_HYPERCALL_PAGE, base + 0x10_0000)
        .number(XEN_ELFNOTE_INIT_P2M, 0x80_0000_0000)
        .number(XEN_ELFNOTE_MOD_START_PFN, 1)
        .number(XEN_ELFNOTE_HV_START_LOW, 0xffff_8000_0000_0000)
        .text(XEN_ELFNOTE_FEATURES, "!writable_page_tables|dom0")
        .text(XEN_ELFNOTE_GUEST_OS, "linux")
        .text(XEN_ELFNOTE_GUEST_VERSION, "2.6");
    file.bytes()
}

#[test]
fn the_rich_file_boots() {
    try_boot(&rich()).unwrap();
}

#[test]
fn every_truncation_is_refused_or_boots() {
    let file = rich();
    for len in 0..file.len() {
        assert!(try_boot(&file[..len]).is_err(), "{len} bytes of {}", file.len());
    }
}

/// Every word of the file in turn takes values at the edges of what arithmetic can bear.
#[test]
fn words_at_the_edges() {
    let file = rich();
    let edges =
        [0, 1, 0xfff, 1 << 31, u32::MAX.into(), 1 << 47, 0xffff_8000_0000_0000, 1 << 63, u64::MAX - 4095, u64::MAX];
    for offset in (0..file.len() - 8).step_by(4) {
        for edge in edges {
            let mut file = file.clone();
            file[offset..offset + 8].copy_from_slice(&u64::to_le_bytes(edge));
            _ = try_boot(&file);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn flipped_bits(flips in prop::collection::vec((any::<prop::sample::Index>(), 0u32..8), 1..6)) {
        let mut file = rich();
        for (index, bit) in flips {
            let at = index.index(file.len());
            file[at] ^= 1 << bit;
        }
        _ = try_boot(&file);
    }

    #[test]
    fn random_bytes(tail in prop::collection::vec(any::<u8>(), 0..600)) {
        _ = try_boot(&tail);
        // Behind a good header they get further.
        let mut file = rich();
        let keep = file.len().min(64);
        file.truncate(keep);
        file.extend(tail);
        _ = try_boot(&file);
    }
}
