//! The demo's network: an address by DHCP, answers to pings, a web page, an echo.

use alloc::format;
use alloc::string::String;
use guest_kernel::net::serve::Servers;
use guest_kernel::net::smoltcp::wire::Ipv4Address;
use guest_kernel::net::stack::Stack;
use guest_kernel::net::stream::{End, Stream};
use guest_kernel::net::{Error, Netfront};
use guest_kernel::start::{command_line, start_info};
use guest_kernel::store::{Bus, Connection};
use guest_kernel::{cmdline, event, println, probe, time, xenbus};

/// What is connected.
pub struct Network {
    name: &'static str,
    store: Connection,
    link: Option<Link>,
    /// A stream, how long it is to be, and when it began.
    stream: Option<(Stream, u64, u64)>,
    /// When the stack wants to be called, in system time; 0: when something comes.
    deadline: u64,
    last_port: u16,
}

/// The device, and what uses it.
struct Link {
    directory: String,
    front: Netfront,
    stack: Stack,
    servers: Servers,
    address: Option<Ipv4Address>,
}

impl Link {
    fn connect(store: &mut Connection, directory: &str) -> Result<Link, Error> {
        let mut front = Netfront::connect(store, directory)?;
        let mac = front.mac();
        let fixed = cmdline::option(command_line(), "address").and_then(|text| text.parse().ok());
        let seed = probe::rdtsc();
        let mut stack = match fixed {
            Some(address) => Stack::with_address(mac, address, front.nic(), seed, now()),
            None => Stack::new(mac, front.nic(), seed, now()),
        };
        let servers = Servers::new(&mut stack);
        Ok(Link { directory: directory.into(), front, stack, servers, address: None })
    }
}

impl Network {
    /// Connects the domain's first network device, if it has one.
    pub fn start(name: &'static str) -> Option<Network> {
        let mut store = Connection::open(start_info())?;
        let directories = xenbus::devices(&mut store, "vif").unwrap_or_default();
        let link = Link::connect(&mut store, directories.first()?);
        let link = link.inspect_err(|error| println!("network: {error}")).ok()?;
        println!("network: {}", link.front.mac());
        Some(Network { name, store, link: Some(link), stream: None, deadline: 0, last_port: 49_151 })
    }

    /// Ports at which events show that there is something to do.
    pub fn ports(&self) -> [u32; 2] {
        [self.store.port(), self.link.as_ref().map_or(self.store.port(), |link| link.front.port())]
    }

    /// The connection to XenStore. What others do with it wakes the network once too often at the most.
    pub fn store(&mut self) -> &mut Connection {
        &mut self.store
    }

    /// When there is something to do even without an event.
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Does what is due.
    pub fn work(&mut self) {
        if let Err(error) = self.turn() {
            println!("network: {error}");
            self.reconnect();
        }
    }

    fn turn(&mut self) -> Result<(), Error> {
        // What the store tells of is looked at after this: the next event is a new one.
        event::clear_pending(self.store.port());
        let mut changed = false;
        while self.store.event().is_some() {
            changed = true;
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        let Link { front, stack, servers, address, .. } = link;
        loop {
            front.begin();
            let (name, address_now) = (self.name, *address);
            let next = stack.poll(front.nic(), now());
            let mut again = servers.work(stack, |count| page(name, address_now, count));
            if let Some((stream, total, started)) = &mut self.stream {
                let (moved, end) = stream.work(stack);
                again |= moved;
                if let Some(end) = end {
                    report(end, *total, now() - *started);
                    again = true;
                    if let Some((stream, ..)) = self.stream.take() {
                        stream.finish(stack);
                    }
                }
            }
            again |= front.settle().map_err(Error::Fault)?;
            if *address != stack.address() {
                *address = stack.address();
                match address {
                    Some(address) => println!("network: my address is {address}"),
                    None => println!("network: I have no address"),
                }
            }
            if !again {
                self.deadline = next.map_or(0, |next| next.max(1));
                break;
            }
        }
        if changed && !front.is_connected(&mut self.store) { Err(Error::NoBackend) } else { Ok(()) }
    }

    fn reconnect(&mut self) {
        let Some(Link { directory, front, .. }) = self.link.take() else { return };
        self.stream = None;
        front.close(&mut self.store);
        match Link::connect(&mut self.store, &directory) {
            Ok(link) => {
                println!("network: connected again");
                self.link = Some(link);
            }
            Err(error) => println!("network: {error}"),
        }
    }

    /// Says what there is.
    pub fn info(&self) {
        let Some(link) = &self.link else {
            println!("  network       none");
            return;
        };
        let address = link.address.map_or("no address".into(), |address| format!("{address}"));
        println!("  network       {} {address}, {} requests", link.front.mac(), link.servers.requests());
    }

    /// Sends bytes to the echo of another host, and looks whether they come back.
    pub fn stream(&mut self, to: &str, mebibytes: u64) {
        let Ok(to) = to.parse() else {
            println!("stream: {to:?} is no address");
            return;
        };
        if self.stream.is_some() {
            println!("stream: one at a time");
            return;
        }
        let total = mebibytes << 20;
        self.last_port = self.last_port.checked_add(1).unwrap_or(49_152);
        let port = self.last_port;
        let stream = self.link.as_mut().and_then(|link| Stream::start(&mut link.stack, to, total, port));
        match stream {
            Some(stream) => self.stream = Some((stream, total, now())),
            None => println!("stream: not now"),
        }
    }
}

fn report(end: End, total: u64, nanoseconds: u64) {
    match end {
        End::Whole => {
            let rate = (u128::from(total) * 1_000_000_000 / u128::from(nanoseconds.max(1))) >> 10;
            println!("stream: {} MiB came back whole, {rate} KiB/s", total >> 20);
        }
        End::Spoiled(at) => println!("stream: byte {at} came back wrong"),
        End::Broken(at) => println!("stream: broke after {at} bytes"),
    }
}

fn page(name: &str, address: Option<Ipv4Address>, count: u64) -> String {
    let address = address.map_or(String::new(), |address| format!("{address}"));
    format!("Hello from {name} at {address}, request {count}.\n")
}

fn now() -> u64 {
    time::now().unwrap_or(0)
}
