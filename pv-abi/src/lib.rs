//! The Xen PV ABI.
#![no_std]
