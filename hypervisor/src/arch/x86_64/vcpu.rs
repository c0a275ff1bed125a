//! What the CPU itself holds for a vCPU besides its general registers: segments, FPU, control bits.

use core::arch::{asm, naked_asm};

use x86_64::registers::control::{Cr0, Cr4, Cr4Flags};
use x86_64::registers::debug::Dr7;
use x86_64::registers::model_specific::Msr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::cpu_features::{self, Features};
use super::fpu::{self, Fpu};
use super::mm::{idle_root, tlb};
use super::uaccess::CurrentGuest;
use crate::addr::Mfn;
use crate::bounce::GuestSpace;
use crate::domain::context::CpuContext;
use crate::domain::vcpu::{Control, Mode, Vcpu};
use crate::emulate::{SegmentBase, debug};
use crate::guest::{Fault, GuestCopy};

const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const GS_BASE_INACTIVE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;

/// Bits of CR4 that are the guest's to choose.
pub const GUEST_CR4: Cr4Flags =
    Cr4Flags::TIMESTAMP_DISABLE.union(Cr4Flags::DEBUGGING_EXTENSIONS).union(Cr4Flags::FSGSBASE);

pub use super::fpu::{set_task_switched, write_xcr0 as load_xcr0};

/// The CPU's state of a vCPU that doesn't run.
pub struct MachineState {
    fpu: Fpu,
    /// DS, ES, FS, GS.
    selectors: [u16; 4],
    fs_base: u64,
    gs_base: u64,
    gs_base_inactive: u64,
}

impl Default for MachineState {
    /// What a vCPU starts with: null selectors, bases of 0, the FPU as after a reset.
    fn default() -> MachineState {
        MachineState { fpu: Fpu::new(), selectors: [0; 4], fs_base: 0, gs_base: 0, gs_base_inactive: 0 }
    }
}

impl MachineState {
    /// What `VCPUOP_initialise` asks for; the bases are canonical.
    pub fn new(cpu: &CpuContext) -> MachineState {
        let [fs_base, gs_base, gs_base_inactive] = cpu.bases;
        let fpu = cpu.fpu.map_or_else(Fpu::new, |registers| Fpu::from_legacy(&registers));
        MachineState { fpu, selectors: cpu.selectors, fs_base, gs_base, gs_base_inactive }
    }

    /// What the CPU will hold for the vCPU, the FPU's registers apart.
    pub fn context(&self) -> CpuContext {
        let bases = [self.fs_base, self.gs_base, self.gs_base_inactive];
        CpuContext { selectors: self.selectors, bases, fpu: Some(self.fpu.to_legacy()) }
    }

    /// DS, ES, FS, GS as they will be loaded.
    pub fn selectors(&self) -> [u16; 4] {
        self.selectors
    }

    /// Takes the state off this CPU, whose current guest it is.
    pub fn save(&mut self) {
        self.fpu.save();
        self.selectors = read_selectors();
        // A guest with FSGSBASE changes its bases without telling anybody (XSA-293), so they are always read.
        self.fs_base = base(SegmentBase::Fs);
        self.gs_base = base(SegmentBase::GsActive);
        self.gs_base_inactive = base(SegmentBase::GsInactive);
    }

    /// Puts the state on this CPU. If a selector can't be loaded, it becomes null and the answer is what all four
    /// were: the guest's failsafe callback wants to know.
    pub fn load(&self, control: &Control) -> Option<[u16; 4]> {
        self.fpu.load(control.xcr0);
        fpu::set_task_switched(control.task_switched);
        load_cr4(control.cr4);
        load_tsc_aux(control.tsc_aux);
        load_debug_registers(debug::hardware_registers(control));
        // Selectors first: loading one replaces the base.
        let loaded = read_selectors() == self.selectors || load_selectors(self.selectors);
        change_base(SegmentBase::Fs, self.fs_base);
        change_base(SegmentBase::GsActive, self.gs_base);
        change_base(SegmentBase::GsInactive, self.gs_base_inactive);
        (!loaded).then_some(self.selectors)
    }
}

/// Reads a segment base of the guest that is on this CPU.
pub fn base(which: SegmentBase) -> u64 {
    // SAFETY: the MSRs exist on every 64-bit CPU.
    unsafe { base_msr(which).read() }
}

/// Sets a segment base. `value` must be canonical, else this traps in the hypervisor (XSA-193).
pub fn set_base(which: SegmentBase, value: u64) {
    // SAFETY: as above; callers have checked that the value is canonical, or read it from the CPU.
    unsafe { base_msr(which).write(value) };
}

/// [`set_base`], if it differs: to read the register is cheaper than to write it.
fn change_base(which: SegmentBase, value: u64) {
    if base(which) != value {
        set_base(which, value);
    }
}

fn base_msr(which: SegmentBase) -> Msr {
    Msr::new(match which {
        SegmentBase::Fs => FS_BASE,
        SegmentBase::GsActive => GS_BASE,
        SegmentBase::GsInactive => GS_BASE_INACTIVE,
    })
}

/// Loads the guest's part of CR4, if it differs.
pub fn load_cr4(guest: u64) {
    let old = Cr4::read();
    let new = (old - GUEST_CR4) | (Cr4Flags::from_bits_truncate(guest) & GUEST_CR4);
    if new != old {
        // SAFETY: these bits decide what ring 3 may do; the hypervisor depends on none of them.
        unsafe { Cr4::write(new) };
    }
}

/// Loads DR0 to DR3, DR6 and DR7, if a breakpoint is armed or one was. Their addresses were checked to be outside the
/// hypervisor when the guest set them.
pub fn load_debug_registers(registers: [u64; 8]) {
    const ARMED: u64 = 0xff;
    if registers[7] & ARMED == 0 && Dr7::read_raw() & ARMED == 0 {
        return;
    }
    // SAFETY: breakpoints on guest addresses can only trap; one that traps in the hypervisor is ignored there.
    unsafe {
        asm!(
            "mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", "mov dr6, {}", "mov dr7, {}",
            in(reg) registers[0], in(reg) registers[1], in(reg) registers[2], in(reg) registers[3],
            in(reg) registers[6], in(reg) registers[7],
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Reads DR6 after a debug exception and resets it.
pub fn take_dr6() -> u64 {
    const RESET: u64 = 0xffff_0ff0;
    let dr6: u64;
    // SAFETY: DR6 is a status register.
    unsafe {
        asm!("mov {}, dr6", "mov dr6, {}", out(reg) dr6, in(reg) RESET, options(nomem, nostack, preserves_flags))
    };
    dr6
}

/// Loads IA32_TSC_AUX, which only `rdtscp` and `rdpid` read.
pub fn load_tsc_aux(value: u32) {
    if cpu_features::get().contains(Features::RDTSCP) {
        let mut register = Msr::new(TSC_AUX);
        // SAFETY: the CPU has the MSR, which any 32-bit value fits; the hypervisor doesn't use it.
        unsafe {
            if register.read() != u64::from(value) {
                register.write(value.into());
            }
        }
    }
}

/// The real CR0.
pub fn cr0() -> u64 {
    Cr0::read_raw()
}

/// Does this selector name a 64-bit code segment? APM volume 3, LAR.
pub fn is_64_bit_code(selector: u16) -> bool {
    const CODE: u32 = 0x1800;
    const LONG: u32 = 1 << 21;
    // SAFETY: the function has no conditions.
    let rights = unsafe { access_rights(selector.into()) };
    rights & (CODE | LONG) == CODE | LONG
}

/// The access rights of a segment; 0 if there is none, or if its descriptor is in a page of the LDT that is not shown.
///
/// # Safety
/// None: `lar` faults only on memory, and that lands behind it.
#[unsafe(naked)]
unsafe extern "C" fn access_rights(selector: u32) -> u32 {
    naked_asm!(
        "xor eax, eax",
        "2: lar ecx, edi",
        "cmovz eax, ecx",
        "3: ret",
        ".pushsection .ex_table, \"a\"",
        ".balign 4",
        ".long 2b - .",
        ".long 3b - .",
        ".popsection",
    )
}

fn read_selectors() -> [u16; 4] {
    let (ds, es, fs, gs): (u16, u16, u16, u16);
    // SAFETY: reads four registers.
    unsafe {
        asm!(
            "mov {:x}, ds", "mov {:x}, es", "mov {:x}, fs", "mov {:x}, gs",
            out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs,
            options(nomem, nostack, preserves_flags),
        );
    }
    [ds, es, fs, gs]
}

/// Loads DS, ES, FS, GS; one that the CPU refuses becomes null. True if none was refused.
fn load_selectors([ds, es, fs, gs]: [u16; 4]) -> bool {
    // SAFETY: a selector that can't be loaded faults at the instruction and lands behind it, see `selector_loads`.
    unsafe { selector_loads(ds.into(), es.into(), fs.into(), gs.into()) == 0 }
}

/// # Safety
/// None: any selector is either loaded or replaced by null.
#[unsafe(naked)]
unsafe extern "C" fn selector_loads(ds: u32, es: u32, fs: u32, gs: u32) -> u32 {
    naked_asm!(
        "xor eax, eax",
        "2: mov ds, edi",
        "3: mov es, esi",
        "4: mov fs, edx",
        "5: mov gs, ecx",
        "ret",
        "12: xor edi, edi",
        "mov eax, 1",
        "jmp 2b",
        "13: xor esi, esi",
        "mov eax, 1",
        "jmp 3b",
        "14: xor edx, edx",
        "mov eax, 1",
        "jmp 4b",
        "15: xor ecx, ecx",
        "mov eax, 1",
        "jmp 5b",
        ".pushsection .ex_table, \"a\"",
        ".balign 4",
        ".long 2b - .",
        ".long 12b - .",
        ".long 3b - .",
        ".long 13b - .",
        ".long 4b - .",
        ".long 14b - .",
        ".long 5b - .",
        ".long 15b - .",
        ".popsection",
    )
}

/// Loads a selector into the GS that is not active; null if the CPU refuses it. The base becomes the descriptor's.
pub fn load_inactive_gs(selector: u16) {
    let [ds, es, fs, gs] = read_selectors();
    let (fs_base, gs_base) = (base(SegmentBase::Fs), base(SegmentBase::GsActive));
    // Some CPUs keep the old base when null is loaded: load a flat segment first.
    load_selectors([ds, es, fs, pv_abi::trap::FLAT_RING3_DS32]);
    load_selectors([ds, es, fs, if selector & !3 == 0 { 0 } else { selector | 3 }]);
    let loaded = base(SegmentBase::GsActive);
    load_selectors([ds, es, fs, gs]);
    set_base(SegmentBase::Fs, fs_base);
    set_base(SegmentBase::GsActive, gs_base);
    set_base(SegmentBase::GsInactive, loaded);
}

/// Loads the page tables of a vCPU. Translations of global pages, which are user pages, stay.
#[inline]
pub fn load_root(root: Option<Mfn>) {
    // SAFETY: the roots of a vCPU are L4 tables with the hypervisor's slots in place, and stay so while it has them. A
    // vCPU without one faults at its first instruction.
    unsafe { tlb::load_root(root.unwrap_or_else(idle_root)) };
}

/// Loads page tables without a guest, so that the last guest's can go away.
pub fn leave_guest_space() {
    load_root(None);
}

/// The address space of the guest that is on this CPU.
pub struct CurrentSpace;

impl GuestCopy for CurrentSpace {
    #[inline]
    fn read_bytes(&mut self, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
        CurrentGuest.read_bytes(from, buf)
    }

    #[inline]
    fn write_bytes(&mut self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        CurrentGuest.write_bytes(to, bytes)
    }

    #[inline(always)]
    fn read<T: FromBytes + IntoBytes>(&mut self, from: u64) -> Result<T, Fault> {
        CurrentGuest.read(from)
    }

    #[inline(always)]
    fn write<T: IntoBytes + Immutable>(&mut self, to: u64, value: &T) -> Result<(), Fault> {
        CurrentGuest.write(to, value)
    }
}

impl GuestSpace for CurrentSpace {
    fn switch_mode(&mut self, vcpu: &Vcpu, to: Mode) {
        let root = match to {
            Mode::Kernel => vcpu.roots.kernel,
            Mode::User => vcpu.roots.user,
        };
        // SAFETY: exchanges two bases that both are the guest's.
        unsafe { asm!("swapgs", options(nomem, nostack, preserves_flags)) };
        load_root(root);
    }
}
