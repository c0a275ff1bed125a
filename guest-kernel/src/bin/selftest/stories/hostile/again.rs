//! Guests whose devices are closed by their back ends, and who connect again: for a ring that one broke itself, and in the
//! middle of honest use.

use super::{Page, Victim, block, net, now, store, well};
use crate::check::{Ending, Told, equal, holds};
use core::sync::atomic::Ordering;
use guest_kernel::block::{Broken, Drive};
use guest_kernel::grant::Access;
use guest_kernel::net::Netfront;
use guest_kernel::store::{Bus, Connection, Tx};
use guest_kernel::xenbus;
use guest_kernel::xenbus::XenbusState;

/// How long a back end may take, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;
/// Times that each device is broken.
const TIMES: usize = 3;

/// The back ends close a device whose ring is broken, and serve it again when it is connected again.
pub fn reconnects() -> Told {
    let mut store = store()?;
    for (kind, rings) in [("vbd", ["ring-ref"].as_slice()), ("vif", ["tx-ring-ref", "rx-ring-ref"].as_slice())] {
        let mut victim = Victim::find(&mut store, kind)?;
        for _ in 0..TIMES {
            let mut nodes = alloc::vec![("request-rx-copy", 1)];
            let mut pages = alloc::vec::Vec::new();
            for name in rings {
                let page = Page::new(Access::Write)?;
                [0, 1, 0, 1].into_iter().zip(page.words).for_each(|(value, word)| word.store(value, Ordering::Release));
                nodes.push((*name, page.gref));
                pages.push(page);
            }
            holds("it is connected", victim.connect(&mut store, now() + PATIENCE, &nodes)?)?;
            pages[0].words[0].store(5000, Ordering::Release);
            victim.ring();
            holds("it is closed", victim.wait(&mut store, now() + PATIENCE, XenbusState::Closing)?)?;
            equal("it has its end of the channel", victim.is_open(), false)?;
        }
        victim.leave(&mut store)?;
    }
    block::use_disk(&mut store)?;
    net::use_network(&mut store)
}

/// The first device of a kind.
fn first(store: &mut Connection, kind: &str) -> Result<alloc::string::String, Ending> {
    let all = well("the devices", xenbus::devices(store, kind))?;
    all.into_iter().next().ok_or_else(|| Ending::Fail(alloc::format!("there is no {kind}")))
}

/// Has the back end of a device close, and then wait for a front end again: it takes this for one that starts anew.
fn disturb(store: &mut Connection, directory: &str) -> Told {
    well("the state", store.write_text(Tx::NONE, &alloc::format!("{directory}/state"), 1))
}

/// The front ends notice that their back ends have closed, let go, and connect again.
pub fn survives() -> Told {
    let mut store = store()?;
    let directory = first(&mut store, "vbd")?;
    for _ in 0..TIMES {
        let mut drive = well("the disk", Drive::open(&mut store, &directory, 1))?;
        for slot in 0..drive.slots() {
            holds("a read", drive.read(slot, 0, 4096))?;
        }
        drive.kick();
        disturb(&mut store, &directory)?;
        let end = loop {
            match drive.take() {
                Ok(Some(_)) => {}
                Ok(None) => {
                    if let Err(end) = drive.sleep(1) {
                        break end;
                    }
                }
                Err(end) => break end,
            }
        };
        equal("the end of the disk", end, Broken::Gone)?;
        well("its close", drive.close(&mut store).map(drop))?;
    }
    let directory = first(&mut store, "vif")?;
    for _ in 0..TIMES {
        let connected = Netfront::connect(&mut store, &directory);
        let front = connected.map_err(|error| Ending::Fail(alloc::format!("the network: {error}")))?;
        holds("it is connected", front.is_connected(&mut store))?;
        disturb(&mut store, &directory)?;
        let limit = now() + PATIENCE;
        while front.is_connected(&mut store) && now() < limit {
            store.sleep(limit);
        }
        holds("it sees that the back end is gone", !front.is_connected(&mut store))?;
        front.close(&mut store);
    }
    block::use_disk(&mut store)?;
    net::use_network(&mut store)
}
