//! `grant_table_op`: what a domain grants, and what others grant it. Header: `grant_table.h`.
//!
//! Lists are carried out as a whole; each request then has its status (`GNTST_*`).

use super::{Answer, call};
use pv_abi::errno::Errno;
use pv_abi::grant::*;
use pv_abi::hypercall as number;

/// Any operation on a list of its structures, in which the results land.
///
/// # Safety
/// `T` is the structure that the ABI names for `command`. No mapping of memory that Rust believes to be its own changes, and
/// nothing of it is copied to.
pub unsafe fn grant_table_op<T>(command: u32, list: &mut [T]) -> Answer {
    // SAFETY: the call writes the list, which is of the command's type, and no other memory of ours, as the caller promises.
    unsafe { call(number::GRANT_TABLE_OP, [u64::from(command), list.as_mut_ptr() as u64, list.len() as u64, 0, 0]) }
}

/// Makes an operation whose results are its argument, then; fails with `EINVAL` on a status that isn't good.
fn op<T>(command: u32, argument: T, status: impl FnOnce(&T) -> i16) -> Result<T, Errno> {
    let mut list = [argument];
    // SAFETY: the callers below pair command and structure as the header does, and none changes mappings or copies.
    unsafe { grant_table_op(command, &mut list) }?;
    let [done] = list;
    if status(&done) == GNTST_OKAY { Ok(done) } else { Err(Errno::EINVAL) }
}

/// Maps granted frames (`map_grant_ref`).
///
/// # Safety
/// Nothing lives in the pages that are mapped, and they are used as what they map only.
pub unsafe fn grant_map(list: &mut [GnttabMapGrantRef]) -> Answer {
    // SAFETY: nothing lives in the pages that are mapped, as the caller promises; the list has the command's type.
    unsafe { grant_table_op(GNTTABOP_MAP_GRANT_REF, list) }
}

/// Unmaps granted frames (`unmap_grant_ref`).
///
/// # Safety
/// Nobody uses the pages any more.
pub unsafe fn grant_unmap(list: &mut [GnttabUnmapGrantRef]) -> Answer {
    // SAFETY: nobody uses the pages any more, as the caller promises; the list has the command's type.
    unsafe { grant_table_op(GNTTABOP_UNMAP_GRANT_REF, list) }
}

/// Copies from and to granted frames (`copy`).
///
/// # Safety
/// No Rust object is in a frame of this domain that is copied to.
pub unsafe fn grant_copy(list: &mut [GnttabCopy]) -> Answer {
    // SAFETY: no Rust object is copied to, as the caller promises; the list has the command's type.
    unsafe { grant_table_op(GNTTABOP_COPY, list) }
}

/// Makes the table of domain `dom` as large as `frames`, if it is smaller, and lists its frames there (`setup_table`).
///
/// # Errors
/// `EINVAL` if the table can't grow so far, or isn't the caller's to see.
pub fn grant_setup_table(dom: u16, frames: &mut [u64]) -> Result<(), Errno> {
    let nr_frames = u32::try_from(frames.len()).map_err(|_| Errno::EINVAL)?;
    let frame_list = frames.as_mut_ptr() as u64;
    let argument = GnttabSetupTable { dom, nr_frames, frame_list, ..Default::default() };
    op(GNTTABOP_SETUP_TABLE, argument, |done| done.status).map(drop)
}

/// The frames that a domain's table has, and may have (`query_size`).
pub fn grant_query_size(dom: u16) -> Result<GnttabQuerySize, Errno> {
    op(GNTTABOP_QUERY_SIZE, GnttabQuerySize { dom, ..Default::default() }, |done| done.status)
}

/// Chooses the version of the table; the one in use then (`set_version`).
pub fn grant_set_version(version: u32) -> Result<u32, Errno> {
    op(GNTTABOP_SET_VERSION, GnttabSetVersion { version }, |_| GNTST_OKAY).map(|done| done.version)
}
