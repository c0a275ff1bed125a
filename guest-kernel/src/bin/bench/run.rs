//! Does the rows that the command line names, and reports.

use crate::meter::{self, Effort};
use crate::partner;
use crate::reflector;
use crate::rows::ROWS;
use guest_kernel::start::command_line;
use guest_kernel::verdict::{Outcome, Verdict};
use guest_kernel::{StartInfo, cmdline, console, entry, event, exit, hypercall, println, time};

entry!(main);

fn main(_info: &'static StartInfo) -> ! {
    event::init().expect("rows need events");
    partner::serve();
    reflector::reflect();
    idle();
    let ticks = meter::ticks_per_1000_instructions();
    if option("time").is_none() && !(1000..=1001).contains(&ticks) {
        finish(Outcome::Fail, "the TSC doesn't count instructions: start QEMU with -icount shift=0");
    }
    if partner::connect().is_err() {
        finish(Outcome::Fail, "the partner doesn't come up");
    }
    if option("wait").is_some() {
        println!("bench: ready");
        while console::key().is_none() {
            let _ = hypercall::yield_now();
        }
    }
    let effort = Effort::from_command_line();
    let chosen = |name: &str, value: &str| option(name).is_none_or(|wanted| wanted == value);
    for row in ROWS.iter().filter(|row| chosen("group", row.group) && chosen("row", row.name)) {
        match (row.measure)(effort) {
            Ok(figure) => {
                println!("bench: {} {} {} {}", row.group, row.name, figure.instructions, figure.operations);
            }
            Err(errno) => println!("bench: {} {} refused {errno:?}", row.group, row.name),
        }
    }
    finish(Outcome::Pass, "")
}

/// Sleeps for good, if the command line says so.
fn idle() {
    let Some(milliseconds) = option("idle").and_then(|text| text.parse::<u64>().ok()) else { return };
    println!("bench: asleep");
    loop {
        match milliseconds {
            0 => _ = hypercall::block(),
            milliseconds => time::sleep(milliseconds * 1_000_000),
        }
    }
}

/// What the command line says of `name`.
pub fn option(name: &str) -> Option<&'static str> {
    cmdline::option(command_line(), name)
}

fn finish(outcome: Outcome, text: &str) -> ! {
    partner::end();
    exit::finish(&Verdict { story: "bench", outcome, text })
}
