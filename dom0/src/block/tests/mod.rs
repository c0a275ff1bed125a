//! Tests of the back end, with its neighbours as [`world`] has them.
//!
//! * `requests`: what is refused.
//! * `states`: the frontend's states in and out of order.
//! * `honest`: random requests of an honest frontend against a naive disk.
//! * `panics`: the back end panics anywhere; the frontend can connect again, and the neighbour doesn't notice.
//! * `hostile`: anything goes in the rings, the grants and XenStore; the neighbour doesn't notice.
#![allow(clippy::cast_possible_truncation, reason = "tests cut numbers to size that they know")]

mod honest;
mod hostile;
mod panics;
mod requests;
mod states;
mod world;
