//! Sending, masking, and looking whether something is pending.

use core::sync::atomic::Ordering;

use alloc::sync::Arc;

use pv_abi::errno::Errno;

use super::fifo::Set;
use super::port::Binding;
use super::two_level::Bits;
use super::{Events, Wake, Woken};
use crate::addr::VcpuId;

impl Events {
    /// Sends an event from a port: to its other end, or to the vCPU of an IPI. From an unbound port it goes nowhere.
    ///
    /// # Errors
    /// `EINVAL` for any other port.
    #[inline]
    pub fn send(self: &Arc<Self>, number: u32) -> Result<Wake, Errno> {
        match &*self.port(number)?.lock() {
            Binding::Interdomain { peer, port } => Ok(peer.set_pending(*port)),
            Binding::Ipi => Ok(self.set_pending(number)),
            Binding::Unbound { .. } => Ok(Wake::NOBODY),
            Binding::Free | Binding::Virq { .. } | Binding::Pirq { .. } => Err(Errno::EINVAL),
        }
    }

    /// Unmasks a port, and delivers what is pending there. Nothing happens to a port that is not in use.
    ///
    /// # Errors
    /// `EINVAL` if there is no such port.
    pub fn unmask(self: &Arc<Self>, number: u32) -> Result<Wake, Errno> {
        let port = self.port(number)?;
        let binding = port.lock();
        if matches!(*binding, Binding::Free) {
            return Ok(Wake::NOBODY);
        }
        let vcpu = port.vcpu();
        let upcall = if self.fifo.is_on() {
            self.fifo.unmask(number, port) && self.set_upcall(vcpu)
        } else {
            Bits::of(self.shared, number).is_some_and(|bits| {
                let due = bits.unmask() && bits.is_pending();
                due && self.vcpu(vcpu).is_some_and(|link| bits.select(link.info()))
            })
        };
        Ok(self.wake(u32::from(upcall) << vcpu.0, 0))
    }

    /// Is something pending on a port, masked or not? Never on one that is not in use.
    ///
    /// # Errors
    /// `EINVAL` if there is no such port.
    pub fn is_pending(&self, number: u32) -> Result<bool, Errno> {
        let port = self.port(number)?;
        let binding = port.lock();
        Ok(match *binding {
            Binding::Free => false,
            _ if self.fifo.is_on() => self.fifo.is_pending(number, port),
            _ => Bits::of(self.shared, number).is_some_and(Bits::is_pending),
        })
    }

    /// Makes a port pending. A lock is held that keeps it bound: its own or its other end's.
    #[inline]
    pub(super) fn set_pending(self: &Arc<Self>, number: u32) -> Wake {
        if self.fifo.is_on() {
            return self.set_pending_fifo(number);
        }
        let Some(bits) = Bits::of(self.shared, number) else { return Wake::NOBODY };
        if !bits.set_pending() {
            return Wake::NOBODY;
        }
        let pollers = self.polling.load(Ordering::SeqCst);
        if bits.is_masked() && pollers == 0 {
            return Wake::NOBODY;
        }
        self.deliver_two_level(number, pollers)
    }

    /// The rest of [`Events::set_pending`], where somebody may have to look.
    #[inline(never)]
    fn deliver_two_level(self: &Arc<Self>, number: u32, pollers: u32) -> Wake {
        let port = self.ports.get(number).zip(Bits::of(self.shared, number));
        let Some((port, bits)) = port else { return Wake::NOBODY };
        let vcpu = port.vcpu();
        let upcall = !bits.is_masked() && self.vcpu(vcpu).is_some_and(|link| bits.select(link.info()));
        self.wake(u32::from(upcall) << vcpu.0, self.who_polls_for(number, pollers))
    }

    #[inline(never)]
    fn set_pending_fifo(self: &Arc<Self>, number: u32) -> Wake {
        let Some(port) = self.ports.get(number) else { return Wake::NOBODY };
        let vcpu = port.vcpu();
        let Set { newly, tell } = self.fifo.set_pending(number, port, vcpu);
        let pollers = if newly { self.polling.load(Ordering::SeqCst) } else { 0 };
        let upcall = tell && self.set_upcall(vcpu);
        self.wake(u32::from(upcall) << vcpu.0, self.who_polls_for(number, pollers))
    }

    /// Makes a vCPU's upcall pending. True if it wasn't.
    pub(super) fn set_upcall(&self, vcpu: VcpuId) -> bool {
        self.vcpu(vcpu).is_some_and(|link| link.info().set_upcall_pending())
    }

    /// Which of these vCPUs wait for this port: a bit for each.
    #[inline]
    fn who_polls_for(&self, number: u32, pollers: u32) -> u32 {
        if pollers == 0 {
            return 0;
        }
        let waiting = self.vcpus.iter().filter(|link| pollers >> link.id.0 & 1 != 0 && link.polls_for(number));
        waiting.fold(0, |bits, link| bits | 1 << link.id.0)
    }

    /// These vCPUs have to look, a bit for each: those whose upcall became pending, and those that poll.
    pub(super) fn wake(self: &Arc<Self>, upcalls: u32, pollers: u32) -> Wake {
        if upcalls | pollers == 0 {
            return Wake::NOBODY;
        }
        Wake(Some(Woken { events: self.clone(), upcalls, pollers }))
    }
}
