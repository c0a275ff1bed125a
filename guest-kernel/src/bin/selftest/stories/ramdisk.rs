//! The ramdisk that came with the domain: where start info says, and whole.

use crate::check::{Told, equal, holds};
use guest_kernel::memory::{self, machine_frame, pseudo_physical_frame};
use guest_kernel::paging::{PAGE_SIZE, PRESENT, WRITABLE, frame};
use guest_kernel::start::{VIRT_BASE, image, start_info};
use guest_kernel::{println, probe};
use pv_abi::start_info::StartFlags;

/// A kernel whose notes allow it gets the ramdisk's frame number and no mapping, any other one its address.
pub fn ramdisk() -> Told {
    let info = start_info();
    holds("there is no ramdisk", info.mod_len > 0)?;
    let pages = info.mod_len.div_ceil(PAGE_SIZE);
    if StartFlags::from_bits_retain(info.flags).contains(StartFlags::MOD_START_PFN) {
        by_frame(info.mod_start, pages)
    } else {
        mapped(info.mod_start, pages)
    }
}

/// The frames are the domain's, behind all that is mapped, and none of them holds the table of frames.
fn by_frame(first: u64, pages: u64) -> Told {
    let info = start_info();
    let end = first + pages;
    holds("frames beyond the domain", end <= info.nr_pages)?;
    holds("frames that are mapped", VIRT_BASE + first * PAGE_SIZE >= memory::mapped_end())?;
    let p2m = info.first_p2m_pfn..info.first_p2m_pfn + info.nr_p2m_frames;
    holds("frames of the p2m", end <= p2m.start || p2m.end <= first)?;
    for pfn in first..end {
        let mfn = machine_frame(pfn).unwrap_or(u64::MAX);
        holds("a page without a frame", mfn != u64::MAX)?;
        equal("m2p of p2m", pseudo_physical_frame(mfn), Some(pfn))?;
    }
    println!("ramdisk of {} bytes from frame {first} on", info.mod_len);
    Ok(())
}

/// The pages follow the image, are the kernel's to write, and hold nothing behind the ramdisk's end.
fn mapped(start: u64, pages: u64) -> Told {
    let info = start_info();
    let end = start + pages * PAGE_SIZE;
    equal("page offset", start % PAGE_SIZE, 0)?;
    holds("pages of the image", image().end <= start)?;
    holds("pages of the page tables", end <= info.pt_base)?;
    for page in (start..end).step_by(4096) {
        let entry = memory::entry(page).unwrap_or(0);
        equal("entry", entry & (PRESENT | WRITABLE), PRESENT | WRITABLE)?;
        equal("its frame", Some(frame(entry)), memory::machine_frame_at(page))?;
    }
    let mut checksum = FNV_START;
    for (position, address) in (start..end).step_by(8).enumerate() {
        let word = probe::read(address).unwrap_or(0);
        for (byte, position) in word.to_le_bytes().into_iter().zip(8 * position as u64..) {
            if position < info.mod_len {
                checksum = fnv(checksum, byte);
            } else {
                equal("a byte behind the end", byte, 0)?;
            }
        }
    }
    println!("ramdisk of {} bytes at {start:#x}, checksum {checksum:016x}", info.mod_len);
    Ok(())
}

/// FNV-1a with 64 bits, for which the host has the same.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(sum: u64, byte: u8) -> u64 {
    (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
}
