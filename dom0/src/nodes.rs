//! The nodes of a device's directories in XenStore, as a back end reads and writes them.
//!
//! The frontend's directory is the guest's: any node may be missing there, say anything, and change at any time.

use crate::contain::indivisible;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;
use guest_kernel::store::{Bus, Tx};
use guest_kernel::xenbus::XenbusState;
use log::warn;
use pv_abi::errno::Errno;

/// A directory's nodes.
pub struct Nodes<'a, B> {
    /// Path of the directory.
    pub directory: &'a str,
    /// A connection to XenStore.
    pub bus: &'a mut B,
}

/// A node is missing or makes no sense: its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unclear(pub String);

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is missing or makes no sense", self.0)
    }
}

impl<B: Bus> Nodes<'_, B> {
    /// A node's text; `None` if there is none.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.bus.read_text(Tx::NONE, &format!("{}/{name}", self.directory)).ok()
    }

    /// A node that has to be there, as a number or what else can be parsed.
    ///
    /// # Errors
    /// [`Unclear`].
    pub fn parsed<T: FromStr>(&mut self, name: &str) -> Result<T, Unclear> {
        self.text(name).and_then(|text| text.parse().ok()).ok_or_else(|| Unclear(name.into()))
    }

    /// A number in a range; one that is left out means `none`.
    ///
    /// # Errors
    /// [`Unclear`].
    pub fn number_or(&mut self, name: &str, none: u32, range: RangeInclusive<u32>) -> Result<u32, Unclear> {
        let Some(text) = self.text(name) else { return Ok(none) };
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| Unclear(name.into()))
    }

    /// A node that is 0, 1, or left out.
    ///
    /// # Errors
    /// [`Unclear`].
    pub fn flag(&mut self, name: &str) -> Result<bool, Unclear> {
        Ok(self.number_or(name, 0, 0..=1)? == 1)
    }

    /// The state of the end whose directory it is.
    pub fn state(&mut self) -> XenbusState {
        self.parsed("state").map_or(XenbusState::Unknown, XenbusState::from_number)
    }

    /// Writes nodes of the back end's directory, all at once, if it is there: what a toolstack has removed stays removed.
    pub fn publish(&mut self, nodes: &[(&str, &str)]) {
        let directory = self.directory;
        // No transaction is left open.
        let written = indivisible(|| {
            self.bus.transaction(|bus, tx| {
                bus.read(tx, &format!("{directory}/frontend"))?;
                let mut nodes = nodes.iter();
                nodes.try_for_each(|(name, value)| bus.write(tx, &format!("{directory}/{name}"), value.as_bytes()))
            })
        });
        match written {
            Ok(()) | Err(Errno::ENOENT) => {}
            // The frontend waits, and whoever looks into the store sees why.
            Err(errno) => warn!("{directory} can't be written: {errno:?}"),
        }
    }
}
