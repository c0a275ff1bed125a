//! What takes minutes, or needs a host with much memory: `./x test linux --full`.

use super::four::{self, LINUX, TRAFFIC, keys};
use super::{
    COMPLAINTS, DOM0_PROMPT, Guest, NAME, NEIGHBOUR, SECONDS, SECONDS_LONG, STRESS, SUITE, as_much_is_free, ask, free,
    next, off, poweroff, reboot, root, shell, stress, test, told_by,
};
use crate::{
    context::log_file,
    pattern::said_by,
    scenario::{End, Step},
    suite::{Ending, Test},
};
use boot_archive::Xpti;
use std::time::Duration;
use xtask::{
    build, debian,
    initramfs::Extra,
    machine::{DOM0, Memory},
};

/// The time that a machine has.
const LIMIT: Duration = Duration::from_secs(3600);
/// Boots in a row.
const BOOTS: u32 = 20;
/// Changes of a guest's memory while it is at work.
const CHANGES: u32 = 10;
/// What the guests have then, in KiB, and how little the first of them is left.
const WHOLE: u64 = 384 << 10;
const LITTLE: u64 = 256 << 10;

/// CPUs of Bochs', old and new: of AMD's, and of Intel's, which are exposed to Meltdown and L1TF, as Linux then knows.
const MODELS: [&str; 6] =
    ["athlon64_clawhammer", "zambezi", "ryzen", "p4_prescott_celeron_336", "corei7_haswell_4770", "corei7_skylake_x"];

/// The kernel that hangs by itself; `docs/linux.md` says why.
const REALTIME: &str = "rt-amd64";

/// All of it.
pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        test("large", LIMIT, Guest { memory: Memory::gib(8), ..Guest::SMALL }, |guest| {
            [shell(guest), poweroff(End::Clean)].concat()
        }),
        test("stress-long", LIMIT, Guest { vcpus: 4, stress: true, ..Guest::SMALL }, |guest| {
            stress(guest, SECONDS_LONG)
        }),
        test("boots", LIMIT, Guest { vcpus: 2, ..Guest::SMALL }, boots),
        test("isolated", LIMIT, Guest { vcpus: 2, stress: true, xpti: Xpti::On, ..Guest::SMALL }, |guest| {
            stress(guest, SECONDS)
        }),
        two(),
    ];
    tests.extend(MODELS.map(|model| {
        test(&format!("on-{model}"), LIMIT, Guest { model: Some(model), ..Guest::SMALL }, |guest| {
            [shell(guest), poweroff(End::PowerOff)].concat()
        })
    }));
    let others = debian::KERNELS.into_iter().filter(|kernel| ![Guest::SMALL.kernel, REALTIME].contains(kernel));
    tests.extend(others.map(|kernel| {
        test(kernel, LIMIT, Guest { kernel, vcpus: 2, ..Guest::SMALL }, |guest| {
            [shell(guest), poweroff(End::Clean)].concat()
        })
    }));
    tests.push(Test::host(SUITE, REALTIME, |_| {
        Ok(Ending::Skipped("it hangs by a mistake of its own, on Xen too: docs/linux.md".to_owned()))
    }));
    tests.push(root::test());
    tests
}

/// It boots many times, and leaves no more memory taken than after the first time.
fn boots(guest: Guest) -> Vec<Step> {
    let mut steps = [shell(guest), off(NAME, 1).to_vec()].concat();
    let again = [
        next(NEIGHBOUR),
        next(DOM0),
        free(),
        ask(&format!("create {NAME}"), vec![said_by(DOM0, &format!(r"d3 \({NAME}\): .*"))]),
        ask(&format!("console {NAME}"), vec![super::PROMPT.into()]),
    ];
    steps.extend(again.concat());
    steps.extend((3..3 + BOOTS).flat_map(|number| reboot(guest, number, number + 1)));
    steps.extend(off(NAME, 3 + BOOTS));
    steps.extend([next(NEIGHBOUR), next(DOM0), free()].concat());
    steps.push(Step::check(as_much_is_free));
    steps
}

/// Two Debian guests at work for minutes in everything that they can do, beside two Rust guests. One of them has to give
/// memory back and gets it again, many times. Then they go, come again, and go again, one of them while it has little.
fn two() -> Test {
    let log = log_file(&format!("{SUITE}/two"));
    Test::machine(SUITE, "two".to_owned(), move |context| {
        if let Some(skipped) = Guest::SMALL.is_missing() {
            return Ok(skipped);
        }
        let (mut machine, _) = four::machine()?;
        machine.memory = Memory::gib(2);
        for domain in machine.domains.iter_mut().filter(|domain| LINUX.contains(&domain.name.as_str())) {
            domain.memory = Memory::mib(WHOLE >> 10);
            let program = Extra { to: format!("bin/{STRESS}"), from: build::linux_program(STRESS)? };
            four::extras(domain)?.push(program);
        }
        four::play(context, &machine, &log, LIMIT, |take| {
            take(four::start())?;
            take(work(SECONDS_LONG))?;
            take(changes())?;
            take(results())?;
            take(again())
        })?;
        Ok(Ending::Passed)
    })
}

/// Both work in the background. dom0 has the keys then.
fn work(seconds: u32) -> Vec<Step> {
    let [apple, birch] = LINUX;
    let line = format!(
        "( ({STRESS} {seconds} & {TRAFFIC} {seconds} {} && wait $!); echo result $? >/tmp/result) >/tmp/log 2>&1 &",
        four::PEER
    );
    let begin = |name| told_by(name, &format!("{line} echo begun"), "begun").to_vec();
    let steps = [
        begin(apple),
        keys(apple, birch),
        begin(birch),
        keys(birch, "dune"),
        vec![Step::Type("stream 10.0.2.15 8\r".to_owned())],
        keys("dune", DOM0),
    ];
    steps.concat()
}

/// The first gives memory back and takes it again in the middle of its work.
fn changes() -> Vec<Step> {
    let change = |number| four::resize(LINUX[0], if number % 2 == 0 { LITTLE } else { WHOLE });
    (0..CHANGES).flat_map(change).collect()
}

/// Both succeed, without a complaint of their kernels. dom0 has the keys.
fn results() -> Vec<Step> {
    let [apple, birch] = LINUX;
    let result = |name| {
        let wait = "until [ -e /tmp/result ]; do sleep 1; done; cat /tmp/log /tmp/result";
        let complaints = told_by(name, &format!("dmesg | grep -cE '{COMPLAINTS}'"), "0");
        [told_by(name, wait, "result 0"), complaints].concat()
    };
    [keys(DOM0, apple), result(apple), keys(apple, birch), result(birch)].concat()
}

/// They leave as much memory free the second time as the first. The second guest has the keys before; when one ends, dom0
/// has them.
fn again() -> Vec<Step> {
    let [apple, birch] = LINUX;
    let create = |name: &str, number: u32| {
        ask(&format!("create {name}"), vec![said_by(DOM0, &format!(r"d{number} \({name}\): .*")), DOM0_PROMPT.into()])
    };
    // It reads what is typed for it when it has started.
    let prompt = |name: &str| {
        [Step::Type(format!("console {name}\r"))].into_iter().chain(told_by(name, "nproc", "2")).collect::<Vec<_>>()
    };
    let steps = [
        off(birch, 2).to_vec(),
        next(apple).to_vec(),
        off(apple, 1).to_vec(),
        [next("copper"), next("dune"), next(DOM0)].concat(),
        free().to_vec(),
        [create(apple, 5), create(birch, 6)].concat(),
        prompt(apple),
        keys(apple, DOM0),
        four::resize(apple, LITTLE),
        prompt(birch),
        off(birch, 6).to_vec(),
        next(apple).to_vec(),
        off(apple, 5).to_vec(),
        [next("copper"), next("dune"), next(DOM0)].concat(),
        free().to_vec(),
        vec![Step::check(as_much_is_free)],
    ];
    steps.concat()
}
