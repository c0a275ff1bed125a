//! Room: mm
#![forbid(unsafe_code)]
