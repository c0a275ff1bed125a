//! Room: time
#![forbid(unsafe_code)]
