//! The live screen, and this domain's own messages on it.

use super::screen::{Output, Screen};
use crate::contain::indivisible;
use alloc::vec::Vec;
use guest_kernel::sync::{Mutex, MutexGuard, Once};
use guest_kernel::{hypercall, println};
use log::{LevelFilter, Log, Metadata, Record};
use pv_abi::errno::Errno;
use pv_abi::event::VIRQ_CONSOLE;

/// Name of this domain on the screen.
const NAME: &str = "dom0";

/// Bytes collected for one call.
const CHUNK: usize = 1024;

/// The hypervisor's console.
#[derive(Default, Debug)]
pub struct ConsoleIo(Vec<u8>);

impl Output for ConsoleIo {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        if self.0.len() >= CHUNK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let _ = hypercall::console_write(&self.0);
        self.0.clear();
    }
}

static SCREEN: Once<Mutex<Screen<ConsoleIo>>> = Once::new();

fn live() -> &'static Mutex<Screen<ConsoleIo>> {
    SCREEN.call_once(|| Mutex::new(Screen::new(ConsoleIo::default(), NAME)))
}

/// The screen. Nobody keeps it for longer than a few writes.
pub fn screen() -> MutexGuard<'static, Screen<ConsoleIo>> {
    live().lock()
}

/// Shows what is logged as this domain's lines.
struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (level, text) = (record.level(), record.args());
        indivisible(|| match live().try_lock() {
            Some(mut screen) if level == log::Level::Info => screen.say(NAME, *text),
            Some(mut screen) => screen.say(NAME, format_args!("{level}: {text}")),
            // Whoever has the screen logs something itself.
            None => println!("({NAME}) {level}: {text}"),
        });
    }

    fn flush(&self) {}
}

/// From now on messages of this level and more important ones are shown, and the hypervisor's console is this domain's: it
/// names no writer any more, and tells by events at the port that it returns that a key was pressed.
///
/// # Errors
/// The hypervisor's.
pub fn init(level: LevelFilter) -> Result<u32, Errno> {
    let keys = hypercall::bind_virq(VIRQ_CONSOLE, 0)?;
    // Fails if it was done before, with the same effect.
    let _ = log::set_logger(&Lines);
    log::set_max_level(level);
    Ok(keys)
}
