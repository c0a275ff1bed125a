//! Suite `store`: XenStore as a domain behind dom0 sees it, and as it goes on for one while another attacks it.

use crate::{
    pattern::{Pattern, regex, said_by},
    scenario::{End, Scenario, Step, domain, machine},
    suite::Test,
};
use xtask::machine::{Dom0, Domain, Machine, Memory};

/// The suite.
const SUITE: &str = "store";

/// All tests.
pub fn tests() -> Vec<Test> {
    vec![
        told("requests", &["store-requests"]),
        told("watches", &["store-watches"]),
        told("beside-a-flooder", &["store-flood", "store-witness"]),
        told("beside-a-liar", &["store-scribble", "store-witness"]),
        Scenario::new(behind_dom0(vec![guest()]), prompt()).test(SUITE, "prompt"),
    ]
}

/// A domain that tells a story, named by its place.
fn teller(place: usize, story: &str) -> Domain {
    let name = ["teller", "neighbour"][place];
    domain(name, "selftest", &format!("story={story}"), Memory::mib(32))
}

fn guest() -> Domain {
    domain("alpha", "demo", "name=alpha", Memory::mib(32))
}

fn behind_dom0(domains: Vec<Domain>) -> Machine {
    Machine { cpus: 2, dom0: Some(Dom0::with_memory(Memory::mib(48))), ..machine(domains) }
}

/// Stories told at once, which all end well.
fn told(name: &str, stories: &[&str]) -> Test {
    let domains: Vec<Domain> = (0..).zip(stories).map(|(place, story)| teller(place, story)).collect();
    let verdict = |(domain, story): (&Domain, &&str)| said_by(&domain.name, &format!("VERDICT {story} pass ?"));
    let verdicts: Vec<Pattern> = domains.iter().zip(stories).map(verdict).collect();
    let steps = vec![Step::Expect(verdicts), Step::End(End::Clean)];
    Scenario::new(behind_dom0(domains), steps).test(SUITE, name)
}

/// dom0's prompt shows nodes and changes them.
fn prompt() -> Vec<Step> {
    let ask = |line: &str, answers: Vec<Pattern>| [Step::Type(format!("{line}\r")), Step::Expect(answers)];
    let steps = [
        [Step::Expect(vec!["alpha> ".into()]), Step::Type("\x14".into())],
        ask("store ls /local/domain/1", vec![regex("^name = \"alpha\""), regex("^memory/"), "dom0> ".into()]),
        ask("store read /local/domain/1/memory/target", vec![regex("^32768$")]),
        ask("store write /local/domain/1/data/x hello there", vec!["dom0> ".into()]),
        ask("store read /local/domain/1/data/x", vec![regex("^hello there$")]),
        ask("store read /none", vec!["ENOENT".into()]),
        ask("destroy alpha", vec![said_by("dom0", ".* was destroyed")]),
        ask("store ls /local/domain/1", vec!["ENOENT".into()]),
        ask("shutdown", vec![]),
    ];
    steps.into_iter().flatten().chain([Step::End(End::Clean)]).collect()
}
