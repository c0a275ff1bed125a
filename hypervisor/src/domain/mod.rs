//! Room: domain
#![forbid(unsafe_code)]
