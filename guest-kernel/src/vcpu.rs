//! The domain's vCPUs.

use crate::hypercall;

/// The most vCPUs that are counted; the ABI's limit for a PV domain.
const LIMIT: u32 = 8192;

/// How many vCPUs the domain has: the first number that `VCPUOP_is_up` doesn't know. At least 1.
pub fn count() -> u32 {
    (0..LIMIT).find(|id| hypercall::vcpu_is_up(*id).is_err()).unwrap_or(LIMIT).max(1)
}
