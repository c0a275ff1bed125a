//! The loop: turns, as long as a service is ready; then sleep, until an event or a deadline.

use super::{Marks, Services};
use guest_kernel::{event, hypercall, time, timer, vcpu};
use pv_abi::errno::Errno;
use pv_abi::vcpu::SingleshotFlags;

/// What event handlers set.
pub(super) static MARKS: Marks = Marks::new();

/// An empty list of services, woken by events.
///
/// # Errors
/// The hypervisor's, if it has no events or no timers.
pub fn services() -> Result<Services, Errno> {
    event::init()?;
    timer::init()?;
    Ok(Services::new(&MARKS))
}

/// Gives the services their turns, for ever.
pub fn run(services: &Services) -> ! {
    let mut alarm = Alarm::default();
    event::enable();
    loop {
        services.round(time::now().unwrap_or(0));
        if services.any_ready() {
            continue;
        }
        // From here on no handler runs: what comes makes `block` return at once, which lets upcalls come again.
        event::disable();
        if services.any_ready() || alarm.set(services.next_deadline()).is_err() {
            event::enable();
        } else {
            let _ = hypercall::block();
        }
    }
}

/// The timer as it was set last.
#[derive(Default)]
struct Alarm {
    at: u64,
    /// How often it had fired then.
    fired: u32,
}

impl Alarm {
    /// Makes sure that the timer fires at `deadline`. It may fire earlier, for an earlier setting.
    fn set(&mut self, deadline: Option<u64>) -> Result<(), Errno> {
        let Some(at) = deadline else { return Ok(()) };
        let fired = timer::fired();
        if (at, fired) != (self.at, self.fired) {
            hypercall::set_singleshot_timer(vcpu::current(), at, SingleshotFlags::empty())?;
            *self = Alarm { at, fired };
        }
        Ok(())
    }
}
