//! What children tell.

use crate::check::Told;
use guest_kernel::time;

/// Sleeps until it is ended.
pub fn sleeper() -> Told {
    loop {
        time::sleep(1_000_000_000);
    }
}

/// Is busy until it is ended. Without `pause`, at which QEMU leaves its translated code: where time passes by instructions
/// that takes very long.
pub fn busy() -> Told {
    loop {
        core::hint::black_box(());
    }
}
