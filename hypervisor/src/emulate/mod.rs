//! Room: emulate
#![forbid(unsafe_code)]
