//! Suite `models`: CPUs as Bochs plays them, from the first with x86-64 on. Two domains are greeted, talked to and halted on
//! each; on three, stories of other suites are told. These CPUs lack what their models lack, and fault where QEMU's looks away.

use super::{abi, boot, events, grants, mmu, sched};
use crate::{
    guest::stories,
    pattern::logged,
    scenario::{End, Scenario, Step, domain, machine},
    suite::Test,
    telling::{Shape, judge, tell_on},
};
use anyhow::Result;
use boot_archive::WhenAllStopped;
use xtask::machine::{Domain, Emulator, Machine, Memory};

/// The suite.
const SUITE: &str = "models";

/// A model.
#[derive(Clone, Copy)]
struct Model {
    /// Bochs' name for it.
    name: &'static str,
    /// Exposed to Meltdown, L1TF and MDS.
    exposed: bool,
}

/// Those with x86-64.
const MODELS: [Model; 17] = [
    Model { name: "athlon64_clawhammer", exposed: false },
    Model { name: "athlon64_venice", exposed: false },
    Model { name: "turion64_tyler", exposed: false },
    Model { name: "phenom_8650_toliman", exposed: false },
    Model { name: "zambezi", exposed: false },
    Model { name: "trinity_apu", exposed: false },
    Model { name: "ryzen", exposed: false },
    Model { name: "p4_prescott_celeron_336", exposed: true },
    Model { name: "core2_penryn_t9600", exposed: true },
    Model { name: "corei5_lynnfield_750", exposed: true },
    Model { name: "corei7_sandy_bridge_2600k", exposed: true },
    Model { name: "corei7_ivy_bridge_3770k", exposed: true },
    Model { name: "corei7_haswell_4770", exposed: true },
    Model { name: "corei7_skylake_x", exposed: true },
    Model { name: "corei3_cnl", exposed: true },
    Model { name: "corei7_icelake_u", exposed: false },
    Model { name: "tigerlake", exposed: false },
];

/// The models with IBPB.
const FORGETFUL: [&str; 2] = ["corei7_icelake_u", "tigerlake"];

/// The models that stories are told on: with page-table isolation, of AMD's design, and one that has all we use.
const TOLD_ON: [&str; 3] = ["corei7_skylake_x", "ryzen", "corei7_icelake_u"];

/// What every run tells: traps, system calls, debugging, odd ways back to a guest, and the state of the FPU.
const STORIES: [(&str, Shape); 8] = [
    ("trap-exceptions", Shape::SINGLE),
    ("trap-floating-point", Shape::SINGLE),
    ("mmu-user-system-call", Shape::SINGLE),
    ("mmu-debug-breakpoints", Shape::SINGLE),
    ("attack-odd-return-frames", Shape::SINGLE),
    ("attack-debug-mov-ss", Shape::SINGLE),
    ("attack-gates", Shape::SINGLE),
    ("smp-fpu-avx", Shape::SEVERAL),
];

/// Stories with entries that name a frame but are not present. On CPUs with L1TF these are refused.
const NOT_WITH_L1TF: [&str; 2] = ["mmu-emulated-stores", "mmu-emulated-flags"];

/// The tests; with `full`, all stories of the suites whose stories are told by one domain.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests(full: bool) -> Result<Vec<Test>> {
    let stories = if full { every_story()? } else { STORIES.map(|(story, shape)| (story.to_owned(), shape)).into() };
    let mut tests: Vec<Test> = MODELS.into_iter().map(two_domains).collect();
    for model in MODELS.into_iter().filter(|model| TOLD_ON.contains(&model.name)) {
        let tellable = |story: &str| !model.exposed || !NOT_WITH_L1TF.contains(&story);
        for (story, shape) in stories.iter().filter(|(story, _)| tellable(story)).cloned() {
            tests.push(Test::machine(SUITE, format!("{}-{story}", model.name), move |context| {
                let log = format!("{SUITE}/{}", model.name);
                judge(&story, &tell_on(&on(model.name, machine(Vec::new())), &log, &story, shape, context))
            }));
        }
    }
    Ok(tests)
}

fn every_story() -> Result<Vec<(String, Shape)>> {
    let suites = [
        (abi::SUITE, Shape::SINGLE),
        (mmu::SUITE, Shape::SINGLE),
        (events::SUITE, Shape::SEVERAL),
        (grants::SUITE, Shape::SEVERAL),
        (sched::SUITE, Shape::SEVERAL),
    ];
    let mut all = Vec::new();
    for (suite, shape) in suites {
        all.extend(stories::of_suite(suite)?.into_iter().map(|story| (story, shape)));
    }
    Ok(all)
}

/// The same machine, but with this model and Bochs, which has no exit device.
pub fn on(model: &str, machine: Machine) -> Machine {
    Machine { emulator: Emulator::Bochs, when_all_stopped: WhenAllStopped::PowerOff, cpu: model.to_owned(), ..machine }
}

fn two_domains(model: Model) -> Test {
    const CPUS: u32 = 2;
    let domains = vec![
        Domain { vcpus: 2, ..domain("alpha", "demo", "name=alpha", Memory::mib(48)) },
        domain("beta", "demo", "name=beta", Memory::mib(32)),
    ];
    let machine = Machine { cpus: CPUS, ..on(model.name, machine(domains)) };
    let mut expected = vec![logged(&format!("{CPUS} of {CPUS} CPUs run"))];
    if model.exposed {
        expected.push(logged("cpu: guests run on page tables of their own"));
        expected.push(logged("cpu: buffers are cleared on the way to a guest"));
    }
    if FORGETFUL.contains(&model.name) {
        expected.push(logged("cpu: branch predictors forget when another domain comes"));
    }
    expected.extend(boot::greeting("alpha", 48, 2, "name=alpha"));
    expected.extend(boot::greeting("beta", 32, 1, "name=beta"));
    let steps = [Step::Expect(expected)].into_iter().chain(boot::talk_and_halt(End::PowerOff)).collect();
    Scenario::new(machine, steps).test(SUITE, model.name.to_owned())
}
