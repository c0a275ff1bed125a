//! Who sees to a part of each domain: its nodes in XenStore, its devices.

use super::drivers::Drivers;
use super::traffic::Traffic;
use alloc::string::String;
use boot_archive::DomainConfig;
use guest_kernel::control::Created;
use guest_kernel::store::Bus;

/// A domain that was built and doesn't run yet.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// Its number, and its rings.
    pub created: Created,
    /// What the machine file says of it.
    pub config: &'a DomainConfig,
}

/// Sees to a part of each domain.
pub trait Attendant {
    /// A domain was built; before it runs, it gets from each attendant what it is to find.
    ///
    /// # Errors
    /// Why it can't have it, for the person at the console. The domain is not created then. This attendant is not asked to
    /// take anything back.
    fn arrive(&mut self, new: &Newcomer<'_>) -> Result<(), String>;

    /// A domain has ended. What was mapped of it is unmapped with this, ports of its are closed, its nodes are removed.
    fn leave(&mut self, id: u16);

    /// What went through the devices of a domain that this attendant sees to, since it was created.
    fn traffic(&self, id: u16) -> Traffic;

    /// Has the back end of a domain's device panic when it has next something to do, to see what its guest makes of that.
    /// Whether there is a device of this kind and number that this attendant sees to.
    fn doom(&mut self, id: u16, kind: &str, number: u32) -> bool;
}

impl<B: Bus> Attendant for Drivers<B> {
    fn arrive(&mut self, new: &Newcomer<'_>) -> Result<(), String> {
        Drivers::arrive(self, new.created.id, new.config)
    }

    fn leave(&mut self, id: u16) {
        Drivers::leave(self, id);
    }

    /// None goes through this domain.
    fn traffic(&self, _: u16) -> Traffic {
        Traffic::default()
    }

    /// None is served by this domain.
    fn doom(&mut self, _: u16, _: &str, _: u32) -> bool {
        false
    }
}
