//! The console of a kernel without devices: the hypervisor's own, through `console_io`.
//!
//! Nothing is locked and nothing allocated, so that handlers and the panic path can print too. A line longer than the
//! buffer is written in several calls.

use crate::hypercall;
use core::fmt::{self, Write};

/// Prints to the console, as `std::print!`.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(format_args!($($argument)*)) };
}

/// Prints a line to the console, as `std::println!`.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($argument)*))) };
}

/// Writes formatted text. Errors are dropped: there is nowhere to report them.
pub fn print(text: fmt::Arguments<'_>) {
    let mut out = Buffered { bytes: [0; 128], len: 0 };
    let _ = out.write_fmt(text);
    out.flush();
}

/// Takes one waiting key, if there is one.
pub fn key() -> Option<u8> {
    let mut byte = [0];
    match hypercall::console_read(&mut byte) {
        Ok(1..) => Some(byte[0]),
        _ => None,
    }
}

/// Collects pieces of formatted text, so that most lines are one hypercall and don't mix with other domains' text.
struct Buffered {
    bytes: [u8; 128],
    len: usize,
}

impl Buffered {
    fn flush(&mut self) {
        let _ = hypercall::console_write(&self.bytes[..self.len]);
        self.len = 0;
    }
}

impl Write for Buffered {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.len == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}
