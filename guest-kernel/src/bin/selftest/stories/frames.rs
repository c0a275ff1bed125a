//! The domain's frames as the builder left them: both translation tables, page tables, start info.

use crate::check::{Told, equal, fail, holds, trapped};
use guest_kernel::memory::{self, address_of_frame, machine_frame, pseudo_physical_frame};
use guest_kernel::paging::{PAGE_SIZE, PRESENT, WRITABLE, frame, index};
use guest_kernel::start::{image, start_info};
use guest_kernel::{probe, version};
use pv_abi::memory::MACH2PHYS_VIRT_START;

/// The machine-to-physical table undoes the physical-to-machine one, for every page.
pub fn both_tables_agree() -> Told {
    for pfn in 0..start_info().nr_pages {
        let Some(mfn) = machine_frame(pfn) else { return holds("p2m ends early", false) };
        holds("a page without a frame", mfn != u64::MAX)?;
        equal("m2p of p2m", pseudo_physical_frame(mfn), Some(pfn))?;
    }
    equal("p2m beyond the domain", machine_frame(start_info().nr_pages), None)
}

/// No word of the machine-to-physical table can be written.
pub fn m2p_read_only() -> Told {
    for pfn in [0, 1, start_info().nr_pages / 2, start_info().nr_pages - 1] {
        let mfn = machine_frame(pfn).unwrap_or(0);
        // SAFETY: the write must fault.
        let caught = unsafe { probe::write(MACH2PHYS_VIRT_START + 8 * mfn, 0) }.err();
        trapped("write to the table", caught, 14, 3)?;
        equal("entry after it", pseudo_physical_frame(mfn), Some(pfn))?;
    }
    Ok(())
}

/// The page tables are mapped read-only in the range that start info names, and map what they should.
pub fn page_tables() -> Told {
    let info = start_info();
    holds("fewer than four page tables", info.nr_pt_frames >= 4)?;
    for table in (0..info.nr_pt_frames).map(|n| info.pt_base + n * PAGE_SIZE) {
        let entry = memory::entry(table).unwrap_or(0);
        equal("entry of a page table", entry & (PRESENT | WRITABLE), PRESENT)?;
        equal("its frame", Some(frame(entry)), memory::machine_frame_at(table))?;
    }
    for page in image().step_by(4096) {
        let entry = memory::entry(page).unwrap_or(0);
        equal("entry of the image", entry & PRESENT, PRESENT)?;
        // One page of the image may have given way to the shared one at start.
        if frame(entry) != info.shared_info / PAGE_SIZE {
            equal("its frame", Some(frame(entry)), memory::machine_frame_at(page))?;
        }
    }
    Ok(())
}

/// From the root down to the table that maps the tables themselves: no store to a table goes through.
pub fn page_tables_read_only() -> Told {
    let info = start_info();
    let mut table = info.pt_base;
    for level in [4, 3, 2] {
        let slot = table + 8 * index(info.pt_base, level) as u64;
        let Ok(entry) = probe::read(slot) else { return fail("table not readable") };
        // SAFETY: the write must fault.
        let caught = unsafe { probe::write(slot, entry) }.err();
        trapped(&alloc::format!("write to a level {level} table"), caught, 14, 3)?;
        table = address_of_frame(frame(entry)).unwrap_or(0);
        let tables = info.pt_base..info.pt_base + info.nr_pt_frames * PAGE_SIZE;
        holds("next table outside of the range that start info names", tables.contains(&table))?;
    }
    // A store to a level 1 table may be emulated, then the hypervisor judges the entry stored: here, one that maps a
    // page table writable.
    let slot = table + 8 * index(info.pt_base, 1) as u64;
    let Ok(entry) = probe::read(slot) else { return fail("level 1 table not readable") };
    // SAFETY: the write must fault.
    let caught = unsafe { probe::write(slot, entry | WRITABLE) }.err();
    trapped("making a page table writable", caught, 14, 3)?;
    equal("entry after it", probe::read(slot), Ok(entry))
}

/// What start info says fits together.
pub fn start_info_page() -> Told {
    let info = start_info();
    // Xen's own builder puts a "p" behind, a toolstack doesn't.
    let magic = version::text(&info.magic);
    holds("magic", matches!(magic, "xen-3.0-x86_64" | "xen-3.0-x86_64p"))?;
    holds("bytes behind the magic", info.magic[magic.len()..].iter().all(|byte| *byte == 0))?;
    holds("too few pages", info.nr_pages >= 256)?;
    equal("shared_info alignment", info.shared_info % PAGE_SIZE, 0)?;
    holds("shared_info", info.shared_info != 0)?;
    equal("p2m table", info.mfn_list, guest_kernel::start::P2M_BASE)?;
    equal("page tables' alignment", info.pt_base % PAGE_SIZE, 0)?;
    holds("page tables in the image", info.pt_base >= image().end)?;
    holds("command line without an end", info.cmd_line.contains(&0))?;
    let p2m_pages = (info.nr_pages * 8).div_ceil(PAGE_SIZE);
    holds("fewer p2m frames than the table has", info.nr_p2m_frames >= p2m_pages)
}
