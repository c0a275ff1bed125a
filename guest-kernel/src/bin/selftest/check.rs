//! What stories are written in: checks that end a story at the first surprise, and the arguments that no hypervisor may
//! accept.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Debug;
use guest_kernel::hypercall::{self, Answer};
use guest_kernel::trap::Caught;
use pv_abi::errno::Errno;

/// Why a story ended before its end.
pub enum Ending {
    /// Something was not as the ABI says.
    Fail(String),
    /// The machine or hypervisor lacks what the story is about.
    Skip(String),
}

/// A story's result.
pub type Told = Result<(), Ending>;

/// An address where nothing is mapped: the domain builder leaves the low half empty but for the p2m table.
pub const UNMAPPED: u64 = 0x1000;
/// The first address that isn't canonical.
pub const NON_CANONICAL: u64 = 0x0000_8000_0000_0000;
/// An address inside the hypervisor's own range, above the machine-to-physical table that guests may read.
pub const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
/// An address inside the machine-to-physical table: readable to the guest, but never for a hypercall to use.
pub const M2P: u64 = 0xffff_8000_0000_0000;

/// Pointers that every hypercall must refuse with `EFAULT`. The last one is mapped nowhere and makes any object wrap.
pub const BAD_POINTERS: [u64; 5] = [UNMAPPED, NON_CANONICAL, HYPERVISOR, M2P, u64::MAX - 2];

/// Ends the story unless `got` is `want`.
pub fn equal<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Told {
    if got == want { Ok(()) } else { fail(&format!("{what}: got {got:x?}, want {want:x?}")) }
}

/// Ends the story unless `condition` holds.
pub fn holds(what: &str, condition: bool) -> Told {
    if condition { Ok(()) } else { fail(what) }
}

/// Ends the story unless the hypercall failed with `want`.
pub fn refused(what: &str, got: Answer, want: Errno) -> Told {
    equal(what, got, Err(want))
}

/// Ends the story unless `got` is a trap with this vector and error code.
pub fn trapped(what: &str, got: Option<Caught>, vector: u8, error_code: u32) -> Told {
    equal(what, got, Some(Caught { vector, error_code }))
}

/// Ends the story as failed.
pub fn fail(text: &str) -> Told {
    Err(Ending::Fail(text.to_string()))
}

/// Ends the story as skipped.
pub fn skip(text: &str) -> Told {
    Err(Ending::Skip(text.to_string()))
}

/// Makes any hypercall with up to five arguments.
///
/// Stories pass pointers to buffers of theirs, or addresses that must be refused, so the function is as safe as they
/// are careful; marking each of some hundred calls `unsafe` would say no more.
pub fn call<const N: usize>(number: u32, arguments: [u64; N]) -> Answer {
    let mut all = [0; 5];
    all[..N].copy_from_slice(&arguments);
    // SAFETY: see above.
    unsafe { hypercall::call(number, all) }
}

/// The address of `object`, for a hypercall that reads it.
pub fn reads<T>(object: &T) -> u64 {
    (&raw const *object) as u64
}

/// The address of `object`, for a hypercall that writes it.
pub fn writes<T>(object: &mut T) -> u64 {
    (&raw mut *object) as u64
}

/// Tries `attempt` with each bad pointer; all must end with `EFAULT`.
pub fn refuses_bad_pointers(what: &str, attempt: impl Fn(u64) -> Answer) -> Told {
    BAD_POINTERS
        .iter()
        .try_for_each(|pointer| refused(&format!("{what} at {pointer:#x}"), attempt(*pointer), Errno::EFAULT))
}
