//! Grant tables, version 1: how a domain lets another use frames of its memory (`grant_table.h`).
//!
//! A *grant* is an entry of a table in frames that a domain shares with the hypervisor: who may use which frame, and whether
//! for reading only. Its index is the *grant reference*. The *granter* writes entries by itself, without a call. The *mapper*
//! names the granter and a reference in a call, and gets a mapping, which it knows by a *handle*, or a copy.
//!
//! # What holds what
//!
//! | use                              | in the granter's table ([`table`])   | of the frame ([`mm::granted`](crate::mm::granted)) |
//! |----------------------------------|--------------------------------------|------------------------------------|
//! | handle with a host mapping       | a *pin*, for writing or reading      | nothing by itself                  |
//! | its page-table entry             | nothing                              | like any page-table entry          |
//! | handle that devices may use      | a pin                                | general, or writable               |
//! | a copy, while it lasts           | a pin at each end that is a grant    | general (from), writable (to)      |
//!
//! Pins are counted by the hypervisor in memory of its own. They stand in the guest's entry too: `GTF_reading` from the first
//! pin to the last, `GTF_writing` from the first for writing to the last of those. The granter takes a grant back by replacing
//! an entry without these bits by 0, with an atomic instruction; that it succeeds says that nobody uses the grant any more.
//! So the bits are set, in one instruction that also looks whether the grant is still there, before anything else happens,
//! and cleared after CPUs that could use the mapping have flushed.
//!
//! A page-table entry holds its frame itself: whoever overwrites it, unlinks its table, or ends its domain by any path drops
//! that, once, as for any entry. The pin stays until the handle is unmapped, which then fails, or the mapper is gone: as in Xen
//! the granter of a mapper that forgets a mapping waits for the mapper's end.
//!
//! # Who may do what
//!
//! Only the domain that a grant names may use it, and only as long as the entry says so or a pin of its own is there. The
//! frame must be the granter's at that moment: a grant of anything else is a number without effect. A frame is
//! read from the entry with the first pin, in the same instruction that sets the bits, and not again before the last has gone.
//! What is granted need not be writable memory: for reading it can be anything that the granter owns, page tables as well; for
//! writing it takes the writable type as for any mapping, and a page table doesn't get that.
//!
//! # Why nothing dangles
//!
//! * A handle keeps the granter's [`Grants`] alive, not the domain's number: after the granter's end unmapping goes on
//!   as before, and a new domain of that number is another granter. The granter's frames stay with it until nobody
//!   refers to them, as for any foreign mapping (`mm::owner`).
//! * A granter that ends closes its table first: no new pins, and nobody writes to its frames any more. Pins go on being
//!   counted.
//! * A mapper that ends gives all handles back when its page tables are gone and its CPUs have flushed.
//!
//! # Locks
//!
//! `Grants::table` of the granter, `Grants::maptrack` of the mapper: one at a time, never both, never two of a kind, and none
//! while memory rules are at work, which may flush and wait. So each operation goes in steps, and what it holds
//! between them is written down: the handle is *taken* (nobody else can use it, even to unmap it twice), the pin is counted. A
//! step that fails or has to be made again undoes those before it.
//!
//! # What a hostile guest can do
//!
//! A granter can change its entries at any moment. A look that finds the entry changed five times in a row gives up; bits are
//! cleared by one instruction that can't fail. It may grant frames that it gives away or that become page tables: mapping
//! fails, and the pin is undone. A mapper can name any number, domain, handle and address: numbers are looked up, counts stop
//! at their limit, tables grow up to the domain's [`Limits`], and what they take from the hypervisor's memory is asked for,
//! never assumed. What it maps where is checked by the rules for page-table entries.
#![forbid(unsafe_code)]

mod entry;
mod maptrack;
mod table;

use alloc::sync::Arc;

use pv_abi::grant::{
    GNTST_BAD_COPY_ARG, GNTST_BAD_DOMAIN, GNTST_BAD_GNTREF, GNTST_BAD_HANDLE, GNTST_BAD_PAGE, GNTST_BAD_VIRT_ADDR,
    GNTST_EAGAIN, GNTST_GENERAL_ERROR, GNTST_NO_SPACE, GNTST_PERMISSION_DENIED,
};
use spin::Mutex;

use crate::addr::{DomainId, Mfn};
use crate::mm::operation::PageTableMem;
use maptrack::Maptrack;
use table::Table;

pub use entry::page_table_entry;
pub use maptrack::Handle;
pub use table::Pinned;

/// The seam to frames that are granted, and to those of the tables: an entry of a grant table is one word.
pub trait GrantMemory: PageTableMem {
    /// Clears bits of a word, with one instruction.
    fn clear_bits(&self, page: Mfn, index: usize, bits: u64);

    /// Copies `len` bytes, which don't cross the end of either frame.
    fn copy(&self, to: Mfn, to_offset: usize, from: Mfn, from_offset: usize, len: usize);
}

/// Why a guest does not get what it asked for; one of the ABI's `GNTST_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Anything else.
    General,
    /// There is no such domain.
    BadDomain,
    /// There is no such reference.
    BadReference,
    /// There is no such handle.
    BadHandle,
    /// The list can't be written.
    BadAddress,
    /// It needs a privilege.
    Denied,
    /// The frame is not the granter's.
    BadFrame,
    /// The copy crosses the end of a frame.
    BadCopy,
    /// The grant is in use.
    InUse,
    /// There is no room for another handle.
    NoSpace,
}

impl Refusal {
    /// The number that the guest gets.
    pub const fn status(self) -> i16 {
        match self {
            Refusal::General => GNTST_GENERAL_ERROR,
            Refusal::BadDomain => GNTST_BAD_DOMAIN,
            Refusal::BadReference => GNTST_BAD_GNTREF,
            Refusal::BadHandle => GNTST_BAD_HANDLE,
            Refusal::BadAddress => GNTST_BAD_VIRT_ADDR,
            Refusal::Denied => GNTST_PERMISSION_DENIED,
            Refusal::BadFrame => GNTST_BAD_PAGE,
            Refusal::BadCopy => GNTST_BAD_COPY_ARG,
            Refusal::InUse => GNTST_EAGAIN,
            Refusal::NoSpace => GNTST_NO_SPACE,
        }
    }
}

/// What a domain may grow its tables to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Frames of its grant table, of 512 grants each.
    pub frames: u32,
    /// Frames that Xen would have for its handles, of 256 each.
    pub maptrack_frames: u32,
}

impl Limits {
    /// If nobody says otherwise; also the most that can be asked for, as in Xen.
    pub const DEFAULT: Limits = Limits { frames: 64, maptrack_frames: 1024 };

    /// Handles that the domain may have.
    const fn handles(self) -> u32 {
        self.maptrack_frames * 256
    }
}

/// For what a grant is used.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Uses {
    /// A mapping or a copy.
    pub host: bool,
    /// A device.
    pub device: bool,
    /// They may write.
    pub writable: bool,
}

/// What a handle stands for.
#[derive(Debug)]
pub struct Mapping {
    /// Who granted it.
    pub granter: Arc<Grants>,
    /// The reference.
    pub gref: u32,
    /// The frame.
    pub mfn: Mfn,
    /// What it is used for yet.
    pub uses: Uses,
    /// The addresses of its host mapping are those of page-table entries.
    pub by_entry: bool,
}

/// A domain's grant table, and its handles to those of others.
#[derive(Debug)]
pub struct Grants {
    /// The domain.
    pub domain: DomainId,
    /// What it may have.
    pub limits: Limits,
    table: Mutex<Table>,
    maptrack: Mutex<Maptrack>,
}

impl Grants {
    /// A table without frames, and no handles.
    pub fn new(domain: DomainId, limits: Limits) -> Grants {
        Grants { domain, limits, table: Mutex::new(Table::new()), maptrack: Mutex::new(Maptrack::new()) }
    }
}
