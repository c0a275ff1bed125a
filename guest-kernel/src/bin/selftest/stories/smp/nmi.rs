//! Non-maskable interrupts, from one vCPU to another.

use super::{start_all, wait_until};
use crate::check::{Told, call, equal, holds, reads, refused};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_kernel::{event, hypercall, smp, trap, vcpu};
use pv_abi::errno::Errno;
use pv_abi::hypercall::{CALLBACK_OP, VCPU_OP};
use pv_abi::trap::{CALLBACKOP_REGISTER, CALLBACKTYPE_NMI, CallbackRegister};
use pv_abi::vcpu::VCPUOP_SEND_NMI;

const NMI: u8 = 2;

static CAME: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];

fn came(id: u32) -> u32 {
    CAME[id as usize].load(SeqCst)
}

/// It comes to its vCPU though upcalls are masked, by the handler that `callback_op` names.
pub fn send() -> Told {
    let count = start_all()?;
    trap::set_handler(NMI, Some(|_| _ = CAME[vcpu::current() as usize].fetch_add(1, SeqCst)));
    let callback = CallbackRegister { kind: CALLBACKTYPE_NMI, flags: 0, _pad: 0, address: trap::stub_address(NMI) };
    equal("callback", call(CALLBACK_OP, [CALLBACKOP_REGISTER.into(), reads(&callback)]), Ok(0))?;

    event::disable();
    equal("to oneself", hypercall::send_nmi(0), Ok(0))?;
    equal("came", came(0), 1)?;
    for round in 1..=50 {
        for id in 1..count {
            equal("to another", hypercall::send_nmi(id), Ok(0))?;
            wait_until("the interrupt", || came(id) == round)?;
        }
    }
    equal("each works on", smp::everywhere(count, |id| id).len(), count as usize)?;
    holds("none came twice", (1..count).all(|id| came(id) == 50))?;
    refused("with an argument", call(VCPU_OP, [VCPUOP_SEND_NMI.into(), 0, reads(&callback)]), Errno::EINVAL)?;
    refused("to nobody", hypercall::send_nmi(vcpu::count()), Errno::ENOENT)
}
