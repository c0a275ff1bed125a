//! How domains end, and what follows. Pure.

use core::fmt;
use pv_abi::domctl::{DomainInfoFlags, XEN_DOMINF_SHUTDOWNMASK, XEN_DOMINF_SHUTDOWNSHIFT};
use pv_abi::sched;

/// Least time between two starts of a domain, in nanoseconds: one that reboots at once doesn't keep this domain busy.
const PAUSE: u64 = 1_000_000_000;
/// A domain that has lived shorter than this has rebooted quickly.
const QUICK: u64 = 5_000_000_000;
/// So many quick reboots in a row are nothing unusual. With each further one the time between two starts doubles.
const USUAL: u32 = 4;
/// How often it doubles: to a bit more than a minute.
const DOUBLINGS: u32 = 6;

/// How a domain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It powered itself off.
    PowerOff,
    /// It wants to be started again.
    Reboot,
    /// It suspended itself, which nobody can wake it from.
    Suspend,
    /// It crashed, or said so.
    Crash,
    /// Its watchdog fired.
    Watchdog,
    /// It gave another reason.
    Other(u32),
    /// It was destroyed.
    Destroyed,
}

impl Ending {
    /// How the domain with these `GetDomainInfo::flags` has ended, if it has.
    pub const fn of(flags: u32) -> Option<Ending> {
        if flags & DomainInfoFlags::DYING.bits() != 0 {
            return Some(Ending::Destroyed);
        }
        if flags & DomainInfoFlags::SHUTDOWN.bits() == 0 {
            return None;
        }
        Some(match flags >> XEN_DOMINF_SHUTDOWNSHIFT & XEN_DOMINF_SHUTDOWNMASK {
            sched::SHUTDOWN_POWEROFF => Ending::PowerOff,
            sched::SHUTDOWN_REBOOT => Ending::Reboot,
            sched::SHUTDOWN_SUSPEND => Ending::Suspend,
            sched::SHUTDOWN_CRASH => Ending::Crash,
            sched::SHUTDOWN_WATCHDOG => Ending::Watchdog,
            other => Ending::Other(other),
        })
    }

    /// Whether it is what the domain or its user wanted.
    pub const fn is_clean(self) -> bool {
        matches!(self, Ending::PowerOff | Ending::Reboot | Ending::Destroyed)
    }
}

/// How often a domain has rebooted quickly. To build a domain takes much of this domain's time, and console output and requests
/// to XenStore are counted anew for each life: who reboots all the time waits longer and longer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Haste(u32);

impl Haste {
    /// When to start the domain again, if at all, that was started at system time `started` and ended at `now`.
    pub fn restart(&mut self, ending: Ending, started: u64, now: u64) -> Option<u64> {
        let quickly = ending == Ending::Reboot && now.saturating_sub(started) < QUICK;
        self.0 = if quickly { self.0.saturating_add(1) } else { 0 };
        let pause = PAUSE << self.0.saturating_sub(USUAL).min(DOUBLINGS);
        (ending == Ending::Reboot).then(|| started.saturating_add(pause).max(now))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::PowerOff => f.write_str("powered off"),
            Ending::Reboot => f.write_str("reboots"),
            Ending::Suspend => f.write_str("suspended itself, and can't be resumed"),
            Ending::Crash => f.write_str("crashed"),
            Ending::Watchdog => f.write_str("was stopped by its watchdog"),
            Ending::Other(reason) => write!(f, "shut down for reason {reason}"),
            Ending::Destroyed => f.write_str("was destroyed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        assert_eq!(Ending::of(0), None);
        assert_eq!(Ending::of(DomainInfoFlags::PAUSED.bits() | 1 << 16), None, "a reason without a shutdown");
        let shut_down = |reason: u32| Ending::of(DomainInfoFlags::SHUTDOWN.bits() | reason << 16);
        assert_eq!(shut_down(0), Some(Ending::PowerOff));
        assert_eq!(shut_down(1), Some(Ending::Reboot));
        assert_eq!(shut_down(3), Some(Ending::Crash));
        assert_eq!(shut_down(255), Some(Ending::Other(255)));
        assert_eq!(
            Ending::of(DomainInfoFlags::DYING.bits() | DomainInfoFlags::SHUTDOWN.bits()),
            Some(Ending::Destroyed)
        );
    }

    #[test]
    fn only_a_reboot_starts_it_again_and_not_too_soon() {
        let mut haste = Haste::default();
        assert_eq!(haste.restart(Ending::Crash, 0, 5), None);
        assert_eq!(haste.restart(Ending::PowerOff, 0, 5), None);
        assert_eq!(haste.restart(Ending::Reboot, 100, 101), Some(100 + PAUSE));
        assert_eq!(haste.restart(Ending::Reboot, 100, 3 * PAUSE), Some(3 * PAUSE));
    }

    #[test]
    fn who_reboots_all_the_time_waits_longer_and_longer() {
        let (mut haste, mut now) = (Haste::default(), 0);
        let mut reboot = |lives: u64| {
            let (started, ended) = (now, now + lives);
            now = haste.restart(Ending::Reboot, started, ended).unwrap();
            (now - started) / PAUSE
        };
        let waits: [u64; 12] = core::array::from_fn(|_| reboot(5));
        assert_eq!(waits, [1, 1, 1, 1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(reboot(QUICK), QUICK / PAUSE, "it has lived long enough");
        assert_eq!([(); 5].map(|()| reboot(5)), [1, 1, 1, 1, 2]);
    }
}
