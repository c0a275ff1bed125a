//! The local APIC in its two modes. SDM volume 3, chapter 11 (registers: table 11-1, x2APIC: 11.12).

use spin::Once;
use x86_64::registers::model_specific::Msr;

use super::ApicId;
use crate::addr::MachineAddr;
use crate::arch::cpu_features::{self, Features};
use crate::arch::mm::{MapError, device};
use crate::arch::vectors;

/// IA32_APIC_BASE and its bits.
const APIC_BASE: u32 = 0x1b;
const APIC_BASE_X2APIC: u64 = 1 << 10;
const APIC_BASE_ENABLED: u64 = 1 << 11;

/// First x2APIC register; the others follow in the order of the memory-mapped ones, 16 bytes apart there.
const X2APIC_MSRS: u32 = 0x800;

/// Offsets of the memory-mapped registers.
pub(super) mod register {
    pub const ID: u32 = 0x20;
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const EOI: u32 = 0xb0;
    pub const SPURIOUS: u32 = 0xf0;
    pub const ERROR_STATUS: u32 = 0x280;
    pub const COMMAND: u32 = 0x300;
    pub const COMMAND_HIGH: u32 = 0x310;
    pub const TIMER: u32 = 0x320;
    pub const THERMAL: u32 = 0x330;
    pub const PERFORMANCE: u32 = 0x340;
    pub const LINT0: u32 = 0x350;
    pub const LINT1: u32 = 0x360;
    pub const ERROR: u32 = 0x370;
    pub const INITIAL_COUNT: u32 = 0x380;
    pub const CURRENT_COUNT: u32 = 0x390;
    pub const DIVIDE: u32 = 0x3e0;
}

/// Local vector table entries: masked; delivered as an NMI.
pub(super) const MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 0b100 << 8;
/// Spurious vector register: the APIC is on.
const ENABLED: u32 = 1 << 8;
/// Command register: not sent yet; level asserted; to all but the sender.
const PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const ALL_OTHERS: u32 = 0b11 << 18;

/// A kind of interrupt from CPU to CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Fixed(u8),
    Nmi,
    Init,
    Startup(u8),
}

impl Command {
    fn bits(self) -> u32 {
        ASSERT
            | match self {
                Command::Fixed(vector) => u32::from(vector),
                Command::Nmi => 0b100 << 8,
                Command::Init => 0b101 << 8,
                Command::Startup(page) => 0b110 << 8 | u32::from(page),
            }
    }
}

/// How to reach the running CPU's APIC.
#[derive(Clone, Copy, Debug)]
pub(super) enum LocalApic {
    /// Through memory, at the same address on every CPU.
    XApic {
        /// The registers.
        base: *mut u32,
        /// The machine address that IA32_APIC_BASE must have for that.
        address: MachineAddr,
    },
    /// Through model-specific registers.
    X2Apic,
}

// SAFETY: the pointer leads to registers of whichever CPU uses it, at an address mapped for all CPUs and for good.
unsafe impl Send for LocalApic {}
// SAFETY: as above; every access goes to the running CPU's own registers.
unsafe impl Sync for LocalApic {}

static LOCAL_APIC: Once<LocalApic> = Once::new();

/// Decides on the mode. x2APIC wherever the CPU has it: no memory-mapped access, one write per interrupt sent, and no
/// limit to the number of CPUs; firmware that left it on does not let us go back anyway.
pub(super) fn init(address: MachineAddr) -> Result<(), MapError> {
    let apic = if cpu_features::get().contains(Features::X2APIC) {
        LocalApic::X2Apic
    } else {
        LocalApic::XApic { base: device::map(address, 4096)?.cast(), address }
    };
    LOCAL_APIC.call_once(|| apic);
    Ok(())
}

/// The running CPU's APIC, if [`init`] was done.
pub(super) fn try_get() -> Option<LocalApic> {
    LOCAL_APIC.get().copied()
}

/// The running CPU's APIC.
///
/// # Panics
/// Before [`init`].
#[inline]
pub(super) fn get() -> LocalApic {
    *LOCAL_APIC.get().expect("the local APIC is set up before it is used")
}

impl LocalApic {
    #[inline]
    pub fn read(self, register: u32) -> u32 {
        match self {
            // SAFETY: a 32-bit register in the page mapped by `init`.
            LocalApic::XApic { base, .. } => unsafe { base.add(register as usize / 4).read_volatile() },
            LocalApic::X2Apic => {
                // SAFETY: `enable` has switched this CPU to x2APIC mode, where the register is this MSR. The upper
                // half of all registers we read is reserved.
                #[expect(clippy::cast_possible_truncation, reason = "the upper half is reserved")]
                unsafe {
                    Msr::new(X2APIC_MSRS + register / 16).read() as u32
                }
            }
        }
    }

    #[inline]
    pub fn write(self, register: u32, value: u32) {
        match self {
            // SAFETY: as in `read`; what is written is up to the functions of this module.
            LocalApic::XApic { base, .. } => unsafe { base.add(register as usize / 4).write_volatile(value) },
            // SAFETY: as in `read`.
            LocalApic::X2Apic => unsafe { Msr::new(X2APIC_MSRS + register / 16).write(value.into()) },
        }
    }

    /// Switches the running CPU's APIC on, with all local interrupts masked but errors, and NMIs on their usual pin.
    pub fn enable(self) {
        let mut msr = Msr::new(APIC_BASE);
        // SAFETY: the mode is one that the CPU has. From off, x2APIC mode is entered by way of xAPIC mode.
        unsafe {
            let old = msr.read();
            match self {
                LocalApic::XApic { address, .. } => msr.write((old & 0xfff) | address.0 | APIC_BASE_ENABLED),
                LocalApic::X2Apic => {
                    msr.write(old | APIC_BASE_ENABLED);
                    msr.write(old | APIC_BASE_ENABLED | APIC_BASE_X2APIC);
                }
            }
        }
        self.write(register::SPURIOUS, ENABLED | u32::from(vectors::SPURIOUS));
        self.write(register::TASK_PRIORITY, 0);
        for masked in [register::TIMER, register::LINT0, register::THERMAL, register::PERFORMANCE] {
            self.write(masked, MASKED);
        }
        self.write(register::LINT1, DELIVER_NMI);
        self.write(register::ERROR, vectors::ERROR.into());
        self.take_error();
        // An interrupt that the firmware left in service would hold back all others of its class.
        self.end_of_interrupt();
    }

    pub fn id(self) -> ApicId {
        let id = self.read(register::ID);
        ApicId(if matches!(self, LocalApic::X2Apic) { id } else { id >> 24 })
    }

    #[inline]
    pub fn end_of_interrupt(self) {
        self.write(register::EOI, 0);
    }

    /// The error status register only shows what came before the last write to it.
    pub fn take_error(self) -> u32 {
        self.write(register::ERROR_STATUS, 0);
        self.read(register::ERROR_STATUS)
    }

    pub fn send(self, to: ApicId, command: Command) {
        match self {
            // An xAPIC's ids have 8 bits.
            LocalApic::XApic { .. } => self.send_xapic(to.0 << 24, command.bits()),
            LocalApic::X2Apic => send_x2apic(to.0, command.bits()),
        }
    }

    pub fn send_all_others(self, command: Command) {
        match self {
            LocalApic::XApic { .. } => self.send_xapic(0, command.bits() | ALL_OTHERS),
            LocalApic::X2Apic => send_x2apic(0, command.bits() | ALL_OTHERS),
        }
    }

    fn send_xapic(self, high: u32, low: u32) {
        // A command that is still on its way would be overwritten. It leaves within microseconds, or the APIC is dead.
        while self.read(register::COMMAND) & PENDING != 0 {
            core::hint::spin_loop();
        }
        self.write(register::COMMAND_HIGH, high);
        self.write(register::COMMAND, low);
    }
}

fn send_x2apic(high: u32, low: u32) {
    // Unlike a store to an xAPIC, this write waits for nothing: what the target shall see must be visible before.
    // SDM volume 3, 11.12.3.
    // SAFETY: fences; and the register exists in x2APIC mode, its format is as written.
    unsafe {
        core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
        Msr::new(X2APIC_MSRS + register::COMMAND / 16).write(u64::from(high) << 32 | u64::from(low));
    }
}
