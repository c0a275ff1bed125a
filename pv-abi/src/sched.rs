//! `sched_op`: yielding, blocking, polling and shutting down. Header: `sched.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Gives up the CPU for now. No argument.
pub const SCHEDOP_YIELD: u32 = 0;
/// Unmasks upcalls and sleeps until an event is pending, as one step. No argument.
pub const SCHEDOP_BLOCK: u32 = 1;
/// Stops the domain: [`SchedShutdown`]. To suspend, the frame of `start_info` is a third argument.
pub const SCHEDOP_SHUTDOWN: u32 = 2;
/// Sleeps until one of some ports is pending, masked or not: [`SchedPoll`].
pub const SCHEDOP_POLL: u32 = 3;
/// Stops another domain: [`SchedRemoteShutdown`].
pub const SCHEDOP_REMOTE_SHUTDOWN: u32 = 4;
/// Stores the reason that a later shutdown will report: [`SchedShutdown`].
pub const SCHEDOP_SHUTDOWN_CODE: u32 = 5;
/// Sets, pokes or removes a watchdog timer: [`SchedWatchdog`].
pub const SCHEDOP_WATCHDOG: u32 = 6;
/// Ties the vCPU to a physical CPU for a while: [`SchedPinOverride`].
pub const SCHEDOP_PIN_OVERRIDE: u32 = 7;

/// The domain is done.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// The domain wants to be started afresh.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// The domain is ready to be saved.
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// The domain crashed.
pub const SHUTDOWN_CRASH: u32 = 3;
/// A watchdog timer ran out.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// The domain wants its hypervisor state reset and its memory kept.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;
/// The highest reason.
pub const SHUTDOWN_MAX: u32 = SHUTDOWN_SOFT_RESET;

/// Argument of [`SCHEDOP_SHUTDOWN`]: `struct sched_shutdown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedShutdown {
    /// A `SHUTDOWN_*` reason.
    pub reason: u32,
}
layout!(SchedShutdown, 4);

/// Argument of [`SCHEDOP_POLL`]: `struct sched_poll`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedPoll {
    /// Guest address of an array of `u32` ports.
    pub ports: u64,
    /// Ports in the array.
    pub nr_ports: u32,
    /// Padding.
    pub _pad: u32,
    /// System time in nanoseconds at which to give up; 0 means never.
    pub timeout: u64,
}
layout!(SchedPoll, 24, nr_ports @ 8, timeout @ 16);

/// Argument of [`SCHEDOP_REMOTE_SHUTDOWN`]: `struct sched_remote_shutdown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedRemoteShutdown {
    /// The domain to stop.
    pub domain_id: u16,
    /// Padding.
    pub _pad: u16,
    /// A `SHUTDOWN_*` reason.
    pub reason: u32,
}
layout!(SchedRemoteShutdown, 8);

/// Argument of [`SCHEDOP_WATCHDOG`]: `struct sched_watchdog`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedWatchdog {
    /// 0 to set up a new timer, else the timer's number.
    pub id: u32,
    /// Seconds until the domain is shut down; 0 removes the timer.
    pub timeout: u32,
}
layout!(SchedWatchdog, 8);

/// Argument of [`SCHEDOP_PIN_OVERRIDE`]: `struct sched_pin_override`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedPinOverride {
    /// The physical CPU; a negative number undoes the override.
    pub pcpu: i32,
}
layout!(SchedPinOverride, 4);
