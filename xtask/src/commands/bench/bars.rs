//! The bars: the most instructions that an operation may take.

/// An operation's bars.
pub struct Bar {
    /// The row's name in the bench guest.
    pub name: &'static str,
    /// What breaks the bench.
    pub now: Most,
    /// The aim after that.
    pub aim: Option<u64>,
}

/// The most instructions that an operation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// This many.
    Instructions(u64),
    /// No more than on Xen, when it is compared with.
    Xen,
    /// This many percent above the row before.
    AboveLast(u64),
}

const fn bar(name: &'static str, now: u64, aim: u64) -> Bar {
    Bar { name, now: Most::Instructions(now), aim: Some(aim) }
}

const fn below_xen(name: &'static str) -> Bar {
    Bar { name, now: Most::Xen, aim: None }
}

/// The rows of the group `mm`, in the bench guest's order.
pub const MM: &[Bar] = &[
    bar("null-hypercall", 120, 70),
    bar("unknown-hypercall", 100, 60),
    bar("stack-switch", 120, 75),
    bar("fpu-taskswitch", 120, 75),
    bar("sched-yield", 600, 300),
    below_xen("multicall-entry"),
    bar("update-va-mapping-same", 330, 200),
    bar("update-va-mapping-map-unmap", 400, 250),
    bar("mmu-update-one", 400, 250),
    bar("mmu-update-batch-same", 180, 80),
    bar("mmu-update-batch-map-unmap", 260, 120),
    below_xen("page-table-store"),
    bar("tlb-flush-local", 250, 120),
    bar("page-fault", 400, 250),
    bar("software-interrupt", 400, 250),
    bar("cpuid-forced", 300, 200),
    bar("rdmsr", 500, 300),
    below_xen("user-syscall"),
    below_xen("pin-unpin-table"),
    below_xen("fork-exit-page"),
];

/// The rows of the group `events`.
pub const EVENTS: &[Bar] = &[
    bar("evtchn-send-masked", 200, 120),
    below_xen("evtchn-send-upcall"),
    bar("set-timer-op", 200, 130),
    bar("vcpu-switch", 4_500, 3_000),
    bar("wake-ping-pong", 4_500, 3_000),
];

/// The rows of the group `domains`.
pub const DOMAINS: &[Bar] = &[
    Bar { name: "create-start-8", now: Most::Instructions(3_000_000), aim: None },
    Bar { name: "create-start-200", now: Most::AboveLast(10), aim: None },
];

/// All groups that the bench guest measures, with their names.
pub const GROUPS: [(&str, &[Bar]); 3] = [("mm", MM), ("events", EVENTS), ("domains", DOMAINS)];
