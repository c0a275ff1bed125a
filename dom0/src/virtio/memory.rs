//! Memory as devices see it: by machine address.

use core::ptr::NonNull;

use alloc::vec::Vec;

use guest_kernel::memory::{self, DIRECT_MAP, KERNEL_PAGES, Run};
use guest_kernel::paging::PAGE_SIZE;
use guest_kernel::sync::Mutex;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// The domain's memory, for queues.
pub struct Memory;

/// The runs that queues have, until they give them back.
static RUNS: Mutex<Vec<Run>> = Mutex::new(Vec::new());

// SAFETY: runs are zeroed, page-aligned, mapped for good, and nobody else's; registers are mapped at addresses of their own;
// machine addresses are those of the frames that are mapped.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let run = memory::lock().and_then(|mut memory| memory.allocate_run(pages));
        // Address 0 says that there is none.
        let Ok(run) = run else { return (0, NonNull::dangling()) };
        let place = (run.machine_address(), run.start());
        RUNS.lock().push(run);
        place
    }

    unsafe fn dma_dealloc(paddr: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        let mut runs = RUNS.lock();
        let Some(index) = runs.iter().position(|run| run.machine_address() == paddr) else { return -1 };
        let run = runs.swap_remove(index);
        drop(runs);
        memory::lock().map_or(-1, |mut memory| {
            memory.release_run(run);
            0
        })
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        let mapped = memory::lock().and_then(|mut memory| memory.map_device(paddr, size as u64));
        mapped.unwrap_or_else(|error| panic!("registers at {paddr:#x} can't be mapped: {error}"))
    }

    /// # Panics
    /// If the buffer is not in one piece of the machine's memory.
    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        let start = buffer.addr().get() as u64;
        let first = machine_address(start);
        let last_page = (start + buffer.len() as u64 - 1) & !(PAGE_SIZE - 1);
        let mut page = (start & !(PAGE_SIZE - 1)) + PAGE_SIZE;
        while page <= last_page {
            assert!(machine_address(page) == first + (page - start), "a buffer at {start:#x} is in several pieces");
            page += PAGE_SIZE;
        }
        first
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// The machine address behind an address that the kernel has mapped.
fn machine_address(address: u64) -> u64 {
    // Most buffers are in the direct map, where no walk is needed.
    let frame = if (DIRECT_MAP..KERNEL_PAGES.start).contains(&address) {
        memory::machine_frame((address - DIRECT_MAP) / PAGE_SIZE)
    } else {
        memory::machine_frame_behind(address)
    };
    let frame = frame.unwrap_or_else(|| panic!("no memory is behind {address:#x}"));
    frame * PAGE_SIZE + address % PAGE_SIZE
}
