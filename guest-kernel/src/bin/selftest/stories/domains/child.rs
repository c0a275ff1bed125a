//! What children tell.

use crate::check::Told;
use guest_kernel::time;

/// Sleeps until it is ended.
pub fn sleeper() -> Told {
    loop {
        time::sleep(1_000_000_000);
    }
}

/// Is busy until it is ended.
pub fn busy() -> Told {
    loop {
        core::hint::spin_loop();
    }
}
