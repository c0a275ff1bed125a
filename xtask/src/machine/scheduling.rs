//! A domain's part of the CPUs: `weight`, `cap`, `cpus` and `dedicated`.

use super::reader::{Located, Notes, Section, Wrong, flag, number, text};
use boot_archive::{MAX_VCPUS, Scheduling};
use toml::de::DeValue;

/// Most percent of one CPU that all vCPUs of a domain could use.
const MOST_CAP: u32 = 100 * MAX_VCPUS;

/// What a domain's section says of it.
#[derive(Debug, Default)]
pub struct PartialScheduling {
    weight: Option<Located<u32>>,
    cap: Option<Located<u32>>,
    cpus: Option<Located<u64>>,
    dedicated: Option<Located<bool>>,
}

impl PartialScheduling {
    /// Reads the fields.
    pub fn read(section: &mut Section<'_, '_>) -> Self {
        Self {
            weight: section.optional("weight", |value| number(value, 1, u16::MAX.into())),
            cap: section.optional("cap", |value| number(value, 0, MOST_CAP)),
            cpus: section.optional("cpus", cpus),
            dedicated: section.optional("dedicated", flag),
        }
    }

    /// With what is not said as by default.
    pub fn whole(&self) -> Scheduling {
        let default = Scheduling::default();
        let small = |field: &Option<Located<u32>>| field.as_ref().and_then(|field| u16::try_from(field.value).ok());
        Scheduling {
            weight: small(&self.weight).unwrap_or(default.weight),
            cap: small(&self.cap).unwrap_or(default.cap),
            cpus: self.cpus.as_ref().map_or(default.cpus, |cpus| cpus.value),
            dedicated: self.is_dedicated(),
        }
    }

    fn is_dedicated(&self) -> bool {
        self.dedicated.as_ref().is_some_and(|dedicated| dedicated.value)
    }
}

/// A set of CPUs, written "0", "0-3" or "0,2-3".
fn cpus(value: &DeValue<'_>) -> Result<u64, Wrong> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last < u64::BITS).then(|| (first..=last).fold(0, |set, cpu| set | 1 << cpu))
    };
    let set = text(value).ok().and_then(|text| text.split(',').map(part).try_fold(0, |set, part| Some(set | part?)));
    set.ok_or_else(|| Wrong::expected("CPUs as in \"0\", \"0-1\" or \"0,2-3\""))
}

/// Checks that the machine has the CPUs, that dedicated ones are nobody else's, and that all domains have some. Of each
/// domain come its line, number of vCPUs and settings.
pub fn check(domains: &[(usize, u32, &PartialScheduling)], machine: u32, notes: &Notes<'_>) {
    let existing = u64::MAX >> (u64::BITS - machine);
    let mut dedicated = 0;
    for &(line, vcpus, settings) in domains.iter().filter(|(_, _, settings)| settings.is_dedicated()) {
        let Some(cpus) = &settings.cpus else {
            notes.add(line, "domain.dedicated", "without CPUs", "`cpus` with a CPU for each vCPU");
            continue;
        };
        if cpus.value.count_ones() != vcpus {
            let problem = format!("{} dedicated CPUs for {vcpus} vCPUs", cpus.value.count_ones());
            notes.add(cpus.line, "domain.cpus", problem, "a CPU for each vCPU");
        }
        if cpus.value & dedicated != 0 {
            notes.add(cpus.line, "domain.cpus", "dedicated to another domain too", "other CPUs");
        }
        dedicated |= cpus.value;
    }
    for &(line, _, settings) in domains {
        let (line, cpus) = settings.cpus.as_ref().map_or((line, existing), |cpus| (cpus.line, cpus.value));
        if cpus & !existing != 0 {
            let expected = format!("CPUs from 0 to {}", machine - 1);
            notes.add(line, "domain.cpus", "the machine does not have them all", expected);
        } else if !settings.is_dedicated() && cpus & !dedicated == 0 {
            notes.add(line, "domain.cpus", "all dedicated to other domains", "at least one CPU that is not");
        }
    }
}
