//! One port: what it is bound to, and where its events go.

use core::ptr;
use core::sync::atomic::{AtomicU8, Ordering};

use alloc::sync::Arc;
use spin::{Mutex, MutexGuard};

use super::Events;
use super::fifo::Place;
use crate::addr::{DomainId, VcpuId};

/// What a port is bound to.
#[derive(Default)]
pub(super) enum Binding {
    /// Nothing: the port is not in use.
    #[default]
    Free,
    /// Nothing yet. That domain may connect.
    Unbound {
        /// The domain.
        remote: DomainId,
    },
    /// Another port, maybe of the same domain, whose binding names this one.
    Interdomain {
        /// Its domain.
        peer: Arc<Events>,
        /// Its number.
        port: u32,
    },
    /// A virtual interrupt.
    Virq {
        /// Its number.
        virq: u32,
    },
    /// A physical interrupt of the domain's.
    Pirq {
        /// Its number.
        pirq: u32,
    },
    /// The domain itself: vCPUs send to vCPUs.
    Ipi,
}

/// A port. 32 bytes, since a domain may have a hundred thousand.
pub(super) struct Port {
    binding: Mutex<Binding>,
    /// The vCPU that gets the events, below 32.
    vcpu: AtomicU8,
    /// Where it is in the queues of FIFO delivery.
    pub place: Mutex<Place>,
}

const _: () = assert!(size_of::<Port>() == 32);

impl Port {
    /// A port that is not in use.
    pub const fn new() -> Port {
        Port { binding: Mutex::new(Binding::Free), vcpu: AtomicU8::new(0), place: Mutex::new(Place::NEW) }
    }

    /// Its binding, which doesn't change while this is held; nor does its peer's, if there is one.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, Binding> {
        self.binding.lock()
    }

    /// The vCPU that gets its events.
    #[inline]
    pub fn vcpu(&self) -> VcpuId {
        VcpuId(self.vcpu.load(Ordering::Relaxed).into())
    }

    /// Sends its events to another vCPU of the domain from now on.
    pub fn set_vcpu(&self, vcpu: VcpuId) {
        let [low, ..] = vcpu.0.to_le_bytes();
        self.vcpu.store(low, Ordering::Relaxed);
    }
}

/// Locks two ports that are not the same.
pub(super) fn lock_two<'a>(first: &'a Port, second: &'a Port) -> (MutexGuard<'a, Binding>, MutexGuard<'a, Binding>) {
    if ptr::from_ref(first) < ptr::from_ref(second) {
        let locked = first.lock();
        (locked, second.lock())
    } else {
        let locked = second.lock();
        (first.lock(), locked)
    }
}

impl Events {
    /// Runs `work` with a port's binding, and with that of the port at the other end if there is one. While it runs nobody
    /// makes the port pending.
    pub(super) fn with_ends<T>(&self, port: &Port, work: impl FnOnce(&mut Binding, Option<&mut Binding>) -> T) -> T {
        loop {
            let mut near = port.lock();
            let Some((peer, number)) = near.peer() else { return work(&mut near, None) };
            drop(near);
            let Some(other) = peer.ports.get(number) else { continue };
            // It may have been closed meanwhile, and connected to another.
            let (mut near, mut far) = lock_two(port, other);
            if near.peer().is_some_and(|(now, port)| Arc::ptr_eq(&now, &peer) && port == number) {
                return work(&mut near, Some(&mut far));
            }
        }
    }
}

impl Binding {
    /// The other end.
    fn peer(&self) -> Option<(Arc<Events>, u32)> {
        match self {
            Binding::Interdomain { peer, port } => Some((peer.clone(), *port)),
            _ => None,
        }
    }
}
