//! The domain's own table: what it grants.

use super::entry::{self, word};
use super::references::{PER_FRAME, References};
use super::{Access, Error, TABLE};
use crate::hypercall::{self, Flush, Vcpus, update_va_mapping};
use crate::memory;
use crate::paging::{Mfn, PAGE_SIZE, Rights, kernel_page};
use crate::sync::Mutex;
use alloc::vec;
use core::sync::atomic::{AtomicU64, Ordering};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;

/// Frames that the table may have at most: as many as there are addresses for.
const MAX_FRAMES: u32 = 64;

static REFERENCES: Mutex<References> = Mutex::new(References::new());

/// A frame of the domain's that another may use. One that is dropped stays granted.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the frame is granted until this ends"]
pub struct Grant(u32);

/// Lets `domain` use machine frame `mfn`, which is this domain's.
///
/// # Errors
/// If the table can't be had, or can't grow any more.
///
/// # Panics
/// If the frame's number doesn't fit in an entry: above 16 TiB.
pub fn grant(domain: u16, mfn: u64, access: Access) -> Result<Grant, Error> {
    let frame = u32::try_from(mfn).expect("the frame fits in an entry of version 1");
    let reference = take()?;
    entry_of(reference).store(word(domain, frame, access), Ordering::Release);
    Ok(Grant(reference))
}

impl Grant {
    /// What the other domain knows it by.
    pub const fn reference(&self) -> u32 {
        self.0
    }

    /// Whether it is in use at this moment.
    pub fn is_used(&self) -> bool {
        entry::is_used(entry_of(self.0).load(Ordering::Acquire))
    }

    /// Takes it back: nobody can use the frame any more.
    ///
    /// # Errors
    /// The grant itself, while it is in use.
    pub fn end(self) -> Result<(), Grant> {
        if !entry::end(entry_of(self.0)) {
            return Err(self);
        }
        REFERENCES.lock().give_back(self.0);
        Ok(())
    }
}

/// The entry of a reference that the table has, for tests that write what they like.
///
/// # Errors
/// If the table can't be had.
pub fn table_entry(reference: u32) -> Result<Option<&'static AtomicU64>, Error> {
    let mut references = REFERENCES.lock();
    if references.frames() == 0 {
        grow(&mut references)?;
    }
    Ok((reference < references.frames() * PER_FRAME).then(|| entry_of(reference)))
}

fn take() -> Result<u32, Error> {
    let mut references = REFERENCES.lock();
    if let Some(reference) = references.take() {
        return Ok(reference);
    }
    grow(&mut references)?;
    references.take().ok_or(Error::Full)
}

/// Adds a frame to the table.
fn grow(references: &mut References) -> Result<(), Error> {
    let number = references.frames();
    if number == 0 {
        // A hypervisor with version 2 could have begun with that.
        hypercall::grant_set_version(1)?;
        memory::lock()?.make_tables(TABLE..TABLE + u64::from(MAX_FRAMES) * PAGE_SIZE)?;
    }
    let most = hypercall::grant_query_size(DOMID_SELF)?.max_nr_frames.min(MAX_FRAMES);
    if number >= most {
        return Err(Error::Full);
    }
    let mut frames = vec![0; number as usize + 1];
    hypercall::grant_setup_table(DOMID_SELF, &mut frames)?;
    let frame = *frames.last().ok_or(Errno::EINVAL)?;
    let address = TABLE + u64::from(number) * PAGE_SIZE;
    // SAFETY: these addresses are the table's alone, and what is there is used as atomics only.
    unsafe { update_va_mapping(address, kernel_page(Mfn(frame), Rights::Write), Flush::Address(Vcpus::All))? };
    references.add_frame();
    Ok(())
}

/// The entry of a reference below the table's end.
fn entry_of(reference: u32) -> &'static AtomicU64 {
    let address = TABLE + 8 * u64::from(reference);
    // SAFETY: references are given out for frames that are mapped, for good; the hypervisor changes words as atomics do.
    unsafe { &*(address as *const AtomicU64) }
}
