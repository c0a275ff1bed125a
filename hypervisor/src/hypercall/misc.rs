//! Small calls: stack, segment bases, FPU, assists.

use pv_abi::errno::Errno;
use pv_abi::trap::{
    SEGBASE_FS, SEGBASE_GS_KERNEL, SEGBASE_GS_USER, SEGBASE_GS_USER_SEL, VMASST_CMD_DISABLE, VMASST_CMD_ENABLE,
    VMASST_TYPE_4GB_SEGMENTS, VMASST_TYPE_4GB_SEGMENTS_NOTIFY, VMASST_TYPE_ARCHITECTURAL_IOPL, VMASST_TYPE_M2P_STRICT,
    VMASST_TYPE_PAE_EXTENDED_CR3, VMASST_TYPE_RUNSTATE_UPDATE_FLAG, VMASST_TYPE_WRITABLE_PAGETABLES,
};

use super::call::canonical;
use super::{Call, Platform, Reply};
use crate::emulate::SegmentBase;

/// `stack_switch(unsigned long ss, unsigned long sp)`: where traps from user mode find the kernel's stack.
///
/// Any number is accepted: the stack is checked when a frame is written to it. The selector is of no use, since a
/// 64-bit kernel is always entered with the flat one.
pub(super) fn stack_switch<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    call.vcpu.kernel_sp = call.word(1);
    Ok(0)
}

/// `fpu_taskswitch(int set)`: sets or clears CR0.TS.
pub(super) fn fpu_taskswitch<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let on = call.u32(0) != 0;
    if call.vcpu.control.task_switched != on {
        call.vcpu.control.task_switched = on;
        call.platform.set_task_switched(on);
    }
    Ok(0)
}

/// `set_segment_base(unsigned int which, unsigned long base)`.
pub(super) fn set_segment_base<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let value = call.word(1);
    let which = match call.u32(0) {
        SEGBASE_FS => SegmentBase::Fs,
        SEGBASE_GS_USER => SegmentBase::GsInactive,
        SEGBASE_GS_KERNEL => SegmentBase::GsActive,
        SEGBASE_GS_USER_SEL => {
            // Guests take an error here for a bug of their own; a selector the CPU refuses becomes null.
            let [low, high, ..] = value.to_le_bytes();
            call.platform.load_inactive_gs(call.vcpu, u16::from_le_bytes([low, high]));
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    call.platform.set_segment_base(which, canonical(value)?);
    Ok(0)
}

/// `vm_assist(unsigned int cmd, unsigned int type)`.
///
/// The 32-bit assists mean nothing to a 64-bit guest; Xen accepts them, so kernels that enable all do not stumble.
pub(super) fn vm_assist<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let kind = call.u32(1);
    match kind {
        VMASST_TYPE_4GB_SEGMENTS
        | VMASST_TYPE_4GB_SEGMENTS_NOTIFY
        | VMASST_TYPE_WRITABLE_PAGETABLES
        | VMASST_TYPE_PAE_EXTENDED_CR3
        | VMASST_TYPE_ARCHITECTURAL_IOPL
        | VMASST_TYPE_RUNSTATE_UPDATE_FLAG
        | VMASST_TYPE_M2P_STRICT => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    match call.u32(0) {
        VMASST_CMD_ENABLE => call.vcpu.assists.set(kind, true),
        VMASST_CMD_DISABLE => call.vcpu.assists.set(kind, false),
        _ => return Err(Errno::ENOSYS.into()),
    }
    Ok(0)
}
