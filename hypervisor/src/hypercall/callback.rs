//! Entry points other than exception handlers: `callback_op` (`callback.h`) and the older `set_callbacks`.

use pv_abi::errno::Errno;
use pv_abi::trap::{
    CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE, CALLBACKTYPE_NMI,
    CALLBACKTYPE_SYSCALL, CALLBACKTYPE_SYSCALL32, CALLBACKTYPE_SYSENTER, CALLBACKTYPE_SYSENTER_DEPRECATED,
    CallbackFlags, CallbackRegister, CallbackUnregister,
};

use super::call::canonical;
use super::{Call, Platform, Reply};
use crate::domain::vcpu::{Callback, Gate, Vcpu};
use crate::guest::vector;

/// `(unsigned long event, unsigned long failsafe, unsigned long syscall)`.
pub(super) fn set_callbacks<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let [event, failsafe, syscall] = [canonical(call.word(0))?, canonical(call.word(1))?, canonical(call.word(2))?];
    let callbacks = &mut call.vcpu.callbacks;
    callbacks.event.address = event;
    callbacks.failsafe.address = failsafe;
    callbacks.syscall.address = syscall;
    Ok(0)
}

/// `(int cmd, const void *arg)`.
pub(super) fn callback_op<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    match call.u32(0) {
        CALLBACKOP_REGISTER => {
            let request: CallbackRegister = call.read(call.word(1))?;
            let callback = Callback {
                address: canonical(request.address)?,
                masks_events: request.flags & CallbackFlags::MASK_EVENTS.bits() != 0,
            };
            set(call.vcpu, request.kind, callback)
        }
        CALLBACKOP_UNREGISTER => {
            let request: CallbackUnregister = call.read(call.word(1))?;
            match request.kind {
                // A guest without these can't be entered at all: Xen refuses too.
                CALLBACKTYPE_EVENT
                | CALLBACKTYPE_FAILSAFE
                | CALLBACKTYPE_SYSCALL
                | CALLBACKTYPE_SYSCALL32
                | CALLBACKTYPE_SYSENTER
                | CALLBACKTYPE_SYSENTER_DEPRECATED => Err(Errno::EINVAL.into()),
                kind => set(call.vcpu, kind, Callback::default()),
            }
        }
        _ => Err(Errno::ENOSYS.into()),
    }
}

fn set(vcpu: &mut Vcpu, kind: u16, callback: Callback) -> Reply {
    let callbacks = &mut vcpu.callbacks;
    match kind {
        CALLBACKTYPE_EVENT => callbacks.event = callback,
        CALLBACKTYPE_FAILSAFE => callbacks.failsafe = callback,
        CALLBACKTYPE_SYSCALL => callbacks.syscall = callback,
        CALLBACKTYPE_SYSCALL32 => callbacks.syscall32 = callback,
        CALLBACKTYPE_SYSENTER | CALLBACKTYPE_SYSENTER_DEPRECATED => callbacks.sysenter = callback,
        // Registered as a callback, but it is the gate of its vector.
        CALLBACKTYPE_NMI => {
            vcpu.gates[vector::NMI as usize] = Gate { address: callback.address, dpl: 0, masks_events: true }
        }
        _ => return Err(Errno::ENOSYS.into()),
    }
    Ok(0)
}
