//! A virtual CPU: what the hypervisor keeps for a guest CPU besides its registers.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::boxed::Box;
use alloc::sync::Arc;
use arrayvec::ArrayVec;

use super::link::VcpuLink;
use super::shared::VcpuInfo;
use super::timers::Timers;
use crate::addr::{CpuId, DomainId, GuestVa, Mfn, PAGE_SHIFT, PAGE_SIZE, VcpuId};
use crate::emulate::table_store::known::KnownStores;
use crate::guest::GuestRegisters;
use crate::mm::pending::Pending;
use crate::mm::root::Roots;

pub use crate::mm::root::Mode;

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

/// Descriptors in a page, of 8 bytes each.
pub const DESCRIPTORS_PER_PAGE: u32 = 1 << (PAGE_SHIFT - 3);
/// Pages at the start of the GDT that are the guest's.
pub const GDT_PAGES: usize = 14;
/// Most pages of an LDT.
pub const LDT_PAGES: usize = 16;

/// The guest's part of the GDT: the frames of its pages from the first on, each held as a descriptor page.
pub type Gdt = ArrayVec<Mfn, GDT_PAGES>;

/// A guest's LDT. Its pages are looked up in the guest's page tables and held when the CPU first reads a descriptor there.
#[derive(Clone, Debug, Default)]
pub struct Ldt {
    /// Where the guest has it; page-aligned. `None`: there is no LDT.
    pub base: Option<GuestVa>,
    /// Descriptors in it, 1 to 8192.
    pub entries: u32,
    /// Frames of the pages that were read so far, each held as a descriptor page. None without descriptors.
    pub pages: [Option<Mfn>; LDT_PAGES],
}

impl Ldt {
    /// Most descriptors.
    const MAX_ENTRIES: u32 = 8192;

    /// Where an LDT of so many entries can be.
    pub fn base_of(address: u64, entries: u32) -> Option<GuestVa> {
        let fits = address.is_multiple_of(PAGE_SIZE as u64) && entries <= Ldt::MAX_ENTRIES;
        GuestVa::new(address).and_then(|base| base.span(8 * u64::from(entries))).filter(|_| fits)
    }
}

/// The ports that guest user mode may reach: a bit per port, 0 for those it may.
#[derive(Clone, Copy, Debug, Default)]
pub struct IoBitmap {
    /// Where the guest kernel keeps it; read at each access.
    pub address: u64,
    /// Ports in it; those above may not be reached.
    pub ports: u32,
}

/// What `vm_assist` switched on for a domain: a bit per `VMASST_TYPE_*`.
#[derive(Default, Debug)]
pub struct Assists(AtomicU64);

impl Assists {
    /// Is this one on?
    #[inline]
    pub fn has(&self, kind: u32) -> bool {
        self.0.load(Ordering::Relaxed) >> kind & 1 != 0
    }

    /// Switches one on or off; `kind` is below 64.
    pub fn set(&self, kind: u32, on: bool) {
        let bit = 1 << kind;
        if on {
            self.0.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

/// The state of a vCPU. Exactly one place owns it at a time: the CPU that runs it, a run queue, its domain's list of those
/// that may not run, or a hypercall that took it from one of these to work on it.
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
    /// The top-level page tables of both modes.
    pub roots: Roots,
    /// Work on page tables that it has begun and not finished.
    pub pending: Pending,
    /// Its part of the GDT.
    pub gdt: Gdt,
    /// Its LDT.
    pub ldt: Ldt,
    /// What `vm_assist` switched on for its domain.
    pub assists: Arc<Assists>,
    /// Control registers and the like, as the guest sees them.
    pub control: Control,
    /// The ports of its user mode.
    pub io_bitmap: IoBitmap,
    /// Stores to page tables that were decoded for it.
    pub stores: KnownStores,
    /// The latest page fault that the guest was not told of: RIP and address.
    pub absorbed_fault: Option<(u64, u64)>,
    /// Its timers.
    pub timers: Timers,
    /// It handles an NMI, until it returns with `iret`: another one waits.
    pub in_nmi: bool,
    /// The CPU that it ran on last. Elsewhere there may be translations from before.
    pub last_cpu: Option<CpuId>,
    /// Its event flags: [`VcpuLink::info`], looked up when it is put on a CPU and when they move.
    pub info: &'static VcpuInfo,
}

impl Vcpu {
    /// A vCPU in kernel mode, everything as after a reset, and no page tables yet.
    pub fn new(link: &VcpuLink, assists: Arc<Assists>) -> Vcpu {
        Vcpu {
            domain: link.domain,
            id: link.id,
            regs: GuestRegisters::default(),
            mode: Mode::Kernel,
            gates: Box::new([Gate::default(); 256]),
            callbacks: Callbacks::default(),
            kernel_sp: 0,
            roots: Roots::default(),
            pending: Pending::new(),
            gdt: Gdt::new(),
            ldt: Ldt::default(),
            assists,
            control: Control::NEW,
            io_bitmap: IoBitmap::default(),
            stores: KnownStores::default(),
            absorbed_fault: None,
            timers: Timers::default(),
            in_nmi: false,
            last_cpu: None,
            info: link.info(),
        }
    }

    /// The top-level page table that goes with the mode.
    pub fn root(&self) -> Option<Mfn> {
        match self.mode {
            Mode::Kernel => self.roots.kernel,
            Mode::User => self.roots.user,
        }
    }
}
