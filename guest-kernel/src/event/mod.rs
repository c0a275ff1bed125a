//! Events: ports, their handlers, the upcall that delivers them.
//!
//! A kernel starts with upcalls masked and without a callback. One that wants events calls [`init`], which masks all
//! ports; [`attach`] gives a port its handler and unmasks it, and [`enable`] lets upcalls come. Delivery is 2-level until
//! [`start_fifo`].
//!
//! Handlers run in the upcall, upcalls masked, on the stack of what they interrupt. They take no locks, so they can't
//! allocate, and expect no traps.
//!
//! | file | what |
//! |---|---|
//! | `two_level`, `fifo` | the two ways of delivery; pure |
//! | `delivery` | the way in force, on the live pages |
//! | `handlers` | which function is called for which port |
//! | `upcall` | the entry; masking upcalls |

pub mod fifo;
pub mod two_level;

#[cfg(target_os = "none")]
mod delivery;
#[cfg(target_os = "none")]
mod handlers;
#[cfg(target_os = "none")]
mod upcall;

#[cfg(target_os = "none")]
pub use {
    delivery::{clear_pending, fifo_control, fifo_word, is_masked, is_pending, mask, mask_all, start_fifo, unmask},
    handlers::{Handler, attach, bind_interdomain, bind_ipi, bind_pirq, bind_virq, close, move_to},
    upcall::{callback, disable, enable, init},
};

#[cfg(target_os = "none")]
pub(crate) use upcall::upcall;
