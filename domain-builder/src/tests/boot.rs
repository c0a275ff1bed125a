//! Random kernels boot: everything a kernel is promised is where the registers and `start_info` say.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use pv_abi::elfnote::*;
use pv_abi::start_info::{StartFlags, StartInfo};
use zerocopy::FromBytes;

use super::elf_file::{ElfFile, LoadSpec};
use super::memory::{FakeMemory, Mapping, View, built};
use crate::*;
use addresses::{Mfn, PAGE_SIZE, Pfn};

const LINUX_BASE: u64 = 0xffff_ffff_8000_0000;
const LINUX_P2M: u64 = 0x80_0000_0000;

/// A kernel and a domain for it.
#[derive(Clone, Debug)]
struct Case {
    file: ElfFile,
    base: u64,
    paddr_offset: u64,
    init_p2m: Option<u64>,
    ramdisk_by_pfn: bool,
    hypercall_page: Option<u64>,
    nr_pages: u64,
    ramdisk: Vec<u8>,
    command_line: String,
}

impl Case {
    /// Adds the notes that say what the case says.
    fn elf(&self) -> Vec<u8> {
        let mut file = self.file.clone();
        file.number(XEN_ELFNOTE_VIRT_BASE, self.base).number(XEN_ELFNOTE_PADDR_OFFSET, self.paddr_offset);
        if let Some(address) = self.init_p2m {
            file.number(XEN_ELFNOTE_INIT_P2M, address);
        }
        if let Some(address) = self.hypercall_page {
            file.number(XEN_ELFNOTE_HYPERCALL_PAGE, address);
        }
        // Four bytes wide, as Linux has it.
        file.note(XEN_ELFNOTE_MOD_START_PFN, &u32::from(self.ramdisk_by_pfn).to_le_bytes());
        file.bytes()
    }

    fn va(&self, load: &LoadSpec) -> u64 {
        load.paddr - self.paddr_offset + self.base
    }

    /// Builds the domain and checks everything. `Err` if it was refused.
    fn check(&self) -> Result<(), Refusal> {
        let elf = self.elf();
        let image = KernelImage::parse(&elf)?;
        let layout = Layout::plan(&image, self.nr_pages, self.ramdisk.len() as u64)?;
        let params = Params {
            command_line: &self.command_line,
            ramdisk: &self.ramdisk,
            shared_info: Mfn(0x1234),
            flags: StartFlags::empty(),
            store_port: 1,
            console_port: 2,
        };
        let mut memory = FakeMemory::new(self.nr_pages);
        let state = built(build(&image, &layout, &params, &mut memory))?;

        check_disjoint(&layout);
        let (mappings, tables) = memory.walk(state.root);
        self.check_mappings(&layout, &mappings, &tables);
        let view = View::new(&memory, &mappings);
        self.check_kernel(&view, &state);
        let info = view.read(state.start_info, size_of::<StartInfo>());
        let info = StartInfo::read_from_bytes(&info).unwrap();
        self.check_start_info(&view, &memory, &state, &info);
        self.check_frames(&view, &memory, &layout, &info);
        self.check_stack(&view, &layout, &state);
        Ok(())
    }

    /// The contiguous area and the p2m are mapped, nothing else; tables are read-only; the tables are those planned.
    fn check_mappings(&self, layout: &Layout, mappings: &[Mapping], tables: &[(u64, u32)]) {
        let reached: BTreeSet<_> = tables.iter().copied().collect();
        assert_eq!(reached.len(), tables.len(), "a table is reached twice");
        let planned = layout.page_tables().map(|(pfn, level)| (pfn.0, level));
        assert_eq!(reached, planned.collect::<BTreeSet<_>>());
        let frames: BTreeSet<_> = tables.iter().map(|(pfn, _)| *pfn).collect();

        for mapping in mappings {
            assert_eq!(mapping.writable, !frames.contains(&mapping.pfn), "{mapping:x?}");
            assert!(!(0xffff_8000_0000_0000..0xffff_8800_0000_0000).contains(&mapping.va));
            // P and A; RW as above; nothing else.
            assert_eq!(mapping.entry & 0xfff0_0000_0000_0ffd, 0x21);
        }
        let separate = if layout.p2m_address < self.base { layout.p2m.count } else { 0 };
        assert_eq!(mappings.len() as u64, layout.mapped + separate);
        for (pfn, mapping) in mappings.iter().skip(separate as usize).enumerate() {
            assert_eq!((mapping.va, mapping.pfn), (self.base + pfn as u64 * 4096, pfn as u64));
        }
    }

    fn check_kernel(&self, view: &View<'_>, state: &StartState) {
        for load in &self.file.loads {
            let mut expected = load.data.clone();
            expected.resize(load.memory_len as usize, 0);
            if let Some(page) = self.hypercall_page {
                overlay(&mut expected, self.va(load), page);
            }
            assert!(view.read(self.va(load), expected.len()) == expected, "segment at {:#x}", load.paddr);
        }
        if let Some(page) = self.hypercall_page {
            assert_eq!(view.read(page + 32, 8), [0x51, 0x41, 0x53, 0xb8, 1, 0, 0, 0]);
        }
        assert_eq!(state.entry, self.file.entry);
        assert!(view.mapping(state.entry).entry & 1 << 63 == 0);
    }

    fn check_start_info(&self, view: &View<'_>, memory: &FakeMemory, state: &StartState, info: &StartInfo) {
        assert_eq!(&info.magic[..15], b"xen-3.0-x86_64\0");
        assert_eq!(info.nr_pages, self.nr_pages);
        assert_eq!(info.shared_info, 0x1234 << 12);
        assert_eq!((info.store_mfn, info.store_evtchn), (state.store.0, 1));
        assert_eq!((info.console_mfn, info.console_evtchn), (state.console.0, 2));
        let line = self.command_line.as_bytes();
        assert_eq!(&info.cmd_line[..line.len()], line);
        assert!(info.cmd_line[line.len()..].iter().all(|byte| *byte == 0));

        // The tables of the contiguous area are where it says, the top one first.
        assert_eq!(view.mapping(info.pt_base).pfn, memory.pfn_of(state.root.0));
        for n in 0..info.nr_pt_frames {
            assert!(!view.mapping(info.pt_base + n * 4096).writable);
        }
        assert!(view.mapping(info.pt_base + info.nr_pt_frames * 4096).writable);
        // The rings are mapped, writable and zero.
        for ring in [state.store, state.console] {
            let va = self.base + memory.pfn_of(ring.0) * 4096;
            assert!(view.mapping(va).writable);
            assert!(view.read(va, PAGE_SIZE).iter().all(|byte| *byte == 0));
        }
        let expected = if self.ramdisk_by_pfn && !self.ramdisk.is_empty() { 1 << 3 } else { 0 };
        assert_eq!(info.flags, expected);
    }

    /// The p2m names every frame, and the ramdisk is found the way the flags say.
    fn check_frames(&self, view: &View<'_>, memory: &FakeMemory, layout: &Layout, info: &StartInfo) {
        let p2m = view.read(info.mfn_list, self.nr_pages as usize * 8);
        for (pfn, entry) in p2m.chunks(8).enumerate() {
            assert_eq!(memory.mfn(Pfn(pfn as u64)).0.to_le_bytes(), *entry);
        }
        if info.mfn_list < self.base {
            assert_eq!(Some(info.mfn_list), self.init_p2m);
            let region = info.first_p2m_pfn..info.first_p2m_pfn + info.nr_p2m_frames;
            assert!(layout.p2m.iter().chain(layout.p2m_tables.iter()).all(|pfn| region.contains(&pfn.0)));
        } else {
            assert_eq!((info.first_p2m_pfn, info.nr_p2m_frames), (0, 0));
        }

        assert_eq!(info.mod_len, self.ramdisk.len() as u64);
        if self.ramdisk.is_empty() {
            assert_eq!(info.mod_start, 0);
        } else if self.ramdisk_by_pfn {
            assert!(info.mod_start >= layout.mapped);
            let frames = info.mod_start..info.mod_start + info.mod_len.div_ceil(4096);
            let mut found: Vec<u8> = frames.flat_map(|pfn| memory.page(pfn)).collect();
            found.truncate(self.ramdisk.len());
            assert!(found == self.ramdisk);
        } else {
            assert!(view.read(info.mod_start, self.ramdisk.len()) == self.ramdisk);
        }
    }

    /// The stack is a writable page, and behind it are at least 512 KiB that nothing uses, up to a 4 MiB boundary.
    fn check_stack(&self, view: &View<'_>, layout: &Layout, state: &StartState) {
        let top = state.stack;
        assert!(view.mapping(top - 8).writable);
        let end = self.base.wrapping_add(layout.mapped * 4096);
        assert!(end.is_multiple_of(4 << 20));
        assert!(end.wrapping_sub(top) >= 512 << 10);
        assert!(view.mapping(end.wrapping_sub(4096)).writable);
    }
}

/// Replaces the hypercall page's bytes by its stubs, if the segment at `va` has any of them.
fn overlay(segment: &mut [u8], va: u64, page: u64) {
    let mut stubs = [0; PAGE_SIZE];
    hypercall_page::fill(&mut stubs);
    for (offset, byte) in stubs.into_iter().enumerate() {
        if let Some(place) = (page + offset as u64).checked_sub(va).and_then(|i| segment.get_mut(i as usize)) {
            *place = byte;
        }
    }
}

/// No frame has two uses, and all lie in the domain's memory.
fn check_disjoint(layout: &Layout) {
    let one = |start| PfnRange { start, count: 1 };
    let uses = [
        layout.kernel,
        layout.ramdisk,
        layout.p2m,
        layout.p2m_tables,
        layout.tables,
        one(layout.start_info),
        one(layout.store),
        one(layout.console),
        one(layout.stack),
    ];
    let mut frames: Vec<u64> = uses.iter().flat_map(|range| range.iter()).map(|pfn| pfn.0).collect();
    let count = frames.len();
    frames.sort_unstable();
    frames.dedup();
    assert_eq!(frames.len(), count);
    assert!(frames.iter().all(|pfn| *pfn < layout.nr_pages));
    let mapped = [layout.kernel, layout.tables, one(layout.start_info), one(layout.stack)];
    assert!(mapped.iter().all(|range| range.end() <= layout.mapped));
}

fn ramp(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 + 1).collect()
}

prop_compose! {
    /// One to four segments with gaps, at any byte; the first page of a segment may share a frame with the last.
    fn loads()(
        first in 0u64..0x40_0000,
        parts in prop::collection::vec((0u64..0x6000, 1u64..0x9000, 0u64..0x9000), 1..5),
    ) -> Vec<LoadSpec> {
        let mut place = first;
        parts.into_iter().map(|(gap, stored, memory)| {
            let paddr = place + gap;
            let memory_len = stored.max(memory);
            place = paddr + memory_len;
            LoadSpec { paddr, memory_len, data: ramp(stored as usize) }
        }).collect()
    }
}

prop_compose! {
    fn case()(
        loads in loads(),
        base in prop_oneof![
            Just(LINUX_BASE), Just(0), Just(0xffff_8800_0000_0000), Just(0x40_0000),
            (0u64..0x2_0000).prop_map(|page| 0x7f_ff00_0000 + page * 4096),
            (0u64..0x2_0000).prop_map(|page| LINUX_BASE + page * 4096),
        ],
        paddr_offset in prop_oneof![Just(0), Just(LINUX_BASE), 0u64..0x1_0000_0000],
        // Just below VIRT_BASE the p2m shares tables with the contiguous area.
        p2m in prop_oneof![Just(None), Just(Some(None)), (1u64..0x40_0000).prop_map(|below| Some(Some(below)))],
        ramdisk_by_pfn: bool,
        hypercall_page: bool,
        entry: prop::sample::Index,
        nr_pages in 1500u64..20_000,
        ramdisk_len in prop_oneof![Just(0), 1usize..300_000],
        command_line in "[ -~]{0,1023}",
        notes_in_section: bool,
    ) -> Case {
        let mut file = ElfFile::plain();
        file.notes_in_section = notes_in_section;
        file.loads = loads;
        file.entry = file.loads[0].paddr + base + entry.index(file.loads[0].memory_len as usize) as u64;
        let image_end = file.loads.last().map(|load| load.paddr + load.memory_len).unwrap();
        let first_page = file.loads[0].paddr & !0xfff;
        let middle = (first_page + (image_end - first_page) / 2) & !0xfff;
        for load in &mut file.loads {
            load.paddr += paddr_offset;
        }
        Case {
            file,
            base,
            paddr_offset,
            init_p2m: p2m.map(|below| below.map_or(LINUX_P2M, |pages| base.wrapping_sub(pages * 4096))),
            ramdisk_by_pfn,
            hypercall_page: hypercall_page.then_some(base + middle),
            nr_pages,
            ramdisk: ramp(ramdisk_len),
            command_line,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_kernel_finds_what_it_was_promised(case in case()) {
        match case.check() {
            Ok(()) => {}
            Err(Refusal::TooSmall { needed, given }) => prop_assert!(needed > given && given == case.nr_pages),
            // Only a p2m at a strange place may be refused for its place.
            Err(Refusal::P2mOverlap(at) | Refusal::NotGuestRange { what: "physical-to-machine table", start: at }) => {
                prop_assert_eq!(case.init_p2m, Some(at));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn linux() -> Case {
    let mut file = ElfFile::plain();
    file.loads = vec![LoadSpec { paddr: 0x100_0000, memory_len: 0x3a0_0000, data: ramp(0x8_1234) }];
    file.entry = LINUX_BASE + 0x307_91c0;
    Case {
        file,
        base: LINUX_BASE,
        paddr_offset: 0,
        init_p2m: Some(LINUX_P2M),
        ramdisk_by_pfn: true,
        hypercall_page: None,
        nr_pages: 0x2_0000,
        ramdisk: ramp(1_234_567),
        command_line: "console=hvc0".into(),
    }
}

/// The addresses that Debian's 6.1 kernel was seen to get on Xen.
#[test]
fn debian_gets_the_layout_it_gets_on_xen() {
    let case = linux();
    case.check().unwrap();
    let elf = case.elf();
    let image = KernelImage::parse(&elf).unwrap();
    let layout = Layout::plan(&image, case.nr_pages, case.ramdisk.len() as u64).unwrap();
    assert_eq!(layout.address(layout.start_info), 0xffff_ffff_84a0_0000);
    assert_eq!(layout.address(layout.store), 0xffff_ffff_84a0_1000);
    assert_eq!(layout.address(layout.console), 0xffff_ffff_84a0_2000);
    assert_eq!(layout.address(layout.root()), 0xffff_ffff_84a0_3000);
    assert_eq!(layout.address(layout.stack), 0xffff_ffff_84a2_c000);
    assert_eq!(layout.address(Pfn(layout.mapped)), 0xffff_ffff_84c0_0000);
    assert_eq!(layout.p2m_address, LINUX_P2M);
}

/// The amount a refusal names is enough, once the p2m of that amount is counted too.
#[test]
fn the_needed_memory_suffices() {
    let mut case = linux();
    case.nr_pages = 1;
    let mut rounds = 0;
    while let Err(Refusal::TooSmall { needed, .. }) = case.check() {
        case.nr_pages = needed;
        rounds += 1;
    }
    case.check().unwrap();
    assert!(rounds <= 3);
    case.nr_pages -= 1;
    assert!(matches!(case.check(), Err(Refusal::TooSmall { .. })));
}

/// A p2m that begins in the contiguous area's L1 table, and one that only shares the L3.
#[test]
fn a_p2m_may_share_tables_with_the_kernel() {
    for below in [300, 512 * 3 + 1, 512 * 512] {
        let mut case = linux();
        case.base = 0xffff_9000_0000_0000 + 400 * 4096;
        case.file.entry = case.base + 0x100_0000;
        case.init_p2m = Some(case.base - below * 4096);
        case.check().unwrap();
    }
}

#[test]
fn the_control_domain_is_told_what_it_is() {
    let case = linux();
    let elf = case.elf();
    let image = KernelImage::parse(&elf).unwrap();
    let layout = Layout::plan(&image, case.nr_pages, 0).unwrap();
    let flags = StartFlags::PRIVILEGED | StartFlags::INITDOMAIN;
    let params = Params { command_line: "", ramdisk: &[], shared_info: Mfn(1), flags, store_port: 0, console_port: 0 };
    let mut memory = FakeMemory::new(case.nr_pages);
    build(&image, &layout, &params, &mut memory).unwrap();
    assert_eq!(memory.page(layout.start_info.0)[0x30..0x34], [3, 0, 0, 0]);
}
