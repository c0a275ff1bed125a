//! `update_va_mapping` and its relative for other domains' frames.

use super::ground::*;
use crate::check::{HYPERVISOR, M2P, NON_CANONICAL, Told, UNMAPPED, call, equal, holds, reads, refused, trapped};
use guest_kernel::hypercall::Answer;
use guest_kernel::paging::PRESENT;
use guest_kernel::probe;
use pv_abi::domid::{DOMID_INVALID, DOMID_SELF};
use pv_abi::errno::Errno;
use pv_abi::hypercall::{UPDATE_VA_MAPPING, UPDATE_VA_MAPPING_OTHERDOMAIN};
use pv_abi::mmu::*;

fn update(address: u64, entry: u64, flags: u64) -> Answer {
    call(UPDATE_VA_MAPPING, [address, entry, flags])
}

/// Maps a page somewhere else, takes rights away and gives them back, with every kind of flush.
pub fn mapping() -> Told {
    let [first, second, window] = [Page::new(), Page::new(), Page::new()];
    first.write(0, 1);
    second.write(0, 2);
    let mask = [1u64];
    let all_words = reads(&mask);
    let flushes = [
        UVMF_INVLPG | UVMF_LOCAL,
        UVMF_INVLPG | UVMF_ALL,
        UVMF_INVLPG | all_words,
        UVMF_TLB_FLUSH | UVMF_LOCAL,
        UVMF_TLB_FLUSH | UVMF_ALL,
        UVMF_TLB_FLUSH | all_words,
    ];
    for flags in flushes {
        for page in [first, second] {
            equal("map", update(window.address, page.entry(WRITE), flags), Ok(0))?;
            equal("word behind it", window.read(0), page.read(0))?;
        }
        equal("map read-only", update(window.address, first.entry(READ), flags), Ok(0))?;
        equal("word behind it", window.read(0), 1)?;
        // SAFETY: the store must fault.
        trapped("store to it", unsafe { probe::write(window.address, 0) }.err(), 14, 3)?;
        equal("unmap", update(window.address, 0, flags), Ok(0))?;
        trapped("read of it", probe::read(window.address).err(), 14, 0)?;
    }
    // Without a flush: the first use after it is up to the TLB, the entry is not.
    equal("map without a flush", update(window.address, first.entry(WRITE), UVMF_NONE), Ok(0))?;
    equal("word behind a new entry", window.read(0), 1)?;
    // Any address in the page names it.
    equal("odd address", update(window.address + 0xabc, second.entry(WRITE), UVMF_INVLPG), Ok(0))?;
    equal("word behind it", window.read(0), 2)
}

/// Code runs in a page without the no-execute bit only.
pub fn no_execute() -> Told {
    const RET: u64 = 0xc3;
    let page = Page::new();
    page.write(0, RET);
    equal("map executable", map(page.address, page.entry(READ)), Ok(0))?;
    // SAFETY: the page holds a `ret`.
    let run = || unsafe { guest_kernel::catch!(["call {code}"] code = in(reg) page.address,) };
    equal("call", run(), None)?;
    equal("map with no-execute", map(page.address, page.entry(READ | NO_EXECUTE)), Ok(0))?;
    // The fault is at the callee: its return address stays on the stack, for the kernel to drop.
    // SAFETY: the fetch faults.
    trapped("jump", unsafe { probe::jump(page.address) }, 14, 1 << 4 | 1)
}

/// Addresses that no level 1 table of the domain maps.
pub fn bad_addresses() -> Told {
    let page = Page::new();
    for address in [UNMAPPED, WINDOW, WINDOW + (1 << 30), NON_CANONICAL, 0xffff_7fff_ffff_f000, 1 << 63] {
        for entry in [0, page.entry(WRITE)] {
            for flags in [UVMF_NONE, UVMF_INVLPG, UVMF_TLB_FLUSH | UVMF_ALL] {
                refused(&alloc::format!("address {address:#x}"), update(address, entry, flags), Errno::EINVAL)?;
            }
        }
    }
    for address in [HYPERVISOR, M2P, 0xffff_8080_0000_0000, 0xffff_8000_0000_0000 + 8 * page.mfn] {
        for entry in [0, page.entry(WRITE)] {
            refused("hypervisor's address", update(address, entry, UVMF_INVLPG), Errno::EINVAL)?;
        }
    }
    // With all tables but the last.
    let tree = Tree::hooked()?;
    refused("no level 1 table", update(WINDOW + (1 << 21), page.entry(WRITE), UVMF_INVLPG), Errno::EINVAL)?;
    refused("no level 2 table", update(WINDOW + (1 << 30), page.entry(WRITE), UVMF_INVLPG), Errno::EINVAL)?;
    equal("a level 1 table", update(WINDOW + 4096, page.entry(WRITE), UVMF_INVLPG), Ok(0))?;
    equal("entry", tree.l1.read(1) & PRESENT, PRESENT)
}

/// Entries that are refused change nothing.
pub fn bad_entries() -> Told {
    let window = Page::new();
    window.write(0, 99);
    for entry in [0xff_ffff_ffff << 12 | WRITE, 0xf_ffff_ffff << 12 | READ] {
        let answer = update(window.address, entry, UVMF_INVLPG);
        holds("no such frame", matches!(answer, Err(Errno::EPERM | Errno::EINVAL)))?;
    }
    if !is_privileged() {
        for bit in [3, 4, 7] {
            let entry = window.entry(WRITE | 1 << bit);
            refused("a cache bit", update(window.address, entry, UVMF_INVLPG), Errno::EINVAL)?;
        }
    }
    equal("the page is still there", window.read(0), 99)
}

/// A bitmap of vCPUs that can't be read.
pub fn bad_masks() -> Told {
    let window = Page::new();
    for kind in [UVMF_INVLPG, UVMF_TLB_FLUSH] {
        for pointer in [UNMAPPED, NON_CANONICAL, HYPERVISOR] {
            let answer = update(window.address, window.entry(WRITE), kind | pointer);
            refused(&alloc::format!("mask at {pointer:#x}"), answer, Errno::EFAULT)?;
        }
    }
    // Bits of vCPUs that don't exist are nothing.
    let mask = [u64::MAX; 4];
    let answer = update(window.address, window.entry(WRITE), UVMF_TLB_FLUSH | reads(&mask));
    equal("mask with all bits", answer, Ok(0))?;
    // 3 is no kind of flush.
    let answer = update(window.address, window.entry(WRITE), UVMF_FLUSHTYPE_MASK);
    holds("both kinds of flush", matches!(answer, Ok(0) | Err(Errno::EINVAL | Errno::ENOSYS)))
}

/// Frames of a named domain.
pub fn other_domains() -> Told {
    let [page, window] = [Page::new(), Page::new()];
    let by = |domain: u16| {
        call(UPDATE_VA_MAPPING_OTHERDOMAIN, [window.address, page.entry(WRITE), UVMF_INVLPG, u64::from(domain)])
    };
    equal("own frames", by(DOMID_SELF), Ok(0))?;
    page.write(0, 3);
    equal("word behind it", window.read(0), 3)?;
    for domain in [DOMID_INVALID, 0x7000, 1000] {
        refused("nobody's frames", by(domain), Errno::ESRCH)?;
    }
    Ok(())
}
