//! Delivery on the live pages: 2-level on the shared page, or FIFO on pages of the kernel's own.

use super::fifo::{self, Control, Heads};
use super::two_level;
use crate::hypercall::{self, deliver_upcalls};
use crate::memory;
use crate::paging::PAGE_BYTES;
use crate::record::{Bits, Page, Record};
use crate::shared::{page, record};
use crate::vcpu::{self, LIMIT};
use alloc::boxed::Box;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::SeqCst};
use pv_abi::errno::Errno;

/// Event words of a page.
#[repr(C, align(4096))]
struct Words([AtomicU32; IN_PAGE]);

const IN_PAGE: usize = fifo::PORTS_IN_PAGE as usize;

/// All vCPUs' control blocks, in one page.
#[repr(C, align(4096))]
struct Controls([ControlSlot; LIMIT]);

#[repr(C, align(128))]
struct ControlSlot(Control);

const _: () = assert!(size_of::<Controls>() == PAGE_BYTES && size_of::<Words>() == PAGE_BYTES);

static CONTROLS: Controls = Controls([const { ControlSlot(Control::new()) }; LIMIT]);
static HEADS: [Heads; LIMIT] = [const { [const { AtomicU32::new(0) }; 16] }; LIMIT];
static WORDS: [AtomicPtr<Words>; (fifo::PORTS / fifo::PORTS_IN_PAGE) as usize] =
    [const { AtomicPtr::new(null_mut()) }; (fifo::PORTS / fifo::PORTS_IN_PAGE) as usize];

/// Whether delivery is FIFO.
static FIFO: AtomicBool = AtomicBool::new(false);

/// The ports of each vCPU, for 2-level delivery, where the pending bits are everybody's.
static PORTS_OF: [Bits; LIMIT] = [const { [const { AtomicU64::new(0) }; 64] }; LIMIT];

/// Switches to FIFO delivery, with control blocks for `vcpus` vCPUs and words for `ports` ports. Unmasked ports stay so.
///
/// # Errors
/// When the hypervisor has no FIFO delivery, or the pages have no machine frame (`ENOMEM`).
pub fn start_fifo(vcpus: u32, ports: u32) -> Result<(), Errno> {
    let controls = memory::machine_frame_behind((&raw const CONTROLS) as u64).ok_or(Errno::ENOMEM)?;
    for (vcpu, offset) in (0..vcpus).zip((0..).step_by(size_of::<ControlSlot>())) {
        // SAFETY: the page is static, and made of atomics.
        unsafe { hypercall::init_control(controls, offset, vcpu) }?;
    }
    FIFO.store(true, SeqCst);
    for (first, slot) in (0..ports).step_by(IN_PAGE).zip(&WORDS) {
        let words: &'static Words = Box::leak(Box::new(Words([const { AtomicU32::new(fifo::MASKED) }; IN_PAGE])));
        for (_, word) in (first..).zip(&words.0).filter(|(port, _)| was_unmasked(*port)) {
            word.store(0, SeqCst);
        }
        let address = core::ptr::from_ref(words) as u64;
        slot.store(core::ptr::from_ref(words).cast_mut(), SeqCst);
        // SAFETY: the page is never freed, and made of atomics.
        unsafe { hypercall::expand_array(memory::machine_frame_behind(address).ok_or(Errno::ENOMEM)?) }?;
    }
    Ok(())
}

/// Whether a port is unmasked in the shared page.
fn was_unmasked(port: u32) -> bool {
    port < two_level::PORTS && page().is_some_and(|page| !two_level::is_set(&page.mask, port))
}

/// A port's FIFO event word, if it has one.
pub fn fifo_word(port: u32) -> Option<&'static AtomicU32> {
    let (page, word) = (port / fifo::PORTS_IN_PAGE, port % fifo::PORTS_IN_PAGE);
    // SAFETY: the pointer is null or that of a page that is never freed.
    let page = unsafe { WORDS.get(page as usize)?.load(SeqCst).as_ref() }?;
    page.0.get(word as usize)
}

/// A vCPU's FIFO control block.
pub fn fifo_control(id: u32) -> &'static Control {
    &CONTROLS.0[id as usize].0
}

/// What to do with a port, by the way of delivery.
fn on<T>(port: u32, two_level: impl FnOnce(&Page) -> T, fifo: impl FnOnce(&AtomicU32) -> T) -> Option<T> {
    if FIFO.load(SeqCst) { fifo_word(port).map(fifo) } else { page().map(two_level) }
}

/// Whether an event is pending.
pub fn is_pending(port: u32) -> bool {
    on(port, |page| two_level::is_set(&page.pending, port), |word| word.load(SeqCst) & fifo::PENDING != 0)
        .unwrap_or(false)
}

/// Whether a port is masked.
pub fn is_masked(port: u32) -> bool {
    on(port, |page| two_level::is_set(&page.mask, port), |word| word.load(SeqCst) & fifo::MASKED != 0).unwrap_or(true)
}

/// Takes an event back; says whether one was pending.
pub fn clear_pending(port: u32) -> bool {
    let clear = |word: &AtomicU32| word.fetch_and(!fifo::PENDING, SeqCst) & fifo::PENDING != 0;
    on(port, |page| two_level::clear(&page.pending, port), clear).unwrap_or(false)
}

/// Masks a port: its events raise no upcall.
pub fn mask(port: u32) {
    on(port, |page| _ = two_level::set(&page.mask, port), fifo::mask);
}

/// Masks all ports of 2-level delivery.
pub fn mask_all() {
    page().into_iter().flat_map(|page| &page.mask).for_each(|word| word.store(u64::MAX, SeqCst));
}

/// Unmasks a port. An event that came meanwhile is delivered.
pub fn unmask(port: u32) {
    let is_mine = two_level::is_set(&PORTS_OF[vcpu::current() as usize], port);
    let local = |page: &Page| {
        let Some(record) = record().filter(|_| is_mine) else { return false };
        if two_level::unmask(page, record, port) && record.upcall_mask.load(SeqCst) == 0 {
            deliver_upcalls();
        }
        true
    };
    if on(port, local, fifo::unmask) == Some(false) {
        // A port of ours: the call knows it.
        let _ = hypercall::unmask_port(port);
    }
}

/// Notes whose a port's events are.
pub(super) fn set_vcpu(port: u32, vcpu: u32) {
    if port < two_level::PORTS {
        for ports in &PORTS_OF {
            two_level::clear(ports, port);
        }
        two_level::set(&PORTS_OF[vcpu as usize], port);
    }
}

/// Takes all events that are due on this vCPU, whose record this is.
pub(super) fn take(record: &Record, each: impl FnMut(u32)) {
    let id = vcpu::current() as usize;
    if FIFO.load(SeqCst) {
        fifo::take(&CONTROLS.0[id].0, &HEADS[id], fifo_word, each);
    } else if let Some(page) = page() {
        two_level::take(page, record, &PORTS_OF[id], each);
    }
}
