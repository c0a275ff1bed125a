//! Room: sched
#![forbid(unsafe_code)]
