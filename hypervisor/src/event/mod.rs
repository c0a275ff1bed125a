//! Event channels: ports, what they are bound to, and delivery to vCPUs (`event_channel.h`).
//!
//! A *port* is a number of a domain; its [`Binding`](port::Binding) says where its events come from. Events have no
//! number and no contents: a port is pending or not. There are two ways to tell the guest, of which a domain uses one at
//! a time: bits in the shared-info page ([`two_level`]), or linked lists in pages of the guest's ([`fifo`]).
//!
//! # Why no event is lost
//!
//! Two sides write flags and then look at the other side's, and every such access is sequentially consistent, so that at
//! least one of them sees the other:
//! * **Sender and guest that unmasks**: the sender sets *pending*, then reads *masked*. The guest clears *masked*, then
//!   reads *pending*.
//! * **Sender and guest that goes to sleep**, in `block` or `poll`: see [`link`](crate::domain::link). A poller says so
//!   ([`Events::begin_poll`]) before it looks at its ports; a sender looks for pollers after it has set *pending*.
//! * **Sender and flags that move** (`VCPUOP_register_vcpu_info`): see [`VcpuLink::info`].
//! * **Sender and switch to FIFO delivery**: the sender holds a lock that keeps the port bound (below) and reads the way of
//!   delivery under it. The switch takes that lock of each port afterwards, and carries over what was delivered in the
//!   old way ([`fifo`]).
//!
//! # Why no event is spurious
//!
//! A port becomes pending only while it is bound to the source: the sender holds the lock of the port it sends *from* (for
//! a virtual or physical interrupt, of the port itself), and connecting or closing a channel takes the locks of both ends.
//! Closing clears *pending* under those locks, so an event never reaches the next user of a port number. Once a domain has
//! closed its ports nobody writes its flags or pages, and they can be freed.
//!
//! # Locks
//!
//! `Events::table` of one domain, then the locks of one or two ports, two in the order of their addresses; then, for
//! FIFO delivery, that of a port's place in the queues, then that of one vCPU's queues. Sending takes no domain-wide
//! lock. With no lock held at last, the vCPUs are kicked that are to look: the rules return a [`Wake`] for that.
//!
//! # What a hostile guest can do
//!
//! All flags, lists and masks are in memory that it writes itself, at any time. What is read there only decides whether
//! *its* vCPU is kicked and which of *its* words is written next; no number read there is used as an index or followed,
//! and nothing is repeated because of it. So it can lose its own events, or be kicked for nothing. Ports that it says are in a
//! queue keep only their numbers from it ([`numbers`]). What ports and queues take of the hypervisor's memory is asked for,
//! never assumed.
#![forbid(unsafe_code)]

mod bind;
mod deliver;
pub mod fifo;
mod numbers;
mod port;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod two_level;
mod virq;

use core::sync::atomic::{AtomicU32, Ordering};

use alloc::boxed::Box;
use alloc::sync::Arc;

use pv_abi::errno::Errno;
use pv_abi::event::EVTCHN_FIFO_NR_CHANNELS;
use spin::Mutex;

use crate::addr::{DomainId, VcpuId};
use crate::domain::link::VcpuLink;
use crate::domain::shared::SharedInfo;
use fifo::{EventMemory, Fifo};
use port::Port;
use table::{Ports, Table};
use virq::Virqs;

pub use table::Closing;

/// Makes vCPUs look at what is new for them.
pub trait Kick {
    /// The vCPU has a new reason to look at its flags: wakes it if it sleeps and the reason is good enough
    /// ([`VcpuLink::has_reason_to_wake`]), interrupts its CPU if it runs on another one.
    ///
    /// Called with no lock of this module held.
    fn kick(&mut self, vcpu: &VcpuLink);
}

/// Who has to look now that a port became pending. Carried out when no lock is held.
#[must_use]
pub struct Wake(Option<Woken>);

struct Woken {
    events: Arc<Events>,
    /// The vCPUs whose upcall became pending: a bit for each.
    upcalls: u32,
    /// Those that poll: the same.
    pollers: u32,
}

impl Wake {
    /// Nobody.
    pub const NOBODY: Wake = Wake(None);

    /// Kicks them.
    #[inline]
    pub fn kick(self, kick: &mut impl Kick) {
        if let Some(woken) = self.0 {
            woken.kick(kick);
        }
    }
}

impl Woken {
    #[inline(never)]
    fn kick(self, kick: &mut impl Kick) {
        let Woken { events, upcalls, pollers } = self;
        for link in &events.vcpus {
            let bit = 1 << link.id.0;
            let polls = pollers & bit != 0 && link.is_polling();
            if polls {
                link.hit_poll();
            }
            if polls || upcalls & bit != 0 {
                kick.kick(link);
            }
        }
    }
}

/// Ports of a domain if nobody says otherwise: half a MiB, and four times what 2-level delivery has.
pub const DEFAULT_MAX_PORTS: u32 = 16_384;

/// What a domain may do with events.
#[derive(Clone, Copy)]
pub struct Rights {
    /// It may name other domains.
    pub privileged: bool,
    /// Its ports have numbers below this; at most [`EVTCHN_FIFO_NR_CHANNELS`].
    pub max_ports: u32,
}

/// The event channels of a domain, and its vCPUs as their targets.
///
/// A channel between two domains keeps both alive, so a domain that ends calls [`Events::close_all`].
pub struct Events {
    /// The domain.
    pub domain: DomainId,
    /// The page it shares with the hypervisor.
    pub shared: &'static SharedInfo,
    /// What it may do.
    pub rights: Rights,
    vcpus: Box<[VcpuLink]>,
    /// The vCPUs that poll, or did when somebody looked: a bit for each.
    polling: AtomicU32,
    ports: Ports,
    /// Which ports are in use. Held by whoever changes that, and by all who change the way of delivery.
    table: Mutex<Table>,
    virqs: Virqs,
    fifo: Fifo,
}

impl Events {
    /// No port is in use yet, and `vcpus` vCPUs, at most 32, are down. `memory` holds the pages of FIFO delivery.
    pub fn new(
        domain: DomainId,
        shared: &'static SharedInfo,
        vcpus: u32,
        rights: Rights,
        memory: &'static dyn EventMemory,
    ) -> Events {
        let links = (0..vcpus).zip(&shared.vcpus).map(|(id, info)| VcpuLink::new(domain, VcpuId(id), info));
        let vcpus: Box<[VcpuLink]> = links.collect();
        Events {
            domain,
            shared,
            rights: Rights { max_ports: rights.max_ports.min(EVTCHN_FIFO_NR_CHANNELS), ..rights },
            virqs: Virqs::new(vcpus.len()),
            vcpus,
            polling: AtomicU32::new(0),
            ports: Ports::new(),
            table: Mutex::new(Table::new()),
            fifo: Fifo::new(memory),
        }
    }

    /// All vCPUs.
    pub fn vcpus(&self) -> &[VcpuLink] {
        &self.vcpus
    }

    /// The vCPU of this number.
    #[inline]
    pub fn vcpu(&self, id: VcpuId) -> Option<&VcpuLink> {
        self.vcpus.get(id.0 as usize)
    }

    /// A vCPU begins to wait for a port to become pending, or with `None` for any. Then its caller looks at the ports.
    pub fn begin_poll(&self, id: VcpuId, port: Option<u32>) {
        if let Some(link) = self.vcpu(id) {
            link.begin_poll(port);
            self.polling.fetch_or(1 << id.0, Ordering::SeqCst);
        }
    }

    /// A vCPU doesn't wait any more.
    pub fn end_poll(&self, id: VcpuId) {
        if let Some(link) = self.vcpu(id) {
            self.polling.fetch_and(!(1 << id.0), Ordering::SeqCst);
            link.end_poll();
        }
    }

    /// A port, in use or not.
    ///
    /// # Errors
    /// `EINVAL` if there can't be one of this number yet.
    #[inline]
    fn port(&self, number: u32) -> Result<&Port, Errno> {
        self.ports.get(number).ok_or(Errno::EINVAL)
    }
}
