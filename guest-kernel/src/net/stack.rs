//! TCP/IP over a device: an address by DHCP, answers to pings, sockets.

use alloc::vec;
use alloc::vec::Vec;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use super::Mac;

/// Bytes that wait in each direction of a connection.
const BUFFER: usize = 64 << 10;

/// The stack of one device.
pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: Option<SocketHandle>,
}

impl Stack {
    /// A stack that asks for its address by DHCP. `seed` makes port and sequence numbers differ from those of the last
    /// start.
    pub fn new(mac: Mac, device: &mut impl Device, seed: u64, now: u64) -> Stack {
        let mut stack = Stack::without_address(mac, device, seed, now);
        stack.dhcp = Some(stack.sockets.add(dhcpv4::Socket::new()));
        stack
    }

    /// A stack with an address of its own.
    pub fn with_address(mac: Mac, address: Ipv4Cidr, device: &mut impl Device, seed: u64, now: u64) -> Stack {
        let mut stack = Stack::without_address(mac, device, seed, now);
        stack.set_address(Some(address), None);
        stack
    }

    fn without_address(mac: Mac, device: &mut impl Device, seed: u64, now: u64) -> Stack {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        config.random_seed = seed;
        let interface = Interface::new(config, device, instant(now));
        Stack { interface, sockets: SocketSet::new(Vec::new()), dhcp: None }
    }

    /// Does what is due at system time `now`, in nanoseconds. When it wants to be called next if nothing comes.
    pub fn poll(&mut self, device: &mut impl Device, now: u64) -> Option<u64> {
        self.interface.poll(instant(now), device, &mut self.sockets);
        match self.lease() {
            Some(Some((address, router))) => self.set_address(Some(address), router),
            Some(None) => self.set_address(None, None),
            None => {}
        }
        let delay = self.interface.poll_delay(instant(now), &self.sockets)?;
        Some(now.saturating_add(delay.total_micros().saturating_mul(1000)))
    }

    /// Its address, once it has one.
    pub fn address(&self) -> Option<Ipv4Address> {
        self.interface.ipv4_addr()
    }

    /// A socket that waits for a connection to `port`, or is to make one.
    pub fn add_tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// A socket.
    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Connects a socket. Whether it can be tried.
    pub fn connect(&mut self, handle: SocketHandle, to: Ipv4Address, port: u16, own_port: u16) -> bool {
        let context = self.interface.context();
        self.sockets.get_mut::<tcp::Socket<'_>>(handle).connect(context, (to, port), own_port).is_ok()
    }

    /// Forgets a socket.
    pub fn remove(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// What DHCP has decided meanwhile: an address and a router, or that there is no address any more.
    fn lease(&mut self) -> Option<Option<(Ipv4Cidr, Option<Ipv4Address>)>> {
        let socket = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp?);
        Some(match socket.poll()? {
            dhcpv4::Event::Configured(config) => Some((config.address, config.router)),
            dhcpv4::Event::Deconfigured => None,
        })
    }

    fn set_address(&mut self, address: Option<Ipv4Cidr>, router: Option<Ipv4Address>) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            if let Some(address) = address {
                // There is room for one.
                let _ = addresses.push(IpCidr::Ipv4(address));
            }
        });
        self.interface.routes_mut().remove_default_ipv4_route();
        if let Some(router) = router {
            let _ = self.interface.routes_mut().add_default_ipv4_route(router);
        }
    }
}

fn instant(now: u64) -> Instant {
    Instant::from_micros(i64::try_from(now / 1000).unwrap_or(i64::MAX))
}
