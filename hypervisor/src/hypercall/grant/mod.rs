//! `grant_table_op` (`grant_table.h`). The rules are in [`grant`](crate::grant); what they do to frames and page tables is in
//! [`mm::granted`](crate::mm::granted).
//!
//! A call has a list of requests, each with a status of its own. A restart goes on with the rest of the list.

mod copy;
mod map;
mod table;
mod unmap;

use alloc::sync::Arc;

use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::grant::{
    GNTST_OKAY, GNTTABOP_CACHE_FLUSH, GNTTABOP_COPY, GNTTABOP_GET_STATUS_FRAMES, GNTTABOP_GET_VERSION,
    GNTTABOP_MAP_GRANT_REF, GNTTABOP_QUERY_SIZE, GNTTABOP_SET_VERSION, GNTTABOP_SETUP_TABLE, GNTTABOP_SWAP_GRANT_REF,
    GNTTABOP_TRANSFER, GNTTABOP_UNMAP_AND_REPLACE, GNTTABOP_UNMAP_GRANT_REF,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Call, Otherwise, Platform, Reply};
use crate::addr::{DomainId, GuestVa, MachineAddr};
use crate::grant::{Grants, Refusal};
use crate::mm::granted::Place;
use crate::mm::perform::Unfinished;
use crate::mm::update::Slot;

/// What a request costs of the budget, besides the page-table entries that it changes.
const COST: u32 = 8;

/// Why a request is not done.
enum Halt {
    /// Again, with a new budget; nothing has changed.
    Again,
    /// Refused: so its status says.
    Refused(Refusal),
    /// The call as a whole fails.
    Code(Errno),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Halt {
        Halt::Refused(refusal)
    }
}

impl From<Unfinished> for Halt {
    fn from(unfinished: Unfinished) -> Halt {
        match unfinished {
            Unfinished::Again => Halt::Again,
            Unfinished::Refused(_) => Halt::Refused(Refusal::General),
        }
    }
}

/// `(unsigned int cmd, void *args, unsigned int count)`.
pub(super) fn grant_table_op<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    // More is refused by Xen too: the bits above are its own, in restarts.
    if call.u32(2).cast_signed() < 0 || call.u32(0) >> 20 != 0 {
        return Err(Errno::EINVAL.into());
    }
    match call.u32(0) {
        GNTTABOP_MAP_GRANT_REF => each(call, map::map),
        GNTTABOP_UNMAP_GRANT_REF => unmap::unmap_grant_ref(call),
        GNTTABOP_UNMAP_AND_REPLACE => unmap::unmap_and_replace(call),
        GNTTABOP_COPY => each(call, copy::copy),
        GNTTABOP_SWAP_GRANT_REF => each(call, table::swap),
        GNTTABOP_SETUP_TABLE => alone(call, table::setup),
        GNTTABOP_QUERY_SIZE => alone(call, table::query_size),
        GNTTABOP_GET_STATUS_FRAMES => alone(call, table::get_status_frames),
        GNTTABOP_SET_VERSION => table::set_version(call),
        GNTTABOP_GET_VERSION => table::get_version(call),
        // Frames never change hands by a grant (XSA-214); no cache maintenance is needed: PC devices snoop.
        GNTTABOP_TRANSFER | GNTTABOP_CACHE_FLUSH => Err(Errno::EOPNOTSUPP.into()),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// A request: a struct with a status.
trait Request: FromBytes + IntoBytes + Immutable + Copy {
    /// Where the status is.
    fn status(&mut self) -> &mut i16;
}

macro_rules! requests {
    ($($name:ident),*) => {
        $(impl Request for pv_abi::grant::$name {
            fn status(&mut self) -> &mut i16 {
                &mut self.status
            }
        })*
    };
}

requests!(
    GnttabMapGrantRef,
    GnttabUnmapGrantRef,
    GnttabUnmapAndReplace,
    GnttabCopy,
    GnttabSwapGrantRef,
    GnttabSetupTable,
    GnttabQuerySize,
    GnttabGetStatusFrames
);

/// The part of a list that is still to be done.
#[derive(Clone, Copy)]
struct List {
    at: u64,
    left: u32,
}

impl List {
    /// The list of a call.
    ///
    /// # Errors
    /// `EFAULT` if it isn't all in the guest's part of the address space: then nothing of it is done.
    fn of<P: Platform, T>(call: &Call<'_, P>) -> Result<List, Errno> {
        let list = List { at: call.word(1), left: call.u32(2) };
        let bytes = u64::from(list.left) * size_of::<T>() as u64;
        if GuestVa::are_bytes(list.at, bytes) { Ok(list) } else { Err(Errno::EFAULT) }
    }

    /// One request is done.
    fn advance<T>(&mut self) {
        self.at = self.at.wrapping_add(size_of::<T>() as u64);
        self.left -= 1;
    }

    /// To go on with the rest.
    fn again<P: Platform>(self, call: &mut Call<'_, P>) -> Otherwise {
        let command = call.word(0);
        call.again([command, self.at, self.left.into()])
    }
}

/// Carries out the requests of a list one by one.
fn each<P: Platform, T: Request>(
    call: &mut Call<'_, P>,
    mut one: impl FnMut(&mut Call<'_, P>, &mut T) -> Result<(), Halt>,
) -> Reply {
    let mut list = List::of::<P, T>(call)?;
    while list.left > 0 {
        let mut request: T = call.read(list.at)?;
        let done = if call.budget == 0 { Err(Halt::Again) } else { one(call, &mut request) };
        *request.status() = match done {
            Ok(()) => GNTST_OKAY,
            Err(Halt::Refused(refusal)) => refusal.status(),
            Err(Halt::Again) => return Err(list.again(call)),
            Err(Halt::Code(errno)) => return Err(errno.into()),
        };
        call.budget = call.budget.saturating_sub(COST);
        call.write(list.at, &request)?;
        list.advance::<T>();
    }
    Ok(0)
}

/// Carries out the one request of a call that doesn't take more.
///
/// # Errors
/// `EINVAL` for more or none.
fn alone<P: Platform, T: Request>(
    call: &mut Call<'_, P>,
    one: impl FnMut(&mut Call<'_, P>, &mut T) -> Result<(), Halt>,
) -> Reply {
    if call.u32(2) == 1 { each(call, one) } else { Err(Errno::EINVAL.into()) }
}

/// The grants of a domain that a request names, the caller's as well.
///
/// # Errors
/// [`Refusal::BadDomain`].
fn grants_of<P: Platform>(call: &Call<'_, P>, named: u16) -> Result<Arc<Grants>, Refusal> {
    if named == DOMID_SELF {
        return Ok(call.platform.grants().clone());
    }
    call.platform.grants_of(DomainId(named)).ok_or(Refusal::BadDomain)
}

/// Where a mapping's page-table entry is.
///
/// # Errors
/// [`Refusal::General`] if there can't be any.
fn place<P: Platform>(call: &Call<'_, P>, address: u64, by_entry: bool) -> Result<Place, Refusal> {
    let place = if by_entry {
        Slot::at(MachineAddr(address)).ok().map(Place::Entry)
    } else {
        call.vcpu.roots.kernel.zip(GuestVa::new(address)).map(|(root, address)| Place::Address(root, address))
    };
    place.ok_or(Refusal::General)
}
