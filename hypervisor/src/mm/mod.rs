//! Memory: who owns each machine frame, what it is used as, and when that may change.
//!
//! # The invariant
//!
//! Guests write their own page tables: they name machine frames in them, and the CPU believes what it finds there. So
//! everything that separates one domain from another hangs on one sentence:
//!
//! > **While a frame is in use as one type, it can't be used as any other. In particular, a page table or descriptor
//! > page is never mapped writable by a guest: on any CPU, at any moment, on any error path.**
//!
//! The types are page tables of level 1 to 4, descriptor pages (parts of a GDT or LDT), and *writable* pages. The
//! sentence is kept by counting. Every use of a frame that relies on its type holds a *type reference*, and with it a
//! *general reference*, which keeps the frame from changing hands:
//!
//! | use                                             | references            |
//! |-------------------------------------------------|-----------------------|
//! | present L1 entry with the write bit             | writable              |
//! | present L1 entry without it                     | general only          |
//! | present entry of an L2, L3, L4 table            | L1, L2, L3            |
//! | page-table root of a vCPU, for kernel and user  | L4                    |
//! | pin                                             | the table's level     |
//! | slot of a GDT or LDT                            | descriptors           |
//! | a grant that devices may use, writable or not   | writable, or general  |
//! | a page the hypervisor shares with the guest     | writable              |
//! | the domain's allocation                         | general only          |
//! | L1 entry that maps a device frame               | none                  |
//!
//! A frame's type can be chosen only while it has no type references. It becomes a table only when all 512 entries have
//! been checked and hold *their* references; and it can't be written meanwhile, nor later, because the guest has no
//! writable mapping of it and can't get one: that would need a type reference of another type. What remains are changes
//! of single entries, by the hypervisor: new values come through [`update`], each checked; [`granted`] also clears
//! entries, or moves them as they are with what they hold.
//!
//! # Why a guest can't get around it
//!
//! * *Through a CPU that remembers.* Taking a mapping away leaves it in TLBs. No type is used before the CPUs that may
//!   hold translations from an earlier one have flushed: a page that was writable is flushed before it is read as a
//!   table, a former table before it becomes writable, any frame before another domain gets it. Until then nothing is
//!   flushed ([`flush`] says why that can wait). That holds for paging-structure caches too: a CPU may go on walking a
//!   table that was unlinked, but the table keeps its type, and all it names keep theirs, until that CPU flushed. Our own
//!   walks ([`walk`]) count on the same, and so does the copy of a root on which CPUs with Meltdown run guests
//!   ([`mod@shadow`]): to the rules it is one more paging-structure cache. So no change above L1 needs a flush for our sake
//!   (XSA-286 was about a hypervisor that walks guest tables through the TLB; we read them through the direct map).
//! * *Through a race.* Counts, type and flags share one word, changed only by compare-exchange ([`state`]). While a table
//!   is being validated or torn down, its single type reference belongs to the worker, so nobody else can rely on it
//!   ([`types`]). Entries change by compare-exchange too: whoever replaces a value drops exactly the references that this
//!   value held ([`update`]).
//! * *Through work left half done.* Long work stops at any entry and goes on later, or is undone; the entries that hold
//!   references are those below a cursor, always ([`validate`], [`pending`]). A dying domain is taken apart by the same code
//!   ([`owner`]).
//! * *Through a cycle.* An entry takes a table of exactly the level below. No table can name itself, directly or not;
//!   depth is bounded by four, and nothing keeps itself alive.
//! * *Through an odd entry.* Bits are accepted from a list ([`entry`]): no superpages, and cache bits for devices only.
//!   Entries that are not present may hold anything, except that on CPUs with L1TF they must not name memory.
//! * *Through a device.* Frames that are no RAM have no owner, no type and no count. A domain may map those that it was
//!   given ([`devices`]), and no RAM in the name of `DOMID_IO`. What a device does to memory by itself (DMA) is beyond these
//!   rules: a domain that drives one is trusted with the machine.
//! * *Through the hypervisor's own slots.* In L4 tables they are written by us at the end of each check, skipped by
//!   checks and refused in updates.
//! * *Through a number.* Frame numbers from guests are bounds-checked before they index anything ([`frame`]), and a
//!   reference count at its limit refuses the next reference with an error ([`state`]).
//!
//! # How it is called
//!
//! The rules are methods of [`operation::Operation`], made for one step of one vCPU's hypercall. They carry out nothing
//! but changes of counts and entries: flushes, frees and waiting are returned as values ([`error::Stop`],
//! [`operation::Freed`]), and the same call is then made again; [`perform`](mod@perform) does that. The model in `tests`
//! recomputes all counts after every step, and keeps every translation a CPU may keep.
#![forbid(unsafe_code)]

pub mod buddy;
pub mod devices;
pub mod entry;
pub mod error;
pub mod flush;
pub mod frame;
pub mod granted;
pub mod list;
pub mod m2p;
pub mod operation;
pub mod owner;
pub mod pending;
pub mod perform;
pub mod pin;
pub mod root;
pub mod segdesc;
pub mod shadow;
pub mod state;
pub mod types;
pub mod update;
pub mod validate;
pub mod walk;

#[cfg(test)]
pub(crate) mod tests;
