//! The Xen PV ABI for 64-bit x86 guests: numbers, structs, flags, error codes and ring layouts.
//!
//! Both sides of the boundary use this crate: the hypervisor, and the guest kernels that run on it. It follows the
//! public headers of Xen 4.17 (Debian's `libxen-dev`, `/usr/include/xen`); `tests/headers` compares every struct,
//! field and constant with what a C compiler makes of those headers. There is no logic here.
//!
//! # Conventions
//!
//! * Names are the headers' names in Rust's case: `SCHEDOP_block` is [`sched::SCHEDOP_BLOCK`], `struct sched_poll` is
//!   [`sched::SchedPoll`].
//! * A guest pointer (`XEN_GUEST_HANDLE`) is a plain `u64`, a guest virtual address that nobody has checked yet.
//! * A word of flags in a struct is a plain integer, because a guest may set any bit; the `bitflags` type named in its
//!   documentation gives the bits their meaning (`from_bits` refuses unknown ones).
//! * Padding is a visible field whose name starts with `_`, so that no struct has hidden bytes: each one converts to
//!   and from bytes in safe code, and no hypervisor memory can leak through a gap (XSA-122).
//! * Structs too large for `Default` start as `FromZeros::new_zeroed()`.
//! * A C union becomes its widest member, with the other readings in the field's documentation, or a field of bytes
//!   with a struct for each reading.
#![no_std]
#![forbid(unsafe_code)]

/// Asserts a struct's size, and the offsets of the fields named, at compile time.
macro_rules! layout {
    ($ty:ty, $size:literal $(, $field:ident @ $offset:literal)* $(,)?) => {
        const _: () = {
            assert!(size_of::<$ty>() == $size);
            $(assert!(core::mem::offset_of!($ty, $field) == $offset);)*
        };
    };
}

pub mod console;
pub mod cpuid;
pub mod domctl;
pub mod domid;
pub mod elfnote;
pub mod errno;
pub mod event;
pub mod features;
pub mod grant;
pub mod hypercall;
pub mod io;
pub mod memory;
pub mod mmu;
pub mod physdev;
pub mod sched;
pub mod shared_info;
pub mod start_info;
pub mod sysctl;
pub mod trap;
pub mod vcpu;
pub mod version;
