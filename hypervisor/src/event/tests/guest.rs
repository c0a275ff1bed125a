//! A guest kernel's side of event channels, the way Linux does it.

use core::sync::atomic::Ordering::SeqCst;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::Pages;
use crate::addr::{Mfn, VcpuId};
use crate::event::fifo::link::{LINKED, MASKED, PENDING};
use crate::event::fifo::{EventMemory, WORDS};
use crate::event::{Events, Wake};
use pv_abi::event::EVTCHN_FIFO_LINK_MASK;

/// The frames of control blocks, by vCPU, and of event words, by page.
const CONTROL: u64 = 1;
const ARRAY: u64 = 64;

pub struct Guest {
    pub events: Arc<Events>,
    pages: &'static Pages,
    pub fifo: bool,
    /// Pages of event words that it gave.
    pub words: usize,
    /// The heads of queues that it has begun to take from, by vCPU.
    heads: Vec<[u32; 16]>,
}

impl Guest {
    pub fn new((events, pages): (Arc<Events>, &'static Pages)) -> Guest {
        let heads = vec![[0; 16]; events.vcpus().len()];
        Guest { events, pages, fifo: false, words: 0, heads }
    }

    /// The same guest, for a thread of its own.
    pub fn again(&self) -> Guest {
        Guest { events: self.events.clone(), heads: self.heads.clone(), ..*self }
    }

    /// Switches to FIFO delivery; no page of event words yet.
    pub fn use_fifo(&mut self) {
        for link in self.events.vcpus() {
            let mfn = Mfn(CONTROL + u64::from(link.id.0));
            (0..18).for_each(|index| self.pages.word(mfn, index).store(0, SeqCst));
            self.events.init_control(link.id, mfn, 0).unwrap();
        }
        self.fifo = true;
    }

    /// Gives a page of event words, of which some are masked.
    pub fn expand(&mut self, masked: impl Fn(u32) -> bool) -> Wake {
        let first = self.words * WORDS;
        let mfn = Mfn(ARRAY + self.words as u64);
        for index in 0..WORDS {
            let word = if masked((first + index) as u32) { MASKED } else { 0 };
            self.pages.word(mfn, index).store(word, SeqCst);
        }
        self.words += 1;
        self.events.expand_array(mfn).unwrap()
    }

    /// What a reset leaves.
    pub fn forget_fifo(&mut self) {
        (self.fifo, self.words) = (false, 0);
        self.heads.fill([0; 16]);
    }

    pub fn word(&self, port: u32) -> Option<&'static core::sync::atomic::AtomicU32> {
        let (page, index) = (port as usize / WORDS, port as usize % WORDS);
        (self.fifo && page < self.words).then(|| self.pages.word(Mfn(ARRAY + page as u64), index))
    }

    fn bit(port: u32) -> (usize, u64) {
        (port as usize / 64, 1 << (port % 64))
    }

    /// Masks a port.
    pub fn mask(&self, port: u32) {
        if !self.fifo {
            let (word, bit) = Guest::bit(port);
            self.events.shared.evtchn_mask[word].fetch_or(bit, SeqCst);
        } else if let Some(word) = self.word(port) {
            word.fetch_or(MASKED, SeqCst);
        }
    }

    /// Unmasks a port from its own vCPU, by a hypercall if need be.
    pub fn unmask(&self, port: u32) -> Option<Wake> {
        if !self.fifo {
            let shared = self.events.shared;
            let (word, bit) = Guest::bit(port);
            shared.evtchn_mask[word].fetch_and(!bit, SeqCst);
            if shared.evtchn_pending[word].load(SeqCst) & bit != 0 {
                let vcpu = self.events.status(port).unwrap().vcpu;
                let info = self.events.vcpu(VcpuId(vcpu)).unwrap().info();
                if info.pending_sel.fetch_or(1 << word, SeqCst) >> word & 1 == 0 {
                    info.set_upcall_pending();
                }
            }
            return None;
        }
        let word = self.word(port)?;
        let clear = |now| (now & PENDING == 0).then_some(now & !MASKED);
        match word.fetch_update(SeqCst, SeqCst, clear) {
            Ok(_) => None,
            Err(_) => Some(self.events.unmask(port).unwrap()),
        }
    }

    /// Sends a port's events to another vCPU: masked meanwhile, so that what is pending is delivered there.
    pub fn migrate(&self, port: u32, vcpu: VcpuId, masked: bool) -> Option<Wake> {
        self.mask(port);
        self.events.bind_vcpu(port, vcpu).unwrap();
        if masked { None } else { Some(self.events.unmask(port).unwrap()) }
    }

    /// Takes the events that an upcall on a vCPU is for: each is not pending any more when `handle` is called. False if
    /// there was no upcall.
    pub fn upcall(&mut self, vcpu: VcpuId, mut handle: impl FnMut(u32)) -> bool {
        let link = self.events.vcpu(vcpu).unwrap();
        let upcall = link.info().take_upcall();
        if upcall {
            if self.fifo { self.take_fifo(vcpu, &mut handle) } else { self.take_two_level(vcpu, &mut handle) }
        }
        upcall
    }

    fn take_two_level(&self, vcpu: VcpuId, handle: &mut impl FnMut(u32)) {
        let shared = self.events.shared;
        let selected = self.events.vcpu(vcpu).unwrap().info().pending_sel.swap(0, SeqCst);
        for word in (0..64).filter(|word| selected >> word & 1 != 0) {
            let ports = shared.evtchn_pending[word].load(SeqCst) & !shared.evtchn_mask[word].load(SeqCst);
            for port in (0..64).filter(|bit| ports >> bit & 1 != 0).map(|bit| (64 * word + bit) as u32) {
                // Those of other vCPUs are left to them.
                if self.events.status(port).unwrap().vcpu == vcpu.0 && self.clear(port) {
                    handle(port);
                }
            }
        }
    }

    /// Makes a port not pending. True if it was.
    pub fn clear(&self, port: u32) -> bool {
        if let Some(word) = self.word(port) {
            return word.fetch_and(!PENDING, SeqCst) & PENDING != 0;
        }
        let (word, bit) = Guest::bit(port);
        self.events.shared.evtchn_pending[word].fetch_and(!bit, SeqCst) & bit != 0
    }

    fn take_fifo(&mut self, vcpu: VcpuId, handle: &mut impl FnMut(u32)) {
        let block = |index| self.pages.word(Mfn(CONTROL + u64::from(vcpu.0)), index);
        let mut ready = block(0).swap(0, SeqCst);
        while ready != 0 {
            let priority = ready.trailing_zeros() as usize;
            let own = &mut self.heads[vcpu.0 as usize][priority];
            let port = if *own == 0 { block(2 + priority).load(SeqCst) } else { *own };
            let (page, index) = (port as usize / WORDS, port as usize % WORDS);
            let word = self.pages.word(Mfn(ARRAY + page as u64), index);
            let unlink = |now| Some(now & !(LINKED | EVTCHN_FIFO_LINK_MASK));
            let was = word.fetch_update(SeqCst, SeqCst, unlink).unwrap();
            assert_ne!(was & LINKED, 0, "port {port} is in a queue");
            *own = was & EVTCHN_FIFO_LINK_MASK;
            if *own == 0 {
                ready &= !(1 << priority);
            }
            if was & (PENDING | MASKED) == PENDING && word.fetch_and(!PENDING, SeqCst) & PENDING != 0 {
                handle(port);
            }
            ready |= block(0).swap(0, SeqCst);
        }
    }
}
