//! FIFO pages are the guest's to write: the hypervisor must bear whatever it finds there, and do bounded work.

use super::fifo_calls::{expand_array, init_control};
use super::refusal;
use crate::check::{Ending, Told, equal};
use crate::stories::mmu::ground::Page;
use alloc::vec::Vec;
use guest_kernel::{event, hypercall, vcpu};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::event::{EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindVirq, EvtchnExpandArray, EvtchnInitControl};
use pv_abi::hypercall::EVENT_CHANNEL_OP;

const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const BUSY: u32 = 1 << 28;

/// A domain with FIFO delivery whose pages hold what the attacker wants.
struct Pages {
    control: Page,
    words: Page,
    ports: Vec<u32>,
}

impl Pages {
    fn new() -> Result<Pages, Ending> {
        event::init().map_err(refusal)?;
        let (control, words) = (Page::new(), Page::new());
        init_control(control.mfn, 0, 0).map_err(refusal)?;
        expand_array(words.mfn).map_err(refusal)?;
        let ports = (0..8).map(|_| hypercall::bind_ipi(0).map_err(refusal)).collect::<Result<_, _>>()?;
        Ok(Pages { control, words, ports })
    }

    /// Writes all words.
    fn fill(&self, word: impl Fn(u32) -> u32) {
        for pair in 0..512u32 {
            let value = u64::from(word(2 * pair)) | u64::from(word(2 * pair + 1)) << 32;
            self.words.write(pair as usize, value);
        }
    }

    /// All that makes the hypervisor look at words.
    fn provoke(&self) -> Told {
        for port in &self.ports {
            equal("send", hypercall::send(*port), Ok(()))?;
        }
        for (port, priority) in self.ports.iter().zip((0..16).cycle()) {
            equal("set_priority", hypercall::set_priority(*port, priority), Ok(()))?;
            equal("send", hypercall::send(*port), Ok(()))?;
            equal("unmask", hypercall::unmask_port(*port), Ok(()))?;
        }
        Ok(())
    }
}

/// Words that link themselves, each other in a circle, ports that aren't there; with every pair of bits.
pub fn words() -> Told {
    let pages = Pages::new()?;
    let links: [fn(u32) -> u32; 5] = [|_| 0, |port| port, |port| port ^ 1, |_| 0x1_ffff, |port| (port + 1) % 8];
    for link in links {
        for bits in 0..16 {
            pages.fill(|port| bits << 28 | link(port));
            pages.provoke()?;
            // While the hypervisor believes in its own idea of the queue, the words change again.
            pages.fill(|port| (PENDING | LINKED | BUSY | MASKED) & !(bits << 28) | link(port));
            pages.provoke()?;
            pages.fill(|_| 0);
            pages.provoke()?;
        }
    }
    Ok(())
}

/// Heads out of range, ready bits of all queues and more.
pub fn control_block() -> Told {
    let pages = Pages::new()?;
    for value in [u64::MAX, 0, 0x0002_0000_0002_0000, 0x8000_0000_8000_0000] {
        (0..9).for_each(|word| pages.control.write(word, value));
        pages.fill(|_| 0);
        pages.provoke()?;
        pages.fill(|_| LINKED | 0x1_ffff);
        pages.provoke()?;
    }
    Ok(())
}

/// One page as control block and as words at once, and several times over.
pub fn one_page() -> Told {
    event::init().map_err(refusal)?;
    let page = Page::new();
    for id in 0..vcpu::count().min(8) {
        equal("control block", init_control(page.mfn, 8 * id, id).map(drop), Ok(()))?;
    }
    for _ in 0..4 {
        equal("words", expand_array(page.mfn), Ok(()))?;
    }
    for _ in 0..2000 {
        let port = hypercall::bind_ipi(0).map_err(refusal)?;
        equal("send", hypercall::send(port), Ok(()))?;
    }
    equal("reset", hypercall::reset_ports(DOMID_SELF), Ok(()))
}

/// Resets in the middle of everything.
pub fn resets() -> Told {
    for _ in 0..50 {
        let pages = Pages::new()?;
        pages.fill(|port| LINKED | ((port + 1) % 1024));
        pages.provoke()?;
        equal("reset", hypercall::reset_ports(DOMID_SELF), Ok(()))?;
        equal("send", hypercall::send(pages.ports[0]), Err(Errno::EINVAL))?;
        // The pages are the guest's alone again.
        pages.words.protect()?;
        pages.words.unprotect()?;
    }
    Ok(())
}

/// Structures full of ones, and with each word alone at its most.
pub fn arguments() -> Told {
    event::init().map_err(refusal)?;
    let sizes = [
        size_of::<EvtchnAllocUnbound>(),
        size_of::<EvtchnBindInterdomain>(),
        size_of::<EvtchnBindVirq>(),
        size_of::<EvtchnInitControl>(),
        size_of::<EvtchnExpandArray>(),
    ];
    let largest = sizes.into_iter().max().unwrap_or(0).div_ceil(8);
    for command in 0..14 {
        for at in 0..=largest {
            for value in [u64::MAX, 0xffff_ffff, 0xffff_ffff_0000_0000, 1 << 63, 0x8000_0000, 0x7fff_ffff] {
                let mut argument = [0u64; 4];
                if at == largest {
                    argument = [value; 4];
                } else {
                    argument[at] = value;
                }
                // Any answer will do; what counts is the neighbour, and that this goes on.
                let _ = crate::check::call(EVENT_CHANNEL_OP, [command, argument.as_mut_ptr() as u64]);
            }
        }
    }
    equal("reset", hypercall::reset_ports(DOMID_SELF), Ok(()))?;
    equal("a port", hypercall::bind_ipi(0).map(drop), Ok(()))
}
