//! FIFO delivery: an event word for each port, in pages that the guest gives, and a control block for each vCPU with 16
//! queues of ports, one for each priority (`event_channel.h`, `EVTCHN_FIFO_*`). [`link`] says how the queues work.
//!
//! A domain switches to it with its first control block, and back by a reset. The pages are held as writable by the guest
//! until then: the frames of an event page or control block never become a table, and never somebody else's, while an
//! event may be written there. They are read and written a word at a time ([`EventMemory`]).
//!
//! **A port whose page isn't there yet** remembers that it is pending. Whether there is a page is looked at again with
//! the port's place locked; a new page is known first, and then each of its ports is looked at with that lock.

pub mod link;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use pv_abi::errno::Errno;
use pv_abi::event::{
    EVTCHN_2L_NR_CHANNELS, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_NR_CHANNELS, EVTCHN_FIFO_PENDING, EVTCHN_FIFO_PRIORITY_MIN,
    FifoControlBlock,
};
use spin::{Mutex, Once};

use super::port::{Binding, Port};
use super::two_level::Bits;
use super::{Events, Wake};
use crate::addr::{Mfn, PAGE_SIZE, VcpuId};
use link::{Control, LINKED, Lists, PENDING, Queues, Word, enqueue};

pub use link::Place;

/// The seam to memory: the pages of FIFO delivery, and what there is for the hypervisor's own side of it.
///
/// Frames asked for are RAM and held as writable by the guest; indices are below [`WORDS`].
pub trait EventMemory: Sync {
    /// A word of a page.
    fn word(&self, mfn: Mfn, index: usize) -> &AtomicU32;

    /// May what a guest asks for take so many bytes of the hypervisor's own, which aren't counted as the guest's?
    fn has_to_spare(&self, bytes: usize) -> bool;
}

/// Event words in a page.
pub const WORDS: usize = PAGE_SIZE / size_of::<u32>();
/// Pages that all ports need.
const PAGES: usize = EVTCHN_FIFO_NR_CHANNELS as usize / WORDS;

/// What a domain has for FIFO delivery.
pub(super) struct Fifo {
    memory: &'static dyn EventMemory,
    /// It is in use.
    on: AtomicBool,
    /// Made when it is used first.
    state: Once<State>,
}

struct State {
    /// Frames of the event words of 1,024 ports each, or [`Mfn::INVALID`]. They change with the table locked.
    pages: Box<[AtomicU64]>,
    /// By vCPU.
    queues: Box<[Mutex<Queues>]>,
}

impl State {
    /// Bytes that it takes.
    const fn size_of(vcpus: usize) -> usize {
        PAGES * size_of::<AtomicU64>() + vcpus * size_of::<Mutex<Queues>>()
    }

    /// No page, and no control block.
    fn new(vcpus: usize) -> Result<State, Errno> {
        Ok(State {
            pages: boxed(PAGES, || AtomicU64::new(Mfn::INVALID.0))?,
            queues: boxed(vcpus, || Mutex::new(Queues::default()))?,
        })
    }
}

fn boxed<T>(len: usize, new: impl FnMut() -> T) -> Result<Box<[T]>, Errno> {
    let mut items = Vec::new();
    items.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    items.extend(core::iter::repeat_with(new).take(len));
    Ok(items.into_boxed_slice())
}

/// What became of a port that was to be pending.
pub(super) struct Set {
    /// It wasn't pending.
    pub newly: bool,
    /// The vCPU has to be told.
    pub tell: bool,
}

impl Lists for Fifo {
    type Word = AtomicU32;

    #[inline]
    fn word(&self, port: u32) -> Option<&AtomicU32> {
        let (page, index) = (port as usize / WORDS, port as usize % WORDS);
        let mfn = Mfn(self.state.get()?.pages.get(page)?.load(Ordering::SeqCst));
        (mfn != Mfn::INVALID).then(|| self.memory.word(mfn, index))
    }

    fn control(&self, block: Control, index: usize) -> &AtomicU32 {
        self.memory.word(block.mfn, block.first + index)
    }

    fn with_queues<T>(&self, vcpu: VcpuId, work: impl FnOnce(&mut Queues) -> T) -> Option<T> {
        let queues = self.state.get()?.queues.get(vcpu.0 as usize)?;
        Some(work(&mut queues.lock()))
    }
}

impl Fifo {
    /// Not in use.
    pub fn new(memory: &'static dyn EventMemory) -> Fifo {
        Fifo { memory, on: AtomicBool::new(false), state: Once::new() }
    }

    /// May so many bytes of the hypervisor's memory be taken?
    pub fn has_to_spare(&self, bytes: usize) -> bool {
        self.memory.has_to_spare(bytes)
    }

    /// Is it in use? It doesn't change as long as some port is bound and locked.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// All ports are closed: it isn't in use any more.
    pub fn turn_off(&self) {
        self.on.store(false, Ordering::SeqCst);
    }

    /// Makes a port pending, which the caller keeps bound.
    pub fn set_pending(&self, number: u32, port: &Port, vcpu: VcpuId) -> Set {
        let Some(word) = self.word(number) else { return self.wait(number, port, vcpu) };
        let newly = !word.test_and_set(EVTCHN_FIFO_PENDING);
        Set { newly, tell: self.queue(number, word, port, vcpu) }
    }

    /// [`Fifo::set_pending`] where there was no page.
    fn wait(&self, number: u32, port: &Port, vcpu: VcpuId) -> Set {
        let mut place = port.place.lock();
        if self.word(number).is_some() {
            drop(place);
            return self.set_pending(number, port, vcpu);
        }
        Set { newly: !core::mem::replace(&mut place.waiting, true), tell: false }
    }

    /// Puts a port in a queue, now that it is pending, if it isn't masked.
    fn queue(&self, number: u32, word: &AtomicU32, port: &Port, vcpu: VcpuId) -> bool {
        // Without a lock first: mostly it is masked, or in a queue already.
        let wanted = Word::load(word) & (PENDING | link::MASKED | LINKED) == PENDING;
        wanted && enqueue(self, number, &mut port.place.lock(), vcpu)
    }

    /// Unmasks a port. True if its vCPU has to be told.
    pub fn unmask(&self, number: u32, port: &Port) -> bool {
        let Some(word) = self.word(number) else { return false };
        word.test_and_clear(EVTCHN_FIFO_MASKED);
        self.queue(number, word, port, port.vcpu())
    }

    /// Is a port pending?
    pub fn is_pending(&self, number: u32, port: &Port) -> bool {
        self.word(number).map_or_else(|| port.place.lock().waiting, |word| Word::load(word) & PENDING != 0)
    }

    /// Is a port in a queue, as the guest says?
    pub fn is_linked(&self, number: u32) -> bool {
        self.is_on() && self.word(number).is_some_and(|word| Word::load(word) & LINKED != 0)
    }

    /// A port is closed.
    pub fn clear(&self, number: u32, port: &Port) {
        port.place.lock().close();
        if let Some(word) = self.word(number) {
            word.test_and_clear(EVTCHN_FIFO_PENDING);
        }
    }

    /// One of the frames it holds, which it doesn't know any more. It is not in use.
    fn take_frame(&self) -> Option<Mfn> {
        let State { pages, queues } = self.state.get()?;
        let taken = queues.iter().find_map(|queues| core::mem::take(&mut *queues.lock()).control);
        if let Some(control) = taken {
            return Some(control.mfn);
        }
        let swap = |page: &AtomicU64| Mfn(page.swap(Mfn::INVALID.0, Ordering::SeqCst));
        pages.iter().map(swap).find(|&mfn| mfn != Mfn::INVALID)
    }
}

impl Events {
    /// The frames that are held for it.
    #[cfg(test)]
    pub(crate) fn held_frames(&self) -> impl Iterator<Item = Mfn> {
        let state = self.fifo.state.get();
        let blocks = state.into_iter().flat_map(|state| &state.queues).filter_map(|queues| queues.lock().control);
        let pages = state.into_iter().flat_map(|state| &state.pages).map(|page| Mfn(page.load(Ordering::SeqCst)));
        blocks.map(|block| block.mfn).chain(pages.filter(|&mfn| mfn != Mfn::INVALID))
    }

    /// Tells a vCPU's control block. With the first one the domain switches to FIFO delivery. The caller holds the frame as
    /// writable, and on success leaves that to [`Events::take_frame`].
    ///
    /// # Errors
    /// `ENOENT` if there is no such vCPU; `EINVAL` if the block doesn't lie in the page, isn't aligned to 8 bytes, or
    /// the vCPU has one already; `ENOMEM`; `EBUSY` while the domain is being reset, `EINVAL` if it ends.
    pub fn init_control(&self, vcpu: VcpuId, mfn: Mfn, offset: u32) -> Result<(), Errno> {
        self.check_control(vcpu, offset)?;
        let table = self.table.lock();
        table.is_open()?;
        if !self.fifo.state.is_completed() {
            let vcpus = self.vcpus.len();
            if !self.fifo.has_to_spare(State::size_of(vcpus)) {
                return Err(Errno::ENOMEM);
            }
            let state = State::new(vcpus)?;
            self.fifo.state.call_once(|| state);
        }
        let block = Control { mfn, first: offset as usize / size_of::<u32>() };
        let install = |queues: &mut Queues| {
            if queues.control.is_some() {
                return Err(Errno::EINVAL);
            }
            queues.control = Some(block);
            Ok(())
        };
        self.fifo.with_queues(vcpu, install).ok_or(Errno::ENOENT)??;
        if !self.fifo.on.swap(true, Ordering::SeqCst) {
            self.carry_over();
        }
        Ok(())
    }

    /// The checks of [`Events::init_control`] that need no frame.
    ///
    /// # Errors
    /// `ENOENT` and `EINVAL`.
    pub fn check_control(&self, vcpu: VcpuId, offset: u32) -> Result<(), Errno> {
        self.vcpu(vcpu).ok_or(Errno::ENOENT)?;
        let fits = offset as usize <= PAGE_SIZE - size_of::<FifoControlBlock>();
        if fits && offset.is_multiple_of(8) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Takes over what was made pending in the bitmap. With its locks held, nobody is about to do so for a port any more.
    ///
    /// The selectors are cleared, since nobody looks at them from now on: after a reset to 2-level delivery, a bit that had
    /// stayed set would keep the first event in its word from making an upcall pending.
    fn carry_over(&self) {
        for (number, port) in self.ports.iter().take(EVTCHN_2L_NR_CHANNELS as usize) {
            self.with_ends(port, |near, _| {
                let pending = Bits::of(self.shared, number).is_some_and(Bits::clear_pending);
                if pending && !matches!(near, Binding::Free) {
                    // There is no page yet: this was the first control block.
                    port.place.lock().waiting = true;
                }
            });
        }
        for link in &self.vcpus {
            link.info().pending_sel.store(0, Ordering::SeqCst);
        }
    }

    /// The checks of [`Events::expand_array`], before a frame is taken for it.
    ///
    /// # Errors
    /// Those of that.
    pub fn check_expand(&self) -> Result<(), Errno> {
        self.empty_page().map(drop)
    }

    /// The first page that the guest hasn't given yet.
    fn empty_page(&self) -> Result<(usize, &AtomicU64), Errno> {
        let state = self.fifo.state.get().filter(|_| self.fifo.is_on()).ok_or(Errno::EOPNOTSUPP)?;
        let is_empty = |page: &AtomicU64| page.load(Ordering::SeqCst) == Mfn::INVALID.0;
        (0..).zip(&state.pages).find(|(_, page)| is_empty(page)).ok_or(Errno::ENOSPC)
    }

    /// Adds a page of event words, and delivers what waited for it. The caller holds the frame as in
    /// [`Events::init_control`].
    ///
    /// # Errors
    /// `EOPNOTSUPP` under 2-level delivery, `ENOSPC` if all pages are there.
    pub fn expand_array(self: &Arc<Self>, mfn: Mfn) -> Result<Wake, Errno> {
        let table = self.table.lock();
        table.is_open()?;
        let (index, page) = self.empty_page()?;
        page.store(mfn.0, Ordering::SeqCst);
        let mut upcalls = 0;
        for (number, port) in self.ports.iter().skip(index * WORDS).take(WORDS) {
            let _bound = port.lock();
            let vcpu = port.vcpu();
            if core::mem::take(&mut port.place.lock().waiting)
                && self.fifo.set_pending(number, port, vcpu).tell
                && self.set_upcall(vcpu)
            {
                upcalls |= 1 << vcpu.0;
            }
        }
        Ok(self.wake(upcalls, 0))
    }

    /// Chooses a port's queue, for events from now on.
    ///
    /// # Errors
    /// `EINVAL` if there is no such port or priority, `ENOSYS` under 2-level delivery, `EACCES` for a port that is not in
    /// use.
    pub fn set_priority(&self, number: u32, priority: u32) -> Result<(), Errno> {
        let port = self.port(number)?;
        let binding = port.lock();
        if !self.fifo.is_on() {
            return Err(Errno::ENOSYS);
        }
        if matches!(*binding, Binding::Free) {
            return Err(Errno::EACCES);
        }
        if priority > EVTCHN_FIFO_PRIORITY_MIN {
            return Err(Errno::EINVAL);
        }
        let [priority, ..] = priority.to_le_bytes();
        port.place.lock().set_priority(priority);
        Ok(())
    }

    /// After [`Events::close_all`]: the next of the frames that the guest gave, which the caller no longer holds as
    /// writable then. When there is none left, a domain that was being reset may make ports again.
    pub fn take_frame(&self) -> Option<Mfn> {
        let mut table = self.table.lock();
        if self.fifo.is_on() || table.closing.is_none() {
            return None;
        }
        let frame = self.fifo.take_frame();
        if frame.is_none() {
            table.reopen();
        }
        frame
    }
}
