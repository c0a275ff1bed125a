//! How long a vCPU ran, waited, slept and was down: `struct vcpu_runstate_info` (`vcpu.h`).

use pv_abi::vcpu::{RUNSTATE_BLOCKED, RUNSTATE_OFFLINE, RUNSTATE_RUNNABLE, RUNSTATE_RUNNING, VcpuRunstateInfo};

/// What a vCPU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum RunState {
    /// It has a CPU.
    Running = RUNSTATE_RUNNING,
    /// It waits for a CPU.
    Runnable = RUNSTATE_RUNNABLE,
    /// It waits for an event.
    Blocked = RUNSTATE_BLOCKED,
    /// It may not run: down, or paused.
    Offline = RUNSTATE_OFFLINE,
}

/// The account of one vCPU. All times are nanoseconds of system time.
#[derive(Debug)]
pub struct RunStates {
    state: RunState,
    since: u64,
    /// Time spent in each state before the current stay.
    before: [u64; 4],
}

impl Default for RunStates {
    /// Down since the beginning of time.
    fn default() -> RunStates {
        RunStates { state: RunState::Offline, since: 0, before: [0; 4] }
    }
}

impl RunStates {
    /// From `now` on the vCPU does something else, or the same again.
    pub fn change(&mut self, state: RunState, now: u64) {
        self.before = self.times(now);
        (self.state, self.since) = (state, now.max(self.since));
    }

    /// Time in each state up to `now`. A clock that was read before the latest change doesn't count back.
    fn times(&self, now: u64) -> [u64; 4] {
        let mut times = self.before;
        times[self.state as usize] += now.saturating_sub(self.since);
        times
    }

    /// The account as the ABI shows it.
    pub fn info(&self, now: u64) -> VcpuRunstateInfo {
        VcpuRunstateInfo { state: self.state as u32, _pad: 0, state_entry_time: self.since, time: self.times(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_sum_up_to_the_clock() {
        let mut states = RunStates::default();
        for (n, state) in
            [RunState::Runnable, RunState::Running, RunState::Blocked, RunState::Running].iter().enumerate()
        {
            states.change(*state, 100 * (n as u64 + 1));
        }
        let info = states.info(450);
        assert_eq!((info.state, info.state_entry_time), (RUNSTATE_RUNNING, 400));
        assert_eq!(info.time, [150, 100, 100, 100]);
        assert_eq!(info.time.iter().sum::<u64>(), 450);
    }

    #[test]
    fn a_late_reader_of_the_clock_changes_nothing() {
        let mut states = RunStates::default();
        states.change(RunState::Running, 1000);
        states.change(RunState::Blocked, 900);
        assert_eq!(states.info(900).time, [0, 0, 0, 1000]);
        assert_eq!(states.info(1100).time, [0, 0, 100, 1000]);
    }
}
