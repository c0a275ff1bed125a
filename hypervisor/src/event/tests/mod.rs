//! Event channels without a machine.
//!
//! * `guest`: what a kernel does with its flags, in both ways of delivery.
//! * `rules`: making, connecting and closing ports; refusals and their codes.
//! * `delivery`: one rule of delivery per test.
//! * `model`: random actions of two domains against a naive model (property test): after each it is known which port is
//!   pending, and that just those are delivered; and who has to be kicked.
//! * `threads`: real threads send, mask, move, close and sleep at the same time; nobody waits for ever.
//! * `queues`: all interleavings that `shuttle` finds, of senders to FIFO queues and a guest that takes events from them.
#![allow(clippy::cast_possible_truncation, reason = "tests cut numbers to size that they know")]

mod delivery;
pub mod guest;
mod model;
mod queues;
mod rules;
mod threads;

use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicU32, AtomicUsize};
use std::boxed::Box;
use std::sync::{Arc, OnceLock};
use std::vec::Vec;

use super::fifo::{EventMemory, WORDS};
use super::{Events, Kick, Rights, Wake};
use crate::addr::{DomainId, Mfn, VcpuId};
use crate::domain::link::VcpuLink;
use crate::domain::shared::SharedInfo;

/// Frames of [`Pages`].
const FRAMES: usize = 512;

/// Pages of FIFO delivery, made of zeros when they are asked for.
pub struct Pages {
    pages: Vec<OnceLock<Box<[AtomicU32; WORDS]>>>,
    /// Bytes that the hypervisor has to spare.
    spare: AtomicUsize,
}

impl Pages {
    pub fn leak() -> &'static Pages {
        let pages = (0..FRAMES).map(|_| OnceLock::new()).collect();
        Box::leak(Box::new(Pages { pages, spare: AtomicUsize::new(usize::MAX) }))
    }
}

impl EventMemory for Pages {
    fn word(&self, mfn: Mfn, index: usize) -> &AtomicU32 {
        &self.pages[mfn.0 as usize].get_or_init(|| Box::new([const { AtomicU32::new(0) }; WORDS]))[index]
    }

    fn has_to_spare(&self, bytes: usize) -> bool {
        bytes <= self.spare.load(SeqCst)
    }
}

/// A domain of so many vCPUs. Domain 0 is privileged.
pub fn domain(id: u16, vcpus: u32, max_ports: u32) -> (Arc<Events>, &'static Pages) {
    let (shared, pages) = (Box::leak(SharedInfo::zeroed()), Pages::leak());
    let rights = Rights { privileged: id == 0, max_ports };
    (Arc::new(Events::new(DomainId(id), shared, vcpus, rights, pages)), pages)
}

/// Who was kicked.
#[derive(Default, PartialEq, Debug)]
struct Kicked(Vec<(u16, u32)>);

impl Kick for Kicked {
    fn kick(&mut self, vcpu: &VcpuLink) {
        self.0.push((vcpu.domain.0, vcpu.id.0));
    }
}

/// Who is kicked for this.
fn kicked(wake: Wake) -> Vec<(u16, u32)> {
    let mut kicked = Kicked::default();
    wake.kick(&mut kicked);
    kicked.0
}

/// Two ports that are connected; what the second got for that is taken.
fn connect(a: &Arc<Events>, b: &Arc<Events>) -> (u32, u32) {
    let near = a.alloc_unbound(b.domain).unwrap();
    let (far, wake) = b.bind_interdomain(a, near).unwrap();
    let _ = kicked(wake);
    (near, far)
}

const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);
