//! Virtual interrupts: some are each vCPU's own, of others the machine has only one (`xen.h`, `VIRQ_*`).

use core::sync::atomic::{AtomicU32, Ordering};

use alloc::boxed::Box;
use alloc::sync::Arc;

use pv_abi::errno::Errno;
use pv_abi::event::{NR_VIRQS, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU};

use super::port::Binding;
use super::{Events, Wake};
use crate::addr::VcpuId;

/// Virtual interrupts that each vCPU has.
const PER_VCPU: [u32; 4] = [VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU];

/// Whether the machine has only one.
pub(super) fn is_global(virq: u32) -> bool {
    !PER_VCPU.contains(&virq)
}

/// Ports by virtual interrupt; 0 where none is bound. They change with the table locked.
pub(super) struct Virqs {
    of_vcpu: Box<[[AtomicU32; PER_VCPU.len()]]>,
    global: [AtomicU32; NR_VIRQS as usize],
}

impl Virqs {
    /// None is bound.
    pub fn new(vcpus: usize) -> Virqs {
        Virqs {
            of_vcpu: (0..vcpus).map(|_| Default::default()).collect(),
            global: [const { AtomicU32::new(0) }; NR_VIRQS as usize],
        }
    }

    /// Where the port of a virtual interrupt is kept; the vCPU of a global one doesn't matter.
    fn slot(&self, virq: u32, vcpu: VcpuId) -> Option<&AtomicU32> {
        match PER_VCPU.iter().position(|&own| own == virq) {
            Some(index) => self.of_vcpu.get(vcpu.0 as usize)?.get(index),
            None => self.global.get(virq as usize),
        }
    }

    /// Its port is closed.
    pub fn forget(&self, virq: u32, vcpu: VcpuId) {
        if let Some(slot) = self.slot(virq, vcpu) {
            slot.store(0, Ordering::SeqCst);
        }
    }
}

impl Events {
    /// Makes a port for a virtual interrupt; its number. A global one goes to vCPU 0 first. Any domain may have one, and only
    /// those of the control domain are ever raised.
    ///
    /// # Errors
    /// `EINVAL` for one that the ABI doesn't have, and for a global one that names a vCPU other than 0; `ENOENT` if there is
    /// no such vCPU, `EEXIST` if it has a port already, and those of making a port.
    pub fn bind_virq(&self, virq: u32, vcpu: VcpuId) -> Result<u32, Errno> {
        if virq >= NR_VIRQS || is_global(virq) && vcpu != VcpuId(0) {
            return Err(Errno::EINVAL);
        }
        self.vcpu(vcpu).ok_or(Errno::ENOENT)?;
        let slot = self.virqs.slot(virq, vcpu).ok_or(Errno::EINVAL)?;
        let free = self.free_port()?;
        if slot.load(Ordering::SeqCst) != 0 {
            return Err(Errno::EEXIST);
        }
        free.port.set_vcpu(vcpu);
        *free.port.lock() = Binding::Virq { virq };
        slot.store(free.number, Ordering::SeqCst);
        Ok(free.take())
    }

    /// Is this virtual interrupt of the vCPU bound to a port?
    #[inline]
    pub fn is_virq_bound(&self, virq: u32, vcpu: VcpuId) -> bool {
        self.virqs.slot(virq, vcpu).is_some_and(|slot| slot.load(Ordering::Relaxed) != 0)
    }

    /// Raises a virtual interrupt of the vCPU, or a global one. Nothing happens if no port is bound to it.
    pub fn raise(self: &Arc<Self>, virq: u32, vcpu: VcpuId) -> Wake {
        let number = self.virqs.slot(virq, vcpu).map_or(0, |slot| slot.load(Ordering::SeqCst));
        let Some(port) = self.ports.get(number) else { return Wake::NOBODY };
        let binding = port.lock();
        // It may have been closed meanwhile, and bound to something else.
        let bound = matches!(*binding, Binding::Virq { virq: now } if now == virq);
        if bound && (is_global(virq) || port.vcpu() == vcpu) { self.set_pending(number) } else { Wake::NOBODY }
    }
}
