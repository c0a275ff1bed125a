//! The domain's memory: frames and their numbers, the kernel's mappings, address spaces, the heap.
//!
//! A start needs no more than what the builder mapped. Everything that changes mappings waits for the first [`lock`],
//! which needs a hypervisor that has the calls for it. From then on every frame of the domain has one address: in the
//! builder's mapping, or, behind it, in the [direct map](DIRECT_MAP). A frame that is a page table is read-only there.
//!
//! | file | what |
//! |---|---|
//! | `heap` | the allocator of Rust's collections |
//! | `numbers` | pseudo-physical, machine and virtual numbers of a frame; the walk of the kernel's tables |
//! | `batch` | requests that wait to be made together |
//! | `devices` | registers of devices; memory that they reach |
//! | `direct` | the direct map, and the frames that become free with it |
//! | `frames` | frames as bytes and as tables |
//! | `kernel` | pages of the kernel |
//! | `windows` | frames of others, at addresses of the kernel |
//! | `space` | address spaces |

mod batch;
mod devices;
mod direct;
mod frames;
mod heap;
mod kernel;
mod numbers;
mod space;
mod windows;

use crate::paging::Mfn;
use crate::paging::frames::{FrameList, FrameTable};
use crate::paging::places::Places;
use crate::sync::{Mutex, MutexGuard, Once};
use batch::Batch;
use core::fmt;
use pv_abi::errno::Errno;

pub use devices::{DEVICE_PAGES, Run};
pub use direct::DIRECT_MAP;
pub use frames::Frame;
pub use heap::{heap_size, is_busy};
pub use kernel::KERNEL_PAGES;
pub use numbers::{
    address_of_frame, entry, machine_frame, machine_frame_at, machine_frame_behind, mapped_end, pseudo_physical_frame,
};
pub use space::{Access, Denied, Space, Touched, USER_END};
pub use windows::WINDOWS;

pub(crate) use heap::init;

/// Why memory can't be had or changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The hypervisor lacks a call that changing page tables takes.
    Unsupported,
    /// No frame is free.
    OutOfFrames,
    /// The hypervisor refused a change. What was asked for may have been done in part.
    Refused(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unsupported => f.write_str("this hypervisor has no calls for page tables"),
            Error::OutOfFrames => f.write_str("no frame is free"),
            Error::Refused(errno) => write!(f, "the hypervisor refused a change of page tables: {errno:?}"),
        }
    }
}

/// The memory behind the builder's mapping, and all page tables.
pub struct Memory {
    frames: FrameTable<'static>,
    batch: Batch,
    /// The kernel's root table, which the builder made. It is active while no other address space is.
    root: Mfn,
    /// The root table that is active.
    active: Mfn,
    /// The tables made for the kernel, which it keeps.
    tables: FrameList,
    /// The addresses of windows.
    windows: Places,
}

static MEMORY: Once<Result<Mutex<Memory>, Error>> = Once::new();

/// Takes the memory, which is set up at the first call. While it is held the heap can't grow: what is allocated then
/// should be small.
///
/// # Errors
/// Those of the setup, at every call.
pub fn lock() -> Result<MutexGuard<'static, Memory>, Error> {
    match MEMORY.call_once(|| Memory::new().map(Mutex::new)) {
        Ok(memory) => {
            let mut memory = memory.lock();
            heap::prepare(&mut memory);
            Ok(memory)
        }
        Err(error) => Err(*error),
    }
}

impl Memory {
    /// How many frames are free.
    pub fn free_frames(&self) -> u32 {
        self.frames.free()
    }

    /// Makes what waits in the batch.
    fn commit(&mut self) -> Result<(), Error> {
        self.batch.commit().map_err(Error::Refused)
    }

    /// Refuses to begin what would run out of frames in the middle.
    fn expect_free(&self, frames: u64) -> Result<(), Error> {
        if frames <= u64::from(self.frames.free()) { Ok(()) } else { Err(Error::OutOfFrames) }
    }
}
