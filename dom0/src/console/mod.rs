//! The consoles of all domains, and the one screen and keyboard that they share.
//!
//! A domain's console is a ring in its memory ([`Back`]): what it writes there comes to the screen, keys come back to it as long
//! as it is in focus. Ctrl-T moves the focus on: dom0's own prompt is one of the stops.
//!
//! | file | what |
//! |---|---|
//! | `screen` | who says what on the screen, and who is in focus; pure |
//! | `history` | the last lines of each console; pure |
//! | `begun` | lines that are typed for one and not continued in another; pure |
//! | `back` | the back end of a domain's console |
//! | `keyboard` | keys, and whom they are for |
//! | `output` | the live screen, and this domain's own messages on it |

pub mod begun;
pub mod history;
pub mod screen;

#[cfg(target_os = "none")]
mod back;
#[cfg(target_os = "none")]
mod keyboard;
#[cfg(target_os = "none")]
mod output;

#[cfg(target_os = "none")]
pub use {
    back::{Back, Error, Turns},
    keyboard::Keyboard,
    output::{ConsoleIo, init, screen},
};
