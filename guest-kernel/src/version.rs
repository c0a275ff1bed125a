//! What the hypervisor says it is (`xen_version`).

use crate::hypercall;
use core::fmt;
use pv_abi::hypercall::XEN_VERSION;
use pv_abi::version::{ExtraVersion, XENVER_EXTRAVERSION, XENVER_VERSION};

/// The hypervisor's version; displays as `4.17.7`.
pub struct Version {
    /// The number before the first point.
    pub major: u64,
    /// The number after it.
    pub minor: u64,
    extra: ExtraVersion,
}

impl Version {
    /// Asks the hypervisor. A call that fails leaves zeros.
    pub fn read() -> Version {
        // SAFETY: the command has no memory argument.
        let number = unsafe { hypercall::call(XEN_VERSION, [u64::from(XENVER_VERSION), 0, 0, 0, 0]) }.unwrap_or(0);
        let mut extra: ExtraVersion = Default::default();
        // SAFETY: the buffer has the type that the ABI names for the command.
        let _ = unsafe { hypercall::xen_version(XENVER_EXTRAVERSION, &mut extra) };
        Version { major: number >> 16, minor: number & 0xffff, extra }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.major, self.minor, text(&self.extra))
    }
}

/// The text in a buffer that zeros fill up.
pub fn text(buffer: &[u8]) -> &str {
    let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(buffer.len());
    core::str::from_utf8(&buffer[..end]).unwrap_or("?")
}
