//! An end's directory, and the other's.

use super::state::XenbusState;
use crate::store::{Bus, Event, Tx};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::str::FromStr;
use pv_abi::errno::Errno;

/// One end of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    directory: String,
    other: String,
    other_domain: u16,
}

/// The directories of the domain's frontends of a kind: `vbd` or `vif`. None if there are none.
///
/// # Errors
/// The store's.
pub fn devices(bus: &mut impl Bus, kind: &str) -> Result<Vec<String>, Errno> {
    let above = format!("device/{kind}");
    match bus.directory(Tx::NONE, &above) {
        Ok(names) => Ok(names.into_iter().map(|name| format!("{above}/{name}")).collect()),
        Err(Errno::ENOENT) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl Device {
    /// The frontend whose directory this is.
    ///
    /// # Errors
    /// The store's, if there are no nodes that tell where the backend is.
    pub fn frontend(bus: &mut impl Bus, directory: &str) -> Result<Device, Errno> {
        Ok(Device {
            directory: directory.into(),
            other: bus.read_text(Tx::NONE, &format!("{directory}/backend"))?,
            other_domain: bus.read_number(Tx::NONE, &format!("{directory}/backend-id"))?,
        })
    }

    /// The backend whose directory this is.
    ///
    /// # Errors
    /// The store's, if there are no nodes that tell where the frontend is.
    pub fn backend(bus: &mut impl Bus, directory: &str) -> Result<Device, Errno> {
        Ok(Device {
            directory: directory.into(),
            other: bus.read_text(Tx::NONE, &format!("{directory}/frontend"))?,
            other_domain: bus.read_number(Tx::NONE, &format!("{directory}/frontend-id"))?,
        })
    }

    /// This end's directory.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The other end's directory.
    pub fn other(&self) -> &str {
        &self.other
    }

    /// The other end's domain.
    pub fn other_domain(&self) -> u16 {
        self.other_domain
    }

    /// A value that this end has.
    ///
    /// # Errors
    /// The store's; `EINVAL` if it can't be parsed.
    pub fn own<T: FromStr>(&self, bus: &mut impl Bus, tx: Tx, name: &str) -> Result<T, Errno> {
        bus.read_number(tx, &format!("{}/{name}", self.directory))
    }

    /// A value that the other end has.
    ///
    /// # Errors
    /// The store's; `EINVAL` if it can't be parsed.
    pub fn theirs<T: FromStr>(&self, bus: &mut impl Bus, tx: Tx, name: &str) -> Result<T, Errno> {
        bus.read_number(tx, &format!("{}/{name}", self.other))
    }

    /// A value that the other end has, or what it means that it has none.
    ///
    /// # Errors
    /// The store's but `ENOENT`; `EINVAL` if it can't be parsed.
    pub fn theirs_or<T: FromStr>(&self, bus: &mut impl Bus, tx: Tx, name: &str, absent: T) -> Result<T, Errno> {
        match self.theirs(bus, tx, name) {
            Err(Errno::ENOENT) => Ok(absent),
            value => value,
        }
    }

    /// Writes a value of this end's.
    ///
    /// # Errors
    /// The store's.
    pub fn write(&self, bus: &mut impl Bus, tx: Tx, name: &str, value: impl Display) -> Result<(), Errno> {
        bus.write_text(tx, &format!("{}/{name}", self.directory), value)
    }

    /// The other end's state.
    ///
    /// # Errors
    /// The store's, but that there is no such node is a state.
    pub fn their_state(&self, bus: &mut impl Bus) -> Result<XenbusState, Errno> {
        match self.theirs(bus, Tx::NONE, "state") {
            Ok(number) => Ok(XenbusState::from_number(number)),
            Err(Errno::ENOENT | Errno::EINVAL | Errno::EACCES) => Ok(XenbusState::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Switches this end's state. A directory that was removed meanwhile is not made again.
    ///
    /// # Errors
    /// The store's; `ENOENT` without a node `state`.
    pub fn switch(&self, bus: &mut impl Bus, state: XenbusState) -> Result<(), Errno> {
        self.publish(bus, state, |_, _, _| Ok(()))
    }

    /// Writes details and the state that says they are there, all at once.
    ///
    /// # Errors
    /// The store's, and those of `details`; then nothing is written.
    pub fn publish<B: Bus>(
        &self,
        bus: &mut B,
        state: XenbusState,
        mut details: impl FnMut(&Device, &mut B, Tx) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        bus.transaction(|bus, tx| {
            self.own::<String>(bus, tx, "state")?;
            details(self, bus, tx)?;
            self.write(bus, tx, "state", state.number())
        })
    }

    /// Watches the other end's state. The first event comes at once.
    ///
    /// # Errors
    /// The store's.
    pub fn watch(&self, bus: &mut impl Bus) -> Result<(), Errno> {
        bus.watch(&self.watched(), &self.directory)
    }

    /// Ends the watch.
    ///
    /// # Errors
    /// The store's.
    pub fn unwatch(&self, bus: &mut impl Bus) -> Result<(), Errno> {
        bus.unwatch(&self.watched(), &self.directory)
    }

    /// Whether an event is of this device's watch.
    pub fn concerns(&self, event: &Event) -> bool {
        event.token == self.directory
    }

    fn watched(&self) -> String {
        format!("{}/state", self.other)
    }
}
