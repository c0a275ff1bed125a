//! Copies by the hypervisor, from and to granted frames: no mapping, and no flush of TLBs.

use super::Error;
use crate::hypercall;
use pv_abi::domid::DOMID_SELF;
use pv_abi::grant::{GNTST_OKAY, GnttabCopy, GnttabCopyPtr, GrantCopyFlags};

/// One end of a copy. Offset and length stay in one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A machine frame of this domain.
    Frame {
        /// Its number.
        mfn: u64,
        /// Bytes into it.
        offset: u16,
    },
    /// A frame that a domain granted this one.
    Grant {
        /// Who granted it.
        domain: u16,
        /// The reference.
        reference: u32,
        /// Bytes into it.
        offset: u16,
    },
}

impl End {
    fn is_grant(self) -> bool {
        matches!(self, End::Grant { .. })
    }

    fn pointer(self) -> GnttabCopyPtr {
        match self {
            End::Frame { mfn, offset } => GnttabCopyPtr { u: mfn, domid: DOMID_SELF, offset, _pad: 0 },
            End::Grant { domain, reference, offset } => {
                GnttabCopyPtr { u: reference.into(), domid: domain, offset, _pad: 0 }
            }
        }
    }
}

/// A request for [`copy_requests`]: `len` bytes.
pub fn copy_request(source: End, dest: End, len: u16) -> GnttabCopy {
    let flag = |end: End, flag| if end.is_grant() { flag } else { GrantCopyFlags::empty() };
    let flags = flag(source, GrantCopyFlags::SOURCE_GREF) | flag(dest, GrantCopyFlags::DEST_GREF);
    GnttabCopy { source: source.pointer(), dest: dest.pointer(), len, flags: flags.bits(), ..GnttabCopy::default() }
}

/// Copies `len` bytes.
///
/// # Errors
/// The hypervisor's refusal.
///
/// # Safety
/// No Rust object is in a frame of this domain that is copied to.
pub unsafe fn copy(source: End, dest: End, len: u16) -> Result<(), Error> {
    // SAFETY: no Rust object is in the frame that is copied to, as the caller promises.
    unsafe { copy_requests(&mut [copy_request(source, dest, len)]) }
}

/// Makes copies with one call. Each request has its status then (`GNTST_*`).
///
/// # Errors
/// The first refusal; all other requests were carried out, or have a status that says why not.
///
/// # Safety
/// As for [`copy()`].
pub unsafe fn copy_requests(requests: &mut [GnttabCopy]) -> Result<(), Error> {
    // SAFETY: no Rust object is in a frame that is copied to, as the caller promises.
    unsafe { hypercall::grant_copy(requests)? };
    match requests.iter().position(|request| request.status != GNTST_OKAY) {
        Some(index) => Err(Error::Status(index, requests[index].status)),
        None => Ok(()),
    }
}
