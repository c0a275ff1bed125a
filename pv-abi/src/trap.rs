//! How the hypervisor enters a guest kernel and how the kernel returns: trap table, callbacks, segments, `iret`,
//! `vm_assist`. Headers: `arch-x86/xen.h`, `arch-x86/xen-x86_64.h`, `callback.h`, `xen.h`.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// 32-bit code, in the hypervisor's part of every GDT.
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// 64-bit code, in the hypervisor's part of every GDT. Guest kernels are entered with it.
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// 32-bit data, in the hypervisor's part of every GDT.
pub const FLAT_RING3_DS32: u16 = 0xe02b;
/// 64-bit data: the null selector.
pub const FLAT_RING3_DS64: u16 = 0;
/// 32-bit stack: the same as [`FLAT_RING3_DS32`].
pub const FLAT_RING3_SS32: u16 = 0xe02b;
/// 64-bit stack. Guest kernels are entered with it.
pub const FLAT_RING3_SS64: u16 = 0xe02b;
/// The kernel's 64-bit code: the same as the user's.
pub const FLAT_KERNEL_CS: u16 = FLAT_RING3_CS64;
/// The kernel's 64-bit stack.
pub const FLAT_KERNEL_SS: u16 = FLAT_RING3_SS64;
/// The user's 64-bit code.
pub const FLAT_USER_CS: u16 = FLAT_RING3_CS64;
/// The user's 64-bit stack.
pub const FLAT_USER_SS: u16 = FLAT_RING3_SS64;

/// The first page of the GDT that belongs to the hypervisor.
pub const FIRST_RESERVED_GDT_PAGE: u32 = 14;
/// The first byte of the GDT that belongs to the hypervisor.
pub const FIRST_RESERVED_GDT_BYTE: u32 = FIRST_RESERVED_GDT_PAGE * 4096;
/// The first entry of the GDT that belongs to the hypervisor.
pub const FIRST_RESERVED_GDT_ENTRY: u32 = FIRST_RESERVED_GDT_BYTE / 8;

/// `set_segment_base`: FS.
pub const SEGBASE_FS: u32 = 0;
/// `set_segment_base`: the user's GS.
pub const SEGBASE_GS_USER: u32 = 1;
/// `set_segment_base`: the kernel's GS.
pub const SEGBASE_GS_KERNEL: u32 = 2;
/// `set_segment_base`: load the argument as a selector into the user's GS.
pub const SEGBASE_GS_USER_SEL: u32 = 3;

/// In [`TrapInfo::flags`]: the least privileged ring that may raise the vector with a software interrupt.
pub const TI_DPL_MASK: u8 = 3;
/// In [`TrapInfo::flags`]: mask event upcalls on entry.
pub const TI_MASK_EVENTS: u8 = 1 << 2;

/// One handler of the trap table: `struct trap_info`. A table ends with an entry whose address is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TrapInfo {
    /// The vector.
    pub vector: u8,
    /// [`TI_DPL_MASK`] and [`TI_MASK_EVENTS`].
    pub flags: u8,
    /// The handler's code selector.
    pub cs: u16,
    /// Padding.
    pub _pad: u32,
    /// Guest address of the handler.
    pub address: u64,
}
layout!(TrapInfo, 16, flags @ 1, cs @ 2, address @ 8);

/// Registers a callback: [`CallbackRegister`].
pub const CALLBACKOP_REGISTER: u32 = 0;
/// Removes a callback: [`CallbackUnregister`].
pub const CALLBACKOP_UNREGISTER: u32 = 1;

/// An event is pending.
pub const CALLBACKTYPE_EVENT: u16 = 0;
/// A segment register could not be reloaded on return to the guest.
pub const CALLBACKTYPE_FAILSAFE: u16 = 1;
/// `syscall` from 64-bit user mode.
pub const CALLBACKTYPE_SYSCALL: u16 = 2;
/// `sysenter`, by its first number, which 64-bit guests never used.
pub const CALLBACKTYPE_SYSENTER_DEPRECATED: u16 = 3;
/// A non-maskable interrupt.
pub const CALLBACKTYPE_NMI: u16 = 4;
/// `sysenter` from 32-bit user mode.
pub const CALLBACKTYPE_SYSENTER: u16 = 5;
/// `syscall` from 32-bit user mode.
pub const CALLBACKTYPE_SYSCALL32: u16 = 7;

bitflags! {
    /// In [`CallbackRegister::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CallbackFlags: u16 {
        /// Mask event upcalls on entry.
        const MASK_EVENTS = 1 << 0;
    }
}

/// Argument of [`CALLBACKOP_REGISTER`]: `struct callback_register`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CallbackRegister {
    /// A `CALLBACKTYPE_*`; the header's field is `type`.
    pub kind: u16,
    /// [`CallbackFlags`].
    pub flags: u16,
    /// Padding.
    pub _pad: u32,
    /// Guest address of the callback.
    pub address: u64,
}
layout!(CallbackRegister, 16, flags @ 2, address @ 8);

/// Argument of [`CALLBACKOP_UNREGISTER`]: `struct callback_unregister`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CallbackUnregister {
    /// A `CALLBACKTYPE_*`; the header's field is `type`.
    pub kind: u16,
    /// Unused.
    pub _unused: u16,
}
layout!(CallbackUnregister, 4);

/// What the `iret` hypercall finds at the guest's stack pointer: `struct iret_context`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IretContext {
    /// To be restored.
    pub rax: u64,
    /// To be restored, unless [`IretContext::flags`] says otherwise.
    pub r11: u64,
    /// To be restored, unless [`IretContext::flags`] says otherwise.
    pub rcx: u64,
    /// [`VcpuContextFlags`](crate::vcpu::VcpuContextFlags): with `IN_SYSCALL`, `rcx` and `r11` need not be restored.
    pub flags: u64,
    /// Where to go on.
    pub rip: u64,
    /// The code selector. Its privilege level says whether to go to user mode (3) or stay in the kernel.
    pub cs: u64,
    /// The flags. IF stands for the upcall mask: set means unmasked.
    pub rflags: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The stack selector.
    pub ss: u64,
}
layout!(IretContext, 72, flags @ 24, rip @ 32, ss @ 64);

/// `vm_assist`: switches a behaviour on.
pub const VMASST_CMD_ENABLE: u32 = 0;
/// `vm_assist`: switches a behaviour off.
pub const VMASST_CMD_DISABLE: u32 = 1;
/// 32-bit guests: emulate segments that reach the top of the address space.
pub const VMASST_TYPE_4GB_SEGMENTS: u32 = 0;
/// 32-bit guests: report each such emulation.
pub const VMASST_TYPE_4GB_SEGMENTS_NOTIFY: u32 = 1;
/// Plain stores to page tables are emulated.
pub const VMASST_TYPE_WRITABLE_PAGETABLES: u32 = 2;
/// 32-bit guests: CR3 may lie above 4 GiB.
pub const VMASST_TYPE_PAE_EXTENDED_CR3: u32 = 3;
/// The guest kernel's I/O privilege level behaves as on bare hardware.
pub const VMASST_TYPE_ARCHITECTURAL_IOPL: u32 = 4;
/// Updates of the registered run-state area are marked while under way.
pub const VMASST_TYPE_RUNSTATE_UPDATE_FLAG: u32 = 5;
/// User mode can't read the machine-to-physical table.
pub const VMASST_TYPE_M2P_STRICT: u32 = 32;
