//! The `log` crate's output: `[    0.012345] cpu0 INFO  text`.

use core::fmt::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};
use spin::Once;

use super::{PORT, Port};
use crate::arch::time;

struct Logger;

static LOGGER: Logger = Logger;

/// How a line learns which CPU prints it.
static CPU_SOURCE: Once<fn() -> u32> = Once::new();

/// Opens the port and makes it the log's output. Called once, first of all.
pub fn init() {
    PORT.lock().open();
    // Fails only when called twice; then the log is in place already.
    let _ = log::set_logger(&LOGGER);
    set_level(LevelFilter::Info);
}

/// Prints only what is at most as detailed as `level`.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// Names the function that gives the running CPU's number. Until then all lines say `cpu0`, which is true.
pub fn set_cpu_source(source: fn() -> u32) {
    CPU_SOURCE.call_once(|| source);
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let nanoseconds = time::now();
        let (seconds, micros) = (nanoseconds / 1_000_000_000, nanoseconds / 1000 % 1_000_000);
        let cpu = CPU_SOURCE.get().map_or(0, |source| source());
        let mut port = PORT.lock();
        port.fresh_line();
        // A port that takes no bytes is given up for good; there is nobody to tell.
        let _ =
            writeln!(Lines(&mut port), "[{seconds:5}.{micros:06}] cpu{cpu} {:<5} {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

struct Lines<'a>(&'a mut Port);

impl fmt::Write for Lines<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        self.0.log.write(text.as_bytes());
        Ok(())
    }
}
