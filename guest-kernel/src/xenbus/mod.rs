//! Split devices: how frontend and backend find each other, and follow each other's state, through XenStore. Pure, over
//! any [`Bus`](crate::store::Bus).
//!
//! Each end has a directory with a node `state`, and a node that names the other end's directory. An end writes its own
//! state and watches the other's. Whoever writes the other's directory may write anything, at any time, or nothing.
//!
//! | file | what |
//! |---|---|
//! | `state` | the states, and what a backend does next |
//! | `device` | an end's directory, and the other's |

mod device;
mod state;

pub use device::{Device, devices};
pub use state::{Step, XenbusState, next_of_backend};
