//! Suite `dom0`: domains that dom0 creates, with consoles on rings: heard and typed to, watched, ended and created again by
//! its prompt, and not disturbed by what their neighbours do.

use super::boot::greeting;
use crate::{
    pattern::{Pattern, logged, regex, said_by},
    scenario::{End, Scenario, Step, domain, machine},
    suite::Test,
};
use anyhow::{Result, bail, ensure};
use regex::Regex;
use xtask::machine::{Dom0, Domain, Machine, Memory};

/// The suite.
const SUITE: &str = "dom0";

/// Moves the keys to the next console (Ctrl-T).
const NEXT: &str = "\x14";
/// What dom0 asks with.
const PROMPT: &str = "dom0> ";
/// State of a domain as `list` has it.
const RUNS: &str = "(runs|sleeps)";
/// Lines of the story `console-flood`.
const FLOOD: u32 = 1500;
/// Times that a domain is destroyed and created again.
const ROUNDS: u32 = 20;

/// All tests.
pub fn tests() -> Vec<Test> {
    vec![
        test("prompt", prompt()),
        test("crash", crash()),
        test("reboot", reboot()),
        test("all-stopped", all_stopped()),
        test("memory", memory()),
        with_neighbour("ring-scribbled", "console-scribble", scribbled()),
        with_neighbour("ring-flooded", "console-flood", flooded()),
    ]
}

/// A machine with two demo guests behind dom0; alpha has the keys.
fn test(name: &str, steps: Vec<Step>) -> Test {
    let alpha = domain("alpha", "demo", "name=alpha", Memory::mib(32));
    let beta = Domain { vcpus: 2, ..domain("beta", "demo", "name=beta", Memory::mib(16)) };
    let mut said =
        vec![said_by("dom0", r"d1 \(alpha\): 32 MiB, 1 vCPUs"), said_by("dom0", r"d2 \(beta\): 16 MiB, 2 vCPUs")];
    said.extend(greeting("alpha", 32, 1, "name=alpha"));
    // Its prompt is no whole line, and it has not the keys.
    said.extend(greeting("beta", 16, 2, "name=beta").into_iter().filter(|pattern| pattern.find("beta> ").is_none()));
    let mut all = vec![Step::Expect(said)];
    all.extend(steps);
    behind_dom0(name, vec![alpha, beta], all)
}

/// A machine with a demo guest, which has the keys, and one that tells `story`.
fn with_neighbour(name: &str, story: &str, steps: Vec<Step>) -> Test {
    let alpha = domain("alpha", "demo", "name=alpha", Memory::mib(32));
    let teller = domain("teller", "selftest", &format!("story={story}"), Memory::mib(32));
    behind_dom0(name, vec![alpha, teller], steps)
}

fn behind_dom0(name: &str, domains: Vec<Domain>, steps: Vec<Step>) -> Test {
    let dom0 = Some(Dom0::with_memory(Memory::mib(48)));
    Scenario::new(Machine { cpus: 2, dom0, ..machine(domains) }, steps).test(SUITE, name)
}

/// Types a line, and waits for what follows it.
fn ask(line: &str, answers: Vec<Pattern>) -> [Step; 2] {
    [Step::Type(format!("{line}\r")), Step::Expect(answers)]
}

/// Moves the keys on.
fn next(name: &str) -> [Step; 2] {
    [Step::Type(NEXT.to_owned()), Step::Expect(vec![said_by("dom0", &format!("keys now go to {name}; .*"))])]
}

/// Ends the machine from the prompt, which has the keys.
fn shut_down() -> [Step; 2] {
    [Step::Type("shutdown\r".to_owned()), Step::End(End::Clean)]
}

/// A line of dom0's table of domains.
fn row(name: &str, state: &str) -> Pattern {
    regex(&format!(r"^{name} +(\d+ +\d+ +\d+ MiB +\d+\.\d{{3}} s|- +- +- +-)  {state}$"))
}

/// A line of what `top` shows, of a domain without devices.
fn used(name: &str) -> Pattern {
    regex(&format!(r"^{name} +\d+ +\d+ MiB +\d+\.\d{{3}} s +\d+ %( +0){{4}}  {RUNS}$"))
}

fn prompt() -> Vec<Step> {
    let steps = [
        ask("echo one two", vec![said_by("alpha", "one two")]),
        next("beta"),
        ask("echo three", vec![said_by("beta", "three")]),
        next("dom0"),
        ask("list", vec![row("alpha", RUNS), row("beta", RUNS), PROMPT.into()]),
        ask("top", vec![used("alpha"), used("beta"), regex(r"^machine: \d+ of \d+ KiB free"), PROMPT.into()]),
        ask("pause beta", vec![PROMPT.into()]),
        ask("list", vec![row("alpha", RUNS), row("beta", "paused")]),
        ask("unpause beta", vec![PROMPT.into()]),
        ask("unpause beta", vec!["refused: ".into()]),
        ask("log alpha", vec![regex("^Hello from alpha"), regex("^alpha> echo one two$"), regex("^one two$")]),
        ask("help", vec![regex("^shutdown ")]),
        ask("create alpha", vec!["it is there already".into()]),
        ask("destroy", vec!["of which domain?".into()]),
        ask("destroy gamma", vec!["there is no domain gamma".into()]),
        ask("make coffee", vec!["make: no such command".into()]),
        ask("console beta", vec!["beta> ".into()]),
        ask("echo again", vec![said_by("beta", "again")]),
        next("dom0"),
        ask("destroy alpha", vec![said_by("dom0", r"d1 \(alpha\) was destroyed")]),
        ask("list", vec![row("alpha", "was destroyed"), row("beta", RUNS)]),
        shut_down(),
    ];
    steps.into_iter().flatten().collect()
}

/// A domain crashes: its neighbour goes on, and it can be created again.
fn crash() -> Vec<Step> {
    let crashed = vec![
        said_by("alpha", "goodbye"),
        logged("d1: crashed: "),
        regex("^rip [0-9a-f]{16} cs [0-9a-f]{4} rflags [0-9a-f]{8}$"),
        said_by("dom0", r"ERROR: d1 \(alpha\) crashed"),
        PROMPT.into(),
    ];
    let again = [vec![said_by("dom0", r"d3 \(alpha\): 32 MiB, 1 vCPUs")], greeting_in_background("alpha")].concat();
    let steps = [
        ask("crash stack", crashed),
        ask("list", vec![row("alpha", "crashed"), row("beta", RUNS)]),
        ask("create alpha", again),
        ask("console beta", vec!["beta> ".into()]),
        ask("echo not disturbed", vec![said_by("beta", "not disturbed")]),
        next("dom0"),
        next("alpha"),
        ask("echo here again", vec![said_by("alpha", "here again")]),
        next("beta"),
        next("dom0"),
        shut_down(),
    ];
    steps.into_iter().flatten().collect()
}

/// What a demo guest says that has not the keys: its prompt is no whole line.
fn greeting_in_background(name: &str) -> Vec<Pattern> {
    vec![said_by(name, &format!("Hello from {name}, .*")), said_by(name, r"Type help for the commands\.")]
}

/// A domain that reboots is created again, and so on.
fn reboot() -> Vec<Step> {
    let rebooted = |old: u16, new: u16| {
        let mut said = vec![
            said_by("dom0", &format!(r"d{old} \(alpha\) reboots")),
            said_by("dom0", &format!(r"d{new} \(alpha\): 32 MiB, 1 vCPUs")),
        ];
        said.extend(greeting("alpha", 32, 1, "name=alpha"));
        said
    };
    let steps = [
        ask("reboot", rebooted(1, 3)),
        // It has the keys again, because it had them before.
        ask("reboot", rebooted(3, 4)),
        next("beta"),
        next("dom0"),
        ask("list", vec![row("alpha", RUNS), row("beta", RUNS)]),
        shut_down(),
    ];
    steps.into_iter().flatten().collect()
}

/// When all have powered themselves off, so does the machine.
fn all_stopped() -> Vec<Step> {
    let last = [said_by("dom0", r"d2 \(beta\) powered off"), said_by("dom0", "all domains have stopped")];
    let steps = [
        ask("halt", vec![said_by("dom0", r"d1 \(alpha\) powered off"), PROMPT.into()]),
        ask("console beta", vec!["beta> ".into()]),
        [Step::Type("halt\r".to_owned()), Step::Expect(last.into())],
    ];
    steps.into_iter().flatten().chain([Step::End(End::Clean)]).collect()
}

/// A domain that is destroyed and created again, often, leaves as much free memory as before, and as many services.
fn memory() -> Vec<Step> {
    let round = || {
        [
            ask("destroy beta", vec![said_by("dom0", r"d\d+ \(beta\) was destroyed"), PROMPT.into()]),
            ask("create beta", vec![said_by("beta", r"Type help for the commands\.")]),
        ]
    };
    let look = || ask("top", vec![regex(r"^machine: \d+ of \d+ KiB free.*, \d+ services$")]);
    let mut steps: Vec<Step> = next("beta").into_iter().chain(next("dom0")).collect();
    // Until the hypervisor's heap, which grows by 64 KiB, has grown to what that needs.
    (0..ROUNDS).for_each(|_| steps.extend(round().into_iter().flatten()));
    steps.extend(look());
    (0..ROUNDS).for_each(|_| steps.extend(round().into_iter().flatten()));
    steps.extend(look());
    steps.push(Step::check(as_much_is_there));
    steps.extend(shut_down());
    steps
}

/// Both looks at the machine's memory found the same amount free, or the hypervisor's heap has grown between them, once; and as
/// many services.
fn as_much_is_there(output: &str) -> Result<()> {
    /// By which the heap grows, in KiB.
    const STEP: u64 = 64;
    let found = Regex::new(r"(?m)^machine: (\d+) of.* (\d+) services")?;
    let looks = found.captures_iter(output).map(|found| found.extract::<2>().1.map(str::parse::<u64>));
    let looks: Vec<(u64, u64)> = looks.map(|[free, services]| Ok((free?, services?))).collect::<Result<_>>()?;
    let [before, after] = looks[..] else { bail!("{} looks", looks.len()) };
    let back = after == before || after == (before.0.saturating_sub(STEP), before.1);
    ensure!(back, "free memory in KiB, and services: {looks:?}");
    Ok(())
}

/// A domain scribbles over the indices of its ring: dom0 says so once, and the neighbour is heard and typed to.
fn scribbled() -> Vec<Step> {
    let steps = [
        [
            Step::Expect(vec![
                said_by("teller", "begins to scribble"),
                said_by("dom0", "WARN: teller: the indices of its console ring are wrong; .*"),
            ]),
            Step::check(|output| {
                let warnings = output.matches("its console ring are wrong").count();
                ensure!(warnings == 1, "{warnings} warnings");
                Ok(())
            }),
        ],
        ask("echo not disturbed", vec![said_by("alpha", "not disturbed")]),
        // One that is there would have the keys next.
        [Step::ExpectEver(vec![said_by("dom0", r"d2 \(teller\) powered off")]), Step::Expect(vec!["alpha> ".into()])],
        next("dom0"),
        ask("list", vec![row("alpha", RUNS), row("teller", "powered off")]),
        shut_down(),
    ];
    steps.into_iter().flatten().collect()
}

/// A domain says as much as it can: all of it is shown, and the neighbour is heard and typed to meanwhile.
fn flooded() -> Vec<Step> {
    let steps = [
        [Step::Expect(vec![said_by("teller", "flood 100 .*")]), Step::Expect(vec!["alpha> ".into()])],
        ask("echo in between", vec![said_by("alpha", "in between")]),
        [Step::ExpectEver(vec![said_by("dom0", r"d2 \(teller\) powered off")]), Step::check(every_line_once)],
    ];
    steps.into_iter().flatten().collect()
}

/// The lines of the flood are all there, in order.
fn every_line_once(output: &str) -> Result<()> {
    let lines = Regex::new(r"(?m)^\(teller\) flood (\d+) \.+$")?;
    let numbers: Vec<&str> = lines.captures_iter(output).map(|found| found.extract::<1>().1[0]).collect();
    let expected: Vec<String> = (0..FLOOD).map(|number| number.to_string()).collect();
    ensure!(numbers == expected, "{} of {FLOOD} lines of the flood are there, or not in order", numbers.len());
    ensure!(output.find("in between") < output.rfind("flood"), "the neighbour was heard after the flood only");
    Ok(())
}
