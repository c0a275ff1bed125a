//! Driver domains: those whose back ends serve others' disks and networks.

use super::disks::{DomainDisks, Source};
use super::dom0;
use super::networks::DomainNetworks;
use super::reader::{Located, Notes};

/// A domain's devices, as far as they say whose back ends serve them.
pub struct Client<'a> {
    /// Its name; `None` if it has none, which is noted elsewhere.
    pub name: Option<&'a str>,
    /// The line of its section.
    pub line: usize,
    pub disks: &'a DomainDisks,
    pub networks: &'a DomainNetworks,
}

impl Client<'_> {
    /// The fields that name a back end, each with the name and its line.
    fn backends(&self) -> impl Iterator<Item = (&'static str, &str, usize)> {
        let disks = self.disks.iter().filter_map(|Located { value, line }| match &value.source {
            Source::Domain(name) => Some(("domain.disks.backend", name.as_str(), *line)),
            Source::Disk(_) | Source::Partition(_) => None,
        });
        let networks = self.networks.iter().filter_map(|Located { value, line }| {
            value.backend.as_ref().map(|name| ("domain.networks.backend", name.as_str(), *line))
        });
        disks.chain(networks)
    }
}

/// Checks that each domain that serves another is there when that one is created: it stands in front of it. So none can
/// serve itself, nor two each other.
pub fn check(clients: &[Client<'_>], notes: &Notes<'_>) {
    for (place, client) in clients.iter().enumerate() {
        for (field, name, line) in client.backends() {
            let position = clients.iter().position(|other| other.name == Some(name));
            let problem = match position {
                Some(position) if position < place => continue,
                Some(position) if position == place => "a domain can't serve itself".to_owned(),
                Some(position) => {
                    format!("{name} is created later, in line {}: it isn't there yet", clients[position].line)
                }
                None if name == dom0::NAME => format!("{name} serves what names no backend"),
                None => format!("there is no domain {name:?}"),
            };
            notes.add(line, field, problem, "the name of a domain further up");
        }
    }
}
