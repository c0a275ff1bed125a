//! The front ends of a disk and a network device that lie in XenStore: states in any order, nodes that are missing or make no
//! sense, rings and event channels that are not theirs.

use super::{Page, Phases, Random, Victim, forget, store, well};
use crate::check::Told;
use alloc::format;
use guest_kernel::grant::{self, Access};
use guest_kernel::paging::PAGE_SIZE;
use guest_kernel::start::start_info;
use guest_kernel::store::{Bus, Tx};
use guest_kernel::{hypercall, memory, println};
use pv_abi::domid::DOMID_SELF;

/// What both kinds of devices read.
const NODES: [&str; 14] = [
    "ring-ref",
    "ring-page-order",
    "ring-ref0",
    "event-channel",
    "protocol",
    "multi-queue-num-queues",
    "queue-0/ring-ref",
    "tx-ring-ref",
    "rx-ring-ref",
    "event-channel-tx",
    "event-channel-rx",
    "request-rx-copy",
    "feature-sg",
    "request-multicast-control",
];
const GARBAGE: [&str; 8] = ["", "x", "-1", "4294967296", "1e3", " 1", "\u{1}", "99999999999999999999999"];

/// Lies in the store from phase to phase. In the end both devices can be used.
pub fn attacks() -> Told {
    let mut store = store()?;
    let mut phases = Phases::new()?;
    let mut random = Random::new();
    let ring = Page::new(Access::Write)?;
    // What isn't dom0's: a page granted to another domain, a port meant for another domain.
    let run = well("a page", memory::lock().and_then(|mut memory| memory.allocate_run(1)))?;
    let not_for_dom0 = well("a grant", grant::grant(1, run.machine_address() / PAGE_SIZE, Access::Write))?;
    let ports = [
        0,
        1,
        start_info().store_evtchn,
        u32::MAX,
        well("a port", hypercall::alloc_unbound(DOMID_SELF, 1))?,
        well("a port", hypercall::alloc_unbound(DOMID_SELF, 0))?,
    ];
    let numbers = [0, 1, 2, 4, 5, 9, 4096, u32::MAX, ring.gref, not_for_dom0.reference()];
    let victims = [Victim::find(&mut store, "vbd")?, Victim::find(&mut store, "vif")?];
    let mut count = 0;
    while phases.wait() {
        let directory = victims[random.below(2) as usize].device.directory();
        let node = format!("{directory}/{}", random.pick(&NODES));
        let state = format!("{directory}/state");
        let done = match random.below(16) {
            0 => store.write(Tx::NONE, &node, random.pick(&GARBAGE).as_bytes()),
            1 => store.write(Tx::NONE, &state, random.pick(&GARBAGE).as_bytes()),
            2 => forget(&mut store, &node),
            3 => forget(&mut store, &state),
            4..8 => store.write_text(Tx::NONE, &node, random.pick(&ports)),
            8..11 => store.write_text(Tx::NONE, &node, random.pick(&numbers)),
            // As if it were ready.
            11 => store.write_text(Tx::NONE, &state, 1).and_then(|()| store.write_text(Tx::NONE, &state, 4)),
            _ => store.write_text(Tx::NONE, &state, random.below(10)),
        };
        well("a write of its own node", done)?;
        count += 1;
    }
    phases.report();
    println!("attacker: {count} lies");
    for victim in victims {
        for node in NODES {
            well("a node", forget(&mut store, &format!("{}/{node}", victim.device.directory())))?;
        }
        // The nodes that a toolstack makes, and this domain removed, are its own.
        well("its state", store.write_text(Tx::NONE, &format!("{}/state", victim.device.directory()), 6))?;
    }
    super::block::use_disk(&mut store)?;
    super::net::use_network(&mut store)
}
