//! What the back ends have in common: devices are found, offered, connected, let go.

use super::disk::Disk;
use super::wire::Wire;
use super::{LIE, Random, now, store, well};
use crate::check::{Ending, Told};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;
use guest_kernel::grant::{self, Access, Mapping};
use guest_kernel::paging::PAGE_BYTES;
use guest_kernel::start::command_line;
use guest_kernel::store::{Bus, Connection, Tx};
use guest_kernel::xenbus::{Device, Step, XenbusState, next_of_backend};
use guest_kernel::{cmdline, event, hypercall, println};
use pv_abi::errno::Errno;

/// The parent of this domain's back ends.
const BACKENDS: &str = "backend";
/// How long it sleeps at most before it looks again, in nanoseconds.
const LOOK: u64 = 1_000_000_000;

/// A back end of a kind of device.
pub trait Serve {
    /// How many lies it knows.
    fn lies(&self) -> usize;

    /// Writes what a front end finds before it connects. `lie` is that of the connection to come.
    fn offer(&mut self, peer: &mut Peer<'_>, lie: Option<usize>) -> Told;

    /// Connects, and serves until the front end leaves, or this end does, which then is `Closing`.
    fn serve(&mut self, peer: &mut Peer<'_>, lie: Option<usize>) -> Result<XenbusState, Ending>;
}

/// The front end that is served, the connection to the store, and what is random.
pub struct Peer<'a> {
    pub device: &'a Device,
    pub store: &'a mut Connection,
    pub random: &'a mut Random,
}

impl Peer<'_> {
    /// A number that the front end wrote.
    pub fn theirs(&mut self, name: &str) -> Option<u32> {
        self.device.theirs(self.store, Tx::NONE, name).ok()
    }

    /// Writes nodes and the state that says they are there.
    pub fn publish(&mut self, state: XenbusState, nodes: &[(&str, String)]) -> Told {
        unless_gone(self.device.publish(self.store, state, |device, store, tx| {
            nodes.iter().try_for_each(|(name, value)| device.write(store, tx, name, value))
        }))
    }

    /// Writes states that make no sense.
    pub fn confuse(&mut self, last: XenbusState) -> Told {
        let node = format!("{}/state", self.device.directory());
        for _ in 0..8 {
            let state = self.random.pick(&["1", "3", "5", "6", "7", "8", "9", "", "x", "-1", "4294967296"]);
            unless_gone(self.store.write(Tx::NONE, &node, state.as_bytes()))?;
        }
        unless_gone(self.device.switch(self.store, last))
    }

    /// Removes its own state.
    pub fn vanish(&mut self) -> Told {
        unless_gone(self.store.remove(Tx::NONE, &format!("{}/state", self.device.directory())))
    }

    /// Sleeps until the front end's state has changed, or it sends an event. Whether it is connected still.
    pub fn is_there(&mut self, port: &Port) -> Result<bool, Ending> {
        let _ = hypercall::poll(&[port.0, self.store.port()], now() + LOOK);
        event::clear_pending(port.0);
        event::clear_pending(self.store.port());
        let mut changed = false;
        while self.store.event().is_some() {
            changed = true;
        }
        Ok(!changed || self.state()? == XenbusState::Connected)
    }

    /// Sleeps until the front end isn't in this state any more.
    pub fn while_it_is(&mut self, state: XenbusState) -> Told {
        while self.state()? == state {
            self.store.wait(now() + LOOK);
        }
        Ok(())
    }

    /// The front end's state; that it has written its details counts as connected.
    fn state(&mut self) -> Result<XenbusState, Ending> {
        let state = well("its state", self.device.their_state(self.store))?;
        Ok(if state == XenbusState::Initialised { XenbusState::Connected } else { state })
    }
}

/// Ends the story if a node of its own can't be changed, unless the device was taken away.
fn unless_gone(written: Result<(), Errno>) -> Told {
    match written {
        Err(Errno::ENOENT | Errno::EACCES) => Ok(()),
        written => well("a node of its own", written),
    }
}

/// Pages of a front end's ring, mapped as long as this lives.
pub struct Pages(Mapping);

impl Pages {
    pub fn map(domain: u16, reference: u32) -> Option<Pages> {
        grant::map(domain, &[reference], Access::Write).ok().map(Pages)
    }
}

impl AsRef<[AtomicU32]> for Pages {
    fn as_ref(&self) -> &[AtomicU32] {
        // SAFETY: the pages are mapped as long as this lives, and used as atomics only, as the other side may write them.
        unsafe { core::slice::from_raw_parts(self.0.address().cast(), self.0.len() * PAGE_BYTES / 4) }
    }
}

/// A port that is connected to a front end's, closed when this is dropped.
pub struct Port(u32);

impl Port {
    pub fn bind(domain: u16, remote: u32) -> Option<Port> {
        let port = hypercall::bind_interdomain(domain, remote).ok()?;
        event::mask(port);
        Some(Port(port))
    }

    pub fn ring(&self) {
        let _ = hypercall::send(self.0);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = event::close(self.0);
    }
}

/// A device that is served.
struct Served {
    device: Device,
    state: XenbusState,
    /// Connections so far.
    count: usize,
    service: Box<dyn Serve>,
}

impl Served {
    /// The lie of the next connection.
    fn lie(&self, honest: bool) -> Option<usize> {
        (!honest && self.count < self.service.lies()).then_some(self.count)
    }

    /// Takes one step, if there is one to take. Whether it did.
    fn step(&mut self, store: &mut Connection, random: &mut Random, honest: bool) -> Result<bool, Ending> {
        let theirs = well("a state", self.device.their_state(store))?;
        let lie = self.lie(honest);
        let peer = &mut Peer { device: &self.device, store, random };
        self.state = match next_of_backend(self.state, theirs) {
            Step::Wait => return Ok(false),
            Step::Offer => {
                let node = format!("{}/{LIE}", self.device.directory());
                let name = lie.map_or(String::new(), |lie| format!("{lie}"));
                unless_gone(peer.store.write(Tx::NONE, &node, name.as_bytes()))?;
                self.service.offer(peer, lie)?;
                XenbusState::InitWait
            }
            Step::Connect => {
                self.count += 1;
                self.service.serve(peer, lie)?
            }
            Step::Close => XenbusState::Closing,
            Step::Finish => XenbusState::Closed,
        };
        if matches!(self.state, XenbusState::Closing | XenbusState::Closed) {
            // Also where it removed its state.
            let node = format!("{}/state", self.device.directory());
            unless_gone(store.write_text(Tx::NONE, &node, self.state.number()))?;
        }
        Ok(true)
    }
}

/// Serves devices and lies, until they are taken away.
pub fn lies() -> Told {
    serve_all(false)
}

/// Serves devices honestly, until they are taken away.
pub fn serves() -> Told {
    serve_all(true)
}

fn serve_all(honest: bool) -> Told {
    let seed = cmdline::option(command_line(), "seed").and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("server: seed {seed}");
    let (mut random, mut store) = (Random::seeded(seed), store()?);
    well("a watch", store.watch(BACKENDS, BACKENDS))?;
    let mut all: Vec<Served> = Vec::new();
    let mut had_some = false;
    loop {
        look(&mut store, &mut all)?;
        had_some |= !all.is_empty();
        if had_some && all.is_empty() {
            return Ok(());
        }
        let mut moved = false;
        for served in &mut all {
            moved |= served.step(&mut store, &mut random, honest)?;
        }
        if !moved {
            store.wait(now() + LOOK);
            while store.event().is_some() {}
        }
    }
}

/// Finds devices that are new, and drops those that are gone.
fn look(store: &mut Connection, all: &mut Vec<Served>) -> Told {
    let mut found = Vec::new();
    for kind in ["vbd", "vif"] {
        for client in list(store, &format!("{BACKENDS}/{kind}")) {
            for number in list(store, &client) {
                found.push((kind, number));
            }
        }
    }
    all.retain(|served| found.iter().any(|(_, directory)| directory == served.device.directory()));
    for (kind, directory) in found {
        if all.iter().any(|served| served.device.directory() == directory) {
            continue;
        }
        // It may be gone again.
        let Ok(device) = Device::backend(store, &directory) else { continue };
        well("a watch", device.watch(store))?;
        let service: Box<dyn Serve> = if kind == "vbd" { Box::new(Disk::new()?) } else { Box::new(Wire) };
        println!("server: {directory}");
        all.push(Served { device, state: XenbusState::Initialising, count: 0, service });
    }
    Ok(())
}

/// Paths of a directory's children; none if there is no such directory.
fn list(store: &mut Connection, path: &str) -> Vec<String> {
    let names = store.directory(Tx::NONE, path).unwrap_or_default();
    names.into_iter().map(|name| format!("{path}/{name}")).collect()
}
