//! `vcpu_op`: bringing vCPUs up, their timers and the records they share with the hypervisor.
//! Headers: `vcpu.h`, `arch-x86/xen.h`, `arch-x86/xen-x86_64.h`.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::trap::TrapInfo;

/// Gives a vCPU its first state: [`VcpuGuestContext`].
pub const VCPUOP_INITIALISE: u32 = 0;
/// Starts a vCPU. No argument.
pub const VCPUOP_UP: u32 = 1;
/// Stops a vCPU. No argument.
pub const VCPUOP_DOWN: u32 = 2;
/// Returns 1 if the vCPU runs, 0 if it is down, `ENOENT` if there is none. No argument.
pub const VCPUOP_IS_UP: u32 = 3;
/// Fills [`VcpuRunstateInfo`].
pub const VCPUOP_GET_RUNSTATE_INFO: u32 = 4;
/// Names a place to keep the run state at: [`VcpuRegisterMemoryArea`].
pub const VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: u32 = 5;
/// Starts the periodic timer: [`VcpuSetPeriodicTimer`].
pub const VCPUOP_SET_PERIODIC_TIMER: u32 = 6;
/// Stops the periodic timer. No argument.
pub const VCPUOP_STOP_PERIODIC_TIMER: u32 = 7;
/// Starts the one-shot timer: [`VcpuSetSingleshotTimer`].
pub const VCPUOP_SET_SINGLESHOT_TIMER: u32 = 8;
/// Stops the one-shot timer. No argument.
pub const VCPUOP_STOP_SINGLESHOT_TIMER: u32 = 9;
/// Moves the vCPU's `vcpu_info` out of the shared page: [`VcpuRegisterVcpuInfo`].
pub const VCPUOP_REGISTER_VCPU_INFO: u32 = 10;
/// Sends a non-maskable interrupt. No argument.
pub const VCPUOP_SEND_NMI: u32 = 11;
/// Returns the physical CPU's identifiers, if the vCPU is tied to one.
pub const VCPUOP_GET_PHYSID: u32 = 12;
/// Names a place to keep a second copy of the time record at: [`VcpuRegisterMemoryArea`].
pub const VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: u32 = 13;

/// The vCPU is on a physical CPU.
pub const RUNSTATE_RUNNING: u32 = 0;
/// The vCPU waits for a physical CPU.
pub const RUNSTATE_RUNNABLE: u32 = 1;
/// The vCPU sleeps.
pub const RUNSTATE_BLOCKED: u32 = 2;
/// The vCPU is down or paused.
pub const RUNSTATE_OFFLINE: u32 = 3;
/// In [`VcpuRunstateInfo::state_entry_time`]: the record is being written.
pub const XEN_RUNSTATE_UPDATE: u64 = 1 << 63;

bitflags! {
    /// In [`VcpuGuestContext::flags`], and one of them in [`IretContext::flags`](crate::trap::IretContext::flags).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VcpuContextFlags: u64 {
        /// [`VcpuGuestContext::fpu_ctxt`] is filled in.
        const I387_VALID = 1 << 0;
        /// Start in kernel mode.
        const IN_KERNEL = 1 << 2;
        /// The failsafe callback masks upcalls.
        const FAILSAFE_DISABLES_EVENTS = 1 << 3;
        /// The syscall callback masks upcalls.
        const SYSCALL_DISABLES_EVENTS = 1 << 4;
        /// The vCPU is up.
        const ONLINE = 1 << 5;
        /// The return is from a system call: `rcx` and `r11` may be lost.
        const IN_SYSCALL = 1 << 8;
    }

    /// In [`VcpuSetSingleshotTimer::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SingleshotFlags: u32 {
        /// Fail with `ETIME` if the time has passed.
        const FUTURE = 1 << 0;
    }
}

/// A vCPU's registers: `struct cpu_user_regs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct CpuUserRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub error_code: u32,
    pub entry_vector: u32,
    pub rip: u64,
    pub cs: u16,
    pub _pad0: u16,
    pub saved_upcall_mask: u8,
    pub _pad1: [u8; 3],
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u16,
    pub _pad2: [u16; 3],
    pub es: u16,
    pub _pad3: [u16; 3],
    pub ds: u16,
    pub _pad4: [u16; 3],
    pub fs: u16,
    pub _pad5: [u16; 3],
    pub gs: u16,
    pub _pad6: [u16; 3],
}
layout!(CpuUserRegs, 200, rax @ 0x50, error_code @ 0x78, rip @ 0x80, cs @ 0x88, rflags @ 0x90, ss @ 0xa0, gs @ 0xc0);

/// The state a vCPU starts with: `struct vcpu_guest_context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuGuestContext {
    /// FPU registers, in the format of `fxsave`.
    pub fpu_ctxt: [u8; 512],
    /// [`VcpuContextFlags`].
    pub flags: u64,
    /// General registers.
    pub user_regs: CpuUserRegs,
    /// The trap table, indexed by vector.
    pub trap_ctxt: [TrapInfo; 256],
    /// Guest address of the LDT.
    pub ldt_base: u64,
    /// Entries in the LDT.
    pub ldt_ents: u64,
    /// Machine frames of the GDT. Only the first [`FIRST_RESERVED_GDT_PAGE`](crate::trap::FIRST_RESERVED_GDT_PAGE)
    /// can be the guest's.
    pub gdt_frames: [u64; 16],
    /// Entries in the GDT.
    pub gdt_ents: u64,
    /// Stack selector for entries from user mode.
    pub kernel_ss: u64,
    /// Stack pointer for entries from user mode.
    pub kernel_sp: u64,
    /// Control registers. 3 holds the kernel's L4 table, 1 the user's, both as `mfn << 12`.
    pub ctrlreg: [u64; 8],
    /// Debug registers.
    pub debugreg: [u64; 8],
    /// Guest address of the event callback.
    pub event_callback_eip: u64,
    /// Guest address of the failsafe callback.
    pub failsafe_callback_eip: u64,
    /// Guest address of the syscall callback.
    pub syscall_callback_eip: u64,
    /// `VMASST_TYPE_*` bits in use.
    pub vm_assist: u64,
    /// Base of FS.
    pub fs_base: u64,
    /// Base of the kernel's GS.
    pub gs_base_kernel: u64,
    /// Base of the user's GS.
    pub gs_base_user: u64,
}
layout!(
    VcpuGuestContext, 5168,
    flags @ 0x200, user_regs @ 0x208, trap_ctxt @ 0x2d0, ldt_base @ 0x12d0, gdt_frames @ 0x12e0, gdt_ents @ 0x1360,
    kernel_ss @ 0x1368, ctrlreg @ 0x1378, debugreg @ 0x13b8, event_callback_eip @ 0x13f8, vm_assist @ 0x1410,
    gs_base_user @ 0x1428,
);

/// How long a vCPU has been in each run state: `struct vcpu_runstate_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuRunstateInfo {
    /// The present `RUNSTATE_*`; an `int` in the header.
    pub state: u32,
    /// Padding.
    pub _pad: u32,
    /// System time at which it was entered, and [`XEN_RUNSTATE_UPDATE`].
    pub state_entry_time: u64,
    /// Nanoseconds spent in each state.
    pub time: [u64; 4],
}
layout!(VcpuRunstateInfo, 48, state_entry_time @ 8, time @ 16);

/// Argument of both `register_*_memory_area` operations: `struct vcpu_register_runstate_memory_area` and
/// `struct vcpu_register_time_memory_area`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuRegisterMemoryArea {
    /// Guest address of the record, in the kernel's address space.
    pub addr: u64,
}
layout!(VcpuRegisterMemoryArea, 8);

/// Argument of [`VCPUOP_SET_PERIODIC_TIMER`]: `struct vcpu_set_periodic_timer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuSetPeriodicTimer {
    /// Nanoseconds between ticks.
    pub period_ns: u64,
}
layout!(VcpuSetPeriodicTimer, 8);

/// Argument of [`VCPUOP_SET_SINGLESHOT_TIMER`]: `struct vcpu_set_singleshot_timer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuSetSingleshotTimer {
    /// System time at which to fire, in nanoseconds.
    pub timeout_abs_ns: u64,
    /// [`SingleshotFlags`].
    pub flags: u32,
    /// Padding.
    pub _pad: u32,
}
layout!(VcpuSetSingleshotTimer, 16);

/// Argument of [`VCPUOP_REGISTER_VCPU_INFO`]: `struct vcpu_register_vcpu_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuRegisterVcpuInfo {
    /// Machine frame of the new place.
    pub mfn: u64,
    /// Bytes into the frame. The record must not cross the end of the frame.
    pub offset: u32,
    /// Unused.
    pub _rsvd: u32,
}
layout!(VcpuRegisterVcpuInfo, 16);
