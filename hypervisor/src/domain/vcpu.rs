//! A virtual CPU: what the hypervisor keeps for a guest CPU besides its registers.

use alloc::boxed::Box;

use super::shared::VcpuInfo;
use crate::addr::{DomainId, Mfn, VcpuId};
use crate::guest::GuestRegisters;

/// Which of a guest's two address spaces runs. Both run in ring 3; only this flag tells them apart, never a selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The guest kernel: `syscall` is a hypercall.
    Kernel,
    /// A guest user program: `syscall` goes to the guest kernel.
    User,
}

/// A guest's handler for one exception vector, from `set_trap_table`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gate {
    /// The handler; 0 if there is none.
    pub address: u64,
    /// A software interrupt from this ring or a more privileged one may use the gate.
    pub dpl: u8,
    /// Upcalls are masked when the handler starts.
    pub masks_events: bool,
}

/// An entry point from `callback_op` or `set_callbacks`. Address 0: not registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Callback {
    /// Where the guest is entered.
    pub address: u64,
    /// Upcalls are masked on entry.
    pub masks_events: bool,
}

/// The entry points of a guest kernel besides its exception handlers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Callbacks {
    /// Event upcall. Always masks events.
    pub event: Callback,
    /// A segment register couldn't be loaded when the guest was resumed.
    pub failsafe: Callback,
    /// 64-bit `syscall` from user mode.
    pub syscall: Callback,
    /// 32-bit `syscall` from user mode.
    pub syscall32: Callback,
    /// `sysenter` from user mode.
    pub sysenter: Callback,
}

/// Registers that a guest can't have for itself: what it believes they hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// CR0.TS: the next use of the FPU is to trap.
    pub task_switched: bool,
    /// CR4, as [`Control::NEW`] plus what the guest set.
    pub cr4: u64,
    /// The I/O privilege level that `physdev_op(set_iopl)` granted.
    pub iopl: u8,
    /// XCR0: register sets that XSAVE manages.
    pub xcr0: u64,
    /// IA32_TSC_AUX, what RDTSCP returns in ECX.
    pub tsc_aux: u32,
    /// DR0 to DR3, DR6, DR7 at their numbers; 4 and 5 are not used.
    pub debug: [u64; 8],
}

impl Control {
    /// What a vCPU starts with. CR4: PAE, MCE, OSFXSR, OSXMMEXCPT; DR6 and DR7 as after a reset.
    pub const NEW: Control = Control {
        task_switched: false,
        cr4: 0x660,
        iopl: 0,
        xcr0: 3,
        tsc_aux: 0,
        debug: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
    };
}

/// The state of a vCPU. Exactly one place owns it at a time: the CPU that runs it, or a run queue.
pub struct Vcpu {
    /// The domain it belongs to.
    pub domain: DomainId,
    /// Its number in the domain.
    pub id: VcpuId,
    /// Its registers while it does not run; while it runs they are on its CPU's stack.
    pub regs: GuestRegisters,
    /// Kernel or user.
    pub mode: Mode,
    /// Exception handlers by vector.
    pub gates: Box<[Gate; 256]>,
    /// Other entry points.
    pub callbacks: Callbacks,
    /// The stack that a trap from user mode starts on (`stack_switch`).
    pub kernel_sp: u64,
    /// Top-level page table of kernel mode.
    pub kernel_root: Mfn,
    /// Top-level page table of user mode, once there is one.
    pub user_root: Option<Mfn>,
    /// What `vm_assist` switched on: a bit per `VMASST_TYPE_*`.
    pub assists: u64,
    /// Control registers and the like, as the guest sees them.
    pub control: Control,
    /// Its part of the shared-info page.
    pub info: &'static VcpuInfo,
}

impl Vcpu {
    /// The top-level page table that goes with the mode.
    pub fn root(&self) -> Mfn {
        match (self.mode, self.user_root) {
            (Mode::User, Some(root)) => root,
            _ => self.kernel_root,
        }
    }
}
