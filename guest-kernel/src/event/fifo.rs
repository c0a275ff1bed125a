//! FIFO delivery: a word for each port, which links the next one of its queue; sixteen queues for each vCPU, the lower the
//! more urgent. Pure.
//!
//! The hypervisor appends to a queue and sets its ready bit when it was empty; the guest takes from the front. The bits
//! of a word are in `event_channel.h`.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use pv_abi::event::{
    EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_MAX_QUEUES,
    EVTCHN_FIFO_PENDING, FifoControlBlock,
};

/// Ports that FIFO delivery can have.
pub const PORTS: u32 = pv_abi::event::EVTCHN_FIFO_NR_CHANNELS;
/// Ports whose words are in one page.
pub const PORTS_IN_PAGE: u32 = 1024;

/// An event is pending.
pub const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
/// Events are not delivered.
pub const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
/// The port is on a queue.
pub const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;
/// The hypervisor writes the link, and wants no one else to change the word.
pub const BUSY: u32 = 1 << EVTCHN_FIFO_BUSY;

/// A vCPU's control block: `struct evtchn_fifo_control_block`.
#[derive(Default, Debug)]
#[repr(C)]
pub struct Control {
    /// A bit for each queue that has become ready.
    pub ready: AtomicU32,
    _rsvd: AtomicU32,
    /// The first port of a queue that was empty.
    pub head: [AtomicU32; EVTCHN_FIFO_MAX_QUEUES],
}

impl Control {
    /// One without events.
    pub const fn new() -> Control {
        let head = [const { AtomicU32::new(0) }; EVTCHN_FIFO_MAX_QUEUES];
        Control { ready: AtomicU32::new(0), _rsvd: AtomicU32::new(0), head }
    }
}

const _: () = assert!(size_of::<Control>() == size_of::<FifoControlBlock>());

/// How far the consumer of a vCPU has come: the next port of each queue, 0 where [`Control::head`] knows it.
pub type Heads = [AtomicU32; EVTCHN_FIFO_MAX_QUEUES];

/// Masks a port. The hypervisor is done with the word when it returns.
pub fn mask(word: &AtomicU32) {
    word.fetch_or(MASKED, SeqCst);
    while word.load(SeqCst) & BUSY != 0 {
        core::hint::spin_loop();
    }
}

/// Unmasks a port that has no event. With one it stays masked and the answer is `false`: then the hypervisor must do it,
/// for only it may put the port on a queue.
pub fn unmask(word: &AtomicU32) -> bool {
    let cleared = word.fetch_update(SeqCst, SeqCst, |old| (old & PENDING == 0).then_some(old & !MASKED));
    cleared.is_ok()
}

/// Takes all events that are due, the most urgent first: clears each, then gives it to `each`. `word` is a port's word.
pub fn take<'a>(
    control: &Control,
    heads: &Heads,
    word: impl Fn(u32) -> Option<&'a AtomicU32>,
    mut each: impl FnMut(u32),
) {
    let mut ready = control.ready.swap(0, SeqCst);
    while ready != 0 {
        let queue = ready.trailing_zeros() as usize;
        let head = match heads[queue].load(SeqCst) {
            0 => control.head[queue].load(SeqCst),
            head => head,
        };
        let old = word(head).map_or(0, unlink);
        let next = old & EVTCHN_FIFO_LINK_MASK;
        if next == 0 {
            ready &= !(1 << queue);
        }
        heads[queue].store(next, SeqCst);
        if old & (PENDING | MASKED) == PENDING
            && let Some(word) = word(head)
        {
            word.fetch_and(!PENDING, SeqCst);
            each(head);
        }
        ready |= control.ready.swap(0, SeqCst);
    }
}

/// Takes a port off its queue, and says what its word was.
fn unlink(word: &AtomicU32) -> u32 {
    word.fetch_and(!(LINKED | EVTCHN_FIFO_LINK_MASK), SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const WORDS: usize = 32;

    #[derive(Default)]
    struct Domain {
        words: [AtomicU32; WORDS],
        control: Control,
        heads: Heads,
    }

    impl Domain {
        /// A queue as the hypervisor leaves it.
        fn queue(&self, queue: usize, ports: &[u32]) {
            for (at, port) in ports.iter().enumerate() {
                let next = ports.get(at + 1).copied().unwrap_or(0);
                self.words[*port as usize].fetch_or(PENDING | LINKED | next, SeqCst);
            }
            self.control.head[queue].store(ports[0], SeqCst);
            self.control.ready.fetch_or(1 << queue, SeqCst);
        }

        fn taken(&self) -> Vec<u32> {
            let mut taken = Vec::new();
            take(&self.control, &self.heads, |port| self.words.get(port as usize), |port| taken.push(port));
            taken
        }
    }

    #[test]
    fn queues_go_by_priority_and_then_in_order() {
        let domain = Domain::default();
        domain.queue(7, &[3, 1, 2]);
        domain.queue(0, &[9, 8]);
        assert_eq!(domain.taken(), [9, 8, 3, 1, 2]);
        assert_eq!(domain.taken(), []);
        assert!(domain.words.iter().all(|word| word.load(SeqCst) == 0));
    }

    #[test]
    fn a_more_urgent_event_overtakes() {
        let domain = Domain::default();
        domain.queue(7, &[1, 2, 3]);
        let mut taken = Vec::new();
        take(
            &domain.control,
            &domain.heads,
            |port| domain.words.get(port as usize),
            |port| {
                if port == 1 {
                    domain.queue(0, &[10]);
                }
                taken.push(port);
            },
        );
        assert_eq!(taken, [1, 10, 2, 3]);
    }

    #[test]
    fn masked_events_leave_the_queue_and_stay_pending() {
        let domain = Domain::default();
        domain.queue(7, &[1, 2]);
        mask(&domain.words[1]);
        assert_eq!(domain.taken(), [2]);
        assert_eq!(domain.words[1].load(SeqCst), PENDING | MASKED);
        assert!(!unmask(&domain.words[1]), "with an event it is the hypervisor's to do");
        domain.words[1].fetch_and(!PENDING, SeqCst);
        assert!(unmask(&domain.words[1]));
        assert_eq!(domain.words[1].load(SeqCst), 0);
    }

    #[test]
    fn a_link_to_nowhere_ends_the_queue() {
        let domain = Domain::default();
        domain.queue(7, &[1]);
        domain.words[1].fetch_or(1000, SeqCst);
        assert_eq!(domain.taken(), [1]);
    }
}
