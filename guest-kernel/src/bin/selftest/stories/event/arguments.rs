//! Arguments that can't be read, and operations that aren't there.

use crate::check::{Told, call, refused, refuses_bad_pointers};
use pv_abi::errno::Errno;
use pv_abi::event::EVTCHNOP_SET_PRIORITY;
use pv_abi::hypercall::{EVENT_CHANNEL_OP, EVENT_CHANNEL_OP_COMPAT};

/// Bad pointers for each operation; unknown operations.
pub fn bad() -> Told {
    for command in 0..=EVTCHNOP_SET_PRIORITY {
        refuses_bad_pointers("argument", |pointer| call(EVENT_CHANNEL_OP, [u64::from(command), pointer]))?;
    }
    // Xen keeps 14 for itself.
    for command in [15, 99, u64::from(u32::MAX)] {
        refused("unknown operation", call(EVENT_CHANNEL_OP, [command, 0]), Errno::ENOSYS)?;
    }
    refused("the old call, with no operation", call(EVENT_CHANNEL_OP_COMPAT, [super::NOBODY.into()]), Errno::EFAULT)
}
