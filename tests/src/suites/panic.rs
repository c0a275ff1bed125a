//! Suite `crash`, the worst of it: the hypervisor itself can't go on. It stops all CPUs, and says why, where, and how it
//! got there. The hardware gives the cause: a machine check is nobody's to handle.

use super::crash::SUITE;
use crate::{
    pattern::{regex, said_by},
    scenario::{End, Scenario, Step, domain, machine},
    suite::Test,
};
use boot_archive::WhenAllStopped;
use xtask::machine::{Domain, Machine, Memory};

/// An uncorrected error on the second CPU, in bank 0: its status has VAL, UC, EN and PCC (SDM volume 3, 16.3.2.2), the
/// global one MCIP (16.3.1.2); no address.
const ON_SECOND_CPU: &str = "mce 1 0 0xb200000000000000 0x4 0 0";
/// The same on the first CPU.
const ON_FIRST_CPU: &str = "mce 0 0 0xb200000000000000 0x4 0 0";

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![in_the_hypervisor(), in_a_guest(), all_cpus_stop()]
}

/// The only domain is on the first CPU, so the second is in the idle loop.
fn in_the_hypervisor() -> Test {
    let steps = vec![
        Step::Expect(vec!["alpha> ".into()]),
        Step::Monitor(ON_SECOND_CPU),
        Step::End(End::Panicked),
        Step::Expect(vec![
            regex(r"^\*\*\* Pavise panic on cpu1: unexpected trap 18 in the hypervisor$"),
            regex(r"^cr2 [0-9a-f]{16} cr3 [0-9a-f]+ cr4 [0-9a-f]+$"),
            regex("^registers of the hypervisor:\nrip ffff8180[0-9a-f]{8} cs e008 rflags [0-9a-f]{8}$"),
            regex(&format!("^backtrace:\n({FRAME}\n)*{}\n{LAST_WORDS}", frame("pavise::arch::entry::run_guests"))),
        ]),
    ];
    Scenario::new(on_two_cpus(vec![demo("alpha")]), steps).test(SUITE, "panic-in-the-hypervisor")
}

/// A line of a backtrace (a regular expression).
const FRAME: &str = r"  0xffff8180[0-9a-f]{8} \S+\+0x[0-9a-f]+";
const LAST_WORDS: &str = r"\*\*\* all CPUs stopped$";

fn frame(function: &str) -> String {
    format!(r"  0xffff8180[0-9a-f]{{8}} {function}\+0x[0-9a-f]+")
}

/// The guest never leaves the CPU, but for a timer interrupt now and then, which may be what is hit.
fn in_a_guest() -> Test {
    let spinner = domain("spinner", "selftest", "story=spin", Memory::mib(32));
    let steps = vec![
        Step::Expect(vec![said_by("spinner", "spinning")]),
        Step::Monitor(ON_FIRST_CPU),
        Step::End(End::Panicked),
        Step::Expect(vec![
            regex(
                r"^\*\*\* Pavise panic on cpu0: (exception 18 while a guest ran|unexpected trap 18 in the hypervisor)$",
            ),
            regex("^registers of the last guest on this CPU:\nrip ffffffff80[0-9a-f]{6} cs e033 rflags [0-9a-f]{8}$"),
            regex(LAST_WORDS),
        ]),
    ];
    Scenario::new(machine(vec![spinner]), steps).test(SUITE, "panic-while-a-guest-runs")
}

/// A machine that stays on. Before, guests ran on both CPUs; afterwards nothing runs on any.
fn all_cpus_stop() -> Test {
    let steps =
        vec![Step::Expect(vec!["alpha> ".into(), "beta> ".into()]), Step::Monitor(ON_SECOND_CPU), Step::Stopped];
    let machine = Machine { when_all_stopped: WhenAllStopped::Stay, ..on_two_cpus(vec![demo("alpha"), demo("beta")]) };
    Scenario::new(machine, steps).test(SUITE, "panic-stops-all-CPUs")
}

fn demo(name: &str) -> Domain {
    domain(name, "demo", &format!("name={name}"), Memory::mib(32))
}

fn on_two_cpus(domains: Vec<Domain>) -> Machine {
    Machine { cpus: 2, ..machine(domains) }
}
