//! Flushes that a guest asks for, in `update_va_mapping` and `mmuext_op`.

use super::{Call, Platform};
use crate::addr::GuestVa;
use crate::mm::flush::CpuSet;

/// What is to be flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Translations {
    /// All translations.
    All,
    /// That of one address, whatever the guest says it is.
    Of(u64),
}

/// Where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// On the CPU of the calling vCPU.
    Local,
    /// On all CPUs that the domain runs on.
    All,
    /// On those of the vCPUs in a bitmap. Bits beyond the domain's vCPUs don't count.
    Vcpus(u64),
}

impl<P: Platform> Call<'_, P> {
    /// Flushes. Other CPUs drop all translations, also if one address would do: that is one interrupt all the same.
    #[inline]
    pub(super) fn flush(&mut self, which: Translations, scope: Scope) {
        match scope {
            Scope::Local => self.flush_here(which),
            Scope::All => self.flush_cpus(which, self.platform.space().cpus.load()),
            Scope::Vcpus(bitmap) => self.flush_cpus(which, self.cpus_of(bitmap)),
        }
    }

    #[inline(never)]
    fn flush_cpus(&mut self, which: Translations, cpus: CpuSet) {
        let here = self.platform.this_cpu();
        let others = cpus.difference(CpuSet::only(here));
        if !others.is_empty() {
            self.platform.flush(others);
        }
        if cpus.contains(here) {
            self.flush_here(which);
        }
    }

    #[inline]
    fn flush_here(&mut self, which: Translations) {
        match which {
            Translations::All => self.platform.flush_here(),
            // Nobody has translations of addresses that aren't a guest's.
            Translations::Of(address) => {
                if let Some(address) = GuestVa::new(address) {
                    self.platform.flush_address(address);
                }
            }
        }
    }

    /// CPUs that may hold translations of these vCPUs. Which vCPU left them isn't known: all of the domain's.
    fn cpus_of(&self, vcpus: u64) -> CpuSet {
        let existing = u64::MAX.checked_shr(u64::BITS - self.platform.domain().vcpus.min(u64::BITS)).unwrap_or(0);
        if vcpus & existing == 0 { CpuSet::EMPTY } else { self.platform.space().cpus.load() }
    }
}
