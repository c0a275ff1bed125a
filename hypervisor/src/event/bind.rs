//! Making ports, connecting them, and closing them.

use alloc::sync::Arc;

use pv_abi::errno::Errno;
use pv_abi::event::{
    EVTCHNSTAT_CLOSED, EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_IPI, EVTCHNSTAT_PIRQ, EVTCHNSTAT_UNBOUND, EVTCHNSTAT_VIRQ,
    EvtchnStatus,
};

use super::port::{Binding, Port, lock_two};
use super::table::{Closing, Table};
use super::two_level::Bits;
use super::{Events, Wake, virq};
use crate::addr::{DomainId, VcpuId};

impl Events {
    /// Makes a port that the domain `remote`, which needn't exist yet, may connect to; its number.
    ///
    /// # Errors
    /// `ENOSPC` if the domain has all the ports that it may have, `ENOMEM`; `EBUSY` while it is being reset, `EINVAL` if
    /// it ends.
    pub fn alloc_unbound(&self, remote: DomainId) -> Result<u32, Errno> {
        let free = self.free_port()?;
        *free.port.lock() = Binding::Unbound { remote };
        Ok(free.take())
    }

    /// Makes a port for messages to a vCPU; its number.
    ///
    /// # Errors
    /// `ENOENT` if there is no such vCPU, and those of [`Events::alloc_unbound`].
    pub fn bind_ipi(&self, vcpu: VcpuId) -> Result<u32, Errno> {
        self.vcpu(vcpu).ok_or(Errno::ENOENT)?;
        let free = self.free_port()?;
        free.port.set_vcpu(vcpu);
        *free.port.lock() = Binding::Ipi;
        Ok(free.take())
    }

    /// Makes a port for a physical interrupt; its number. Its events go to vCPU 0 first.
    ///
    /// # Errors
    /// Those of [`Events::alloc_unbound`].
    pub fn bind_pirq(&self, pirq: u32) -> Result<u32, Errno> {
        let free = self.free_port()?;
        *free.port.lock() = Binding::Pirq { pirq };
        Ok(free.take())
    }

    /// Is a port bound to this physical interrupt?
    pub fn is_bound_to_pirq(&self, number: u32, pirq: u32) -> bool {
        self.port(number).is_ok_and(|port| matches!(*port.lock(), Binding::Pirq { pirq: now } if now == pirq))
    }

    /// A physical interrupt has arrived. Nothing happens if the port is not bound to it any more.
    pub fn raise_pirq(self: &Arc<Self>, number: u32, pirq: u32) -> Wake {
        let Ok(port) = self.port(number) else { return Wake::NOBODY };
        let binding = port.lock();
        let bound = matches!(*binding, Binding::Pirq { pirq: now } if now == pirq);
        if bound { self.set_pending(number) } else { Wake::NOBODY }
    }

    /// Makes a port and connects it to one that waits for this domain; its number. It is pending at once: what the other
    /// side sent before goes nowhere, so the guest has to look for itself.
    ///
    /// # Errors
    /// `EINVAL` if the other port doesn't wait for this domain, and those of [`Events::alloc_unbound`].
    pub fn bind_interdomain(self: &Arc<Self>, remote: &Arc<Events>, remote_port: u32) -> Result<(u32, Wake), Errno> {
        let free = self.free_port()?;
        let (number, other) = (free.number, remote.port(remote_port)?);
        if core::ptr::eq(free.port, other) {
            return Err(Errno::EINVAL);
        }
        let (mut near, mut far) = lock_two(free.port, other);
        if !matches!(*far, Binding::Unbound { remote } if remote == self.domain) {
            return Err(Errno::EINVAL);
        }
        *near = Binding::Interdomain { peer: remote.clone(), port: remote_port };
        *far = Binding::Interdomain { peer: self.clone(), port: number };
        let wake = self.set_pending(number);
        drop((near, far));
        Ok((free.take(), wake))
    }

    /// Sends a port's events to another vCPU from now on. An event that is pending stays where it was told.
    ///
    /// # Errors
    /// `ENOENT` if there is no such vCPU; `EINVAL` for a port that is not in use, or belongs to a vCPU.
    pub fn bind_vcpu(&self, number: u32, vcpu: VcpuId) -> Result<(), Errno> {
        self.vcpu(vcpu).ok_or(Errno::ENOENT)?;
        let port = self.port(number)?;
        let binding = port.lock();
        match *binding {
            Binding::Unbound { .. } | Binding::Interdomain { .. } | Binding::Pirq { .. } => {}
            Binding::Virq { virq } if virq::is_global(virq) => {}
            Binding::Free | Binding::Virq { .. } | Binding::Ipi => return Err(Errno::EINVAL),
        }
        port.set_vcpu(vcpu);
        Ok(())
    }

    /// A port's state, without the fields that the caller of the hypercall filled in.
    ///
    /// # Errors
    /// `EINVAL` if there is no such port.
    pub fn status(&self, number: u32) -> Result<EvtchnStatus, Errno> {
        let port = self.port(number)?;
        let (status, detail, remote_port) = match &*port.lock() {
            Binding::Free => (EVTCHNSTAT_CLOSED, 0, 0),
            Binding::Unbound { remote } => (EVTCHNSTAT_UNBOUND, remote.0.into(), 0),
            Binding::Interdomain { peer, port } => (EVTCHNSTAT_INTERDOMAIN, peer.domain.0.into(), *port),
            Binding::Virq { virq } => (EVTCHNSTAT_VIRQ, *virq, 0),
            Binding::Pirq { pirq } => (EVTCHNSTAT_PIRQ, *pirq, 0),
            Binding::Ipi => (EVTCHNSTAT_IPI, 0, 0),
        };
        Ok(EvtchnStatus { status, vcpu: port.vcpu().0, detail, remote_port, ..Default::default() })
    }

    /// Closes a port. The other end, if there is one, waits for this domain again.
    ///
    /// # Errors
    /// `EINVAL` for a port that is not in use.
    pub fn close(&self, number: u32) -> Result<(), Errno> {
        let port = self.port(number)?;
        self.close_port(&mut self.table.lock(), number, port)
    }

    fn close_port(&self, table: &mut Table, number: u32, port: &Port) -> Result<(), Errno> {
        let was = self.with_ends(port, |near, far| {
            if let Binding::Virq { virq } = *near {
                self.virqs.forget(virq, port.vcpu());
            }
            if let Some(far) = far {
                *far = Binding::Unbound { remote: self.domain };
            }
            if !matches!(near, Binding::Free) {
                // Nobody makes it pending any more, and the next use of the number begins with nothing pending.
                self.clear_pending(number, port);
                port.set_vcpu(VcpuId(0));
            }
            core::mem::take(near)
        });
        if matches!(was, Binding::Free) {
            return Err(Errno::EINVAL);
        }
        table.closed(number, self.fifo.is_linked(number));
        Ok(())
    }

    fn clear_pending(&self, number: u32, port: &Port) {
        if self.fifo.is_on() {
            self.fifo.clear(number, port);
        } else if let Some(bits) = Bits::of(self.shared, number) {
            bits.clear_pending();
        }
    }

    /// Closes all ports, until `budget` is used up; true when that is done. No new ones are made meanwhile. Then the frames
    /// of [`Events::take_frame`] are to be given back; nobody writes to them, or to the flags of the vCPUs, any more.
    pub fn close_all(&self, why: Closing, budget: &mut u32) -> bool {
        loop {
            // Not all in one go: others need the table too.
            let mut table = self.table.lock();
            let (why, next) = match table.closing {
                Some((was, next)) if was == why || was == Closing::End => (was, next),
                Some(_) | None => (why, 1),
            };
            let Some(port) = self.ports.get(next) else {
                self.fifo.turn_off();
                table.unlinked();
                return true;
            };
            table.closing = Some((why, next));
            let Some(left) = budget.checked_sub(1) else { return false };
            *budget = left;
            // Most are closed already.
            let _: Result<(), Errno> = self.close_port(&mut table, next, port);
            table.closing = Some((why, next + 1));
        }
    }
}
