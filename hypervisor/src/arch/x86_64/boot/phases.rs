//! When each phase of the boot ended, for the boot benchmark.

use arrayvec::ArrayVec;
use spin::mutex::SpinMutex;

use crate::arch::time;

/// Most phases recorded; later ones are not.
const MAX_PHASES: usize = 32;

static PHASES: SpinMutex<ArrayVec<Phase, MAX_PHASES>> = SpinMutex::new(ArrayVec::new_const());

/// A moment of the boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Phase {
    /// What was finished then.
    pub name: &'static str,
    /// The TSC then.
    pub tsc: u64,
}

/// Records that the phase `name` ends now.
pub fn phase(name: &'static str) {
    let _ = PHASES.lock().try_push(Phase { name, tsc: time::tsc() });
}

/// All phases so far, the entry from the boot loader first.
pub fn phases() -> ArrayVec<Phase, MAX_PHASES> {
    PHASES.lock().clone()
}
