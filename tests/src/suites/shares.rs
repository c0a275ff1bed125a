//! Suite `shares`: domains that want more CPU time than there is get what the machine file gives them. Shares over long
//! times and many kinds of load are left to the host tests; this is about the machine that carries them out.

use crate::{
    context::{Context, log_file},
    scenario::{End, LIMIT, domain, machine},
    suite::{Ending, Test},
};
use anyhow::{Context as _, Result, ensure};
use boot_archive::Scheduling;
use regex::Regex;
use std::path::Path;
use xtask::{
    archive,
    machine::{Domain, Machine, Memory},
    qemu::{Accel, COUNTING_CPU, Hardware},
    session::{Ended, Session},
};

/// The suite.
pub const SUITE: &str = "shares";

/// The system time between which shares are taken, in milliseconds. All domains must be up by then.
const WINDOW: &str = "from=6000 to=10000";

/// How far from what is expected a share may be, in percent of one CPU.
const TOLERANCE: f64 = 3.0;

/// Virtual nanoseconds of an instruction, as a power of two, for QEMU.
const NANOSECONDS: &str = "shift=4";

/// Domains and the part of one CPU that each should have, in percent.
type Expected = Vec<(Scheduling, f64)>;

/// The tests.
pub fn tests() -> Vec<Test> {
    let (all, weight) = (Scheduling::default(), |weight| Scheduling { weight, ..Scheduling::default() });
    let first = Scheduling { cpus: 0b01, ..all };
    let own = Scheduling { cpus: 0b10, dedicated: true, weight: 1, ..all };
    let capped = Scheduling { cap: 10, ..all };
    vec![
        test(
            "weights-and-a-cap",
            1,
            vec![(weight(128), 90.0 / 7.0), (all, 180.0 / 7.0), (weight(512), 360.0 / 7.0), (capped, 10.0)],
        ),
        test("3-domains-on-2-cpus", 2, vec![(all, 66.7); 3]),
        test("5-domains-on-4-cpus", 4, vec![(all, 80.0); 5]),
        test("pinned-and-dedicated", 2, vec![(own, 100.0), (first, 50.0), (all, 50.0)]),
    ]
}

fn test(name: &str, cpus: u32, expected: Expected) -> Test {
    let log = log_file(&format!("{SUITE}/{name}"));
    Test::machine(SUITE, name, move |context| {
        let machine = Machine { cpus, cpu: COUNTING_CPU.to_owned(), ..machine(domains(&expected)) };
        let mut session = boot(context, &machine, &log)?;
        ensure!(session.wait_exit() == Ended::Status(End::Clean as i32), "{}", session.last_words());
        judge(&session.text(), &expected)
    })
}

/// Boots a machine whose time passes by instructions: a busy host can't take time from one of its CPUs.
///
/// # Errors
/// When something can't be built or QEMU doesn't start.
pub fn boot(context: &Context, machine: &Machine, log: &Path) -> Result<Session> {
    let pavise = context.pavise()?;
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("image");
    pavise.imager.make(machine.firmware, &archive::make(machine, &pavise.built)?, &image)?;
    let mut qemu = Hardware::of(machine, Accel::Tcg).boot_image(&image)?;
    qemu.args(["-icount", NANOSECONDS]);
    Ok(Session::start(&qemu, log, LIMIT)?.keeping(folder))
}

fn domains(expected: &Expected) -> Vec<Domain> {
    let one = |(number, (scheduling, _)): (usize, &(Scheduling, f64))| {
        let story = format!("story=cpu-share {WINDOW}");
        Domain { scheduling: *scheduling, ..domain(&format!("s{number}"), "selftest", &story, Memory::mib(16)) }
    };
    expected.iter().enumerate().map(one).collect()
}

/// Compares what the domains said with what they should have had.
fn judge(output: &str, expected: &Expected) -> Result<Ending> {
    for (number, (_, share)) in expected.iter().enumerate() {
        let said = Regex::new(&format!(r"(?m)^\(s{number}\) ran (\d+) of (\d+) us"))?;
        let said = said.captures(output).with_context(|| format!("s{number} says nothing"))?;
        let [ran, window]: [f64; 2] = [said[1].parse()?, said[2].parse()?];
        let got = 100.0 * ran / window;
        ensure!((got - share).abs() <= TOLERANCE, "s{number} had {got:.1} % of a CPU, not {share:.1} %");
    }
    Ok(Ending::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_compared() {
        let expected = vec![(Scheduling::default(), 50.0)];
        assert!(judge("(s0) ran 51 of 100 us\r\n", &expected).is_ok());
        assert!(judge("(s0) ran 56 of 100 us\r\n", &expected).is_err());
        assert!(judge("(s1) ran 50 of 100 us\r\n", &expected).is_err());
    }
}
