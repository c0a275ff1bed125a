//! The test suites behind `./x test`.
//!
//! | suite | what | where |
//! |---|---|---|
//! | `lint` | format and clippy | host |
//! | `host` | unit and property tests of every crate | host |
//! | `boot` | firmware, chipsets, CPU models, memory sizes; damaged archives and kernels | QEMU |
//! | `crash` | a guest that dies in each way, beside a neighbour that lives on | QEMU |
//! | `abi` and others | the self-test's stories, one boot each | QEMU |
//! | `oracle` | the same stories on Debian's Xen, compared | QEMU |
//!
//! The stories and their suites are listed in `guest-kernel/stories.list`, which the guest's self-test and [`stories`]
//! read. A suite is a list of [`Test`](run::Test)s; [`run`] runs them and prints a line for each.
#![forbid(unsafe_code)]

pub mod ending;
pub mod run;
pub mod stories;
pub mod suites;
pub mod tally;
pub mod workshop;
