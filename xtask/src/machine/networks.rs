//! Networks: the machine's own, in the section `[machine.network]`, and the domains' devices, in their lists `networks`.

use super::disks::tables;
use super::reader::{Located, Notes, Section, Wrong, flag, number, text};
use std::net::SocketAddrV4;
use toml::Spanned;
use toml::de::DeValue;

/// Most devices of a domain.
const MAX_DEVICES: usize = 8;
/// What the address of a device begins with that the file doesn't name: Xen's own, as its toolstack does.
const XEN: [u8; 3] = [0x00, 0x16, 0x3e];
/// The address of the machine's own device. The second bit says that nobody registered it.
const UPLINK: &str = "52:54:00:12:34:56";

/// The machine's own network device: QEMU's user network, with an address for each that asks by DHCP, from 10.0.2.15 on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Ports of the host from which connections reach the network.
    pub forwards: Vec<Forward>,
}

/// A port of the host, of its address 127.0.0.1, that leads to an address and port of the network (TCP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The host's port.
    pub host: u16,
    /// Where it leads.
    pub to: SocketAddrV4,
}

/// A network device of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainNetwork {
    /// Its address.
    pub mac: [u8; 6],
    /// How much it may send, in bytes per second; `None` for any amount.
    pub rate: Option<u64>,
    /// It may send from other addresses too.
    pub any_source: bool,
    /// The domain whose back end serves it; `None` for the control domain.
    pub backend: Option<String>,
}

/// A domain's devices, each with its line.
pub type DomainNetworks = Vec<Located<DomainNetwork>>;

impl Network {
    /// QEMU's arguments for it.
    pub fn args(&self) -> Vec<String> {
        let forwards = self
            .forwards
            .iter()
            .map(|Forward { host, to }| format!(",hostfwd=tcp:127.0.0.1:{host}-{}:{}", to.ip(), to.port()));
        let netdev = format!("user,id=uplink{}", forwards.collect::<String>());
        let device = format!("virtio-net-pci,netdev=uplink,mac={UPLINK}");
        ["-netdev", &netdev, "-device", &device].map(str::to_owned).into()
    }
}

/// Reads the section `[machine.network]`.
pub fn read<'n, 't>(raw: Option<&'n Spanned<DeValue<'t>>>, notes: &'n Notes<'t>) -> Option<Located<Network>> {
    let raw = raw?;
    let line = notes.line(raw.span());
    let table = raw.get_ref().as_table();
    if table.is_none() {
        notes.add(line, "machine.network", "not a section", "a section [machine.network]");
    }
    let mut section = Section::new(notes, "machine.network", line, table);
    let forwards = tables(section.raw("forwards"), notes, "machine.network.forwards")
        .filter_map(|mut section| {
            let host = section.required("host", "a port of the host", port);
            let to = section.required("to", "where it leads", address);
            section.finish();
            Some(Forward { host: host?.value, to: to?.value })
        })
        .collect();
    section.finish();
    Some(Located { value: Network { forwards }, line })
}

/// Reads the list `networks` of the domain `name`.
pub fn read_domain<'n, 't>(
    raw: Option<&'n Spanned<DeValue<'t>>>,
    name: Option<&Located<String>>,
    notes: &'n Notes<'t>,
) -> DomainNetworks {
    let name = name.map_or("", |name| name.value.as_str());
    let networks: DomainNetworks = tables(raw, notes, "domain.networks")
        .enumerate()
        .map(|(index, mut section)| {
            let line = section.line();
            let given = section.optional("mac", mac);
            let rate = section.optional("rate", rate).map(|rate| rate.value);
            let any_source = section.optional("any_source", flag).is_some_and(|flag| flag.value);
            let backend = section.optional("backend", text).map(|backend| backend.value);
            section.finish();
            let mac = given.map_or_else(|| made(name, index), |mac| mac.value);
            Located { value: DomainNetwork { mac, rate, any_source, backend }, line }
        })
        .collect();
    if let Some(network) = networks.get(MAX_DEVICES) {
        notes.add(network.line, "domain.networks", "too many devices", format!("at most {MAX_DEVICES}"));
    }
    networks
}

/// Checks that somebody drives the devices, and that each has an address of its own.
pub fn check(machine: Option<&Located<Network>>, domains: &[&DomainNetworks], has_dom0: bool, notes: &Notes<'_>) {
    let devices: Vec<&Located<DomainNetwork>> = domains.iter().flat_map(|networks| networks.iter()).collect();
    let first = machine.map(|network| network.line).or(devices.first().map(|device| device.line));
    if let (false, Some(line)) = (has_dom0, first) {
        notes.add(line, "networks", "there is no [dom0], which drives them", "a section [dom0], or no networks");
    }
    for (i, device) in devices.iter().enumerate() {
        if let Some(other) = devices[..i].iter().find(|other| other.value.mac == device.value.mac) {
            let problem = format!("the device of line {} has this address, too", other.line);
            notes.add(device.line, "domain.networks.mac", problem, "another address");
        }
    }
}

/// The address of a device that the file doesn't give one: the same at each start, of different devices hardly ever.
fn made(name: &str, index: usize) -> [u8; 6] {
    // FNV-1a.
    let hash = format!("{name}/{index}")
        .bytes()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, _] = hash.to_le_bytes();
    [XEN[0], XEN[1], XEN[2], a, b, c]
}

fn port(value: &DeValue<'_>) -> Result<u16, Wrong> {
    let port = number(value, 1, u32::from(u16::MAX))?;
    u16::try_from(port).map_err(|_| Wrong::expected("a port"))
}

fn address(value: &DeValue<'_>) -> Result<SocketAddrV4, Wrong> {
    let address = text(value)?.parse().ok();
    address.ok_or_else(|| Wrong::expected("an address with a port, such as \"10.0.2.15:80\""))
}

fn mac(value: &DeValue<'_>) -> Result<[u8; 6], Wrong> {
    let wrong = || Wrong::expected("the address of one device, such as \"00:16:3e:12:34:56\"");
    let text = text(value)?;
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2 && !part.starts_with('+')))
        .collect();
    let mac: [u8; 6] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)?;
    if mac[0] & 1 == 0 && mac != [0; 6] { Ok(mac) } else { Err(wrong()) }
}

fn rate(value: &DeValue<'_>) -> Result<u64, Wrong> {
    const UNITS: [(&str, u64); 3] = [("KiB/s", 1 << 10), ("MiB/s", 1 << 20), ("GiB/s", 1 << 30)];
    let text = text(value)?;
    let rate = UNITS.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*factor)
    });
    let in_range = |rate: &u64| (1 << 10..=1 << 40).contains(rate);
    rate.filter(in_range).ok_or_else(|| Wrong::expected("a rate such as \"500 KiB/s\" or \"10 MiB/s\""))
}
