//! The state that `VCPUOP_initialise` and the control domain give a vCPU: `struct vcpu_guest_context` (`arch-x86/xen.h`), its
//! page tables and GDT apart, which the rules of memory must agree to.

use alloc::boxed::Box;

use pv_abi::errno::Errno;
use pv_abi::trap::{TI_DPL_MASK, TI_MASK_EVENTS, TrapInfo};
use pv_abi::vcpu::{CpuUserRegs, VcpuContextFlags, VcpuGuestContext};

use super::vcpu::{Callback, Callbacks, Control, DESCRIPTORS_PER_PAGE, GDT_PAGES, Gate, Ldt, Mode, Vcpu};
use crate::addr::{GuestVa, MachineAddr, Mfn, is_canonical};
use crate::bounce::user_flags;
use crate::emulate::debug;
use crate::guest::GuestRegisters;

/// What the CPU itself is to hold for a vCPU besides its general registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuContext {
    /// DS, ES, FS, GS.
    pub selectors: [u16; 4],
    /// Bases of FS, of the active GS, and of the inactive one.
    pub bases: [u64; 3],
    /// FPU registers in FXSAVE's layout, if they are given.
    pub fpu: Option<[u8; 512]>,
}

/// A context of which all is right that doesn't depend on memory.
pub struct Context(Box<VcpuGuestContext>);

impl Context {
    /// Checks a context.
    ///
    /// # Errors
    /// `EINVAL`: an address that isn't canonical, or an LDT that can't be.
    pub fn check(context: Box<VcpuGuestContext>) -> Result<Context, Errno> {
        let VcpuGuestContext {
            user_regs, trap_ctxt, ldt_base: ldt, ldt_ents, gdt_ents, fs_base, gs_base_kernel, ..
        } = &*context;
        let addresses = [
            user_regs.rip,
            context.event_callback_eip,
            context.failsafe_callback_eip,
            context.syscall_callback_eip,
            *fs_base,
            *gs_base_kernel,
            context.gs_base_user,
        ];
        let entries = u32::try_from(*ldt_ents).map_err(|_| Errno::EINVAL)?;
        let canonical = addresses.into_iter().chain(trap_ctxt.iter().map(|trap| trap.address)).all(is_canonical);
        let has_gdt = *gdt_ents <= GDT_PAGES as u64 * u64::from(DESCRIPTORS_PER_PAGE);
        let has_ldt = entries == 0 || Ldt::base_of(*ldt, entries).is_some();
        if canonical && has_gdt && has_ldt { Ok(Context(context)) } else { Err(Errno::EINVAL) }
    }

    /// The page-table roots: for kernel mode, and for user mode if there is one.
    pub fn roots(&self) -> (Mfn, Option<Mfn>) {
        let [_, user, _, kernel, ..] = self.0.ctrlreg;
        (MachineAddr(kernel).frame(), (user != 0).then(|| MachineAddr(user).frame()))
    }

    /// The frames of the GDT.
    pub fn gdt(&self) -> &[u64] {
        let pages = self.0.gdt_ents.div_ceil(DESCRIPTORS_PER_PAGE.into());
        usize::try_from(pages).ok().and_then(|pages| self.0.gdt_frames.get(..pages)).unwrap_or(&[])
    }

    /// Is the vCPU to be up at once? For the control domain to say; `VCPUOP_initialise` doesn't ask.
    pub fn is_online(&self) -> bool {
        self.0.flags & VcpuContextFlags::ONLINE.bits() != 0
    }

    /// Does the context name the page tables and descriptor tables that a vCPU has? And is the mode one that has tables?
    pub fn keeps_memory(&self, vcpu: &Vcpu) -> bool {
        let context = &*self.0;
        let (kernel, user) = self.roots();
        let in_kernel = context.flags & VcpuContextFlags::IN_KERNEL.bits() != 0;
        let gdt = self.gdt();
        vcpu.roots.kernel == Some(kernel)
            && vcpu.roots.user == user
            && (in_kernel || user.is_some())
            && gdt.len() == vcpu.gdt.len()
            && gdt.iter().zip(&vcpu.gdt).all(|(frame, mfn)| *frame == mfn.0)
            && context.ldt_base == vcpu.ldt.base.map_or(0, GuestVa::get)
            && context.ldt_ents == u64::from(vcpu.ldt.entries)
    }

    /// Fills in everything else of a vCPU that has no LDT yet, or [keeps](Context::keeps_memory) its own.
    /// `cr4_mask` are the bits of CR4 that are the guest's; it may ask for none, and for others in vain.
    pub fn fill(&self, vcpu: &mut Vcpu, cr4_mask: u64) -> CpuContext {
        let context = &*self.0;
        vcpu.control.cr4 = Control::NEW.cr4 | context.ctrlreg[4] & cr4_mask;
        let has = |flag: VcpuContextFlags| context.flags & flag.bits() != 0;
        vcpu.mode = if has(VcpuContextFlags::IN_KERNEL) { Mode::Kernel } else { Mode::User };
        vcpu.regs = registers(&context.user_regs);
        vcpu.control.iopl = (context.user_regs.rflags >> 12 & 3).to_le_bytes()[0];
        for (gate, trap) in vcpu.gates.iter_mut().zip(&context.trap_ctxt) {
            *gate = Gate::from_abi(trap);
        }
        let callback = |address, masks_events| Callback { address, masks_events };
        vcpu.callbacks = Callbacks {
            event: callback(context.event_callback_eip, true),
            failsafe: callback(context.failsafe_callback_eip, has(VcpuContextFlags::FAILSAFE_DISABLES_EVENTS)),
            syscall: callback(context.syscall_callback_eip, has(VcpuContextFlags::SYSCALL_DISABLES_EVENTS)),
            ..Callbacks::default()
        };
        vcpu.kernel_sp = context.kernel_sp;
        let entries = u32::try_from(context.ldt_ents).unwrap_or(0);
        let base = if entries == 0 { None } else { Ldt::base_of(context.ldt_base, entries) };
        (vcpu.ldt.base, vcpu.ldt.entries) = (base, entries);
        for (number, &value) in (0..8).zip(&context.debugreg) {
            // One that guests may not have stays as after a reset.
            let _ = debug::write(&mut vcpu.control, number, value);
        }
        let CpuUserRegs { ds, es, fs, gs, .. } = context.user_regs;
        CpuContext {
            selectors: [ds, es, fs, gs],
            bases: [context.fs_base, context.gs_base_kernel, context.gs_base_user],
            fpu: has(VcpuContextFlags::I387_VALID).then_some(context.fpu_ctxt),
        }
    }
}

/// The context of a vCPU that is on no CPU, as the control domain reads it. Of the FPU registers the x87 and SSE ones are told.
pub fn snapshot(vcpu: &Vcpu, cpu: &CpuContext, online: bool, context: &mut VcpuGuestContext) {
    let Callbacks { event, failsafe, syscall, .. } = vcpu.callbacks;
    let [fs_base, gs_base, gs_base_inactive] = cpu.bases;
    let base = |root: Option<Mfn>| root.map_or(0, |mfn| mfn.base().0);
    let mut flags = VcpuContextFlags::empty();
    flags.set(VcpuContextFlags::IN_KERNEL, vcpu.mode == Mode::Kernel);
    flags.set(VcpuContextFlags::FAILSAFE_DISABLES_EVENTS, failsafe.masks_events);
    flags.set(VcpuContextFlags::SYSCALL_DISABLES_EVENTS, syscall.masks_events);
    flags.set(VcpuContextFlags::ONLINE, online);
    flags.set(VcpuContextFlags::I387_VALID, cpu.fpu.is_some());
    context.flags = flags.bits();
    context.fpu_ctxt = cpu.fpu.unwrap_or([0; 512]);
    context.user_regs = user_regs(&vcpu.regs, cpu.selectors, vcpu.control.iopl);
    for (vector, (trap, gate)) in (0..=u8::MAX).zip(context.trap_ctxt.iter_mut().zip(&*vcpu.gates)) {
        *trap = gate.to_abi(vector);
    }
    context.ldt_base = vcpu.ldt.base.map_or(0, GuestVa::get);
    context.ldt_ents = vcpu.ldt.entries.into();
    for (frame, mfn) in context.gdt_frames.iter_mut().zip(&vcpu.gdt) {
        *frame = mfn.0;
    }
    context.gdt_ents = vcpu.gdt.len() as u64 * u64::from(DESCRIPTORS_PER_PAGE);
    context.kernel_sp = vcpu.kernel_sp;
    context.ctrlreg[3] = base(vcpu.roots.kernel);
    context.ctrlreg[1] = base(vcpu.roots.user);
    context.ctrlreg[4] = vcpu.control.cr4;
    context.debugreg = vcpu.control.debug;
    context.event_callback_eip = event.address;
    context.failsafe_callback_eip = failsafe.address;
    context.syscall_callback_eip = syscall.address;
    context.fs_base = fs_base;
    // The guest kernel's GS is the active one while it runs, and the other while a user program does.
    let kernel = vcpu.mode == Mode::Kernel;
    context.gs_base_kernel = if kernel { gs_base } else { gs_base_inactive };
    context.gs_base_user = if kernel { gs_base_inactive } else { gs_base };
}

impl Gate {
    /// An entry of the trap table.
    pub fn from_abi(trap: &TrapInfo) -> Gate {
        Gate { address: trap.address, dpl: trap.flags & TI_DPL_MASK, masks_events: trap.flags & TI_MASK_EVENTS != 0 }
    }

    /// The entry of the trap table for this vector.
    fn to_abi(self, vector: u8) -> TrapInfo {
        let flags = self.dpl | if self.masks_events { TI_MASK_EVENTS } else { 0 };
        TrapInfo { vector, flags, address: self.address, ..TrapInfo::default() }
    }
}

/// General registers; selectors are forced to ring 3, and flags to what a guest may have.
fn registers(user: &CpuUserRegs) -> GuestRegisters {
    GuestRegisters {
        r15: user.r15,
        r14: user.r14,
        r13: user.r13,
        r12: user.r12,
        rbp: user.rbp,
        rbx: user.rbx,
        r11: user.r11,
        r10: user.r10,
        r9: user.r9,
        r8: user.r8,
        rax: user.rax,
        rcx: user.rcx,
        rdx: user.rdx,
        rsi: user.rsi,
        rdi: user.rdi,
        error_code: 0,
        vector: 0,
        rip: user.rip,
        cs: u64::from(user.cs | 3),
        rflags: user_flags(user.rflags),
        rsp: user.rsp,
        ss: u64::from(user.ss | 3),
    }
}

/// General registers as the ABI shows them. The flags have the I/O privilege level that the guest believes to have.
fn user_regs(regs: &GuestRegisters, [ds, es, fs, gs]: [u16; 4], iopl: u8) -> CpuUserRegs {
    let selector = |word: u64| {
        let [low, high, ..] = word.to_le_bytes();
        u16::from_le_bytes([low, high])
    };
    CpuUserRegs {
        r15: regs.r15,
        r14: regs.r14,
        r13: regs.r13,
        r12: regs.r12,
        rbp: regs.rbp,
        rbx: regs.rbx,
        r11: regs.r11,
        r10: regs.r10,
        r9: regs.r9,
        r8: regs.r8,
        rax: regs.rax,
        rcx: regs.rcx,
        rdx: regs.rdx,
        rsi: regs.rsi,
        rdi: regs.rdi,
        error_code: regs.error_code,
        entry_vector: regs.vector,
        rip: regs.rip,
        cs: selector(regs.cs),
        rflags: regs.rflags | u64::from(iopl) << 12,
        rsp: regs.rsp,
        ss: selector(regs.ss),
        ds,
        es,
        fs,
        gs,
        ..CpuUserRegs::default()
    }
}
