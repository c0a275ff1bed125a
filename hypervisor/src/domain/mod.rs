//! Domains and their vCPUs as the rules see them: state without hardware. Only [`link`] is shared between CPUs.
//!
//! * [`vcpu`]: what a virtual CPU is besides its registers; [`link`]: what of it all CPUs share;
//! * [`context`]: a state for it to start from; [`areas`]: records of it in guest memory;
//! * [`timers`]: its timers; [`runstate`]: how long it did what;
//! * [`shared`]: the page that a domain and the hypervisor both read and write;
//! * [`report`]: what is said when a domain ends.
#![forbid(unsafe_code)]

pub mod areas;
pub mod context;
pub mod link;
pub mod report;
pub mod runstate;
pub mod shared;
pub mod timers;
pub mod vcpu;

use core::fmt;

use pv_abi::sched;

/// vCPUs per domain; the ABI's `shared_info` has room for 32 (`XEN_LEGACY_MAX_VCPUS`).
pub const MAX_VCPUS: u32 = 32;

/// Why a guest asked for its end (`SHUTDOWN_*` of `sched.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum ShutdownReason {
    Poweroff,
    Reboot,
    Suspend,
    Crash,
    Watchdog,
    SoftReset,
}

impl ShutdownReason {
    /// `None` for a number that the ABI doesn't define.
    pub fn from_abi(reason: u32) -> Option<ShutdownReason> {
        Some(match reason {
            sched::SHUTDOWN_POWEROFF => ShutdownReason::Poweroff,
            sched::SHUTDOWN_REBOOT => ShutdownReason::Reboot,
            sched::SHUTDOWN_SUSPEND => ShutdownReason::Suspend,
            sched::SHUTDOWN_CRASH => ShutdownReason::Crash,
            sched::SHUTDOWN_WATCHDOG => ShutdownReason::Watchdog,
            sched::SHUTDOWN_SOFT_RESET => ShutdownReason::SoftReset,
            _ => return None,
        })
    }
}

/// Why a domain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It asked to: `sched_op(shutdown)`.
    Shutdown(ShutdownReason),
    /// It did something that leaves no way to go on.
    Crash(Crash),
    /// The control domain ended it.
    Destroyed,
}

impl End {
    /// Whether this is an orderly end: power-off, reboot, or the control domain's `destroydomain`.
    pub fn is_clean(self) -> bool {
        matches!(self, End::Shutdown(ShutdownReason::Poweroff | ShutdownReason::Reboot) | End::Destroyed)
    }

    /// The number that the control domain is told: a `SHUTDOWN_*`.
    pub fn reason(self) -> u32 {
        match self {
            End::Shutdown(ShutdownReason::Poweroff) | End::Destroyed => sched::SHUTDOWN_POWEROFF,
            End::Shutdown(ShutdownReason::Reboot) => sched::SHUTDOWN_REBOOT,
            End::Shutdown(ShutdownReason::Suspend) => sched::SHUTDOWN_SUSPEND,
            End::Shutdown(ShutdownReason::Crash) | End::Crash(_) => sched::SHUTDOWN_CRASH,
            End::Shutdown(ShutdownReason::Watchdog) => sched::SHUTDOWN_WATCHDOG,
            End::Shutdown(ShutdownReason::SoftReset) => sched::SHUTDOWN_SOFT_RESET,
        }
    }
}

/// What a guest kernel is entered for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// An exception or software interrupt, by its vector.
    Exception(u8),
    /// An event upcall.
    Event,
    /// A system call of one of its users.
    SystemCall,
    /// Its failsafe callback.
    Failsafe,
}

impl fmt::Display for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Delivered::Exception(vector) => report::name(*vector),
            Delivered::Event => "an event",
            Delivered::SystemCall => "a system call",
            Delivered::Failsafe => "a failsafe callback",
        })
    }
}

/// What a guest did that the hypervisor can't answer with an error code or a trap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// An exception arose, and the guest has no handler for its vector.
    NoHandler {
        /// The exception.
        vector: u8,
    },
    /// The frame of an exception or upcall can't be written to the guest kernel's stack.
    BadStack {
        /// What was to be delivered.
        what: Delivered,
        /// Where the frame was to go.
        address: u64,
    },
    /// The `iret` hypercall's frame can't be read.
    BadIretFrame {
        /// The guest's stack pointer.
        address: u64,
    },
    /// A return to user mode without a page table for user mode.
    NoUserTables,
    /// An upcall is due, and the guest registered no entry point for it.
    NoCallback {
        /// The callback's name.
        what: &'static str,
    },
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Crash::NoHandler { vector } => write!(f, "exception {vector} ({}) has no handler", report::name(*vector)),
            Crash::BadStack { what, address } => write!(f, "no stack at {address:#x} to deliver {what}"),
            Crash::BadIretFrame { address } => write!(f, "iret frame at {address:#x} can't be read"),
            Crash::NoUserTables => f.write_str("iret to user mode without user page tables"),
            Crash::NoCallback { what } => write!(f, "no {what} callback registered"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Shutdown(reason) => write!(f, "shut down: {}", report::reason(*reason)),
            End::Crash(crash) => write!(f, "crashed: {crash}"),
            End::Destroyed => f.write_str("destroyed by the control domain"),
        }
    }
}
