//! Told behind dom0: front ends that write what they like, and a neighbour that measures what that costs it.
//!
//! Time is cut into phases: in every other one the attacker attacks, in those between it sleeps. So the neighbour compares
//! what it gets done beside an attack with what it gets done a moment before and after. The attacker says how much time
//! its own vCPU took: that is the scheduler's to share out, and an honest guest takes it too.
//!
//! | file | who |
//! |---|---|
//! | `block` | writes lies into the ring of a disk |
//! | `flood` | asks XenStore for more than anybody needs |
//! | `net` | writes lies into the rings of a network device |
//! | `nodes` | writes lies into XenStore, as the front end of both |
//! | `witness` | the neighbour, with a disk and a network that have to work all the time |
//! | `again` | whose back ends close, and who connects again |

pub mod again;
pub mod block;
pub mod flood;
pub mod net;
pub mod nodes;
pub mod witness;

use crate::check::Ending;
use alloc::format;
use core::sync::atomic::{AtomicU32, Ordering};
use guest_kernel::grant::{self, Access};
use guest_kernel::paging::PAGE_SIZE;
use guest_kernel::start::{command_line, start_info};
use guest_kernel::store::{Bus, Connection, Tx};
use guest_kernel::xenbus::{self, Device, XenbusState};
use guest_kernel::{cmdline, event, hypercall, memory, println, time};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::event::EVTCHNSTAT_INTERDOMAIN;
use pv_abi::grant::{GTF_READING, GTF_WRITING};
use pv_abi::vcpu::RUNSTATE_RUNNING;

/// Length of a phase, in nanoseconds.
const PHASE: u64 = 20_000_000;
/// Words of a page.
const WORDS: usize = 1024;
/// How long an attacker waits for an answer, in nanoseconds.
const LOOK: u64 = 1_000_000;

pub fn now() -> u64 {
    time::now().unwrap_or(0)
}

/// An option in milliseconds of system time, in nanoseconds.
fn milliseconds(name: &str) -> Result<u64, Ending> {
    let number = cmdline::option(command_line(), name).and_then(|text| text.parse::<u64>().ok());
    number.map(|number| number * 1_000_000).ok_or_else(|| Ending::Fail(format!("there is no option {name}")))
}

/// Ends the story if something failed that must not.
pub fn well<T, E: core::fmt::Debug>(what: &str, result: Result<T, E>) -> Result<T, Ending> {
    result.map_err(|error| Ending::Fail(format!("{what}: {error:?}")))
}

pub fn store() -> Result<Connection, Ending> {
    Connection::open(start_info()).ok_or(Ending::Fail("there is no ring to XenStore".into()))
}

/// Whether time is in a phase of attack.
fn is_attack(time: u64) -> bool {
    time / PHASE % 2 == 1
}

/// An attacker's time.
struct Phases {
    from: u64,
    to: u64,
    /// How long the vCPU had run when the phases began.
    before: Option<u64>,
}

impl Phases {
    /// As the options `from` and `to` have it. Before that it is attacked all the time, and not counted: what dom0 lets a
    /// domain have at once is used up then.
    fn new() -> Result<Phases, Ending> {
        Ok(Phases { from: milliseconds("from")?, to: milliseconds("to")?, before: None })
    }

    /// Sleeps until time is in a phase of attack; whether there is one more.
    fn wait(&mut self) -> bool {
        loop {
            let now = now();
            if now < self.from {
                return true;
            }
            self.before.get_or_insert_with(ran);
            if now >= self.to {
                return false;
            }
            if is_attack(now) {
                return true;
            }
            let _ = hypercall::poll(&[], (now / PHASE + 1) * PHASE);
        }
    }

    /// Says how much of the phases of attack the vCPU ran.
    fn report(&self) {
        let ran = ran() - self.before.unwrap_or(0);
        println!("attacker: ran {} of {} us", ran / 1000, (self.to - self.from) / 2000);
    }
}

/// How long the vCPU has run, in nanoseconds.
fn ran() -> u64 {
    hypercall::runstate(0).map_or(0, |info| info.time[RUNSTATE_RUNNING as usize])
}

/// Random numbers, the same in each run.
pub struct Random(u64);

impl Random {
    const fn new() -> Random {
        Random::seeded(0)
    }

    /// Others for each seed.
    pub const fn seeded(seed: u64) -> Random {
        let state = 88_172_645_463_325_252 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // After 0 nothing else would follow.
        Random(if state == 0 { 1 } else { state })
    }

    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).unwrap_or(0)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }

    fn short(&mut self) -> u16 {
        self.next().to_le_bytes()[0].into()
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() as usize % from.len()]
    }
}

/// A page of this domain's that is granted to domain 0, for good unless the entry is overwritten.
#[derive(Clone, Copy)]
struct Page {
    words: &'static [AtomicU32],
    gref: u32,
}

impl Page {
    fn new(access: Access) -> Result<Page, Ending> {
        let run = well("a page", memory::lock().and_then(|mut memory| memory.allocate_run(1)))?;
        let grant = well("a grant", grant::grant(0, run.machine_address() / PAGE_SIZE, access))?;
        // SAFETY: the page is never given back, and used as atomics only.
        let words = unsafe { core::slice::from_raw_parts(run.start().as_ptr().cast::<AtomicU32>(), WORDS) };
        Ok(Page { words, gref: grant.reference() })
    }

    /// Fills it with noise.
    fn scribble(&self, random: &mut Random) {
        self.words.iter().for_each(|word| word.store(random.next(), Ordering::Relaxed));
    }

    /// Takes the grant away while it may be in use, runs `between`, and gives it again.
    fn without(&self, between: impl FnOnce()) {
        let Ok(Some(entry)) = grant::table_entry(self.gref) else { return };
        let old = entry.swap(0, Ordering::SeqCst);
        between();
        // Without the marks of use that it had.
        entry.store(old & !u64::from(GTF_READING | GTF_WRITING), Ordering::SeqCst);
    }
}

/// A device whose front end this domain plays by hand.
struct Victim {
    device: Device,
    port: u32,
    /// Times that it was connected.
    connected: u32,
}

impl Victim {
    /// The first device of a kind.
    fn find(store: &mut Connection, kind: &str) -> Result<Victim, Ending> {
        let all = well("the devices", xenbus::devices(store, kind))?;
        let first = all.first().ok_or_else(|| Ending::Fail(format!("there is no {kind}")))?;
        Ok(Victim { device: well("the device", Device::frontend(store, first))?, port: 0, connected: 0 })
    }

    /// Whether the back end has its end of the event channel, which it gives up when it closes.
    fn is_open(&self) -> bool {
        self.port != 0 && hypercall::port_status(self.port).is_ok_and(|is| is.status == EVTCHNSTAT_INTERDOMAIN)
    }

    /// Does what an honest front end does to be connected, with the ring nodes and details in `nodes`. `false` if that
    /// doesn't work before `end`.
    fn connect(&mut self, store: &mut Connection, end: u64, nodes: &[(&str, u32)]) -> Result<bool, Ending> {
        if self.port != 0 {
            let _ = event::close(self.port);
        }
        self.port = well("a port", hypercall::alloc_unbound(DOMID_SELF, 0))?;
        event::mask(self.port);
        well("a state", self.device.switch(store, XenbusState::Initialising))?;
        if !self.wait(store, end, XenbusState::InitWait)? {
            return Ok(false);
        }
        let port = self.port;
        let published = self.device.publish(store, XenbusState::Connected, |device, store, tx| {
            device.write(store, tx, "event-channel", port)?;
            nodes.iter().try_for_each(|(name, value)| device.write(store, tx, name, value))
        });
        well("the nodes", published)?;
        let done = self.wait(store, end, XenbusState::Connected)?;
        self.connected += u32::from(done);
        Ok(done)
    }

    fn wait(&self, store: &mut Connection, end: u64, state: XenbusState) -> Result<bool, Ending> {
        while well("the back end's state", self.device.their_state(store))? != state {
            if now() >= end {
                return Ok(false);
            }
            store.sleep((now() + LOOK).min(end));
        }
        Ok(true)
    }

    fn ring(&self) {
        let _ = hypercall::send(self.port);
    }

    /// Gives the back end time to answer.
    fn rest(&self) {
        event::clear_pending(self.port);
        let _ = hypercall::poll(&[self.port], now() + LOOK);
    }

    /// Leaves the device as one that an honest front end can connect.
    fn leave(self, store: &mut Connection) -> Result<(), Ending> {
        let _ = event::close(self.port);
        well("the last state", self.device.switch(store, XenbusState::Closed))
    }
}

/// Removes a node, if it is there.
fn forget(store: &mut Connection, path: &str) -> Result<(), Errno> {
    match store.remove(Tx::NONE, path) {
        Err(Errno::ENOENT) => Ok(()),
        removed => removed,
    }
}
