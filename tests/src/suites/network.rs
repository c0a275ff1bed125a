//! Suite `network`: guests on the network: addresses by DHCP from QEMU's user network, web pages and echoes for the host and
//! for each other, through the back end, the bridge and virtio-net of dom0; guests that end in the middle of it.

use crate::{
    outside,
    pattern::{Pattern, regex, said_by},
    scenario::{LIMIT, Scenario, Step, domain, machine},
    suite::Test,
};
use anyhow::{Context, Result, ensure};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};
use xtask::machine::{Dom0, Domain, DomainNetwork, Forward, Machine, Memory, Network};

/// The suite.
const SUITE: &str = "network";

/// The first two addresses that QEMU's user network gives away.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 16)];

/// How much goes over the network.
#[derive(Clone, Copy)]
struct Load {
    /// MiB from one guest to another and back, and from the host to a guest and back.
    mib: u64,
    /// Requests for a page of each guest.
    requests: u64,
    /// The time that the machine has.
    limit: Duration,
}

/// What is tried in every run, and in a full one.
const SHORT: Load = Load { mib: 4, requests: 200, limit: LIMIT };
const LONG: Load = Load { mib: 100, requests: 10_000, limit: Duration::from_secs(1800) };

/// Moves the keys to the next console (Ctrl-T).
const NEXT: &str = "\x14";

/// All tests; with `full`, the long ones too.
pub fn tests(full: bool) -> Vec<Test> {
    let mut tests = vec![host("host", SHORT), guests("guests", SHORT), rate()];
    if full {
        tests.extend([host("host-long", LONG), guests("guests-long", LONG)]);
    }
    tests
}

/// A guest that asks for its address by DHCP.
fn guest(name: &str, last: u8, rate: Option<u64>) -> Domain {
    let mac = [0x00, 0x16, 0x3e, 0, 0, last];
    let networks = vec![DomainNetwork { mac, rate, any_source: false, backend: None }];
    Domain { networks, ..domain(name, "demo", &format!("name={name}"), Memory::mib(32)) }
}

/// A guest with an address of its own.
fn guest_at(name: &str, last: u8, rate: Option<u64>) -> Domain {
    Domain { command_line: format!("name={name} address=10.0.2.10{last}/24"), ..guest(name, last, rate) }
}

fn behind_dom0(domains: Vec<Domain>, network: Network) -> Machine {
    let dom0 = Some(Dom0::with_memory(Memory::mib(64)));
    Machine { cpus: 2, dom0, network: Some(network), memory: Memory::mib(512), ..machine(domains) }
}

/// What a guest says in the background comes behind its prompt, or not.
fn mentions(name: &str, expression: &str) -> Pattern {
    said_by(name, &format!("({name}> )?{expression}"))
}

fn has_address(name: &str, last: &str) -> Pattern {
    mentions(name, &format!(r"network: my address is 10\.0\.2\.{last}"))
}

/// Both guests have their addresses.
fn both_at(alpha: &str, beta: &str) -> Step {
    Step::Expect(vec![said_by("dom0", ".*network: .*"), has_address("alpha", alpha), has_address("beta", beta)])
}

/// Ports of the host that lead to a guest: for HTTP and the echo.
#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    echo: u16,
}

/// Ports of the host for each guest.
fn host_ports() -> [Ports; 2] {
    let [alpha, also_alpha, beta, also_beta] = outside::free_ports();
    [Ports { http: alpha, echo: also_alpha }, Ports { http: beta, echo: also_beta }]
}

fn host_forwards(ports: [Ports; 2]) -> Network {
    let guests = ports.into_iter().zip(ADDRESSES);
    let forwards = guests.flat_map(|(Ports { http, echo }, address)| {
        [(http, 80), (echo, 7)].map(|(host, port)| Forward { host, to: SocketAddrV4::new(address, port) })
    });
    Network { forwards: forwards.collect() }
}

/// The host asks both guests for their page, many times, and has its bytes echoed.
fn host(name: &'static str, load: Load) -> Test {
    let ports = host_ports();
    let machine = behind_dom0(vec![guest("alpha", 1, None), guest("beta", 2, None)], host_forwards(ports));
    let Load { mib, requests, limit } = load;
    let steps = vec![
        both_at("1[56]", "1[56]"),
        Step::check(move |_| {
            let mut pages = Vec::new();
            for Ports { http, .. } in ports {
                for _ in 1..requests {
                    page(http)?;
                }
                pages.push(page(http)?);
            }
            for name in ["alpha", "beta"] {
                let whole = format!("Hello from {name} at 10.0.2.1");
                let count = pages.iter().filter(|page| page.contains(&whole)).count();
                ensure!(count == 1, "{name} is not one of {pages:?}");
            }
            ensure!(pages.iter().all(|page| page.contains(&format!("request {requests}."))), "{pages:?}");
            Ok(())
        }),
        Step::check(move |_| ports.iter().try_for_each(|ports| outside::echo(ports.echo, mib))),
        Step::Type("info\r".to_owned()),
        Step::Expect(vec![said_by(
            "alpha",
            &format!(r"  network +00:16:3e:00:00:01 10\.0\.2\.1\d, {requests} requests"),
        )]),
    ];
    Scenario { limit, ..Scenario::new(machine, steps) }.test(SUITE, name)
}

/// A guest's page.
fn page(port: u16) -> Result<String> {
    let page = outside::page(port, "")?;
    String::from_utf8(page).context("the page is no text")
}

/// Types a line, and waits for what follows it.
fn ask(line: &str, answers: Vec<Pattern>) -> [Step; 2] {
    [Step::Type(format!("{line}\r")), Step::Expect(answers)]
}

/// What `top` shows of a domain that has no disk, and has received and sent.
fn net_rates(name: &str) -> Pattern {
    regex(&format!(r"^{name} .* %( +0){{2}}( +[\d.]+ [KM]/s){{2}}  "))
}

/// Goes from the prompt of dom0 to alpha's. That may have been said long ago, or be spoiled by what alpha said since.
fn at_prompt_of_alpha() -> [Step; 2] {
    [Step::Type("console alpha\r\r".to_owned()), Step::Expect(vec![regex("alpha> ")])]
}

/// What alpha sends to beta comes back whole, also when the back end of beta's device panics at the first of it. Then beta ends in the middle of that and is created again, and alpha too.
fn guests(name: &str, load: Load) -> Test {
    let Load { mib, limit, .. } = load;
    let machine = behind_dom0(vec![guest_at("alpha", 1, None), guest_at("beta", 2, None)], Network::default());
    let stream = |mib: u64| format!("stream 10.0.2.102 {mib}");
    let whole = || mentions("alpha", &format!("stream: {mib} MiB came back whole, .*"));
    let crashed = "ERROR: /local/domain/0/backend/vif/2/0: closed: panicked at dom0/src/.*";
    let beta_is_new = vec![said_by("dom0", r"d3 \(beta\): .*"), has_address("beta", "102")];
    let steps = [
        ask(&stream(mib), vec![whole()]),
        [Step::Type(NEXT.repeat(2)), Step::Expect(vec![said_by("dom0", "keys now go to dom0; .*")])],
        ask("crash beta vif 0", vec![]),
        at_prompt_of_alpha(),
        ask(&stream(mib), vec![said_by("dom0", crashed), mentions("beta", "network: connected again"), whole()]),
        // Far too much, so that it doesn't end before beta does.
        ask(&stream(1 << 10), vec![]),
        [Step::Type(NEXT.repeat(2)), Step::Expect(vec![said_by("dom0", "keys now go to dom0; .*")])],
        ask("top", vec![net_rates("alpha"), net_rates("beta"), regex("^machine: ")]),
        ask("destroy beta", vec![said_by("dom0", r"d2 \(beta\) was destroyed")]),
        ask("create beta", beta_is_new),
        at_prompt_of_alpha(),
        ask("reboot", vec![said_by("dom0", r"d4 \(alpha\): .*"), has_address("alpha", "101")]),
        at_prompt_of_alpha(),
        ask(&stream(mib), vec![whole()]),
    ];
    let steps = [both_at("101", "102")].into_iter().chain(steps.into_iter().flatten()).collect();
    Scenario { limit, ..Scenario::new(machine, steps) }.test(SUITE, name)
}

/// A guest with a rate doesn't send faster than that.
fn rate() -> Test {
    let machine =
        behind_dom0(vec![guest_at("alpha", 1, Some(256 << 10)), guest_at("beta", 2, None)], Network::default());
    let steps = vec![
        both_at("101", "102"),
        Step::Type("stream 10.0.2.102 1\r".to_owned()),
        Step::Expect(vec![mentions("alpha", r"stream: 1 MiB came back whole, (1?\d?\d|2[0-9]\d) KiB/s")]),
    ];
    Scenario::new(machine, steps).test(SUITE, "rate")
}
