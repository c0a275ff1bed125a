//! Address spaces and the kernel's pages, made with the library's memory: every frame comes back, and what is mapped is
//! what was asked for.

use crate::check::{Ending, Told, equal, holds, trapped};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use guest_kernel::memory::{self, Access, Denied, Error, KERNEL_PAGES, Memory, Space, Touched};
use guest_kernel::paging::{PAGE_BYTES, PAGE_SIZE, PRESENT, Rights, WRITABLE};
use guest_kernel::probe;
use guest_kernel::sync::MutexGuard;

/// Where the stories' regions start: in the middle of what a level 1 table covers, so that they need two.
const BASE: u64 = 0x7fff_f000;

fn memory() -> Result<MutexGuard<'static, Memory>, Ending> {
    memory::lock().map_err(refusal)
}

fn refusal(error: Error) -> Ending {
    Ending::Fail(alloc::format!("memory: {error}"))
}

fn denial(denied: Denied) -> Ending {
    Ending::Fail(alloc::format!("page: {denied:?}"))
}

/// A pinned space with one region of `pages` pages at [`BASE`].
fn space(memory: &mut Memory, pages: u64) -> Result<Space, Ending> {
    let mut space = Space::new(memory).map_err(refusal)?;
    holds("region", space.add(BASE..BASE + pages * PAGE_SIZE, Rights::Write).is_ok())?;
    space.pin(memory).map_err(refusal)?;
    Ok(space)
}

/// The kernel maps, protects and unmaps pages of its own.
pub fn kernel_pages() -> Told {
    // Over the border between two level 2 tables.
    let start = KERNEL_PAGES.start + (1 << 30) - 3 * PAGE_SIZE;
    let range = start..start + 6 * PAGE_SIZE;
    let pages = || range.clone().step_by(PAGE_BYTES);
    let mut memory = memory()?;

    for page in pages() {
        trapped("read before", probe::read(page).err(), 14, 0)?;
    }
    let first = memory.free_frames();
    memory.map(range.clone(), Rights::Write).map_err(refusal)?;
    let mapped = memory.free_frames();
    for page in pages() {
        equal("a new page", probe::read(page), Ok(0))?;
        // SAFETY: the pages are the story's.
        equal("write", unsafe { probe::write(page + 8, page) }, Ok(()))?;
    }
    // SAFETY: nothing but the story uses the pages.
    unsafe { memory.protect(start..start + PAGE_SIZE, Rights::Read) }.map_err(refusal)?;
    equal("what was written", probe::read(start + 8), Ok(start))?;
    // SAFETY: the write must fault.
    trapped("write to a protected page", unsafe { probe::write(start + 8, 1) }.err(), 14, 3)?;
    // SAFETY: the page belongs to the story.
    equal("write to its neighbour", unsafe { probe::write(start + PAGE_SIZE + 8, 1) }, Ok(()))?;
    // SAFETY: as above; zeros in a page are no code.
    trapped("jump to a page", unsafe { probe::jump(start) }, 14, 0x11)?;
    // SAFETY: as above.
    unsafe { memory.protect(start..start + PAGE_SIZE, Rights::Write) }.map_err(refusal)?;
    // SAFETY: as above.
    equal("write after that", unsafe { probe::write(start + 8, 1) }, Ok(()))?;

    // SAFETY: as above.
    unsafe { memory.unmap(range.clone()) }.map_err(refusal)?;
    for page in pages() {
        trapped("read after", probe::read(page).err(), 14, 0)?;
    }
    equal("frames that came back", memory.free_frames() - mapped, 6)?;
    holds("tables stay", memory.free_frames() < first)?;

    // What comes back is clean.
    memory.map(range.clone(), Rights::Write).map_err(refusal)?;
    equal("frames without new tables", memory.free_frames(), mapped)?;
    for word in pages().flat_map(|page| [page, page + 8]) {
        equal("a page that is mapped again", probe::read(word), Ok(0))?;
    }
    // SAFETY: as above.
    unsafe { memory.unmap(range.clone()) }.map_err(refusal)
}

/// Rust's collections get more memory than the builder left.
pub fn heap_grows() -> Told {
    let (before, _) = memory::heap_size();
    drop(memory()?);
    let mut blocks: Vec<Vec<u64>> = Vec::new();
    let mut filled = 0;
    while filled <= 2 * before {
        let number = blocks.len() as u64;
        blocks.push(vec![number; 12_345]);
        filled += 8 * 12_345;
    }
    for (number, block) in (0..).zip(&blocks) {
        holds("a block with other contents", block.iter().all(|word| *word == number))?;
    }
    drop(blocks);
    let (after, free) = memory::heap_size();
    holds("the heap is as it was", after > before)?;
    // It is one piece: what was freed can be had as one block.
    let block = vec![1u8; free / 2];
    holds("block", block.iter().all(|byte| *byte == 1))
}

/// A space is made, pinned, used, unpinned and destroyed, more than once: all frames are back each time.
pub fn build_teardown() -> Told {
    let mut memory = memory()?;
    let before = memory.free_frames();
    for pages in [1, 2, 600, 40] {
        let mut space = space(&mut memory, pages)?;
        let region = BASE..BASE + pages * PAGE_SIZE;
        // In pieces over the borders of pages.
        for piece in (region.start + 8..region.end - 8).step_by(0x1800) {
            let bytes: [u8; 0x1800] = core::array::from_fn(|byte| byte.to_le_bytes()[0]);
            let len = usize::try_from(region.end - piece).unwrap_or(0).min(bytes.len());
            space.write(&mut memory, piece, &bytes[..len]).map_err(denial)?;
        }
        let expected = memory.free_frames() + u32::try_from(pages).unwrap_or(0) + space.tables();
        equal("frames in use", before, expected)?;

        memory.activate(&space).map_err(refusal)?;
        for page in region.clone().step_by(PAGE_BYTES) {
            equal("a word of the page", probe::read(page + 8), Ok(0x0706_0504_0302_0100))?;
        }
        trapped("beyond the region", probe::read(region.end).err(), 14, 0)?;
        memory.deactivate().map_err(refusal)?;
        trapped("not active", probe::read(region.start).err(), 14, 0)?;

        if pages == 2 {
            // Plain, it can be changed by stores, and pinned again.
            space.unpin(&mut memory).map_err(refusal)?;
            holds("region", space.add(0x1000..0x3000, Rights::Write).is_ok())?;
            space.write(&mut memory, 0x1000, b"plain").map_err(denial)?;
            space.pin(&mut memory).map_err(refusal)?;
            let mut read = [0; 5];
            space.read(&mut memory, 0x1000, &mut read).map_err(denial)?;
            equal("what was written", &read, b"plain")?;
        }
        space.destroy(&mut memory).map_err(refusal)?;
        equal("free frames after the end", memory.free_frames(), before)?;
    }
    Ok(())
}

/// Tables of a pinned space can be read but not written, wherever they are mapped; afterwards they are plain memory.
pub fn tables_read_only() -> Told {
    let mut memory = memory()?;
    let mut space = space(&mut memory, 600)?;
    space.populate(&mut memory, BASE..BASE + 600 * PAGE_SIZE).map_err(denial)?;
    let tables: Vec<u64> = space.table_addresses(&memory).collect();
    equal("tables", tables.len() as u64, u64::from(space.tables()))?;
    holds("fewer tables than levels", tables.len() > 4)?;
    let store = |table: u64, word: u64| {
        // SAFETY: the same word goes where it came from; in a table it faults.
        unsafe { probe::write(table, word) }
    };
    for table in &tables {
        let mapping = memory::entry(*table).unwrap_or(WRITABLE);
        equal("write bit of the mapping", mapping & WRITABLE, 0)?;
        // A level 1 table takes the store of an entry that it may have, by the hypervisor's hand: it may not have one
        // that makes it writable.
        trapped("store of an entry", store(*table, mapping | WRITABLE).err(), 14, 3)?;
    }
    space.unpin(&mut memory).map_err(refusal)?;
    for table in &tables {
        let word = probe::read(*table).unwrap_or(0);
        equal("store", store(*table, word), Ok(()))?;
    }
    space.destroy(&mut memory).map_err(refusal)
}

/// Pages and tables come to a space that is active, and are there at once.
pub fn live_changes() -> Told {
    let mut memory = memory()?;
    let before = memory.free_frames();
    let mut space = space(&mut memory, 4)?;
    let far = 0x40_0000_0000..0x40_0000_2000;
    let code = 0x30_0000_0000..0x30_0000_1000;
    holds("regions", space.add(far.clone(), Rights::Read).is_ok())?;
    holds("regions", space.add(code.clone(), Rights::Execute).is_ok())?;
    memory.activate(&space).map_err(refusal)?;

    let mut touch = |memory: &mut Memory, address, access| space.touch(memory, address, access);
    trapped("before", probe::read(BASE).err(), 14, 0)?;
    equal("write", touch(&mut memory, BASE + 5, Access::Write), Ok(Touched::Filled))?;
    // SAFETY: the page belongs to the story.
    equal("store", unsafe { probe::write(BASE, 1) }, Ok(()))?;
    equal("read", touch(&mut memory, BASE, Access::Read), Ok(Touched::Present))?;
    equal("read far", touch(&mut memory, far.start, Access::Read), Ok(Touched::Filled))?;
    equal("load", probe::read(far.start), Ok(0))?;
    // SAFETY: the write must fault.
    trapped("store", unsafe { probe::write(far.start, 1) }.err(), 14, 3)?;
    equal("write far", touch(&mut memory, far.start, Access::Write), Err(Denied::NoRight))?;
    equal("execute far", touch(&mut memory, far.start, Access::Execute), Err(Denied::NoRight))?;
    equal("execute code", touch(&mut memory, code.start, Access::Execute), Ok(Touched::Filled))?;
    equal("write code", touch(&mut memory, code.start, Access::Write), Err(Denied::NoRight))?;
    for nowhere in [0, far.end, code.start - 1, 1 << 39, 1 << 47, u64::MAX] {
        equal("nowhere", touch(&mut memory, nowhere, Access::Read), Err(Denied::NoRegion))?;
    }

    memory.deactivate().map_err(refusal)?;
    space.destroy(&mut memory).map_err(refusal)?;
    equal("free frames", memory.free_frames(), before)
}

/// Forks share pages until one writes; the last one who has a page writes without a copy.
pub fn copy_on_write() -> Told {
    let mut memory = memory()?;
    let before = memory.free_frames();
    let (first, second) = (BASE, BASE + PAGE_SIZE);
    let mut parent = space(&mut memory, 8)?;
    parent.write(&mut memory, first, b"one").map_err(denial)?;
    parent.write(&mut memory, second, b"two").map_err(denial)?;
    memory.activate(&parent).map_err(refusal)?;
    // SAFETY: the page belongs to the story. The translation is in the TLB then, with the right to write.
    equal("store before the fork", unsafe { probe::write(first + 8, 8) }, Ok(()))?;

    let free = memory.free_frames();
    let mut child = parent.fork(&mut memory).map_err(refusal)?;
    equal("a fork costs tables only", free - memory.free_frames(), child.tables())?;
    // SAFETY: the write must fault, for the page is shared.
    trapped("store after the fork", unsafe { probe::write(first + 8, 9) }.err(), 14, 3)?;
    for space in [&parent, &child] {
        equal("entry", space.entry(&memory, first) & (PRESENT | WRITABLE), PRESENT)?;
    }
    equal("parent writes", parent.touch(&mut memory, first, Access::Write), Ok(Touched::Copied))?;
    // SAFETY: the page is the parent's own now.
    equal("store", unsafe { probe::write(first + 8, 9) }, Ok(()))?;
    equal("child writes what it alone has", child.touch(&mut memory, first, Access::Write), Ok(Touched::Reclaimed))?;
    child.write(&mut memory, second, b"2").map_err(denial)?;

    let mut grandchild = child.fork(&mut memory).map_err(refusal)?;
    let read = |memory: &mut Memory, space: &mut Space, address| {
        let mut bytes = [0; 3];
        space.read(memory, address, &mut bytes).map(|()| bytes).map_err(denial)
    };
    memory.activate(&child).map_err(refusal)?;
    parent.destroy(&mut memory).map_err(refusal)?;
    equal("child's page", &read(&mut memory, &mut child, first)?, b"one")?;
    equal("child's word", probe::read(first + 8), Ok(8))?;
    equal("child's other page", &read(&mut memory, &mut child, second)?, b"2wo")?;
    memory.deactivate().map_err(refusal)?;
    child.destroy(&mut memory).map_err(refusal)?;
    equal("grandchild's page", &read(&mut memory, &mut grandchild, second)?, b"2wo")?;
    equal("it writes", grandchild.touch(&mut memory, second, Access::Write), Ok(Touched::Reclaimed))?;
    grandchild.destroy(&mut memory).map_err(refusal)?;
    equal("free frames", memory.free_frames(), before)
}

/// A space of a thousand tables, all full.
pub fn thousand_tables() -> Told {
    // 1000 tables: two roots, one on level 3, two on level 2, 995 on level 1.
    const RANGE: Range<u64> = 0..995 << 21;
    let mut memory = memory()?;
    let before = memory.free_frames();
    let frame = memory.allocate().map_err(refusal)?;
    memory.write_frame(&frame, 0, b"the only");
    let mut space = Space::new(&mut memory).map_err(refusal)?;
    holds("region", space.add(RANGE, Rights::Write).is_ok())?;
    space.share(&mut memory, RANGE, &frame).map_err(refusal)?;
    equal("tables", space.tables(), 1000)?;
    equal("references", u64::from(memory.references(&frame)), 1 + (995 << 9))?;
    for _ in 0..2 {
        space.pin(&mut memory).map_err(refusal)?;
        memory.activate(&space).map_err(refusal)?;
        for address in [0, 0x1234_5000, RANGE.end - PAGE_SIZE] {
            equal("word", probe::read(address), Ok(u64::from_le_bytes(*b"the only")))?;
        }
        memory.deactivate().map_err(refusal)?;
        space.unpin(&mut memory).map_err(refusal)?;
    }
    space.destroy(&mut memory).map_err(refusal)?;
    equal("references", memory.references(&frame), 1)?;
    memory.release(frame);
    equal("free frames", memory.free_frames(), before)
}

/// When there is no frame left, what needs one fails and changes nothing.
pub fn out_of_frames() -> Told {
    let free = memory()?.free_frames();
    // The heap can't grow while the memory is held.
    let mut taken = Vec::with_capacity(usize::try_from(free).unwrap_or(0));
    let mut memory = memory()?;
    let before = memory.free_frames();
    let mut parent = space(&mut memory, 1 << 20)?;
    parent.write(&mut memory, BASE, b"page").map_err(denial)?;
    let rest = u64::from(memory.free_frames());
    let too_much = parent.populate(&mut memory, BASE..BASE + (rest + 1) * PAGE_SIZE);
    equal("more pages than frames", too_much, Err(Denied::Memory(Error::OutOfFrames)))?;
    equal("frames after that", u64::from(memory.free_frames()), rest)?;

    let child = parent.fork(&mut memory).map_err(refusal)?;
    while let Ok(frame) = memory.allocate() {
        taken.push(frame);
    }
    let none = Error::OutOfFrames;
    equal("space", Space::new(&mut memory).map(|_| ()), Err(none))?;
    equal("fork", parent.fork(&mut memory).map(|_| ()), Err(none))?;
    equal("kernel pages", memory.map(KERNEL_PAGES.start..KERNEL_PAGES.start + PAGE_SIZE, Rights::Write), Err(none))?;
    equal("copy", parent.touch(&mut memory, BASE, Access::Write), Err(Denied::Memory(none)))?;
    equal("new page", parent.touch(&mut memory, BASE + PAGE_SIZE, Access::Read), Err(Denied::Memory(none)))?;

    taken.drain(..).for_each(|frame| memory.release(frame));
    for space in [parent, child] {
        space.destroy(&mut memory).map_err(refusal)?;
    }
    equal("free frames", memory.free_frames(), before)
}
