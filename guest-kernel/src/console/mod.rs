//! The console: text out, keys in.
//!
//! | file | what |
//! |---|---|
//! | `ring` | the ring, both sides of it; pure |
//! | `terminal` | this domain's console |

pub mod ring;

#[cfg(target_os = "none")]
mod terminal;

#[cfg(target_os = "none")]
pub use terminal::{key, print, wait_for_key};

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
