//! The boot archive.
#![no_std]
