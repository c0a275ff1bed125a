//! Picks the story and reports how it ended.

use crate::check::Ending;
use crate::table::STORIES;
use alloc::string::String;
use guest_kernel::start::command_line;
use guest_kernel::verdict::{Outcome, Verdict};
use guest_kernel::{StartInfo, cmdline, console, entry, exit, hypercall};

entry!(main);

fn main(_info: &'static StartInfo) -> ! {
    let story = cmdline::option(command_line(), "story").unwrap_or("none");
    if cmdline::option(command_line(), "start") == Some("key") {
        wait_for_key();
    }
    let (outcome, text) = match STORIES.iter().find(|known| known.name == story) {
        Some(known) => match (known.tell)() {
            Ok(()) => (Outcome::Pass, String::new()),
            Err(Ending::Fail(text)) => (Outcome::Fail, text),
            Err(Ending::Skip(text)) => (Outcome::Skip, text),
        },
        None => (Outcome::Fail, String::from("there is no such story")),
    };
    exit::finish(&Verdict { story, outcome, text: &text })
}

/// For stories that must not begin before another domain is ready.
fn wait_for_key() {
    while console::key().is_none() {
        let _ = hypercall::yield_now();
    }
}
