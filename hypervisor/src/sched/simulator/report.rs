//! What a run shows: shares against weights, waits, wake-up latency, and how often vCPUs change and move.

use core::fmt;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::{Domain, Load, Simulator};

/// A machine and what runs on it.
pub struct Mix {
    pub name: String,
    pub cpus: u32,
    pub domains: Vec<Domain>,
    /// How long to run, in seconds.
    pub seconds: u64,
}

/// What came out. Times in milliseconds.
pub struct Outcome {
    pub name: String,
    pub cpus: u32,
    pub vcpus: usize,
    /// The furthest that a CPU-bound domain's share was from what its weight gives it, in percent of that; if all are.
    pub share_error: Option<f64>,
    /// The furthest that a domain with a cap got beyond it, in percent of it.
    pub cap_error: Option<f64>,
    /// The longest that a vCPU without a cap waited for a CPU.
    pub longest_wait: f64,
    /// Wake-up latency: half, 99 %, and all are below.
    pub latency: Option<[f64; 3]>,
    /// Per CPU and second.
    pub switches: f64,
    /// Per CPU and second.
    pub moves: f64,
    /// CPU time had by each domain, in seconds.
    pub ran: Vec<f64>,
}

const SECOND: u64 = 1_000_000_000;

impl Mix {
    pub fn run(&self, seed: u64) -> Outcome {
        let mut simulator = Simulator::new(self.cpus, &self.domains, seed);
        simulator.run_until(self.seconds * SECOND);
        let mut ran = vec![0.0; self.domains.len()];
        let mut longest_wait = 0;
        for record in &simulator.records {
            ran[record.domain] += record.ran as f64 / SECOND as f64;
            if self.domains[record.domain].cap == 0 {
                longest_wait = longest_wait.max(record.longest_wait);
            }
        }
        let per_cpu = |count: u64| count as f64 / f64::from(self.cpus) / self.seconds as f64;
        Outcome {
            name: self.name.clone(),
            cpus: self.cpus,
            vcpus: simulator.records.len(),
            share_error: self.share_error(&ran),
            cap_error: self.cap_error(&ran),
            longest_wait: longest_wait as f64 / 1e6,
            latency: percentiles(&mut simulator.latencies),
            switches: per_cpu(simulator.switches),
            moves: per_cpu(simulator.moves),
            ran,
        }
    }

    fn share_error(&self, ran: &[f64]) -> Option<f64> {
        let even = self.domains.iter().all(|domain| domain.load == Load::Batch && domain.pinned.is_none());
        let shares = even.then(|| shares(self.cpus.into(), &self.domains))?;
        let errors = ran.iter().zip(shares).map(|(ran, share)| error(*ran, share * self.seconds as f64));
        errors.reduce(f64::max)
    }

    fn cap_error(&self, ran: &[f64]) -> Option<f64> {
        let capped = self.domains.iter().zip(ran).filter(|(domain, _)| domain.cap != 0);
        let cap = |domain: &Domain| f64::from(domain.cap) / 100.0 * self.seconds as f64;
        capped.map(|(domain, ran)| ((ran / cap(domain) - 1.0) * 100.0).max(0.0)).reduce(f64::max)
    }
}

/// How far a value is from what is expected, in percent.
fn error(value: f64, expected: f64) -> f64 {
    (value / expected - 1.0).abs() * 100.0
}

/// The CPUs that CPU-bound domains should have: by weight, but none more than it can use, and the rest to the others.
fn shares(cpus: f64, domains: &[Domain]) -> Vec<f64> {
    let limit = |domain: &Domain| {
        let cap = if domain.cap == 0 { f64::INFINITY } else { f64::from(domain.cap) / 100.0 };
        cap.min(domain.vcpus.into())
    };
    let mut fixed: Vec<Option<f64>> = vec![None; domains.len()];
    loop {
        let free = cpus - fixed.iter().flatten().sum::<f64>();
        let open = || domains.iter().zip(&fixed).filter(|(_, fixed)| fixed.is_none());
        let weight: f64 = open().map(|(domain, _)| f64::from(domain.weight)).sum();
        let share = |domain: &Domain| free * f64::from(domain.weight) / weight;
        let over: Vec<bool> =
            domains.iter().zip(&fixed).map(|(d, fixed)| fixed.is_none() && share(d) > limit(d)).collect();
        if !over.contains(&true) {
            let shares = domains.iter().zip(&fixed).map(|(domain, fixed)| fixed.unwrap_or_else(|| share(domain)));
            return shares.collect();
        }
        for ((fixed, domain), _) in fixed.iter_mut().zip(domains).zip(over).filter(|(_, over)| *over) {
            *fixed = Some(limit(domain));
        }
    }
}

/// Half, 99 % and all, in milliseconds.
fn percentiles(latencies: &mut [u64]) -> Option<[f64; 3]> {
    latencies.sort_unstable();
    let last = latencies.len().checked_sub(1)?;
    Some([last / 2, last * 99 / 100, last].map(|index| latencies[index] as f64 / 1e6))
}

/// The first line of a table of outcomes.
pub const HEADING: &str = "mix                                CPUs vCPUs   share     cap    wait   \
    wake-up: p50    p99    max  switches  moves\n                                                \
    error   error      ms             ms     ms     ms    per CPU and second";

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |value: Option<f64>| value.map_or("-".into(), |value| std::format!("{value:.2} %"));
        let Outcome { name, cpus, vcpus, longest_wait, switches, moves, .. } = self;
        let (share, cap) = (percent(self.share_error), percent(self.cap_error));
        write!(f, "{name:<34} {cpus:>4} {vcpus:>5} {share:>7} {cap:>7} {longest_wait:>7.1}")?;
        match self.latency {
            Some([half, most, all]) => write!(f, "        {half:>8.3} {most:>6.2} {all:>6.1}")?,
            None => write!(f, "        {:>8} {:>6} {:>6}", "-", "-", "-")?,
        }
        write!(f, " {switches:>9.1} {moves:>6.2}")
    }
}

#[test]
fn what_one_cannot_use_is_the_others() {
    let domains = [1024, 256, 256].map(|weight| Domain::new(weight, if weight == 256 { 4 } else { 1 }, Load::Batch));
    assert_eq!(shares(4.0, &domains), [1.0, 1.5, 1.5]);
    let capped = [Domain::new(256, 4, Load::Batch).capped(50), Domain::new(256, 4, Load::Batch)];
    assert_eq!(shares(2.0, &capped), [0.5, 1.5]);
}
