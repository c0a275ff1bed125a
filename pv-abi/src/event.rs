//! Event channels: ports, virtual interrupts, and the two ways to deliver events. Headers: `event_channel.h`, `xen.h`.
//!
//! With 2-level delivery the pending and mask bits are in [`SharedInfo`](crate::shared_info::SharedInfo); with FIFO
//! delivery the guest gives pages of event words and a control block for each vCPU.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Connects a new local port to a remote unbound one: [`EvtchnBindInterdomain`].
pub const EVTCHNOP_BIND_INTERDOMAIN: u32 = 0;
/// Makes a port for a virtual interrupt: [`EvtchnBindVirq`].
pub const EVTCHNOP_BIND_VIRQ: u32 = 1;
/// Makes a port for a physical interrupt: [`EvtchnBindPirq`].
pub const EVTCHNOP_BIND_PIRQ: u32 = 2;
/// Closes a port: [`EvtchnPort`].
pub const EVTCHNOP_CLOSE: u32 = 3;
/// Sends an event: [`EvtchnPort`].
pub const EVTCHNOP_SEND: u32 = 4;
/// Tells a port's state: [`EvtchnStatus`].
pub const EVTCHNOP_STATUS: u32 = 5;
/// Makes a port for another domain to connect to: [`EvtchnAllocUnbound`].
pub const EVTCHNOP_ALLOC_UNBOUND: u32 = 6;
/// Makes a port for messages between vCPUs: [`EvtchnBindIpi`].
pub const EVTCHNOP_BIND_IPI: u32 = 7;
/// Chooses the vCPU that gets a port's events: [`EvtchnBindVcpu`].
pub const EVTCHNOP_BIND_VCPU: u32 = 8;
/// Unmasks a port and delivers what is pending: [`EvtchnPort`].
pub const EVTCHNOP_UNMASK: u32 = 9;
/// Closes all ports: [`EvtchnReset`].
pub const EVTCHNOP_RESET: u32 = 10;
/// Registers a vCPU's control block, and switches the domain to FIFO delivery: [`EvtchnInitControl`].
pub const EVTCHNOP_INIT_CONTROL: u32 = 11;
/// Adds a page of event words: [`EvtchnExpandArray`].
pub const EVTCHNOP_EXPAND_ARRAY: u32 = 12;
/// Sets a port's priority: [`EvtchnSetPriority`].
pub const EVTCHNOP_SET_PRIORITY: u32 = 13;

/// The timer has fired; one for each vCPU.
pub const VIRQ_TIMER: u32 = 0;
/// Dump debugging information; one for each vCPU.
pub const VIRQ_DEBUG: u32 = 1;
/// Bytes for the emergency console.
pub const VIRQ_CONSOLE: u32 = 2;
/// Something happened to a domain: it shut down, crashed or died.
pub const VIRQ_DOM_EXC: u32 = 3;
/// The trace buffer has records.
pub const VIRQ_TBUF: u32 = 4;
/// A domain stopped for its debugger.
pub const VIRQ_DEBUGGER: u32 = 6;
/// A profile sample; one for each vCPU.
pub const VIRQ_XENOPROF: u32 = 7;
/// Bytes for the console ring.
pub const VIRQ_CON_RING: u32 = 8;
/// A physical CPU changed its state.
pub const VIRQ_PCPU_STATE: u32 = 9;
/// A memory event.
pub const VIRQ_MEM_EVENT: u32 = 10;
/// A message between domains.
pub const VIRQ_ARGO: u32 = 11;
/// Memory runs low.
pub const VIRQ_ENOMEM: u32 = 12;
/// A performance counter; one for each vCPU.
pub const VIRQ_XENPMU: u32 = 13;
/// The first of eight numbers that belong to the architecture.
pub const VIRQ_ARCH_0: u32 = 16;
/// Virtual interrupts there can be.
pub const NR_VIRQS: u32 = 24;

/// Argument of [`EVTCHNOP_ALLOC_UNBOUND`]: `struct evtchn_alloc_unbound`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnAllocUnbound {
    /// In: whose port.
    pub dom: u16,
    /// In: who may connect.
    pub remote_dom: u16,
    /// Out: the port.
    pub port: u32,
}
layout!(EvtchnAllocUnbound, 8);

/// Argument of [`EVTCHNOP_BIND_INTERDOMAIN`]: `struct evtchn_bind_interdomain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnBindInterdomain {
    /// In: the other domain.
    pub remote_dom: u16,
    /// Padding.
    pub _pad: u16,
    /// In: its port.
    pub remote_port: u32,
    /// Out: the local port.
    pub local_port: u32,
}
layout!(EvtchnBindInterdomain, 12);

/// Argument of [`EVTCHNOP_BIND_VIRQ`]: `struct evtchn_bind_virq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnBindVirq {
    /// In: a `VIRQ_*`.
    pub virq: u32,
    /// In: the vCPU; 0 for the ones of which a domain has only one.
    pub vcpu: u32,
    /// Out: the port.
    pub port: u32,
}
layout!(EvtchnBindVirq, 12);

/// Argument of [`EVTCHNOP_BIND_PIRQ`]: `struct evtchn_bind_pirq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnBindPirq {
    /// In: the physical interrupt's number.
    pub pirq: u32,
    /// In: [`BIND_PIRQ_WILL_SHARE`] or 0.
    pub flags: u32,
    /// Out: the port.
    pub port: u32,
}
layout!(EvtchnBindPirq, 12);

/// In [`EvtchnBindPirq::flags`]: the line may be shared. The header writes `BIND_PIRQ__WILL_SHARE`.
pub const BIND_PIRQ_WILL_SHARE: u32 = 1;

/// Argument of [`EVTCHNOP_BIND_IPI`]: `struct evtchn_bind_ipi`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnBindIpi {
    /// In: the vCPU that gets the events.
    pub vcpu: u32,
    /// Out: the port.
    pub port: u32,
}
layout!(EvtchnBindIpi, 8);

/// Names a local port: `struct evtchn_close`, `struct evtchn_send` and `struct evtchn_unmask`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnPort {
    /// The port.
    pub port: u32,
}
layout!(EvtchnPort, 4);

/// The port is not in use.
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// The port waits for another domain to connect.
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// The port is connected.
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// The port has a physical interrupt.
pub const EVTCHNSTAT_PIRQ: u32 = 3;
/// The port has a virtual interrupt.
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// The port carries messages between vCPUs.
pub const EVTCHNSTAT_IPI: u32 = 5;

/// Argument of [`EVTCHNOP_STATUS`]: `struct evtchn_status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnStatus {
    /// In: whose port.
    pub dom: u16,
    /// Padding.
    pub _pad: u16,
    /// In: the port.
    pub port: u32,
    /// Out: an `EVTCHNSTAT_*`.
    pub status: u32,
    /// Out: the vCPU that gets the events.
    pub vcpu: u32,
    /// Out: unbound or connected, the other domain (low 16 bits); else the interrupt's number. The header's union `u`.
    pub detail: u32,
    /// Out: connected, the other domain's port (`u.interdomain.port`).
    pub remote_port: u32,
}
layout!(EvtchnStatus, 24, port @ 4, status @ 8, detail @ 16, remote_port @ 20);

/// Argument of [`EVTCHNOP_BIND_VCPU`]: `struct evtchn_bind_vcpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnBindVcpu {
    /// The port.
    pub port: u32,
    /// The vCPU.
    pub vcpu: u32,
}
layout!(EvtchnBindVcpu, 8);

/// Argument of [`EVTCHNOP_RESET`]: `struct evtchn_reset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnReset {
    /// Whose ports.
    pub dom: u16,
}
layout!(EvtchnReset, 2);

/// Argument of [`EVTCHNOP_INIT_CONTROL`]: `struct evtchn_init_control`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnInitControl {
    /// In: machine frame of the control block.
    pub control_gfn: u64,
    /// In: bytes into the frame, a multiple of 8.
    pub offset: u32,
    /// In: the vCPU.
    pub vcpu: u32,
    /// Out: bits in the link field of an event word.
    pub link_bits: u8,
    /// Padding.
    pub _pad: [u8; 7],
}
layout!(EvtchnInitControl, 24, offset @ 8, link_bits @ 16);

/// Argument of [`EVTCHNOP_EXPAND_ARRAY`]: `struct evtchn_expand_array`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnExpandArray {
    /// Machine frame of the next 1024 event words.
    pub array_gfn: u64,
}
layout!(EvtchnExpandArray, 8);

/// Argument of [`EVTCHNOP_SET_PRIORITY`]: `struct evtchn_set_priority`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EvtchnSetPriority {
    /// The port.
    pub port: u32,
    /// [`EVTCHN_FIFO_PRIORITY_MAX`] to [`EVTCHN_FIFO_PRIORITY_MIN`].
    pub priority: u32,
}
layout!(EvtchnSetPriority, 8);

/// Ports with 2-level delivery.
pub const EVTCHN_2L_NR_CHANNELS: u32 = 4096;

/// The most urgent priority.
pub const EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
/// A new port's priority.
pub const EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
/// The least urgent priority.
pub const EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
/// Queues of each vCPU.
pub const EVTCHN_FIFO_MAX_QUEUES: usize = 16;
/// Event word, bit number: an event is pending.
pub const EVTCHN_FIFO_PENDING: u32 = 31;
/// Event word, bit number: don't deliver.
pub const EVTCHN_FIFO_MASKED: u32 = 30;
/// Event word, bit number: the port is on a queue.
pub const EVTCHN_FIFO_LINKED: u32 = 29;
/// Event word, bit number: the hypervisor is about to write the link.
pub const EVTCHN_FIFO_BUSY: u32 = 28;
/// Event word: width of the link to the next port, in bits from 0.
pub const EVTCHN_FIFO_LINK_BITS: u32 = 17;
/// Event word: the bits of the link.
pub const EVTCHN_FIFO_LINK_MASK: u32 = (1 << EVTCHN_FIFO_LINK_BITS) - 1;
/// Ports with FIFO delivery.
pub const EVTCHN_FIFO_NR_CHANNELS: u32 = 1 << EVTCHN_FIFO_LINK_BITS;

/// A vCPU's queues, in guest memory: `struct evtchn_fifo_control_block`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FifoControlBlock {
    /// A bit for each priority whose queue has events.
    pub ready: u32,
    /// Reserved.
    pub _rsvd: u32,
    /// The first port of each queue.
    pub head: [u32; EVTCHN_FIFO_MAX_QUEUES],
}
layout!(FifoControlBlock, 72, head @ 8);
