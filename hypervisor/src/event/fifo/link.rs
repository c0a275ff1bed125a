//! Putting an event in a queue, while the guest takes others from it.
//!
//! A queue is a list of ports, linked by the guest's event words. The guest takes ports from its head: it clears *linked*
//! and the link of the first word with one locked instruction, and so learns which is next. We append at the tail, which
//! only we know, and write the head when the queue is empty: when the port at the tail isn't *linked* any more, the guest
//! has taken it, and all before it.
//!
//! **Appending to a tail** that the guest may take at this moment is one `xadd`: it adds the new port's number to the
//! link, which is 0 in a tail. If *linked* was set in what it returns, the guest will find the link. If not, the guest
//! was faster and looks at the link no more: the number is subtracted again, and the queue is empty. So nothing is ever
//! tried twice, and guests needn't keep still: the *busy* flag, by which a hypervisor may ask for that, is never set.
//!
//! **A port is in one queue at most**, since *linked* is set by a test-and-set. Its lock ([`Place`]) is held while it
//! enters a queue. Before it enters another one than last time it stops being the tail of that one: else the next port
//! would be appended to it there, and land in the wrong queue.
//!
//! Of what a guest writes to these words, only *linked*, *pending* and *masked* decide anything here; links are written
//! and never followed. A guest that breaks the rules gets lists that are broken, and nobody else does.

use core::sync::atomic::{AtomicU32, Ordering};

use pv_abi::event::{
    EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_PENDING, EVTCHN_FIFO_PRIORITY_DEFAULT,
};

use crate::addr::{Mfn, VcpuId};

/// Event word: an event is pending.
pub const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
/// Event word: don't deliver.
pub const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
/// Event word: the port is in a queue.
pub const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;

/// Words of a control block: the first has a bit for each priority whose queue has events.
const READY: usize = 0;
/// Words of a control block: the head of the queue of priority 0.
const HEADS: usize = 2;

/// A word that the guest shares. Each method is a single instruction on the CPU, sequentially consistent: one that has to
/// be repeated until it succeeds would let a guest that writes to the word all the time hold us up.
pub trait Word {
    /// Reads it.
    fn load(&self) -> u32;
    /// Writes it.
    fn store(&self, value: u32);
    /// Sets one bit, by its number. True if it was set already.
    fn test_and_set(&self, bit: u32) -> bool;
    /// Clears one bit, by its number. True if it was set.
    fn test_and_clear(&self, bit: u32) -> bool;
    /// Adds to it; what it was.
    fn add(&self, value: u32) -> u32;
}

impl Word for AtomicU32 {
    #[inline]
    fn load(&self) -> u32 {
        AtomicU32::load(self, Ordering::SeqCst)
    }

    #[inline]
    fn store(&self, value: u32) {
        AtomicU32::store(self, value, Ordering::SeqCst);
    }

    #[inline]
    fn test_and_set(&self, bit: u32) -> bool {
        self.fetch_or(1 << bit, Ordering::SeqCst) & 1 << bit != 0
    }

    #[inline]
    fn test_and_clear(&self, bit: u32) -> bool {
        self.fetch_and(!(1 << bit), Ordering::SeqCst) & 1 << bit != 0
    }

    #[inline]
    fn add(&self, value: u32) -> u32 {
        self.fetch_add(value, Ordering::SeqCst)
    }
}

/// One of a vCPU's queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Queue {
    vcpu: u8,
    priority: u8,
}

/// Where a port is in the queues.
#[derive(Debug)]
pub struct Place {
    /// The queue that it enters next.
    priority: u8,
    /// The one that it entered last.
    last: Queue,
    /// An event is pending, and there is no event word to say so in yet.
    pub waiting: bool,
}

impl Place {
    const PRIORITY: u8 = EVTCHN_FIFO_PRIORITY_DEFAULT.to_le_bytes()[0];

    /// That of a port that never was in a queue.
    pub const NEW: Place =
        Place { priority: Place::PRIORITY, last: Queue { vcpu: 0, priority: Place::PRIORITY }, waiting: false };

    /// Chooses the queue that the port enters next; `priority` is below [`EVTCHN_FIFO_MAX_QUEUES`].
    pub fn set_priority(&mut self, priority: u8) {
        self.priority = priority;
    }

    /// The port is closed. It may still be in a queue.
    pub fn close(&mut self) {
        *self = Place { last: self.last, ..Place::NEW };
    }
}

/// Where a vCPU's control block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// The frame.
    pub mfn: Mfn,
    /// The number of its first word in the frame.
    pub first: usize,
}

/// What we know of a vCPU's queues.
#[derive(Default)]
pub struct Queues {
    /// Where the guest reads the rest; `None`: it hasn't said so yet.
    pub control: Option<Control>,
    /// The port that entered each queue last; 0 if it has left for another one since, or none ever was there.
    tails: [u32; EVTCHN_FIFO_MAX_QUEUES],
}

/// The words and queues of a domain.
pub trait Lists {
    /// A word of guest memory.
    type Word: Word;

    /// A port's event word, if the guest has given a page for it.
    fn word(&self, port: u32) -> Option<&Self::Word>;

    /// A word of a control block.
    fn control(&self, block: Control, index: usize) -> &Self::Word;

    /// Runs `work` with a vCPU's queues locked; `None` if there is no such vCPU.
    fn with_queues<T>(&self, vcpu: VcpuId, work: impl FnOnce(&mut Queues) -> T) -> Option<T>;
}

/// Puts a port that is pending in the vCPU's queue, unless it is masked or in a queue already. True if the vCPU has to be
/// told. `place` is the port's, and locked.
///
/// Nothing happens if the vCPU has no control block: until then the guest must not unmask ports.
pub fn enqueue<L: Lists>(lists: &L, port: u32, place: &mut Place, vcpu: VcpuId) -> bool {
    let Some(word) = lists.word(port) else { return false };
    if word.load() & (PENDING | MASKED | LINKED) != PENDING {
        return false;
    }
    let [number, ..] = vcpu.0.to_le_bytes();
    let to = Queue { vcpu: number, priority: place.priority };
    if place.last != to {
        lists.with_queues(VcpuId(place.last.vcpu.into()), |queues| queues.forget(place.last, port));
    }
    let told = lists.with_queues(vcpu, |queues| {
        let control = queues.control?;
        if word.test_and_set(EVTCHN_FIFO_LINKED) {
            return None;
        }
        place.last = to;
        // The same port at the tail: the guest took it, so the queue is empty.
        queues.forget(to, port);
        let tail = queues.tails.get_mut(usize::from(to.priority))?;
        let appended = *tail != 0 && lists.word(*tail).is_some_and(|tail| append(tail, port));
        *tail = port;
        if appended {
            return None;
        }
        lists.control(control, HEADS + usize::from(to.priority)).store(port);
        Some(!lists.control(control, READY).test_and_set(to.priority.into()))
    });
    told.flatten().unwrap_or(false)
}

/// Appends a port to the one at the tail. False if the guest has taken that from the queue.
fn append(tail: &impl Word, port: u32) -> bool {
    let appended = tail.add(port) & LINKED != 0;
    if !appended {
        tail.add(port.wrapping_neg());
    }
    appended
}

impl Queues {
    /// The port isn't in this queue; nothing may be appended to it there.
    fn forget(&mut self, queue: Queue, port: u32) {
        if let Some(tail) = self.tails.get_mut(usize::from(queue.priority))
            && *tail == port
        {
            *tail = 0;
        }
    }
}
