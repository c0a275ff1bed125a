//! Every call against a fake machine: what it does, and what bad input gets.
//!
//! * `fake`, `world`: the platform, and two domains on it. Every step of every call is followed by a recount of all
//!   references (`mm::tests::model`), so no test below needs to say that counts are exact.
//! * `requests`: how arguments of the memory calls are laid out.
//! * A file for each subject: good paths, refusals and their codes.
//! * `scenarios`: calls of every kind, which `restarts` cuts short and `failures` lets fail at every point.
//! * `random`: random memory calls of several vCPUs (property test).
#![allow(clippy::cast_possible_truncation, reason = "tests cut numbers to size that they know")]

mod any;
mod console;
mod debug;
mod descriptors;
mod domctl;
mod event;
mod exchange;
mod failures;
mod fake;
mod grant;
mod guess;
mod memory;
mod mmu;
mod mmuext;
mod multicall;
mod physdev;
mod random;
mod requests;
mod reservation;
mod restarts;
mod scenarios;
mod sched;
mod small;
mod trap;
mod vcpu;
mod world;

use super::*;
use crate::addr::{DomainId, GuestVa, Mfn};
use crate::bounce::Return;
use crate::domain::End;
use crate::emulate::SegmentBase;
use crate::mm::flush::CpuSet;
use crate::mm::perform::Effects;
use crate::mm::state::State;
use fake::BASE;
use world::{World, machine};

const EFAULT: i64 = Errno::EFAULT.code();
const EBUSY: i64 = Errno::EBUSY.code();
const EEXIST: i64 = Errno::EEXIST.code();
const EINVAL: i64 = Errno::EINVAL.code();
const ENOENT: i64 = Errno::ENOENT.code();
const ENOSYS: i64 = Errno::ENOSYS.code();
const EPERM: i64 = Errno::EPERM.code();
const ESRCH: i64 = Errno::ESRCH.code();
