//! Which CPUs a domain's vCPUs may use, as the machine file says. Pure.

use boot_archive::DomainConfig;

/// The CPUs of vCPU number `vcpu` of one of `all` domains, as bits. Dedicated CPUs are nobody else's, and one for each vCPU.
pub fn of(all: &[DomainConfig], domain: &DomainConfig, vcpu: u32) -> u64 {
    let asked = domain.scheduling.cpus;
    if domain.scheduling.dedicated {
        return nth(asked, vcpu).unwrap_or(asked);
    }
    let taken =
        all.iter().filter(|other| other.scheduling.dedicated).fold(0, |taken, other| taken | other.scheduling.cpus);
    asked & !taken
}

/// The bit set in `bits` that has `n` others below it, alone.
fn nth(mut bits: u64, n: u32) -> Option<u64> {
    for _ in 0..n {
        bits &= bits.wrapping_sub(1);
    }
    (bits != 0).then(|| bits & bits.wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot_archive::{Blob, Scheduling};

    fn domain(cpus: u64, dedicated: bool) -> DomainConfig {
        DomainConfig {
            name: "x".into(),
            control: false,
            command_line: "".into(),
            memory_pages: 0,
            vcpus: 2,
            scheduling: Scheduling { cpus, dedicated, ..Scheduling::default() },
            kernel: Blob { offset: 0, len: 0, crc32: 0 },
            ramdisk: None,
            disks: Vec::new(),
        }
    }

    #[test]
    fn dedicated_cpus_are_nobody_elses() {
        let all = [domain(0b1100, true), domain(u64::MAX, false), domain(0b0111, false)];
        assert_eq!([0, 1, 2].map(|vcpu| of(&all, &all[0], vcpu)), [0b0100, 0b1000, 0b1100]);
        assert_eq!(of(&all, &all[1], 0), !0b1100);
        assert_eq!(of(&all, &all[2], 1), 0b0011);
    }
}
